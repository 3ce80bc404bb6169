"""Incremental network quantization (Zhou, Yao, Guo, Xu, Chen 2017, "Incremental Network
Quantization: Towards Lossless CNNs with Low-Precision Weights", arXiv 1702.03044).

Rounding all weights of a net at once to powers of two costs accuracy that training on cannot get
back, as nothing is left to train. INQ rounds a part, freezes it, trains the rest to make up for
that, and goes on until all are rounded. Levels of a layer at b bits, one of them 0's:

    P = {+-2^n1, .., +-2^n2, 0}                                                           (eq. 1)
    n1 = floor(log2(4 s / 3)),   s = max |w|                                           (eqs. 2, 3)
    n2 = n1 + 1 - 2^(b-1) / 2
    w^ = beta sgn(w) where (alpha + beta) / 2 <= |w| < 3 beta / 2, else 0                 (eq. 4)

alpha < beta neighbours in the sorted levels: rounding parts at the arithmetic means 1.5 2^k, not
where the logarithm does. Of each layer the weights of largest |w| go first (section 2.2, "pruning-
inspired"), up to 1/2, 3/4, 7/8 of them, in the last step all. Then

    w <- w - lr dE/dw T,   T = 0 where frozen                                             (eq. 8)

The steps share the training evenly, and n1 stays that of the start. A learning rate that begins
anew for each step, as in the paper, is one training a step: here the schedule is one. Pruned
weights are no part of the count and stay 0. A file holds n1 and the codes: no table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid import power_codes, power_levels
from ...grid.powers import EXPONENTS
from ...nn.forms import Codebook, Powers
from ...nn.graph import Model
from ...tensor import Array
from ..technique import check_movable, knob, weights
from .training import Calibrated, Ranges


def largest_exponent(s: float, n: int = 1) -> int:
    """Returns n1 = floor(log2(4 s / 3)), so that n exponents down from it are those of float32.

    s : max |w|, at least 0        Source: Zhou et al. 2017, eq. (2)
    """
    lo, hi = EXPONENTS
    return min(max(math.frexp(4 * float(s) / 3)[1] - 1, lo + n - 1), hi) if s else 0


def exponents(bits: int) -> int:
    """Returns n1 - n2 + 1 = 2^(b-2), the exponents of b bits.   Source: ibid., section 2.1"""
    return 2 ** (bits - 2)


def inq_quantize(w: Array, n1: int, bits: int) -> Array:
    """Returns w^, float32 of w's shape: eq. (4).

    w : float, finite        n1 : the largest exponent        bits : at least 2
    """
    n = exponents(bits)
    return power_levels(n1, n)[power_codes(w, n1, n)]


def inq_portion(done: int, of: int) -> float:
    """Returns the part of the weights that is frozen in step `done` of `of`: 1 - 2^-done, 1 in the
    last: 0.5, 0.75, 0.875, 1.   Source: ibid., section 3.1"""
    return 1.0 if done >= of else 1 - 0.5**done


def inq_frozen(w: Array, frozen: Array, live: Array, portion: float) -> Array:
    """Returns which weights are frozen: those that are, and of the rest the largest |w|, ties by
    lowest index, until round(portion live) are.

    w : float        frozen, live : bool of its shape, frozen only where live
    """
    more = round(portion * np.count_nonzero(live)) - np.count_nonzero(frozen)
    size = np.where(live & ~frozen, np.abs(w), -1).ravel()
    made = frozen.copy()
    made.reshape(-1)[np.argsort(-size, kind="stable")[:max(more, 0)]] = True
    return made


@dataclass(frozen=True)
class INQ(Calibrated):
    """Rounds weights to powers of two, part by part, while the rest trains."""

    word: ClassVar[str] = "inq"
    title: ClassVar[str] = "Incremental network quantization"
    source: ClassVar[str] = (
        "Zhou, Yao, Guo, Xu & Chen 2017, Incremental Network Quantization: Towards Lossless CNNs "
        "with Low-Precision Weights, arXiv:1702.03044"
    )

    bits: int = knob(5, "bits of a weight: 2^(b-2) exponents of each sign, and 0", lo=2, hi=8,
                     per_layer=True)
    act_bits: int = knob(0, "bits of what a layer reads, 0: floats", lo=0, hi=16, per_layer=True)
    portions: int = knob(4, "steps: half of what is left is frozen in each, all in the last", lo=1,
                         hi=32)

    def check(self, model):
        super().check(model)
        check_movable(self.word, model)

    def schemes(self, model):
        return self.of_biases(model)

    def hooks(self, model, data, run):
        return [Freezing(self, model)]

    def finish(self, model, run):
        model = super().finish(model, run)
        for node, name in weights(model).items():
            w, n = model.forms()[name].dense().data, exponents(self.at("bits", node))
            top = largest_exponent(np.abs(w).max(initial=0.0), n)
            model.set_form(name, Codebook(power_codes(w, top, n), Powers(top, n), True))
        return model.frozen()


class Freezing(Ranges):
    """Slots of each weight: "frozen.NAME", which entries are, and "value.NAME", what they are."""

    def __init__(self, technique: INQ, model: Model):
        super().__init__(technique, model)
        self.bits = {name: technique.at("bits", node) for node, name in weights(model).items()}
        self.n1 = {}
        for name, bits in self.bits.items():
            w = model.forms()[name].dense().data
            self.n1[name] = largest_exponent(np.abs(w).max(initial=0.0), exponents(bits))
            self.slots[f"frozen.{name}"] = np.zeros(w.shape, bool)
            self.slots[f"value.{name}"] = np.zeros(w.shape, np.float32)

    def settled(self, steps):
        last = math.ceil((1 - 1 / self.technique.portions) * steps)
        return max(super().settled(steps), last)

    def before_batch(self, state):
        super().before_batch(state)
        of = self.technique.portions
        if state.step == 0 or self.step_of(state.step, state) > self.step_of(state.step - 1, state):
            self.freeze(state.model, inq_portion(self.step_of(state.step, state), of))

    def step_of(self, i: int, state) -> int:
        """Returns in which of the steps 1.. of freezing a step of the training lies."""
        return i * self.technique.portions // state.steps + 1

    def skip(self, model):
        self.freeze(model, 1.0)

    def freeze(self, model: Model, portion: float) -> None:
        """Rounds and freezes weights until this portion is."""
        for name, bits in self.bits.items():
            form, frozen = model.forms()[name], self.slots[f"frozen.{name}"]
            w, value = form.values(), self.slots[f"value.{name}"]
            live = np.ones(w.shape, bool) if form.mask is None else form.mask
            made = inq_frozen(w, frozen & live, live, portion)
            value[...] = np.where(frozen, value, inq_quantize(w, self.n1[name], bits))
            frozen[...] = made
        self.hold(model)

    def hold(self, model: Model) -> None:
        """Puts frozen weights back where they were: eq. (8), whatever momentum and decay do."""
        for name in self.bits:
            w = model.forms()[name].values()
            np.copyto(w, self.slots[f"value.{name}"], where=self.slots[f"frozen.{name}"])

    def after_step(self, state):
        super().after_step(state)
        self.hold(state.model)
