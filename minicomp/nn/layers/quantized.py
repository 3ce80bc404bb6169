"""Quantization of activations as a layer of its own: a net says where its values lie on a grid."""

from __future__ import annotations

import math

import numpy as np

from ...grid import (affine_params, code_range, fake_quantize, lsq_quantize, pact_quantize,
                     quantize, symmetric_scale)
from ...grid.affine import TINY
from ...tensor import Array, Tensor
from ..forms import Dense, Part
from .base import Layer, flag

LEARNS = (None, "lsq", "plain", "pact")  # how the scale moves in training


class ActQuant(Layer):
    """x on an affine grid: scale (clip(rint(x / scale) + zero_point) - zero_point).

    Its scale and zero point are no weights: not counted, decayed or pruned. Calibration sets them
    (`set_range`, `set_grid`), training may move the scale (`learns`), a program consumes them.

    bits : 1..16        grid : "unsigned", "full", or "narrow", see grid/affine.py
    zero_point : whether it has one; without, grid "unsigned" begins at 0, the others are symmetric
    dynamic : the range is that of the batch at hand, and scale and zero point are not used
    Raises ValueError for other bits, a grid that there is not, a zero point on a narrow one.

    While `observing` is a list, a forward pass in training appends (least, largest) of its input.
    Where not `on`, values pass as they are: a training may put its grids in later.
    """

    kind, coupling, straight_through = "ActQuant", "keep", True
    step = "quantize"
    buffer_parts = {"scale": Part("scale", axes=()), "zero_point": Part("table", axes=())}

    def __init__(self, bits: int = 8, grid: str = "unsigned", zero_point: bool = False,
                 dynamic: bool = False):
        self.lo, self.hi = code_range(bits, grid)
        if grid == "midrise" or grid == "narrow" and zero_point:
            raise ValueError("activations need grid unsigned, full or, without a zero point, "
                             f"narrow, got {grid}")
        super().__init__(bits=int(bits), grid=grid, zero_point=flag("zero_point", zero_point),
                         dynamic=flag("dynamic", dynamic))
        self.bits, self.grid, self.dynamic = int(bits), grid, dynamic
        self.pointwise = not dynamic
        self.learns: str | None = None
        self.on = True
        self._moving: Tensor | None = None
        self.observing: list[tuple[float, float]] | None = None
        if not dynamic:
            self.buffers["scale"] = np.ones(1, np.float32)
            if zero_point:
                self.buffers["zero_point"] = np.zeros(1, np.float32)

    @property
    def scale(self) -> np.float32:
        """Real units a step."""
        return self.buffers["scale"][0]

    @property
    def zero_point(self) -> int:
        """The code of 0."""
        return int(self.buffers["zero_point"][0]) if "zero_point" in self.buffers else 0

    @property
    def grids(self):
        # One Tensor, in the buffer's memory, so that a step of an optimizer moves the buffer.
        if self.learns is None:
            return {}
        if self._moving is None or self._moving.data is not self.buffers["scale"]:  # a copy's
            self._moving = Tensor(self.buffers["scale"], requires_grad=True)
        return {"scale": self._moving}

    def project(self):
        if self.learns:  # a step size keeps its sign
            np.maximum(self.buffers["scale"], TINY, out=self.buffers["scale"])

    def set_grid(self, scale: float, zero_point: int = 0) -> None:
        """Sets scale and zero point, in place; ValueError where they are none of this grid."""
        scale = np.float32(scale)
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be finite and above 0, got {scale}")
        if not self.lo <= zero_point <= self.hi or zero_point and "zero_point" not in self.buffers:
            raise ValueError(f"zero_point must be a code in [{self.lo}, {self.hi}], 0 where there "
                             f"is none, got {zero_point}")
        self.buffers["scale"][0] = scale
        if "zero_point" in self.buffers:
            self.buffers["zero_point"][0] = zero_point

    def set_range(self, lo: float, hi: float) -> None:
        """Sets the grid that covers lo..hi and 0, in place; errors of `grid.affine_params`."""
        self.set_grid(*self.params(lo, hi))

    def params(self, lo: float, hi: float) -> tuple[np.float32, int]:
        """Returns scale and zero point of the grid that covers lo..hi and 0."""
        if self._config["zero_point"]:
            scale, zero_point = affine_params(lo, hi, bits=self.bits, grid=self.grid)
            return np.float32(scale), int(zero_point)
        if self.grid == "unsigned":
            return np.float32(affine_params(0.0, max(hi, 0.0), bits=self.bits)[0]), 0
        return np.float32(symmetric_scale(max(abs(lo), abs(hi)), bits=self.bits, grid=self.grid)), 0

    def forward(self, x, *, weights, training, **_):
        if training and self.observing is not None and x.size:
            self.observing.append((float(x.data.min()), float(x.data.max())))
        if not self.on:
            return x
        if self.dynamic:
            scale, zero_point = self._ranged(x.data)
            return fake_quantize(x, scale, zero_point, lo=self.lo, hi=self.hi)
        if self.learns in ("lsq", "plain"):
            gain = 1 / math.sqrt(max(math.prod(x.shape[1:]), 1) * max(self.hi, 1))
            gain = gain if self.learns == "lsq" else 1.0
            scale = weights["scale"].reshape(*[1] * x.ndim)
            return lsq_quantize(x, scale, lo=self.lo, hi=self.hi, gain=gain)
        if self.learns == "pact":
            return pact_quantize(x, weights["scale"].reshape(*[1] * x.ndim), hi=self.hi)
        return fake_quantize(x, self.scale, np.float32(self.zero_point), lo=self.lo, hi=self.hi)

    def _ranged(self, x: Array) -> tuple[np.float32, np.float32]:
        lo, hi = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
        scale, zero_point = self.params(lo, hi)
        return scale, np.float32(zero_point)

    def codes(self, x: Array) -> Array:
        """Returns the integers that x becomes, int32 of its shape; ValueError for NaN."""
        scale, zero_point = self._ranged(x) if self.dynamic else (self.scale, self.zero_point)
        return quantize(x, scale, zero_point, bits=self.bits, grid=self.grid)

    def lowered(self):
        return {part: Dense(a.copy(), trainable=False) for part, a in self.buffers.items()}

    @classmethod
    def entries(cls, **_):
        return 2
