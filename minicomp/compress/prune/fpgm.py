"""FPGM: filter pruning via geometric median (He, Liu, Wang, Hu, Yang 2019, arXiv 1811.00250).

Small filters may matter; *replaceable* ones do not. The filters nearest to the geometric median of their layer
are represented by the others,

    g(x) = sum_j ||x - F_j||_2,        pruned: the filters of least g                       (eq. 4, 5)

This masks whole filters; `filters` and the removal plan take them out of the net.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...tensor import Array
from ..scoring import ScorePruning
from ..technique import knob, masked, thawed, weights
from .scores import smallest_mask


def fpgm_score(w: Array) -> Array:
    """Returns the sum of Euclidean distances of each filter to all others, (O,) float64.

    w : (O, ...)        Source: He et al. 2019, eq. (5)
    """
    f = w.reshape(len(w), -1).astype(np.float64)
    square = np.square(f[:, None] - f[None]).sum(axis=2) if f.size * len(f) <= 2**24 else _distances(f)
    return np.sqrt(square).sum(axis=1)


@dataclass(frozen=True)
class FPGM(ScorePruning):
    """Masks the filters that the others of their layer can best stand in for; the last layer is left alone."""

    word: ClassVar[str] = "fpgm"
    title: ClassVar[str] = "Filter pruning via geometric median"
    source: ClassVar[str] = ("He, Liu, Wang, Hu & Yang 2019, Filter Pruning via Geometric Median for Deep Convolutional "
                             "Neural Networks Acceleration, arXiv:1811.00250")

    sparsity: float = knob(0.3, "fraction of a layer's filters that is masked", lo=0, hi=1, below=True, per_layer=True)
    scope: str = knob("local", "what is ranked together: one layer's filters", choices=("local",))

    def scores(self, model, data, *, rng):
        return {node: np.broadcast_to(fpgm_score(w).reshape((-1,) + (1,) * (w.ndim - 1)), w.shape)
                for node, w in ((n, model.forms()[f].dense().data) for n, f in weights(model).items())}

    def apply(self, model, data, *, rng, log=None, checkpoint=None, n_threads=1):
        self.check_patterns(model)
        names, masks = weights(model), {}
        for node in list(names)[:-1]:  # the last layer's outputs are the classes
            w = thawed(model).forms()[names[node]].dense().data
            keep = smallest_mask(fpgm_score(w), self.at("sparsity", node))
            masks[names[node]] = np.broadcast_to(keep.reshape((-1,) + (1,) * (w.ndim - 1)), w.shape).copy()
        return masked(model, masks)

    def sketch(self, model, *, rng):
        return self.apply(model, None, rng=rng)  # its scores need no data


def _distances(f: Array) -> Array:
    # Squared distances by the Gram matrix, for layers too large for the direct difference.
    norm = np.square(f).sum(axis=1)
    return np.maximum(norm[:, None] + norm[None] - 2 * f @ f.T, 0)
