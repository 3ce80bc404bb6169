"""Layers with weights that mix channels: Linear and Conv2d."""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from ...conv import conv2d, conv2d_bias, conv2d_max_pool
from ...kernels.doors import window_count
from ...kernels.maps.conv import conv2d_input_grad, im2col
from ...kernels.maps.conv_pool import Steps
from ..forms import Dense
from ..linear import linear, linear_relu
from .base import Layer, flag, pair, positive
from .norms import RECTIFIERS, BatchNorm2d, in_a_row
from .pointwise import ReLU
from .pools import MaxPool2d


class Linear(Layer):
    """y = x W' + b;   x (N, I), W (O, I), b (O,)."""

    kind, coupling = "Linear", "mix"
    step = "linear"
    sizes = {"in_features": "in", "out_features": "out"}

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        in_features, out_features = positive(in_features=in_features, out_features=out_features)
        super().__init__(
            in_features=in_features, out_features=out_features, bias=flag("bias", bias)
        )
        self.in_features, self.out_features = in_features, out_features
        self.forms["weight"] = Dense(np.zeros((out_features, in_features), np.float32))
        if bias:
            self.forms["bias"] = Dense(np.zeros(out_features, np.float32))

    @classmethod
    def entries(cls, in_features, out_features, bias=True):
        in_features, out_features = positive(in_features=in_features, out_features=out_features)
        return (in_features + 1) * out_features

    def forward(self, x, *, weights, **_):
        if "bias" in weights:
            return linear(x, weights["weight"], weights["bias"])
        return ops.matmul(x, ops.transpose(weights["weight"]))

    def rows(self, x, *, ones=False):
        return (np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1) if ones else x)[None]

    def pull_squared(self, h, x):
        w = self.decode()["weight"].data
        return [h @ (w * w)]

    def fused(self, *after):
        relu = len(after) == 1 and type(after[0]) is ReLU
        if type(self) is Linear and relu and "bias" in self.forms:
            return lambda x, *, weights, **_: linear_relu(x, weights[0]["weight"],
                                                          weights[0]["bias"])
        return None

    def out_shape(self, shape):
        if shape != (self.in_features,):
            raise ValueError(
                f"Linear needs {self.in_features} features, got an input of shape {shape}"
            )
        return (self.out_features,)

    def macs(self, shape):
        return self.in_features * self.out_features


class Conv2d(Layer):
    """Cross-correlation;   x (N, C, H, W), W (O, C / groups, K, K), b (O,)."""

    kind, coupling = "Conv2d", "mix"
    step = "conv"
    sizes = {"in_channels": "in", "out_channels": "out"}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size,
        stride=1,
        padding=0,
        groups: int = 1,
        bias: bool = True,
    ):
        in_channels, out_channels, groups = positive(
            in_channels=in_channels, out_channels=out_channels, groups=groups
        )
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"groups must divide {in_channels} and {out_channels}, got {groups}")
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride, self.padding = pair("stride", stride, 1), pair("padding", padding, 0)
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=list(self.kernel_size),
            stride=list(self.stride),
            padding=list(self.padding),
            groups=groups,
            bias=flag("bias", bias),
        )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.forms["weight"] = Dense(
            np.zeros((out_channels, in_channels // groups, *self.kernel_size), np.float32)
        )
        if bias:
            self.forms["bias"] = Dense(np.zeros(out_channels, np.float32))

    @classmethod
    def entries(cls, in_channels, out_channels, kernel_size, groups=1, **_):
        in_channels, out_channels, groups = positive(
            in_channels=in_channels, out_channels=out_channels, groups=groups)
        return out_channels * (
            in_channels // groups * math.prod(pair("kernel_size", kernel_size, 1)) + 1
        )

    def forward(self, x, *, weights, **_):
        if "bias" in weights:
            return conv2d_bias(x, weights["weight"], weights["bias"], **self.window())
        return conv2d(x, weights["weight"], **self.window())

    def window(self) -> dict:
        """Returns stride, padding and groups, as `conv2d` takes them."""
        return dict(stride=self.stride, padding=self.padding, groups=self.groups)

    def rows(self, x, *, ones=False):
        return im2col(x, self.kernel_size, self.stride, self.padding, self.groups, ones)

    def pull_squared(self, h, x):
        w = self.decode()["weight"].data
        return [conv2d_input_grad(h, w * w, size=x.shape[2:], **self.window())]

    def fused(self, *after):
        if type(self) is not Conv2d:
            return None
        blocks = _blocks(self, *after)
        if blocks is not None:
            return lambda x, *, weights, **kw: in_a_row(
                x, blocks, weights=_of_blocks(blocks, weights), **kw)
        if len(after) > 1 or type(after[0]) is not MaxPool2d or "bias" not in self.forms or (
                self.groups > 1):
            return None
        pool, = after
        steps = Steps(self.stride, self.padding, pool.kernel_size, pool.stride, pool.padding,
                      pool.ceil_mode)
        return lambda x, *, weights, **_: conv2d_max_pool(
            x, weights[0]["weight"], weights[0]["bias"], steps=steps)

    def out_shape(self, shape):
        if len(shape) != 3 or shape[0] != self.in_channels:
            raise ValueError(
                f"Conv2d needs {self.in_channels} channels, got an input of shape {shape}"
            )
        return (self.out_channels,) + tuple(
            window_count(n, k, s, p)
            for n, k, s, p in zip(shape[1:], self.kernel_size, self.stride, self.padding)
        )

    def macs(self, shape):
        return (
            math.prod(self.out_shape(shape))
            * (self.in_channels // self.groups)
            * math.prod(self.kernel_size)
        )


def _blocks(*layers: Layer) -> list[tuple] | None:
    # Layers as blocks of a convolution without bias, a batch norm and a rectifier, which the last
    # may lack; None where they are none.
    blocks: list[tuple] = []
    rest = list(layers)
    while rest:
        if len(rest) == 1 or (blocks and blocks[-1][2] is None):
            return None
        conv, norm, *rest = rest
        if type(conv) is not Conv2d or "bias" in conv.forms or type(norm) is not BatchNorm2d:
            return None
        after = RECTIFIERS.get(type(rest[0])) if rest else None
        blocks.append((conv, norm, after))
        rest = rest if after is None else rest[1:]
    return blocks


def _of_blocks(blocks: list[tuple], weights: list[dict]) -> list[tuple[dict, dict]]:
    # Of weights of each layer in a row those of each block's convolution and normalisation.
    each, found = iter(weights), []
    for _, _, after in blocks:
        found.append((next(each), next(each)))
        if after is not None:
            next(each)
    return found
