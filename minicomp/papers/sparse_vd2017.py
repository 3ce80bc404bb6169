"""Sparse variational dropout's rows of our nets (Molchanov, Ashukha & Vetrov 2017, arXiv
1701.05369, table 1): LeNet-300-100 68x at 1.92 %, LeNet-5 280x at 0.75 %, weights kept.

The paper trains for hundreds of epochs; ours goes on from a float net for as many as a table of a
quarter of an hour has room for, with a heavier divergence, chosen on validation images. The
file: codebooks of 4 bits, trained on.
"""

from __future__ import annotations

from ..compress.bayes.sparse_vd import SparseVD
from ..compress.finetune import FineTune
from ..compress.share.kmeans import KMeans
from ..compress.technique import Pipeline
from .records import Record, paper

HOW = {"optimizer": "adam", "lr": 1e-3, "batch_size": 128, "shift": 1}


def steps(epochs: int, after: int, weight: float) -> Pipeline:
    """Returns the pipeline: noise for so many epochs, weights and then centroids for `after`.

    weight : of the divergence; so few epochs with 1 would leave most weights in
    """
    tune = FineTune(epochs=after, lr=0.005, shift=1)
    share = KMeans(bits=4, init="optimal", half=True, biases="share")
    noise = SparseVD(warmup=0.5, weight=weight).training(epochs=epochs, **HOW)
    return Pipeline([noise, tune, share, FineTune(epochs=after, lr=0.001, shift=1)])


PAPER = paper(
    "sparse-vd2017", "Sparse variational dropout: LeNets on MNIST (Molchanov et al. 2017)",
    "15 minutes a seed",
    [Record("lenet300", steps(60, 8, 6.0), 68, 1.92, "weights"),
     Record("lenet5", steps(20, 3, 5.0), 280, 0.75, "weights")],
    "the paper counts weights that are kept")
