"""Layers that stand beside signs: the sizes of inputs whose signs were read, and several signs of
one number."""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from ...conv import conv2d
from ...grid import shifted_sign
from ...kernels.doors import window_count
from ..forms import Dense, Part
from .base import Layer, Moving, flag, pair, positive


def input_scales(x, kernel_size=None, stride=(1, 1), padding=(0, 0)):
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
        kernel_size = None if kernel_size is None else pair("kernel_size", kernel_size, 1)
        windows = {"kernel_size": kernel_size, "stride": pair("stride", stride, 1),
                   "padding": pair("padding", padding, 0)}
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
            raise ValueError(f"InputScale needs {self.num_features} channels, got an input of "
                             f"shape {y}")
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


MOST_SIGNS = 8


class BinarySum(Moving):
    """sum_n beta_n A_n: numbers as a sum of N binary activations, each with a shift of its own.

        A_n = +1 where h_v(x) >= 0.5, else -1,    h_v(x) = clip(x + v, 0, 1) of v = shift_n

    What reads it is, with signs for weights, the sum of as many products of signs. The gradient
    reaches x and shift_n where 0 <= x + shift_n <= 1, as that of h_v; beta_n has A_n.

    bases : N, 1..8        buffers : beta, shift, (N,); no weights: not counted, decayed or pruned
    learns : whether they move in training, which a technique sets
    They begin as clip(x, -1, 1) rounded to N + 1 levels: steps of height 2/N where x is 1/2 - v.
    Raises ValueError for other bases.
    Source: Lin, Zhao & Pan 2017, arXiv 1711.11294, section 3.2
    """

    kind, coupling, pointwise, activation = "BinarySum", "keep", True, True
    straight_through = True
    step = "binary_sum"
    buffer_parts = {"beta": Part("table", axes=()), "shift": Part("table", axes=())}
    learns = False

    def __init__(self, bases: int):
        (bases,) = positive(bases=bases)
        if bases > MOST_SIGNS:
            raise ValueError(f"bases must be in [1, {MOST_SIGNS}], got {bases}")
        super().__init__(bases=bases)
        self.bases = bases
        thresholds = (2 * np.arange(1, bases + 1) - 1 - bases) / bases
        self.buffers = {"beta": np.full(bases, 1 / bases, np.float32),
                        "shift": (0.5 - thresholds).astype(np.float32)}

    @property
    def grids(self):
        return self.moving("beta", "shift") if self.learns else {}

    @classmethod
    def entries(cls, bases):
        return 2 * positive(bases=bases)[0]

    def forward(self, x, *, weights, **_):
        return binary_sum(x, *(weights.get(part, self.buffers[part]) for part in self.buffers))

    def lowered(self):
        return {part: Dense(a.copy(), trainable=False) for part, a in self.buffers.items()}


def binary_sum(x, beta, shift):
    """Returns sum_n beta_n A_n, in x's dtype, of `BinarySum`; arrays or Tensors.

    beta, shift : (N,)
    """
    total = None
    for i in range(beta.shape[0]):
        b, v = (ops.reshape(ops.getitem(a, key=slice(i, i + 1)), shape=(1,) * x.ndim)
                for a in (beta, shift))
        term = shifted_sign(x, v) * b
        total = term if total is None else total + term
    return total
