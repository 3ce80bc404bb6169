"""The rows of our nets of entropy-penalised reparametrization (Oktay, Balle, Singh & Shrivastava
2020, arXiv 1906.06624, table 1): LeNet-300-100 124x, 8.56 kB, at 1.9 %, LeNet-5 606x, 2.84 kB, at
1.0 %. Units that no weight is left of are removed.
"""

from __future__ import annotations

from ..compress.prune.dead_units import DeadUnits
from ..compress.rate.reparametrization import Reparametrization
from ..compress.technique import Pipeline
from .records import Record, paper

HOW = {"optimizer": "adam", "lr": {"*": 1e-3, "*.scale": 1e-5}, "batch_size": 128, "shift": 1}


def steps(epochs: int, lam: float) -> Pipeline:
    """Returns the pipeline: latents for so many epochs, then dead units go."""
    return Pipeline([Reparametrization(lam=lam).training(epochs=epochs, **HOW), DeadUnits()])


PAPER = paper(
    "reparametrization2020",
    "Entropy-penalised reparametrization: LeNets on MNIST (Oktay et al. 2020)",
    "15 minutes a seed",
    [Record("lenet300", steps(60, 1.0), 124, 1.9, said="8.56 kB"),
     Record("lenet5", steps(40, 1.0), 606, 1.0, said="2.84 kB")],
    "the paper counts bytes of its code")
