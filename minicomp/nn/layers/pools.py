"""Pooling."""

from __future__ import annotations

from ...conv import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from .base import Layer, flag, pair, windows


class _Pool(Layer):
    pool = None

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode: bool = False):
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair("stride", stride, 1)
        self.padding, self.ceil_mode = pair("padding", padding, 0), flag("ceil_mode", ceil_mode)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size)):
            raise ValueError(
                f"padding must be at most half of kernel_size {self.kernel_size}, got {self.padding}"
            )
        super().__init__(
            kernel_size=list(self.kernel_size),
            stride=list(self.stride),
            padding=list(self.padding),
            ceil_mode=self.ceil_mode,
        )

    def forward(self, x, **_):
        return type(self).pool(
            x,
            kernel=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
        )

    def out_shape(self, shape):
        if len(shape) != 3:
            raise ValueError(f"{self.kind} needs an input (C, H, W), got shape {shape}")
        return (shape[0],) + tuple(
            windows(n, k, s, p, self.ceil_mode)
            for n, k, s, p in zip(shape[1:], self.kernel_size, self.stride, self.padding)
        )


class MaxPool2d(_Pool):
    """The largest entry of each window."""

    kind, pool = "MaxPool2d", staticmethod(max_pool2d)
    step = "max_pool"


class AvgPool2d(_Pool):
    """The mean of each window, padding counted."""

    kind, pool = "AvgPool2d", staticmethod(avg_pool2d)
    step = "avg_pool"


class AdaptiveAvgPool2d(Layer):
    """The means of a grid of `output_size` cells over the map."""

    kind = "AdaptiveAvgPool2d"
    step = "adaptive_avg_pool"

    def __init__(self, output_size=1):
        self.output_size = pair("output_size", output_size, 1)
        super().__init__(output_size=list(self.output_size))

    def forward(self, x, **_):
        return adaptive_avg_pool2d(x, size=self.output_size)

    def out_shape(self, shape):
        if len(shape) != 3:
            raise ValueError(f"AdaptiveAvgPool2d needs an input (C, H, W), got shape {shape}")
        return (shape[0], *self.output_size)
