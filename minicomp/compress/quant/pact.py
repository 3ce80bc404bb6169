"""PACT: parameterized clipping activation (Choi, Wang, Venkataramani, Chuang, Srinivasan,
Gopalakrishnan 2018, "PACT: Parameterized Clipping Activation for Quantized Neural Networks",
arXiv 1805.06085).

ReLU has no upper end, so that k bits must either clip or be coarse. PACT clips at a level that each
layer learns, and quantizes what is left:

    y = 0.5 (|x| - |x - alpha| + alpha) = clip(x, 0, alpha)                              (eq. 1)
    y_q = rnd(y (2^k - 1) / alpha) alpha / (2^k - 1)                                     (eq. 2)
    d y_q / d alpha = 1 where x >= alpha, else 0                                         (eq. 3)
    d y_q / d x = 1 where 0 <= x < alpha, else 0

alpha begins large and an L2 penalty lam / 2 alpha^2 draws it in (section 3), as a weight decay
would; the loss pushes it out where clipping costs. A grid holds its step, not its end: the step's
gradient is that of alpha over 2^k - 1, and with SGD alpha moves as if it were the parameter itself.

Where we leave the paper: `alpha` = 0 begins with the calibrated range instead of 10, which a net
trained in floats bears better at few bits. Values that may be below 0, such as the input, have a
grid with a zero point over their calibrated range, which stays. Weights, in the paper DoReFa's, lie
on symmetric grids over their ranges, as in `qat`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..technique import knob
from .nodes import grids
from .training import OnRanges, Ranges


@dataclass(frozen=True)
class PACT(OnRanges):
    """Trains with learnt clipping levels of activations, weights on grids over their ranges."""

    word: ClassVar[str] = "pact"
    title: ClassVar[str] = "Parameterized clipping activation"
    source: ClassVar[str] = (
        "Choi, Wang, Venkataramani, Chuang, Srinivasan & Gopalakrishnan 2018, PACT: Parameterized "
        "Clipping Activation for Quantized Neural Networks, arXiv:1805.06085"
    )

    act_bits: int = knob(4, "bits of what a layer reads, 0: floats", lo=0, hi=16, per_layer=True)
    alpha: float = knob(10.0, "clipping levels at the start, 0: as calibrated", lo=0.0, hi=1e6)
    lam: float = knob(1e-4, "lambda of lambda/2 alpha^2", lo=0.0)

    def layers(self, model):
        layers = super().layers(model)
        for layer in layers.values():
            if "zero_point" not in layer.buffers:
                layer.learns = "pact"
                if self.alpha:
                    layer.set_range(0.0, self.alpha)
        return layers

    def start(self, layers, model, x):
        free = {n: a for n, a in layers.items() if not (self.alpha and a.learns)}
        if free:
            super().start(free, model, x)

    def hooks(self, model, data, run):
        return [Clipping(self, model)]


class Clipping(Ranges):
    """Adds lam alpha, over 2^k - 1 as the rest of it, to the gradient of each learnt step."""

    def after_backward(self, state):
        for name, layer in grids(state.model).items():
            if layer.learns == "pact":
                key = f"{name}.scale"
                decay = layer.buffers["scale"] * self.technique.lam  # lam alpha / (2^k - 1)
                state.weight_grads[key] = state.weight_grads[key] + decay
