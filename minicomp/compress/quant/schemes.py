"""How a weight lies on a grid: which grid, how many scales, and what decides them.

O rows (output channels) of C weights. A *scheme* is everything but the weight: bits, the grid's
name, whether rows or groups have scales of their own, zero points, the divisor of a symmetric
scale, and the rule of a scale:

    max   no weight is clipped: s = max |w| / divisor
    mse   the scale of least squared error, among STEPS fractions of that
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...grid import affine_params, code_range, dequantize, quantize, symmetric_scale
from ...nn.forms import Affine, Binary, Form, Ternary
from ...nn.graph import Model
from ...tensor import Array, no_grad
from ..technique import Technique, knob, weights

STEPS = 100  # fractions of the largest weight that "mse" tries


@dataclass(frozen=True)
class Scheme:
    """bits 1..16; grid as in grid/affine.py; per : "tensor" or "channel"; group : weights of a row
    that share a scale, 0 for all; zero_point : whether there is one (grid "full" or "unsigned");
    divisor : of a symmetric scale, None for the last code; clip : "max" or "mse";
    rounding : "divide" or "reciprocal"
    """

    bits: int = 8
    grid: str = "narrow"
    per: str = "channel"
    group: int = 0
    zero_point: bool = False
    divisor: float | None = None
    clip: str = "max"
    rounding: str = "divide"

    def blocks(self, w: Array) -> Array:
        """Returns w as (blocks, members), a row for each scale, in their order; a last group that
        is shorter is filled with zeros."""
        if self.per == "tensor" and not self.group:
            return w.reshape(1, -1)
        rows = w.reshape(len(w), -1) if w.ndim else w.reshape(1, 1)
        if not self.group:
            return rows
        fill = -rows.shape[1] % self.group
        return np.pad(rows, ((0, 0), (0, fill))).reshape(-1, self.group)

    def params(self, w: Array) -> tuple[Array, Array | None]:
        """Returns (scale, zero_point or None) in the shapes that `Affine` takes.

        w : (O, ...) float, finite        Raises ValueError for NaN and infinity.
        """
        rows = self.blocks(np.asarray(w))
        if rows.size and not np.isfinite(rows).all():
            raise ValueError("weights must be finite, got NaN or infinity")
        lo = rows.min(axis=1, initial=0.0).astype(np.float64)
        hi = rows.max(axis=1, initial=0.0).astype(np.float64)
        fractions = [1.0]
        if self.clip == "mse":
            fractions = np.arange(1, STEPS + 1)[::-1] / STEPS
        best = error = None
        for fraction in fractions:
            found = self._of_range(fraction * lo, fraction * hi)
            if len(fractions) == 1:
                best = found
                break
            scale, offset = (a[:, None] for a in found)
            q = quantize(rows, scale, offset, bits=self.bits, grid=self.grid,
                         rounding=self.rounding)
            back = dequantize(q, scale, offset, midrise=self.grid == "midrise")
            cost = np.square(back.astype(np.float64) - rows).sum(axis=1)
            if best is None:
                best, error = found, cost
            else:
                better = cost < error
                best = tuple(np.where(better, a, b) for a, b in zip(found, best))
                error = np.where(better, cost, error)
        shape = (1,) if self.per == "tensor" and not self.group else (
            (len(w), -1) if self.group else (len(w),))
        scale, zero_point = (a.reshape(shape) for a in best)
        return scale, zero_point if self.zero_point else None

    def _of_range(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        if self.zero_point:
            return affine_params(lo, hi, bits=self.bits, grid=self.grid)
        peak = np.maximum(np.abs(lo), np.abs(hi))
        scale = symmetric_scale(peak, bits=self.bits, grid=self.grid, divisor=self.divisor)
        return scale, np.zeros(scale.shape, np.int32)

    def form(self, form: Form, *, trainable: bool = False) -> Affine:
        """Returns the Affine of what a form decodes to, on `params` of it; its mask stays."""
        with no_grad():
            w = form.dense().data
        scale, zero_point = self.params(w)
        return Affine.of(w, scale, zero_point, bits=self.bits, grid=self.grid, group=self.group,
                         mask=form.mask, rounding=self.rounding, trainable=trainable)


@dataclass(frozen=True)
class WeightQuantizer(Technique):
    """The knobs of a technique that puts weights on an affine grid."""

    bits: int = knob(8, "bits of a weight", lo=1, hi=16, per_layer=True)
    grid: str = knob("narrow", "codes: narrow -(2^(b-1)-1)..2^(b-1)-1, full from -2^(b-1), midrise "
                               "(levels around 0, none at 0), unsigned 0..2^b-1 with a zero point",
                     choices=("narrow", "full", "midrise", "unsigned"), per_layer=True)
    per: str = knob("channel", "what shares a scale: the tensor, or an output channel",
                    choices=("tensor", "channel"), per_layer=True)
    group: int = knob(0, "weights of a row that share a scale, 0: all", lo=0, hi=65536,
                      per_layer=True)
    clip: str = knob("max", "what decides a scale: the largest weight, or the least squared error",
                     choices=("max", "mse"), per_layer=True)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        for node in self.targets(model):
            if self.at("group", node) and self.at("per", node) == "tensor":
                raise UserError(f"{self.word}: {node} takes per tensor or a group of each row, "
                                f"got both, group {self.at('group', node)}")
            try:
                code_range(self.at("bits", node), self.at("grid", node))
            except ValueError as e:
                raise UserError(f"{self.word}: {node}: {e}") from None

    def scheme(self, node: str) -> Scheme:
        """Returns the scheme of a layer's weight."""
        grid = self.at("grid", node)
        return Scheme(self.at("bits", node), grid, self.at("per", node), self.at("group", node),
                      zero_point=grid == "unsigned", clip=self.at("clip", node))

    def quantize_weights(self, model: Model, *, trainable: bool = False) -> None:
        """Puts every weight on its grid, in place; biases stay, and weights of one bit or three
        values."""
        forms = model.forms()
        model.set_forms({name: self.scheme(node).form(forms[name], trainable=trainable)
                         for node, name in weights(model).items()
                         if not isinstance(forms[name], (Binary, Ternary))})


def sqnr(x: Array, y: Array) -> float:
    """Returns the signal-to-quantization-noise ratio 10 log10(sum x^2 / sum (x - y)^2), dB; inf
    where y is x."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    noise, signal = float(np.square(x - y).sum()), float(np.square(x).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
