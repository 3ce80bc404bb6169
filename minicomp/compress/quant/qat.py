"""Quantization-aware training with fake quantization (Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam,
Kalenichenko 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-
Only Inference", arXiv 1712.05877, section 3; Krishnamoorthi 2018, arXiv 1806.08342).

Rounding after training loses what a small net cannot spare. Here the forward pass sees what will be
stored, and the backward pass goes straight through:

    clamp(r; a, b) = min(max(r, a), b)
    s(a, b, n) = (b - a) / (n - 1)
    q(r; a, b, n) = rnd((clamp(r; a, b) - a) / s) s + a                                    (eq. 12)
    d q / d r = 1 where r was not clamped, else 0

with a, b nudged so that 0 is a code. n = 2^bits levels.

Weights: a, b are the least and largest of the latent weight, taken anew after each step; "narrow"
leaves out the code -2^(b-1), as the paper does for its kernels.
Activations: a, b are exponential moving averages of the batches' (section 3.1),

    a <- a + (1 - decay) (a_batch - a)

from those of a calibration on; and activations are not quantized during the first `delay` of the
training, while ranges shift. After `freeze` of it, ranges and the statistics of batch norms stay
(Krishnamoorthi, section 3.2.1).

Where we leave the papers: ranges begin with a calibration instead of the first batch. All shards of
a batch give one range, so that ranges do not depend on the number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.graph import Model
from ...tensor import Array
from ..technique import knob
from .nodes import grids
from .schemes import Scheme
from .training import OnGrid, Ranges


def ema(a: Array, batch: Array, decay: float) -> Array:
    """Returns decay a + (1 - decay) batch, so computed that a range which does not move stays to
    the bit.

    a, batch : (least, largest), float64        decay : 0..1
    Source: Jacob et al. 2018, section 3.1
    """
    return a + (1 - decay) * (batch - a)


@dataclass(frozen=True)
class OnRanges(OnGrid):
    """A training whose weights lie on grids over their own ranges."""

    grid: str = knob("narrow", "codes of weights: narrow -(2^(b-1)-1)..2^(b-1)-1, full from "
                               "-2^(b-1), unsigned 0..2^b-1 with a zero point",
                     choices=("narrow", "full", "unsigned"), per_layer=True)
    per: str = knob("channel", "what shares a scale: the tensor, or an output channel",
                    choices=("tensor", "channel"), per_layer=True)

    def scheme(self, node):
        grid = self.at("grid", node)
        return Scheme(self.at("bits", node), grid, self.at("per", node),
                      zero_point=grid == "unsigned")


@dataclass(frozen=True)
class QAT(OnRanges):
    """Trains with fake quantization of weights and activations."""

    word: ClassVar[str] = "qat"
    title: ClassVar[str] = "Quantization-aware training"
    source: ClassVar[str] = (
        "Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam & Kalenichenko 2018, Quantization and "
        "Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, "
        "arXiv:1712.05877"
    )

    decay: float = knob(0.99, "of the moving averages of activations' ranges", lo=0.0, hi=1.0)
    delay: float = knob(0.0, "part of the training before activations are quantized, 0..1", lo=0.0,
                        hi=1.0)

    def hooks(self, model, data, run):
        return [FakeQuantization(self, model)]


class FakeQuantization(Ranges):
    """Slots "range.NODE", (2,) float64: the moving average of the least and largest value."""

    def __init__(self, technique: QAT, model: Model):
        super().__init__(technique, model)
        for name, layer in self.layers(model).items():
            lo, hi = (layer.scale * np.float64(q - layer.zero_point) for q in (layer.lo, layer.hi))
            self.slots[f"range.{name}"] = np.array([lo, hi])

    def layers(self, model: Model):
        """Returns the grids that follow ranges, by node."""
        return {name: layer for name, layer in grids(model).items() if not layer.dynamic}

    def settled(self, steps):
        return max(super().settled(steps), math.ceil(self.technique.delay * steps))

    def before_batch(self, state):
        super().before_batch(state)
        for layer in self.layers(state.model).values():
            layer.on = self.begun(state, self.technique.delay)
            layer.observing = []

    def after_step(self, state):
        super().after_step(state)
        for name, layer in self.layers(state.model).items():
            if layer.observing and not self.begun(state, self.technique.freeze):
                lows, highs = zip(*layer.observing)
                held = self.slots[f"range.{name}"]
                held[...] = ema(held, np.array([min(lows), max(highs)]), self.technique.decay)
                layer.set_range(*held)
            layer.observing = None
