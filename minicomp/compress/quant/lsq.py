"""Learned step size quantization (Esser, McKinstry, Bablani, Appuswamy, Modha 2020, "Learned Step
Size Quantization", arXiv 1902.08153).

A quantizer's step s is a parameter like any other, and loss is what moves it:

    v- = rnd(clip(v / s, -Qn, Qp)),   v^ = v- s                                      (eqs. 1, 2)
    d v^ / d s = rnd(v / s) - v / s where -Qn < v / s < Qp, else -Qn or Qp               (eq. 3)
    d v^ / d v = 1 where -Qn < v / s < Qp, else 0                                        (eq. 5)

Eq. (3) is what straight-through rounding makes of eqs. (1) and (2): near a border between two codes
the slope is largest. The step of a layer is one number for many weights, so that its gradient is
large beside it; it is multiplied by (section 2.2)

    g = 1 / sqrt(N Qp),       N the weights of the layer, or the features of an activation

Weights have Qn = 2^(b-1), Qp = 2^(b-1) - 1; activations behind ReLU Qn = 0, Qp = 2^b - 1, others
the weights' grid. Steps begin at 2 mean |v| / sqrt(Qp) and are not decayed.

Where we leave the paper: an activation's step begins with the mean over `samples` examples of the
net in floats, not over the first batch. In a pruned layer both that mean and N are of what is kept:
entries at 0 say nothing of a step. `per` = "channel" has a step for each output channel, each with
its own N. `gain` = False trains without g, which is the paper's table 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid import code_range
from ...nn.taps import observe
from ...tensor import Array
from ..technique import knob
from .schemes import Scheme
from .training import OnGrid


def initial_step(v: Array, Qp: int) -> np.float32:
    """Returns s = 2 mean |v| / sqrt(Qp), float32; 1 where all v are 0 or there are none.

    v : float        Qp : the last code, at least 1
    Source: Esser et al. 2020, section 2.1
    """
    mean = float(np.abs(v).mean(dtype=np.float64)) if v.size else 0.0
    return np.float32(2 * mean / math.sqrt(Qp)) or np.float32(1)


def step_gain(n: int, Qp: int) -> float:
    """Returns g = 1 / sqrt(N Qp), by which the gradient of a step is multiplied.

    n : weights or features, at least 1        Qp : the last code, at least 1
    Source: Esser et al. 2020, section 2.2
    """
    return 1 / math.sqrt(n * Qp)


@dataclass(frozen=True)
class Steps(Scheme):
    """A scheme whose scales are `initial_step` of the weights that are not 0."""

    def params(self, w):
        rows, Qp = self.blocks(w), code_range(self.bits, self.grid)[1]
        return np.array([initial_step(row[row != 0], Qp) for row in rows]), None


@dataclass(frozen=True)
class LSQ(OnGrid):
    """Trains with steps of weights and activations that are learnt."""

    word: ClassVar[str] = "lsq"
    title: ClassVar[str] = "Learned step size quantization"
    source: ClassVar[str] = (
        "Esser, McKinstry, Bablani, Appuswamy & Modha 2020, Learned Step Size Quantization, "
        "arXiv:1902.08153"
    )
    signed: ClassVar[dict] = {"grid": "full"}

    per: str = knob("tensor", "what shares a step: the tensor, or an output channel",
                    choices=("tensor", "channel"), per_layer=True)
    gain: bool = knob(True, "whether the gradient of a step is multiplied by 1 / sqrt(N Qp)")

    def start(self, layers, model, x):
        total, count = dict.fromkeys(layers, 0.0), 0
        for values in observe(model, x, layers):
            for name, v in values.items():
                total[name] += float(np.abs(v).mean(dtype=np.float64)) * len(v)
            count += len(v)
        for name, layer in layers.items():
            layer.set_grid(initial_step(np.array(total[name] / count), layer.hi))

    def layers(self, model):
        layers = super().layers(model)
        for layer in layers.values():
            layer.learns = self.how
        return layers

    @property
    def how(self) -> str:
        """How steps move: one of the forms' LEARNS."""
        return "lsq" if self.gain else "plain"

    def scheme(self, node):
        return Steps(self.at("bits", node), "full", self.at("per", node))

    def placed(self, form, scheme):
        return super().placed(form, scheme).learning(self.how)
