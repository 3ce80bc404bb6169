"""Sparse activations: small ones set to 0, or all but the largest k of each example (C19).

Weights are not the only numbers that can be 0: behind a ReLU about half of the activations are, and
every multiplication by one of them can be skipped by hardware that looks. More become 0 by

    a <- a 1[|a| >= t]      t a number, or the quantile that gives `sparsity` zeros
    a <- the k = round(top n) of n entries of largest |a| in each example, the others 0

Each is a layer behind every activation, so that training goes on with it, and the file holds it.
The file does not get smaller. No settled form exists; thresholds are those of Kurtz et al. 2020
(ICML, "Inducing and Exploiting Activation Sparsity") in its hard form, the k winners those of
Makhzani & Frey 2013 (arXiv 1312.5663).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model, Node
from ...nn.layers import LAYERS, ActThreshold, ActTopK
from ...nn.taps import Walk
from ...tensor import Array
from ..examples import calibration
from ..technique import Technique, knob


def threshold_for(a: Array, sparsity: float) -> float:
    """Returns the least float32 t such that at least round(sparsity n) of n entries have |a| < t.

    a : float32, any shape        sparsity : fraction of zeros in [0, 1)
    """
    size = np.sort(np.abs(a), axis=None)
    count = round(sparsity * size.size)
    return float(np.nextafter(size[count - 1], np.float32(np.inf))) if count else 0.0


def activations_of(model: Model) -> list[str]:
    """Returns the names of the activations; behind a batch norm or pool they count the same."""
    return [n.name for n in model.nodes if n.layer.activation]


@dataclass(frozen=True)
class SparseActivations(Technique):
    """Puts a threshold, or a choice of the largest, behind every activation, as one knob says."""

    word: ClassVar[str] = "sparse-activations"
    title: ClassVar[str] = "Activation sparsity by threshold or top-k"

    threshold: float | None = knob(
        None, "activations below this in magnitude become 0", type=float, lo=0, optional=True
    )
    sparsity: float | None = knob(
        None, "thresholds, one a layer, that give this fraction of zeros on training examples",
        type=float, lo=0, hi=1, below=True, optional=True,
    )
    top: float | None = knob(
        None, "fraction of each example's activations that stay, the largest", type=float, lo=0,
        hi=1, optional=True,
    )
    samples: int = knob(
        1000, "training examples on which thresholds are set; all where there are fewer", lo=1
    )

    def __post_init__(self):
        super().__post_init__()
        given = [n for n in ("threshold", "sparsity", "top") if getattr(self, n) is not None]
        if len(given) != 1:
            raise UserError(
                "sparse-activations: exactly one of threshold, sparsity and top must be given, got "
                + (" and ".join(given) or "none")
            )

    def reads(self):
        return () if self.sparsity is None else ("train",)

    def resizes(self):
        return True  # its sketch has none of the layers that it inserts

    def check(self, model):
        super().check(model)
        if not activations_of(model):
            kinds = ", ".join(kind for kind, layer in LAYERS.items() if layer.activation)
            raise UserError(f"sparse-activations: the model has no activation ({kinds})")

    def change(self, model, data, run):
        made, names, shapes = model, activations_of(model), model.shapes()
        walk = None
        if self.sparsity is not None:
            walk = Walk(calibration(self, data, run).x)
        for name in names:
            layer = self.layer(made, name, int(np.prod(shapes[name])), walk)
            node = made.node(name)
            made = made.edit({name: (node, Node(f"{name}.sparse", layer, (name,)))})
            run.log({"event": "inserted", "name": f"{name}.sparse", **layer.config()})
        return made

    def layer(self, made: Model, name: str, size: int, walk: Walk | None):
        """Returns the layer to put behind activation `name` of `size` entries an example.

        walk : through `made` up to an earlier activation; it goes on to this one
        """
        if self.top is not None:
            return ActTopK(max(1, round(self.top * size)))
        if self.threshold is not None:
            return ActThreshold(self.threshold)
        a = [seen[name] for seen in walk.run(made, [name], to=name)]
        return ActThreshold(threshold_for(np.concatenate(a), self.sparsity))

    def sketch(self, model, *, rng):
        return model
