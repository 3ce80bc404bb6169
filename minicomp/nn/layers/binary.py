"""Layers that stand beside signs: the sizes of inputs whose signs were read, and several signs of
one number."""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from ...conv import conv2d
from ...kernels.doors import window_count
from ..forms import Dense
from .base import Layer, flag, pair, positive


def input_scales(x, *, kernel_size=None, stride=(1, 1), padding=(0, 0)):
    """Returns K, the sizes of what a layer's outputs read: (N, 1, Ho, Wo) of a convolution, (N, 1)
    of a linear layer, in x's dtype; an array, or a Tensor of one.

        A = sum_c |x_c| / C,    K = A * k,    k = 1 / (KH KW) everywhere

    x : (N, C, H, W), or whatever a linear layer reads, (N, ...), of which K is the mean |x|
    kernel_size, stride, padding : of the convolution; None: a linear layer; padding counts as 0
    Source: Rastegari et al. 2016, arXiv 1603.05279, section 3.2
    """
    size = ops.absolute(x)
    if kernel_size is None:
        rows = ops.reshape(size, shape=(x.shape[0], math.prod(x.shape[1:])))
        return ops.mean(rows, axis=1, keepdims=True)
    box = np.full((1, 1, *kernel_size), 1 / math.prod(kernel_size), x.dtype)
    return conv2d(ops.mean(size, axis=1, keepdims=True), box, stride=stride, padding=padding)


class InputScale(Layer):
    """y K + bias: what a layer has made of signs, times the sizes K of the numbers whose signs
    they are.

        I * W ~ (sign(I) * sign(W)) . K alpha                                              eq. (11)

    inputs : y, (N, O, Ho, Wo) or (N, O), of a layer without a bias; I, the numbers, (N, C, H, W) or
        (N, ...)
    kernel_size, stride, padding : of the layer that gave y; kernel_size None: a linear one
    K is that of `input_scales`; the gradient reaches I through it too.
    Raises ValueError where K has not the places that y has.
    Source: Rastegari et al. 2016, arXiv 1603.05279, eq. (11)
    """

    kind, arity = "InputScale", 2
    step = "input_scale"
    sizes = {"num_features": "out"}

    def __init__(self, num_features: int, kernel_size=None, stride=1, padding=0,
                 bias: bool = True):
        (num_features,) = positive(num_features=num_features)
        windows = {"kernel_size": None if kernel_size is None else pair("kernel_size", kernel_size, 1),
                   "stride": pair("stride", stride, 1), "padding": pair("padding", padding, 0)}
        super().__init__(num_features=num_features, bias=flag("bias", bias),
                         **{name: a and list(a) for name, a in windows.items()})
        self.num_features, self.windows = num_features, windows  # those are of the second input
        if bias:
            self.forms["bias"] = Dense(np.zeros(num_features, np.float32))

    @classmethod
    def of(cls, layer: Layer) -> InputScale:
        """Returns the layer that stands behind a Linear or a Conv2d of one group, with a bias of 0
        where that has one."""
        config, sizes = layer.config(), {size: name for name, size in layer.sizes.items()}
        windows = {name: config[name] for name in ("kernel_size", "stride", "padding")
                   if name in config}
        return cls(config[sizes["out"]], bias=config["bias"], **windows)

    @classmethod
    def entries(cls, num_features, **_):
        return positive(num_features=num_features)[0]

    def forward(self, y, x, *, weights, **_):
        y = y * input_scales(x, **self.windows)
        if "bias" not in weights:
            return y
        return y + ops.reshape(weights["bias"], shape=(-1, *[1] * (y.ndim - 2)))

    def out_shape(self, y, x):
        if y[0] != self.num_features:
            raise ValueError(f"InputScale needs {self.num_features} channels, got an input of shape "
                             f"{y}")
        return scaled_shape(y, x, **self.windows)


def scaled_shape(y: tuple[int, ...], x: tuple[int, ...], *, kernel_size, stride,
                 padding) -> tuple[int, ...]:
    """Returns y, the shape of what K multiplies, N left out; ValueError where K of numbers of shape
    x, as `input_scales` has it, has other places."""
    places: tuple[int, ...] = ()
    if kernel_size is not None:
        if len(x) != 3:
            raise ValueError(f"scales of a convolution's inputs need numbers (C, H, W), got {x}")
        places = tuple(window_count(*one) for one in zip(x[1:], kernel_size, stride, padding))
    if y[1:] != places:
        raise ValueError(f"the scales of inputs of shape {x} have the places {places}, but what "
                         f"they multiply is of shape {y}")
    return y
