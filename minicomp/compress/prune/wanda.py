"""Wanda: weights and activations (Sun, Liu, Bair, Kolter 2023, arXiv 2306.11695).

A small weight on a large input can matter more than a large one on a small input:

    S_ij = |W_ij| * ||X_j||_2                                                               (eq. 1)

||X_j|| is the norm of input j over calibration examples; weights are compared within one output's
row, and nothing is retrained. For a convolution, X_j is a channel over all positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...tensor import Array
from ..examples import calibration
from ..scoring import SampledPruning, layer_inputs
from ..technique import knob, weights


def wanda_score(w: Array, norm: Array) -> Array:
    """Returns |w| times its input's norm.

    w : (O, I) or (O, C / g, K, K)
    norm : (I,) or (C / g,), or (O, C / g) for grouped convolutions
    Source: Sun et al. 2023, eq. (1)
    """
    shape = norm.shape + (1,) * (w.ndim - 2)
    return np.abs(w) * norm.reshape(shape if norm.ndim == 2 else (1, *shape))


@dataclass(frozen=True)
class Wanda(SampledPruning):
    """Drops, in every output's row, the weights of least |w| times the norm of their input."""

    word: ClassVar[str] = "wanda"
    title: ClassVar[str] = "Pruning by weights and activations"
    source: ClassVar[str] = ("Sun, Liu, Bair & Kolter 2023, A Simple and Effective Pruning "
                             "Approach, arXiv:2306.11695")

    scope: str = knob("row", "what is ranked together", choices=("row", "local", "global"))

    def scores(self, model, data, run):
        norms = layer_inputs(model, calibration(self, data, run))
        found = {}
        for node, name in weights(model).items():
            w, layer = model.forms()[name].dense().data, model.node(node).layer
            found[node] = wanda_score(w, _by_output(norms[node], w, layer.groups))
        return found


def _by_output(norm: Array, w: Array, groups: int) -> Array:
    # The norms that each output sees: all of them, or those of its group.
    if groups == 1:
        return norm
    return np.repeat(norm.reshape(groups, -1), w.shape[0] // groups, axis=0)
