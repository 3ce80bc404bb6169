"""Soft weight sharing's rows of our nets (Ullrich, Meeds & Welling 2017, arXiv 1702.04008, table
1): LeNet-300-100 64x at 1.94 %, LeNet-5 162x at 0.97 %, by the accounting of Deep Compression.

17 components; means of components are trained on as centroids.
"""

from __future__ import annotations

from ..compress.finetune import FineTune
from ..compress.share.soft_sharing import SoftSharing
from ..compress.technique import Pipeline
from .records import Record, paper

HOW = {"optimizer": "adam", "lr": 5e-4, "batch_size": 256, "shift": 1}


def steps(epochs: int, after: int, pi0: float, tau: float) -> Pipeline:
    """Returns the pipeline: the mixture for so many epochs, then its means for `after`."""
    return Pipeline([SoftSharing(pi0=pi0, tau=tau).training(epochs=epochs, **HOW),
                     FineTune(epochs=after, lr=0.001, shift=1)])


PAPER = paper(
    "soft-sharing2017", "Soft weight sharing: LeNets on MNIST (Ullrich et al. 2017)",
    "15 minutes a seed",
    [Record("lenet300", steps(30, 4, 0.98, 0.02), 64, 1.94, said="Han's accounting"),
     Record("lenet5", steps(28, 3, 0.99, 0.02), 162, 0.97, said="Han's accounting")],
    "the paper counts bits of weights, indices and codebook")
