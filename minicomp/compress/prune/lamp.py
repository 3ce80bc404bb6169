"""LAMP: layer-adaptive magnitude (Lee, Park, Mo, Ahn, Shin 2021, arXiv 2010.07611).

One global threshold on |w| empties layers whose weights happen to be small. Rescaling by what would
survive,

    score(u) = W[u]^2 / sum_{v : |W[v]| >= |W[u]|} W[v]^2                                   (eq. 1)

makes magnitudes of different layers comparable: the largest weight of every layer scores 1, so no
layer dies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...tensor import Array
from ..scoring import ScorePruning
from ..technique import weights


def lamp_score(w: Array) -> Array:
    """Returns w^2 over the sum of w^2 of all weights ranked at or above it, float64, in (0, 1].

    w : any shape; equal magnitudes are ranked by index        Source: Lee et al. 2021, eq. (1)
    """
    square = np.square(w.ravel().astype(np.float64))
    order = np.argsort(square, kind="stable")
    above = np.cumsum(square[order][::-1])[::-1]
    score = np.zeros_like(square)
    score[order] = square[order] / np.where(above > 0, above, 1)
    return score.reshape(w.shape)


@dataclass(frozen=True)
class LAMP(ScorePruning):
    """Drops the weights of least layer-adaptive magnitude, ranked over all layers."""

    word: ClassVar[str] = "lamp"
    title: ClassVar[str] = "Layer-adaptive magnitude pruning"
    source: ClassVar[str] = ("Lee, Park, Mo, Ahn & Shin 2021, Layer-adaptive Sparsity for the "
                             "Magnitude-based Pruning, arXiv:2010.07611")

    def scores(self, model, data, run):
        forms = model.forms()
        return {node: lamp_score(forms[name].dense().data) for node, name in weights(model).items()}
