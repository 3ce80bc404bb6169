"""Magnitude pruning (Han, Pool, Tran, Dally 2015,
"Learning both Weights and Connections", arXiv 1506.02626).

Small weights matter least: every connection with |w| at or below a threshold is removed,

    M = 1[|w| > tau],   w <- w M                                                            (C1)

The threshold of a layer is quality x std of its weights (the paper), a percentile of |w|, or
whatever gives an exact sparsity. A scope says over what weights are ranked: "local" each layer,
"kernel" each K x K slice of a convolution (of a matrix each output's own row), "global" all layers
together, of which each keeps `floor` of its weights (C5). The mask is part of the form, so
pruned weights stay exactly 0 under any optimizer with momentum and weight decay.

Where we leave the paper: std is taken over the weights that are still there, so that rounds
continue instead of repeating themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ..technique import (
    Technique, check_maskable, floor_knob, knob, least_kept, masked, one_for_all, weights,
)
from ..scores import percentile_threshold, quality_threshold, scoped_masks

SCOPES = ("local", "global", "kernel")


@dataclass(frozen=True)
class Magnitude(Technique):
    """Removes the weights of least magnitude: sparsity, quality or percentile says how many."""

    word: ClassVar[str] = "magnitude"
    title: ClassVar[str] = "Magnitude pruning"
    source: ClassVar[str] = ("Han, Pool, Tran & Dally 2015, Learning both Weights and Connections "
                             "for Efficient Neural Networks, arXiv:1506.02626")

    sparsity: float | None = knob(None, "fraction of zeros, exactly round(s n)", type=float, lo=0,
                                  hi=1, below=True, optional=True, per_layer=True)
    quality: float | None = knob(None, "threshold in standard deviations of the layer's weights",
                                 type=float, lo=0, optional=True, per_layer=True)
    percentile: float | None = knob(None, "threshold as a percentile of |w|, 0..1", type=float,
                                    lo=0, hi=1, below=True, optional=True, per_layer=True)
    scope: str = knob("local", "what is ranked together", choices=SCOPES)
    floor: float = floor_knob()

    def __post_init__(self):
        super().__post_init__()
        given = [n for n in ("sparsity", "quality", "percentile") if getattr(self, n) is not None]
        if len(given) != 1:
            raise UserError("magnitude: exactly one of sparsity, quality and percentile must be "
                            "given, got " + (", ".join(given) or "none"))
        if self.scope != "local" and given != ["sparsity"]:
            raise UserError(f"magnitude: scope {self.scope} needs sparsity, got {given[0]}")
        one_for_all(self.word, self.scope, self.sparsity, self.floor)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_maskable(self.word, model)

    def change(self, model, data, run):
        names, least = weights(model), least_kept(model, self.floor)
        forms = {node: model.forms()[name] for node, name in names.items()}
        w = {node: form.dense().data for node, form in forms.items()}
        if self.sparsity is not None:
            masks = scoped_masks(self.word, {node: np.abs(a) for node, a in w.items()},
                                 {node: form.mask for node, form in forms.items()},
                                 lambda node: self.at("sparsity", node) or 0.0, self.scope,
                                 least={node: least[name] for node, name in names.items()})
        else:
            masks = {node: np.abs(a) > self.threshold(node, a) for node, a in w.items()}
        return masked(model, {names[node]: mask for node, mask in masks.items()})

    def threshold(self, node: str, w: np.ndarray) -> float:
        """Returns the |w| at or below which a layer's weights go, -1 where none is asked to."""
        if self.quality is not None:
            return quality_threshold(w, self.at("quality", node) or 0.0)
        percentile = self.at("percentile", node)
        return -1.0 if percentile is None else percentile_threshold(w, percentile)
