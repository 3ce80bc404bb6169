"""The layers: what each computes, its forms, its output shape and its multiply-accumulates.

N batch, C in, O out, H W size, K kernel. Meaning is NCHW and OIHW with PyTorch's names and shapes.
`coupling` says what removing a channel must respect: a layer that can "mix" channels ends a group, one that
"keep"s them passes it on, "add" ties its inputs together, "concat" lines them up, "flatten" turns a channel
into a block of features, "permute" reorders them.
"""

from __future__ import annotations

import copy
import math

import numpy as np

from .. import ops
from ..conv import adaptive_avg_pool2d, avg_pool2d, conv2d, conv2d_bias, max_pool2d
from ..tensor import Array, Tensor
from .forms import Dense, Form, Part
from .linear import linear
from .norm import batch_norm, batch_statistics


class Layer:
    """The contract of a layer. `forms` holds weight and bias, `buffers` the running statistics."""

    kind: str
    coupling = "keep"
    arity = 1  # number of inputs; None: one or more
    buffer_parts: dict[str, Part] = {}  # what the numbers of `buffers` may be

    def __init__(self, **config):
        self._config = config
        self.forms: dict[str, Form] = {}
        self.buffers: dict[str, Array] = {}

    def __call__(self, *xs: Tensor, training: bool = False, rng=None) -> Tensor:
        """Returns the output; training switches batch statistics and dropout on, rng draws the latter."""
        raise NotImplementedError

    def out_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the output's shape without N; ValueError where the inputs do not fit."""
        return shapes[0]

    def macs(self, *shapes: tuple[int, ...]) -> int:
        """Returns multiply-accumulates per example, bias not counted."""
        return 0

    def config(self) -> dict:
        """Returns the constructor's arguments, JSON-able."""
        return dict(self._config)

    @classmethod
    def entries(cls, **config) -> int:
        """Returns how many numbers a layer of this configuration holds, before it is made."""
        return 0

    def copy(self) -> Layer:
        """Returns an equal layer that shares no writable array."""
        other = copy.copy(self)
        other.forms = {name: form.copy() for name, form in self.forms.items()}
        other.buffers = {name: a.copy() for name, a in self.buffers.items()}
        return other


class Linear(Layer):
    """y = x W' + b;   x (N, I), W (O, I), b (O,)."""

    kind, coupling = "Linear", "mix"

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        in_features, out_features = _positive(in_features=in_features, out_features=out_features)
        super().__init__(in_features=in_features, out_features=out_features, bias=_flag("bias", bias))
        self.in_features, self.out_features = in_features, out_features
        self.forms["weight"] = Dense(np.zeros((out_features, in_features), np.float32))
        if bias:
            self.forms["bias"] = Dense(np.zeros(out_features, np.float32))

    @classmethod
    def entries(cls, in_features, out_features, bias=True):
        return (in_features + 1) * out_features

    def __call__(self, x, *, training=False, rng=None):
        if "bias" in self.forms:
            return linear(x, self.forms["weight"].dense(), self.forms["bias"].dense())
        return ops.matmul(x, ops.transpose(self.forms["weight"].dense()))

    def out_shape(self, shape):
        if shape != (self.in_features,):
            raise ValueError(f"Linear needs {self.in_features} features, got an input of shape {shape}")
        return (self.out_features,)

    def macs(self, shape):
        return self.in_features * self.out_features


class Conv2d(Layer):
    """Cross-correlation;   x (N, C, H, W), W (O, C / groups, K, K), b (O,)."""

    kind, coupling = "Conv2d", "mix"

    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, groups: int = 1,
                 bias: bool = True):
        in_channels, out_channels, groups = _positive(in_channels=in_channels, out_channels=out_channels,
                                                      groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"groups must divide {in_channels} and {out_channels}, got {groups}")
        self.kernel_size = _pair("kernel_size", kernel_size, 1)
        self.stride, self.padding = _pair("stride", stride, 1), _pair("padding", padding, 0)
        super().__init__(in_channels=in_channels, out_channels=out_channels, kernel_size=list(self.kernel_size),
                         stride=list(self.stride), padding=list(self.padding), groups=groups, bias=_flag("bias", bias))
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.forms["weight"] = Dense(np.zeros((out_channels, in_channels // groups, *self.kernel_size), np.float32))
        if bias:
            self.forms["bias"] = Dense(np.zeros(out_channels, np.float32))

    @classmethod
    def entries(cls, in_channels, out_channels, kernel_size, groups=1, **_):
        return out_channels * (in_channels // groups * math.prod(_pair("kernel_size", kernel_size, 1)) + 1)

    def __call__(self, x, *, training=False, rng=None):
        form = dict(stride=self.stride, padding=self.padding, groups=self.groups)
        if "bias" in self.forms:
            return conv2d_bias(x, self.forms["weight"].dense(), self.forms["bias"].dense(), **form)
        return conv2d(x, self.forms["weight"].dense(), **form)

    def out_shape(self, shape):
        if len(shape) != 3 or shape[0] != self.in_channels:
            raise ValueError(f"Conv2d needs {self.in_channels} channels, got an input of shape {shape}")
        return (self.out_channels,) + tuple(
            _windows(n, k, s, p) for n, k, s, p in zip(shape[1:], self.kernel_size, self.stride, self.padding))

    def macs(self, shape):
        return math.prod(self.out_shape(shape)) * (self.in_channels // self.groups) * math.prod(self.kernel_size)


class _BatchNorm(Layer):
    # Ioffe & Szegedy 2015; running statistics as PyTorch keeps them (the variance with n - 1).
    axes: tuple[int, ...]
    buffer_parts = {"running_mean": Part("table", axes=(0,)), "running_var": Part("table", axes=(0,), least=0)}

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        num_features, = _positive(num_features=num_features)
        for name, value in (("eps", eps), ("momentum", momentum)):
            if not (isinstance(value, float) and 0 <= value <= 1):
                raise ValueError(f"{name} must be a float in [0, 1], got {value!r}")
        super().__init__(num_features=num_features, eps=eps, momentum=momentum)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.forms = {"weight": Dense(np.ones(num_features, np.float32)),
                      "bias": Dense(np.zeros(num_features, np.float32))}
        self.buffers = {"running_mean": np.zeros(num_features, np.float32),
                        "running_var": np.ones(num_features, np.float32)}

    @classmethod
    def entries(cls, num_features, **_):
        return 4 * num_features

    def __call__(self, x, *, training=False, rng=None):
        gamma, beta = self.forms["weight"].dense(), self.forms["bias"].dense()
        if not training:
            shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
            std = np.sqrt(self.buffers["running_var"] + np.float32(self.eps))
            gain = ops.reshape(gamma / std, shape=shape)
            offset = ops.reshape(beta - gamma * (self.buffers["running_mean"] / std), shape=shape)
            return x * gain + offset
        statistics = batch_statistics(x.data)
        self._track(*statistics, n=x.size // self.num_features)
        return batch_norm(x, gamma, beta, eps=self.eps, statistics=statistics)

    def _track(self, mean: Array, var: Array, n: int) -> None:
        for name, value in (("running_mean", mean), ("running_var", var * (n / max(n - 1, 1)))):
            self.buffers[name] += (self.momentum * (value - self.buffers[name])).astype(np.float32)

    def out_shape(self, shape):
        if len(shape) != len(self.axes) or shape[0] != self.num_features:
            raise ValueError(f"{self.kind} needs {self.num_features} channels and {len(self.axes) - 1} spatial axes, "
                             f"got an input of shape {shape}")
        return shape


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of features, x (N, C)."""

    kind, axes = "BatchNorm1d", (0,)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of maps, x (N, C, H, W)."""

    kind, axes = "BatchNorm2d", (0, 2, 3)


class _Elementwise(Layer):
    def __init__(self):
        super().__init__()


class ReLU(_Elementwise):
    """max(x, 0)."""

    kind = "ReLU"

    def __call__(self, x, *, training=False, rng=None):
        return ops.relu(x)


class ReLU6(_Elementwise):
    """min(max(x, 0), 6)."""

    kind = "ReLU6"

    def __call__(self, x, *, training=False, rng=None):
        return ops.relu6(x)


class Sigmoid(_Elementwise):
    """1 / (1 + exp(-x))."""

    kind = "Sigmoid"

    def __call__(self, x, *, training=False, rng=None):
        return ops.sigmoid(x)


class Tanh(_Elementwise):
    """tanh(x)."""

    kind = "Tanh"

    def __call__(self, x, *, training=False, rng=None):
        return ops.tanh(x)


class Identity(_Elementwise):
    """x."""

    kind = "Identity"

    def __call__(self, x, *, training=False, rng=None):
        return x


class ActThreshold(Layer):
    """x where |x| >= threshold, else 0: sparser activations."""

    kind = "ActThreshold"

    def __init__(self, threshold: float):
        if not (isinstance(threshold, float) and 0 <= threshold < math.inf):
            raise ValueError(f"threshold must be a finite float of at least 0, got {threshold!r}")
        super().__init__(threshold=threshold)
        self.threshold = threshold

    def __call__(self, x, *, training=False, rng=None):
        return x * (np.abs(x.data) >= self.threshold).astype(x.dtype)


class ActTopK(Layer):
    """The k entries of each example of largest magnitude, the others 0; ties by lowest index."""

    kind = "ActTopK"

    def __init__(self, k: int):
        k, = _positive(k=k)
        super().__init__(k=k)
        self.k = k

    def __call__(self, x, *, training=False, rng=None):
        flat = np.abs(x.data).reshape(x.shape[0], -1)
        if self.k >= flat.shape[1]:
            return x
        keep = np.zeros(flat.shape, x.dtype)
        np.put_along_axis(keep, np.argsort(-flat, axis=1, kind="stable")[:, :self.k], 1, axis=1)
        return x * keep.reshape(x.shape)


class Dropout(Layer):
    """Zeroes each entry with probability p in training and scales the rest by 1 / (1 - p)."""

    kind = "Dropout"

    def __init__(self, p: float = 0.5):
        if isinstance(p, bool) or not 0 <= p < 1:
            raise ValueError(f"p must be in [0, 1), got {p}")
        super().__init__(p=p)
        self.p = p

    def __call__(self, x, *, training=False, rng=None):
        if not training or self.p == 0:
            return x
        if rng is None:
            raise ValueError("rng must be given when a model with dropout is training")
        keep = rng.random(x.shape, dtype=np.float32) >= self.p
        return x * (keep.astype(x.dtype) * float(1 / (1 - self.p)))


class _Pool(Layer):
    pool = None

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode: bool = False):
        self.kernel_size = _pair("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else _pair("stride", stride, 1)
        self.padding, self.ceil_mode = _pair("padding", padding, 0), _flag("ceil_mode", ceil_mode)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size)):
            raise ValueError(f"padding must be at most half of kernel_size {self.kernel_size}, got {self.padding}")
        super().__init__(kernel_size=list(self.kernel_size), stride=list(self.stride), padding=list(self.padding),
                         ceil_mode=self.ceil_mode)

    def __call__(self, x, *, training=False, rng=None):
        return type(self).pool(x, kernel=self.kernel_size, stride=self.stride, padding=self.padding,
                               ceil_mode=self.ceil_mode)

    def out_shape(self, shape):
        if len(shape) != 3:
            raise ValueError(f"{self.kind} needs an input (C, H, W), got shape {shape}")
        return (shape[0],) + tuple(_windows(n, k, s, p, self.ceil_mode) for n, k, s, p in
                                   zip(shape[1:], self.kernel_size, self.stride, self.padding))


class MaxPool2d(_Pool):
    """The largest entry of each window."""

    kind, pool = "MaxPool2d", staticmethod(max_pool2d)


class AvgPool2d(_Pool):
    """The mean of each window, padding counted."""

    kind, pool = "AvgPool2d", staticmethod(avg_pool2d)


class AdaptiveAvgPool2d(Layer):
    """The means of a grid of `output_size` cells over the map."""

    kind = "AdaptiveAvgPool2d"

    def __init__(self, output_size=1):
        self.output_size = _pair("output_size", output_size, 1)
        super().__init__(output_size=list(self.output_size))

    def __call__(self, x, *, training=False, rng=None):
        return adaptive_avg_pool2d(x, size=self.output_size)

    def out_shape(self, shape):
        if len(shape) != 3:
            raise ValueError(f"AdaptiveAvgPool2d needs an input (C, H, W), got shape {shape}")
        return (shape[0], *self.output_size)


class Flatten(_Elementwise):
    """(N, C, H, W) -> (N, C H W), in C order."""

    kind, coupling = "Flatten", "flatten"

    def __call__(self, x, *, training=False, rng=None):
        return ops.reshape(x, shape=(x.shape[0], -1)) if x.ndim != 2 else x

    def out_shape(self, shape):
        return (math.prod(shape),)


class Add(_Elementwise):
    """The sum of its inputs."""

    kind, coupling, arity = "Add", "add", None

    def __call__(self, *xs, training=False, rng=None):
        y = xs[0]
        for x in xs[1:]:
            y = y + x
        return y

    def out_shape(self, *shapes):
        if len(set(shapes)) != 1:
            raise ValueError(f"Add needs equal shapes, got {', '.join(map(str, shapes))}")
        return shapes[0]


class Concat(_Elementwise):
    """Its inputs joined along the channels."""

    kind, coupling, arity = "Concat", "concat", None

    def __call__(self, *xs, training=False, rng=None):
        return ops.concat(*xs, axis=1)

    def out_shape(self, *shapes):
        if len({s[1:] for s in shapes}) != 1:
            raise ValueError(f"Concat needs equal maps, got {', '.join(map(str, shapes))}")
        return (sum(s[0] for s in shapes), *shapes[0][1:])


class ChannelShuffle(Layer):
    """Channels (g, n) reordered to (n, g): channel i of group j moves to place i g + j (arXiv 1707.01083)."""

    kind, coupling = "ChannelShuffle", "permute"

    def __init__(self, groups: int):
        groups, = _positive(groups=groups)
        super().__init__(groups=groups)
        self.groups = groups

    def permutation(self, channels: int) -> Array:
        """Returns the source channel of each output channel, (channels,)."""
        return np.arange(channels).reshape(self.groups, -1).T.ravel()

    def __call__(self, x, *, training=False, rng=None):
        n, c, h, w = x.shape
        grouped = ops.reshape(x, shape=(n, self.groups, c // self.groups, h, w))
        return ops.reshape(ops.swapaxes(grouped, 1, 2), shape=x.shape)

    def out_shape(self, shape):
        if len(shape) != 3 or shape[0] % self.groups:
            raise ValueError(f"ChannelShuffle needs (C, H, W) with C a multiple of {self.groups}, got {shape}")
        return shape


LAYERS: dict[str, type[Layer]] = {layer.kind: layer for layer in (
    Linear, Conv2d, BatchNorm1d, BatchNorm2d, ReLU, ReLU6, Sigmoid, Tanh, MaxPool2d, AvgPool2d,
    AdaptiveAvgPool2d, Dropout, Flatten, Identity, Add, Concat, ChannelShuffle, ActThreshold, ActTopK)}


def _flag(name: str, value) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value


def _positive(**sizes) -> tuple[int, ...]:
    for name, n in sizes.items():
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {n!r}")
    return tuple(int(n) for n in sizes.values())


def _pair(name: str, value, least: int) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < least for n in pair):
        raise ValueError(f"{name} must be an integer or a pair, each at least {least}, got {value!r}")
    return int(pair[0]), int(pair[1])


def _windows(n: int, k: int, s: int, p: int, ceil_mode: bool = False) -> int:
    # Number of windows of size k at stride s along n entries padded by p; with ceil_mode a last window may
    # hang over the end as long as it starts inside the input or its left padding.
    span = n + 2 * p - k
    if span < 0:
        raise ValueError(f"a window of {k} does not fit {n} entries padded by {p}")
    count = (-(-span // s) if ceil_mode else span // s) + 1
    return count - 1 if ceil_mode and (count - 1) * s >= n + p else count
