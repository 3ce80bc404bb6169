"""Pooling."""

from __future__ import annotations

import math

import numpy as np

from ...conv import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from ...kernels.doors import window_count
from .base import Layer, flag, pair, pulled


class _Pool(Layer):
    coupling, homogeneous, pool = "keep", True, None

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode: bool = False):
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair("stride", stride, 1)
        self.padding, self.ceil_mode = pair("padding", padding, 0), flag("ceil_mode", ceil_mode)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size)):
            raise ValueError(
                f"padding must be at most half of kernel_size {self.kernel_size}, "
                f"got {self.padding}"
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
            window_count(n, k, s, p, self.ceil_mode)
            for n, k, s, p in zip(shape[1:], self.kernel_size, self.stride, self.padding)
        )


class MaxPool2d(_Pool):
    """The largest entry of each window."""

    kind, passes, pool = "MaxPool2d", True, staticmethod(max_pool2d)
    step = "max_pool"

    def constant(self, v, shape):
        return v  # padding is never the largest

    def pull_squared(self, h, x):
        return pulled(self, h, x)  # its coefficients are 0 and 1


class AvgPool2d(_Pool):
    """The mean of each window, padding counted."""

    kind, pool = "AvgPool2d", staticmethod(avg_pool2d)
    step = "avg_pool"

    def constant(self, v, shape):
        if any(self.padding) or self.ceil_mode:  # the border averages zeros too
            return np.where(v == 0, 0.0, np.nan)
        return v

    def pull_squared(self, h, x):
        if self.ceil_mode:  # windows at the end are smaller
            raise NotImplementedError
        return pulled(self, h / math.prod(self.kernel_size), x)


class AdaptiveAvgPool2d(Layer):
    """The means of a grid of `output_size` cells over the map."""

    kind, coupling, homogeneous = "AdaptiveAvgPool2d", "keep", True
    step = "adaptive_avg_pool"

    def __init__(self, output_size=1):
        self.output_size = pair("output_size", output_size, 1)
        super().__init__(output_size=list(self.output_size))

    def forward(self, x, **_):
        return adaptive_avg_pool2d(x, size=self.output_size)

    def constant(self, v, shape):
        return v

    def pull_squared(self, h, x):
        if any(n % m for n, m in zip(x.shape[2:], self.output_size)):  # cells differ in size
            raise NotImplementedError
        return pulled(self, h * (h[0, 0].size / x[0, 0].size), x)

    def out_shape(self, shape):
        if len(shape) != 3:
            raise ValueError(f"AdaptiveAvgPool2d needs an input (C, H, W), got shape {shape}")
        return (shape[0], *self.output_size)
