"""Layers that only lead values about: flatten, add, join, reorder."""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from ...tensor import Array
from .base import Layer, Plain, positive, pulled


class _Wiring(Layer):
    homogeneous = True

    def pull_squared(self, h, *xs):
        return pulled(self, h, *xs)  # coefficients are 0 and 1, as are their squares


class Flatten(_Wiring, Plain):
    """(N, C, H, W) -> (N, C H W), in C order."""

    kind, coupling, passes = "Flatten", "flatten", True
    step = "flatten"

    def forward(self, x, **_):
        return ops.reshape(x, shape=(x.shape[0], math.prod(x.shape[1:])))

    def out_shape(self, shape):
        return (math.prod(shape),)


class Add(_Wiring, Plain):
    """The sum of its inputs."""

    kind, coupling, arity = "Add", "add", None
    step = "add"

    def forward(self, *xs, **_):
        y = xs[0]
        for x in xs[1:]:
            y = y + x
        return y

    def out_shape(self, *shapes):
        if len(set(shapes)) != 1:
            raise ValueError(f"Add needs equal shapes, got {', '.join(map(str, shapes))}")
        return shapes[0]


class Concat(_Wiring, Plain):
    """Its inputs joined along the channels."""

    kind, coupling, arity = "Concat", "concat", None
    step = "concat"

    def forward(self, *xs, **_):
        return ops.concat(*xs, axis=1)

    def out_shape(self, *shapes):
        if len({s[1:] for s in shapes}) != 1:
            raise ValueError(f"Concat needs equal maps, got {', '.join(map(str, shapes))}")
        return (sum(s[0] for s in shapes), *shapes[0][1:])


class CReLU(Plain):
    """max(x, 0) and, behind all of its channels, max(-x, 0): twice as many.

    Source: Shang, Sohn, Almeida & Lee 2016 (arXiv 1603.05201), definition 2.1
    """

    kind, coupling = "CReLU", "mirror"
    step = "crelu"

    def forward(self, x, **_):
        return ops.concat(ops.relu(x), ops.relu(-x), axis=1)

    def out_shape(self, shape):
        return (2 * shape[0], *shape[1:])

    def constant(self, v, shape):
        return np.concatenate([np.maximum(v, 0), np.maximum(-v, 0)])

    def pull_squared(self, h, x):
        return [np.where(x > 0, h[:, : x.shape[1]], 0) + np.where(x < 0, h[:, x.shape[1] :], 0)]


class ChannelShuffle(_Wiring):
    """Channels (g, n) reordered to (n, g): channel i of group j moves to place i g + j.

    Source: Zhang et al. 2018 (arXiv 1707.01083), section 3.1
    """

    kind, coupling, passes = "ChannelShuffle", "permute", True
    step = "shuffle"

    def __init__(self, groups: int):
        (groups,) = positive(groups=groups)
        super().__init__(groups=groups)
        self.groups = groups

    def permutation(self, channels: int) -> Array:
        """Returns the source channel of each output channel, (channels,)."""
        return np.arange(channels).reshape(self.groups, -1).T.ravel()

    def forward(self, x, **_):
        n, c, h, w = x.shape
        grouped = ops.reshape(x, shape=(n, self.groups, c // self.groups, h, w))
        return ops.reshape(ops.swapaxes(grouped, 1, 2), shape=x.shape)

    def out_shape(self, shape):
        if len(shape) != 3 or shape[0] % self.groups:
            raise ValueError(
                f"ChannelShuffle needs (C, H, W) with C a multiple of {self.groups}, got {shape}"
            )
        return shape
