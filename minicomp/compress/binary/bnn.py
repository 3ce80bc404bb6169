"""Binarized neural networks (Courbariaux, Hubara, Soudry, El-Yaniv, Bengio 2016, "Binarized Neural
Networks: Training Deep Neural Networks with Weights and Activations Constrained to +1 or -1",
arXiv 1602.02830).

Weights and activations are signs, so that a product of them is an XNOR and a sum a count of bits;
the gradients are real:

    x_b = +1 where x >= 0, else -1                                         deterministic (eq. 1)
    x_b = +1 with probability sigma(x), else -1                               stochastic (eq. 2)
    sigma(x) = clip((x + 1) / 2, 0, 1)                                                   (eq. 3)
    g_x = g_{x_b} 1[|x| <= 1]                                             for both of them (eq. 4)

for activations, nodes `Sign`; weights are those of BinaryConnect, whose floats stay in -1..1. What
the first layer reads stays as it is, and what the net gives is not a sign. `neurons` = "stochastic"
draws activations, in training alone, as the paper's nets of Torch7 do; the net that is left has
signs.

A sign must see numbers around 0: batch norm stands in front of each, and behind the last layer,
whose sums of +-1 are large. `norm` = "shift" has batch norms by shifts (section 1.4), `ShiftBatch-
Norm`, but behind the last layer an ordinary one, as the authors' code has it. Shift-based AdaMax
(section 1.5) is an optimizer: optimizer=shift-adamax.

The net is changed so: each activation becomes a sign, and a batch norm is put where none stands in
front of one, or at the end. A net without weights to begin with is trained from scratch; from a
trained net only the weights' signs are of use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import UserError
from ...nn.graph import Model
from ...nn.layers import Sign
from ..technique import knob
from .activations import activations, with_signs
from .signs import OnSigns

NEURONS = ("deterministic", "stochastic")


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
    neurons: str = knob("deterministic", "binary activations in training: signs, or drawn; signs "
                                         "else", choices=NEURONS)

    apart: ClassVar[dict[str, str]] = {
        "slimming": "a sign does not tell how large the scale of its batch norm is"}

    def check(self, model):
        super().check(model)
        if not activations(model):
            raise UserError(f"{self.word}: the model must have an activation between layers, which "
                            "becomes a sign, got none")

    def prepared(self, model, data, run):
        try:
            return with_signs(model, shift=self.norm == "shift")
        except ValueError as e:
            raise UserError(f"{self.word}: {e}") from None

    def hooks(self, model, data, run):
        _draw(model, self.neurons == "stochastic")
        return super().hooks(model, data, run)

    def finish(self, model, run):
        _draw(model, False)
        return super().finish(model, run)


def _draw(model: Model, stochastic: bool) -> None:
    # Sets whether training draws the signs of a model.
    for node in model.nodes:
        if isinstance(node.layer, Sign):
            node.layer.stochastic = stochastic
