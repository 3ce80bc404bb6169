"""Bayesian compression's rows of our nets (Louizos, Ullrich & Welling 2017, arXiv 1705.08665,
tables 1 and 2): LeNet-300-100 59x at 2.0 % (quoted from memory), LeNet-5 771x at 1.0 %, of its best
prior and accounting.

Ours has the group normal-Jeffreys prior, and rounds finer than the posterior's mean variance, most
of which is that of a few noisy weights: rounded as coarsely as that, nets answered three of four
validation images wrong. Units that no input or output is left of are removed, and the grids that
the posterior asks for are written as codes.
"""

from __future__ import annotations

from ..compress.bayes.bayesian_compression import BayesianCompression
from ..compress.prune.dead_units import DeadUnits
from ..compress.technique import Pipeline, Technique
from .records import Record, paper

HOW = {"optimizer": "adam", "lr": 1e-3, "batch_size": 128, "shift": 1}


def steps(epochs: int, share: float) -> Technique:
    """Returns the pipeline: noise for so many epochs, then what is dead goes."""
    prior = BayesianCompression(warmup=0.5, threshold=5.0, share=share)
    return Pipeline([prior.training(epochs=epochs, **HOW), DeadUnits()])


PAPER = paper(
    "bayesian-compression2017", "Bayesian compression: LeNets on MNIST (Louizos et al. 2017)",
    "15 minutes a seed",
    [Record("lenet300", steps(50, 0.01), 59, 2.0, said="codebook; from memory"),
     Record("lenet5", steps(18, 0.02), 771, 1.0, said="codebook")],
    "the paper counts bits of a codebook")
