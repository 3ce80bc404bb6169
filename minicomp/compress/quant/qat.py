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

Batch norm: with `bn` = "keep" it stays a layer behind its convolution, which with a scale for each
output channel an integer program folds exactly. With "fold" the two train as one, `ConvBN2d`: what
lies on the grid is the folded weight gamma w / sigma (Jacob, section 3.2), sigma running, corrected
by the batch's until `freeze` (Krishnamoorthi, section 3.2.2); a convolution with a bias is left.

Where we leave the papers: ranges begin with a calibration instead of the first batch. All shards of
a batch give one range, so that ranges do not depend on the number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...nn.layers import BatchNorm2d, Conv2d, ConvBN2d
from ...tensor import Array
from ..technique import knob
from .nodes import grids
from .schemes import Scheme
from .training import OnRanges, Ranges, on_grid


def ema(a: Array, batch: Array, decay: float) -> Array:
    """Returns decay a + (1 - decay) batch, so computed that a range which does not move stays to
    the bit.

    a, batch : (least, largest), float64        decay : 0..1
    Source: Jacob et al. 2018, section 3.1
    """
    return a + (1 - decay) * (batch - a)


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

    bn: str = knob("keep", "batch norm: keep it behind its convolution, or fold it in training",
                   choices=("keep", "fold"))
    decay: float = knob(0.99, "of the moving averages of activations' ranges", lo=0.0, hi=1.0)
    delay: float = knob(0.0, "part of the training before activations are quantized, 0..1", lo=0.0,
                        hi=1.0)

    def check(self, model):
        super().check(model)
        for node in folding(model) if self.bn == "fold" else ():
            if self.at("grid", node) == "unsigned":
                raise UserError(f"{self.word}: grid@{node} must be narrow or full where bn is fold")
            if not model.node(node).layer.forms["weight"].movable:
                raise UserError(f"{self.word}: {node}.weight must hold plain values where bn is "
                                "fold, got none; fold before sharing")

    def prepared(self, model, data, run):
        if self.bn == "fold":
            model = self.as_one(model)
        return super().prepared(model, data, run)

    def as_one(self, model: Model) -> Model:
        """Returns the model whose convolutions and batch norms are one layer where they can be."""
        swap: dict[str, tuple] = {}
        for name, norm in folding(model).items():
            node = model.node(name)
            layer = ConvBN2d.of(node.layer, model.node(norm).layer, bits=self.at("bits", name),
                                grid=self.at("grid", name), per=self.at("per", name))
            swap |= {name: (), norm: (replace(node, layer=layer),)}
        return model.edit(swap)

    def schemes(self, model):
        one = {node.name for node in model.nodes if isinstance(node.layer, ConvBN2d)}
        return {name: s for name, s in super().schemes(model).items()
                if name.rsplit(".", 1)[0] not in one}

    def hooks(self, model, data, run):
        return [FakeQuantization(self, model)]

    def finish(self, model, run):
        model = super().finish(model, run)
        ones = [node for node in model.nodes if isinstance(node.layer, ConvBN2d)]
        made = {node.name: node.layer.folded() for node in ones}
        if self.bias_bits:
            for layer in made.values():
                bias = on_grid(layer.forms["bias"], Scheme(self.bias_bits, per="tensor"))
                layer.forms["bias"] = bias.freeze()
        return model.edit({node.name: (replace(node, layer=made[node.name]),) for node in ones})


def folding(model: Model) -> dict[str, str]:
    """Returns {convolution: the batch norm that alone reads it}, by nodes."""
    readers: dict[str, list] = {}
    for node in model.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    return {node.name: after[0].name for node in model.nodes
            if type(node.layer) is Conv2d and len(after := readers.get(node.name, [])) == 1
            and isinstance(after[0].layer, BatchNorm2d)}


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
