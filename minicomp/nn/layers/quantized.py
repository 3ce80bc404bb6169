"""Quantization that a net shows: activations on a grid, and a batch norm folded while it trains."""

from __future__ import annotations

import math

import numpy as np

from ...grid import (affine_params, code_range, fake_quantize, lsq_quantize, pact_quantize,
                     quantize, symmetric_scale)
from ...grid.affine import TINY
from ... import ops
from ...conv import conv2d
from ...tensor import Array, no_grad
from ..forms import Affine, Dense, Part
from ..norm import batch_statistics
from .base import Moving, flag, number
from .norms import BatchNorm2d
from .weighted import Conv2d

LEARNS = (None, "lsq", "plain", "pact")  # how the scale moves in training


class ActQuant(Moving):
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
    buffer_parts = {"scale": Part("scale", axes=(), least=float(TINY)),
                    "zero_point": Part("table", axes=())}

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
        return {} if self.learns is None else self.moving("scale")

    def project(self):
        if self.learns:  # a step size keeps its sign
            np.maximum(self.buffers["scale"], TINY, out=self.buffers["scale"])

    def check_buffers(self, buffers):
        super().check_buffers(buffers)
        zero_point = float(buffers["zero_point"][0]) if "zero_point" in buffers else 0.0
        if not (self.lo <= zero_point <= self.hi and zero_point.is_integer()):
            raise ValueError(f"zero_point must be a code in [{self.lo}, {self.hi}], "
                             f"got {zero_point:g}")

    def set_grid(self, scale: float, zero_point: int = 0) -> None:
        """Sets scale and zero point, in place; ValueError where they are none of this grid."""
        scale = np.float32(scale)
        if not (np.isfinite(scale) and scale >= TINY):
            raise ValueError(f"scale must be finite and at least 2^-126, got {scale}")
        given = {"scale": np.array([scale])}
        if "zero_point" in self.buffers:
            given["zero_point"] = np.array([zero_point], np.float64)
        elif zero_point:
            raise ValueError(f"zero_point must be 0 where the grid has none, got {zero_point}")
        self.check_buffers(given)
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
        scale, zero_point = self.ranged(x)
        return scale, np.float32(zero_point)

    def ranged(self, x: Array) -> tuple[np.float32, int]:
        """Returns scale and zero point of the grid of a batch, that of its finite entries: what is
        infinite saturates."""
        lo, hi = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
        if not math.isfinite(hi - lo):
            x = x[np.isfinite(x)]
            lo, hi = (float(x.min()), float(x.max())) if x.size else (0.0, 0.0)
        return self.params(lo, hi)

    def codes(self, x: Array) -> Array:
        """Returns the integers that x becomes, int32 of its shape; ValueError for NaN."""
        scale, zero_point = self._ranged(x) if self.dynamic else (self.scale, self.zero_point)
        return quantize(x, scale, zero_point, bits=self.bits, grid=self.grid)

    def lowered(self):
        return {part: Dense(a.copy(), trainable=False) for part, a in self.buffers.items()}

    @classmethod
    def entries(cls, **_):
        return 2


PER = ("tensor", "channel")  # what shares a scale


class ConvBN2d(Conv2d):
    """A convolution and its batch norm, as they train for a net in which they are one: what is
    quantized is the folded weight, with the running statistics, which move slowly.

        w_fold = q(gamma W / sigma_r),        sigma = sqrt(var + eps), r running, B of the batch
        y = (sigma_r / sigma_B) w_fold * x + beta - gamma mu_B / sigma_B          in training
        y = w_fold * x + beta - gamma mu_r / sigma_r                              else, and `still`

    The factor undoes the division by sigma_r, so that the output is normalised by the batch as a
    batch norm's is, while the weight's grid does not jitter. mu_B and sigma_B are of W * x.

    forms : weight (O, C / groups, K, K), gain (gamma) and bias (beta), (O,)
    eps, momentum : as of BatchNorm2d        bits, grid ("narrow" or "full"), per : of w_fold
    `folded()` is the convolution that it becomes.
    Source: Krishnamoorthi 2018, arXiv 1806.08342, section 3.2.2, figure 8
    """

    kind, coupling, straight_through, tracks, step = "ConvBN2d", None, True, True, None
    buffer_parts = BatchNorm2d.buffer_parts
    still = False

    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0,
                 groups: int = 1, eps: float = 1e-5, momentum: float = 0.1, bits: int = 8,
                 grid: str = "narrow", per: str = "channel"):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups)
        self.lo, self.hi = code_range(bits, grid)
        if grid not in ("narrow", "full") or per not in PER:
            raise ValueError(f"grid must be narrow or full and per one of {', '.join(PER)}, got "
                             f"{grid} and {per!r}")
        self.eps, self.momentum = (number(name, v, lambda v: 0 <= v <= 1, "a float in [0, 1]")
                                   for name, v in (("eps", eps), ("momentum", momentum)))
        self.bits, self.grid, self.per = int(bits), grid, per
        self._config = {k: v for k, v in self._config.items() if k != "bias"} | {
            "eps": self.eps, "momentum": self.momentum, "bits": self.bits, "grid": grid, "per": per}
        self.forms["gain"] = Dense(np.ones(out_channels, np.float32))
        self.buffers = {"running_mean": np.zeros(out_channels, np.float32),
                        "running_var": np.ones(out_channels, np.float32)}

    @classmethod
    def entries(cls, in_channels, out_channels, kernel_size, groups=1, **_):
        return super().entries(in_channels, out_channels, kernel_size, groups) + 3 * out_channels

    @classmethod
    def of(cls, conv: Conv2d, norm: BatchNorm2d, *, bits: int, grid: str, per: str) -> ConvBN2d:
        """Returns the layer that gives, but for the grid, what norm gives behind conv."""
        config = {k: v for k, v in conv.config().items() if k != "bias"}
        layer = cls(**config, eps=norm.eps, momentum=norm.momentum, bits=bits, grid=grid, per=per)
        layer.forms = {"weight": conv.forms["weight"].copy(), "bias": norm.forms["bias"].copy(),
                       "gain": norm.forms["weight"].copy()}
        layer.buffers = {name: a.copy() for name, a in norm.buffers.items()}
        if "bias" in conv.forms:  # which the mean takes off again
            with no_grad():
                layer.buffers["running_mean"] -= conv.forms["bias"].dense().data
        return layer

    def forward(self, x, *, weights, training, **_):
        w, gamma, beta = (weights[part] for part in ("weight", "gain", "bias"))
        form = dict(stride=self.stride, padding=self.padding, groups=self.groups)
        running = np.sqrt(self.buffers["running_var"] + np.float32(self.eps))
        w_fold = w * (gamma / running).reshape(-1, 1, 1, 1)
        w_fold = fake_quantize(w_fold, self.scale_of(w_fold.data), np.float32(0), lo=self.lo,
                               hi=self.hi)
        y = conv2d(x, w_fold, **form)
        if not training or self.still or not x.size:
            shift = beta - gamma * (self.buffers["running_mean"] / running)
            return y + shift.reshape(1, -1, 1, 1)
        plain = conv2d(x, w, **form)
        mean = plain.mean(axis=(0, 2, 3))
        d = plain - mean.reshape(1, -1, 1, 1)
        sigma = ops.sqrt((d * d).mean(axis=(0, 2, 3)) + self.eps)
        self._track(plain.data)
        back = (running.astype(x.dtype) / sigma).reshape(1, -1, 1, 1)
        return y * back + (beta - gamma * (mean / sigma)).reshape(1, -1, 1, 1)

    def _track(self, y: Array) -> None:
        n = y.size // self.out_channels
        if n < 2:
            raise ValueError(f"{self.kind} must see more than one value a channel in training, got "
                             f"{n}")
        mean, var = batch_statistics(y)
        for name, value in (("running_mean", mean), ("running_var", var * (n / (n - 1)))):
            self.buffers[name] += (self.momentum * (value - self.buffers[name])).astype(np.float32)

    def scale_of(self, w_fold: Array) -> Array:
        """Returns the scales of folded weights, in a shape that broadcasts to them."""
        rows = np.abs(w_fold).reshape(1 if self.per == "tensor" else len(w_fold), -1)
        peak = rows.max(axis=1, initial=0.0).reshape(-1, 1, 1, 1)
        return symmetric_scale(peak, bits=self.bits, grid=self.grid)

    def fused(self, *after):
        return None

    def rows(self, x, *, ones=False):
        raise NotImplementedError  # of the folded weight, which is no form

    def pull_squared(self, h, x):
        raise NotImplementedError

    def folded(self) -> Conv2d:
        """Returns the convolution with the folded weight on its grid, frozen, and a bias."""
        config = self.config()
        conv = Conv2d(**{k: config[k] for k in Conv2d(1, 1, 1).config() if k != "bias"})
        with no_grad():
            w, gamma, beta = (self.forms[part].dense().data for part in ("weight", "gain", "bias"))
        running = np.sqrt(self.buffers["running_var"] + np.float32(self.eps))
        w_fold = w * (gamma / running).reshape(-1, 1, 1, 1)
        scale = self.scale_of(w_fold)
        conv.forms["weight"] = Affine.of(
            w_fold, scale.reshape(-1), bits=self.bits, grid=self.grid,
            mask=self.forms["weight"].mask)
        shift = beta - gamma * (self.buffers["running_mean"] / running)
        conv.forms["bias"] = Dense(shift.astype(np.float32), trainable=False)
        return conv
