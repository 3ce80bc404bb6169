"""Bias pruning: biases of magnitude at or below a threshold become 0 (C8),

    b_j <- 0   if |b_j| <= T.

A common practice without a paper of its own. Biases are few; their bytes count only once the
weights are small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...tensor import Array
from ..technique import Technique, check_maskable, knob, masked


def bias_mask(b: Array, threshold: float) -> Array:
    """Returns |b| > threshold;  b : (O,), threshold : in units of b, at least 0."""
    if not threshold >= 0:
        raise ValueError(f"threshold must be at least 0, got {threshold}")
    return np.abs(b) > threshold


@dataclass(frozen=True)
class Bias(Technique):
    """Removes the biases of small magnitude."""

    word: ClassVar[str] = "bias"
    title: ClassVar[str] = "Bias pruning"

    threshold: float = knob(0.01, "biases of |b| at or below it become 0", lo=0, per_layer=True)

    def targets(self, model):
        return [n.name for n in model.nodes if "bias" in n.layer.forms]

    def check(self, model):
        super().check(model)
        check_maskable(self.word, model, [f"{node}.bias" for node in self.targets(model)])

    def change(self, model, data, run):
        masks = {}
        for node in self.targets(model):
            b = model.node(node).layer.forms["bias"].dense().data
            masks[f"{node}.bias"] = bias_mask(b, self.at("threshold", node))
        return masked(model, masks)
