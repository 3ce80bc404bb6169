"""CReLU (Shang, Sohn, Almeida & Lee 2016, "Understanding and Improving Convolutional Neural
Networks via Concatenated Rectified Linear Units", arXiv 1603.05201).

Filters of the first layers of a trained net come in pairs of opposite phase, for a rectifier drops
what is below 0. Keeping both halves of each output,

    CReLU(x) = (max(x, 0), max(-x, 0))                                          definition 2.1

lets one filter do the work of a pair: half of the filters make as many maps for the next layer.

Here half of the filters of a trained or drawn net go, those of least norm, the rectifier behind the
others becomes a CReLU, and the next layer reads the maps of negative phase with weights 0: until it
is trained it computes what the pruned net computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.forms import Dense, Form
from ...nn.graph import Model, Node
from ...nn.layers import CReLU, ReLU
from ...tensor import Array
from ..channels.removal import removed
from ..technique import Technique, knob, weights


def halved(w: Array) -> Array:
    """Returns which filters stay, ascending: half of them, rounded up, of largest norm.

    w : (O, ...)        Ties by lowest index.
    """
    norms = np.square(w, dtype=np.float64).reshape(len(w), -1).sum(axis=1)
    return np.sort(np.argsort(-norms, kind="stable")[: -(-len(w) // 2)])


def behind(model: Model, name: str) -> tuple[str, str] | None:
    """Returns the ReLU behind a convolution and the layer that reads it; None where there is none.

    A batch norm may stand in front of the ReLU, what keeps channels apart behind it; nobody else
    may read what lies between, and the layer that reads must not have groups.
    """
    relu = None
    while True:
        readers = [node for node in model.nodes if name in node.inputs]
        if len(readers) != 1 or len(readers[0].inputs) != 1:
            return None
        (node,), name = readers, readers[0].name
        if node.layer.coupling == "mix":
            whole = node.layer.groups == 1 and node.layer.forms["weight"].kind == "dense"
            return (relu, name) if relu and whole else None
        if isinstance(node.layer, ReLU):
            relu = name
        elif node.layer.coupling not in ("keep", "flatten") or relu and node.layer.sizes:
            return None


def both_phases(form: Form) -> Dense:
    """Returns a weight (O, C, ...) that reads 2 C maps, those of negative phase with weights 0; a
    mask is that of the positive ones again."""
    w = form.dense().data
    mask = None if form.mask is None else np.concatenate([form.mask] * 2, axis=1)
    return Dense(np.concatenate([w, np.zeros_like(w)], axis=1), mask, form.trainable)


@dataclass(frozen=True)
class ConcatenatedReLU(Technique):
    """Replaces ReLU behind half as many filters by CReLU."""

    word: ClassVar[str] = "crelu"
    title: ClassVar[str] = "Concatenated rectified linear units"
    source: ClassVar[str] = (
        "Shang, Sohn, Almeida & Lee 2016, Understanding and Improving Convolutional Neural "
        "Networks via Concatenated Rectified Linear Units, arXiv:1603.05201"
    )

    keep: bool = knob(False, "layers that keep their filters and ReLU, by pattern: keep@conv2=true",
                      per_layer=True)

    def targets(self, model):
        return list(weights(model))

    def chosen(self, model: Model) -> list[str]:
        """Returns the convolutions whose filters are halved."""
        return [node for node, name in weights(model).items()
                if len(model.forms()[name].shape) == 4 and model.node(node).layer.groups == 1
                and behind(model, node) and not self.at("keep", node)]

    def check(self, model):
        super().check(model)
        if not self.chosen(model):
            raise UserError(f"{self.word}: it needs a convolution whose ReLU one layer of plain "
                            "floats alone reads, through nothing that joins channels, got none")

    def change(self, model, data, run):
        for name in self.chosen(model):
            w = model.forms()[f"{name}.weight"].dense().data
            model = _doubled(removed(model, {name: halved(w)}), name)
        return model


def _doubled(model: Model, name: str) -> Model:
    relu, reader = behind(model, name)
    layer = model.node(reader).layer
    size = next(key for key, way in layer.sizes.items() if way == "in")
    wide = type(layer)(**layer.config() | {size: 2 * layer.config()[size]})
    wide.forms |= layer.forms | {"weight": both_phases(layer.forms["weight"])}
    return model.edit({
        relu: (Node(relu, CReLU(), model.node(relu).inputs),),
        reader: (Node(reader, wide, model.node(reader).inputs),)})
