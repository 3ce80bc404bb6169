"""Binarized neural networks (Courbariaux, Hubara, Soudry, El-Yaniv, Bengio 2016, "Binarized Neural
Networks: Training Deep Neural Networks with Weights and Activations Constrained to +1 or -1",
arXiv 1602.02830).

Weights and activations are signs, so that a product of them is an XNOR and a sum a count of bits;
the gradients are real:

    x_b = sign(x),    sign(0) = +1                                                   (section 1.1)
    g_x = g_{x_b} 1[|x| <= 1]                                                        (section 1.3)

for activations, nodes `Sign`; weights are those of BinaryConnect, whose floats stay in -1..1. What
the first layer reads stays as it is, and what the net gives is not a sign.

A sign must see numbers around 0: batch norm stands in front of each, and behind the last layer,
whose sums of +-1 are large. `norm` = "shift" has batch norms by shifts (section 1.4), `ShiftBatch-
Norm`, but behind the last layer an ordinary one, as the authors' code has it. Shift-based AdaMax
(section 1.5) is an optimizer: optimizer=shift-adamax.

The net is changed so: each activation becomes a sign, and a batch norm is put where none stands in
front of one, or at the end. A net without weights to begin with is trained from scratch; from a
trained net only the weights' signs are of use. Binary neurons that are drawn are not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from ...errors import UserError
from ...nn.graph import Model, Node
from ...nn.layers import (BatchNorm1d, BatchNorm2d, Layer, ShiftBatchNorm1d, ShiftBatchNorm2d, Sign)
from ..technique import knob
from .signs import OnSigns

ORDINARY = {1: BatchNorm1d, 3: BatchNorm2d}  # by the axes of what is normalised
SHIFT = {1: ShiftBatchNorm1d, 3: ShiftBatchNorm2d}
NORMS = (*ORDINARY.values(), *SHIFT.values())


def activations(model: Model) -> list[str]:
    """Returns the nodes that become signs: every activation."""
    return [node.name for node in model.nodes if node.layer.activation]


def norm_before(model: Model, name: str) -> str | None:
    """Returns the batch norm whose output the node is, or reads by way of layers that only hand on
    what they read; None where there is none."""
    node = model.node(name)
    while not isinstance(node.layer, NORMS):
        handed_on = node.layer.passes or node.name == name and node.layer.activation
        named = {n.name for n in model.nodes}
        if not handed_on or len(node.inputs) != 1 or node.inputs[0] not in named:
            return None
        node = model.node(node.inputs[0])
    return node.name


def with_signs(model: Model, *, shift: bool = False) -> Model:
    """Returns the model whose activations are signs, with batch norms in front of each and at the
    end; those in front by shifts, if asked for. Further norms are called "NAME_bn"."""
    shapes, last = model.shapes(), model.nodes[-1].name
    norms = {name: norm_before(model, name) for name in activations(model)}
    inner = ({*norms.values()} - {norm_before(model, last)}) if shift else set()
    swap: dict[str, tuple[Node, ...]] = {}
    for name in filter(None, inner):
        node = model.node(name)
        if isinstance(node.layer, tuple(ORDINARY.values())):
            made = SHIFT[len(shapes[name])].of(node.layer)
            swap[name] = (replace(node, layer=made),)
    for name, norm in norms.items():
        node, kinds = model.node(name), SHIFT if shift else ORDINARY
        sign = replace(node, layer=Sign())
        swap[name] = (sign,) if norm else tuple(_behind(node.inputs, sign, kinds, shapes[name]))
    if norm_before(model, last) is None:
        node = model.node(last)
        norm = Node(f"{last}_bn", _fresh(ORDINARY, shapes[last]), (last,))
        swap[last] = (*swap.get(last, (node,)), norm)
    return model.edit(swap)


def _behind(inputs: tuple[str, ...], sign: Node, kinds: dict, shape) -> Iterator[Node]:
    # A batch norm of the inputs, then the sign of it.
    norm = Node(f"{sign.name}_bn", _fresh(kinds, shape), inputs)
    yield from (norm, replace(sign, inputs=(norm.name,)))


def _fresh(kinds: dict, shape: tuple[int, ...]) -> Layer:
    return kinds[len(shape)](shape[0])


@dataclass(frozen=True)
class BNN(OnSigns):
    """Trains a net of binary weights and binary activations."""

    word: ClassVar[str] = "bnn"
    title: ClassVar[str] = "Binarized neural networks"
    source: ClassVar[str] = (
        "Courbariaux, Hubara, Soudry, El-Yaniv & Bengio 2016, Binarized Neural Networks: Training "
        "Deep Neural Networks with Weights and Activations Constrained to +1 or -1, "
        "arXiv:1602.02830"
    )

    size: str = knob("one", "H of weights +-H: one, or sqrt(1.5 / (fan_in + fan_out)) of a layer",
                     choices=("one", "glorot"))
    norm: str = knob("batch", "batch norm in front of signs: ordinary, or by shifts",
                     choices=("batch", "shift"))

    def check(self, model):
        super().check(model)
        if not activations(model):
            raise UserError(f"{self.word}: the model must have an activation that becomes a sign, "
                            "got none")

    def prepared(self, model, data, run):
        return with_signs(model, shift=self.norm == "shift")
