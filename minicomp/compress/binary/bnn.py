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

from dataclasses import dataclass, replace
from typing import ClassVar

from ...errors import UserError
from ...nn.graph import Model, Node
from ...nn.layers import BatchNorm1d, BatchNorm2d, ShiftBatchNorm1d, ShiftBatchNorm2d, Sign
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
    nodes = {node.name: node for node in model.nodes}
    node = nodes[name]
    while not isinstance(node.layer, NORMS):
        hands_on = node.layer.passes or node.name == name and node.layer.activation
        if not hands_on or len(node.inputs) != 1 or node.inputs[0] not in nodes:
            return None
        node = nodes[node.inputs[0]]
    return node.name


def with_signs(model: Model, *, shift: bool = False) -> Model:
    """Returns the model whose activations are signs, with batch norms in front of each and at the
    end; those in front by shifts, if asked for.

    Further norms are called "NAME_bn"; ValueError where that is taken.
    """
    shapes, last = model.shapes(), model.nodes[-1]
    kinds, swap = SHIFT if shift else ORDINARY, {}
    for name in activations(model):
        node, norm = model.node(name), norm_before(model, name)
        if norm is None:
            made = _norm(kinds, shapes[name], f"{name}_bn", node.inputs)
            swap[name] = (made, Node(name, Sign(), (made.name,)))
            continue
        swap[name] = (replace(node, layer=Sign()),)
        old = model.node(norm)
        if shift and isinstance(old.layer, tuple(ORDINARY.values())):
            swap[norm] = (replace(old, layer=SHIFT[len(shapes[norm])].of(old.layer)),)
    if norm_before(model, last.name) is None:
        made = _norm(ORDINARY, shapes[last.name], f"{last.name}_bn", (last.name,))
        swap[last.name] = (*swap.get(last.name, (last,)), made)
    return model.edit(swap)


def _norm(kinds: dict, shape: tuple[int, ...], name: str, inputs: tuple[str, ...]) -> Node:
    return Node(name, kinds[len(shape)](shape[0]), inputs)


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

    apart: ClassVar[dict[str, str]] = {
        "slimming": "a sign does not tell how large the scale of its batch norm is"}

    def check(self, model):
        super().check(model)
        if not activations(model):
            raise UserError(f"{self.word}: the model must have an activation that becomes a sign, "
                            "got none")

    def prepared(self, model, data, run):
        try:
            return with_signs(model, shift=self.norm == "shift")
        except ValueError as e:
            raise UserError(f"{self.word}: {e}") from None
