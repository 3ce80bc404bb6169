"""Layers that have no weights and keep channels: activations, dropout, sparser activations."""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from .base import Layer, Plain, number, positive


class _Activation(Plain):
    coupling, pointwise, activation = "keep", True, True


class ReLU(_Activation):
    """max(x, 0)."""

    kind, rectifies = "ReLU", True
    step = "relu"

    def forward(self, x, **_):
        return ops.relu(x)


class ReLU6(_Activation):
    """min(max(x, 0), 6)."""

    kind, rectifies = "ReLU6", True
    step = "relu6"

    def forward(self, x, **_):
        return ops.relu6(x)


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    kind = "Sigmoid"
    step = "sigmoid"

    def forward(self, x, **_):
        return ops.sigmoid(x)


class Tanh(_Activation):
    """tanh(x)."""

    kind = "Tanh"
    step = "tanh"

    def forward(self, x, **_):
        return ops.tanh(x)


class Identity(Plain):
    """x."""

    kind, coupling, pointwise, passes = "Identity", "keep", True, True
    step = ""

    def forward(self, x, **_):
        return x


class ActThreshold(Layer):
    """x where |x| >= threshold, else 0: sparser activations."""

    kind, coupling, pointwise, passes = "ActThreshold", "keep", True, True
    step = "threshold"

    def __init__(self, threshold: float):
        self.threshold = number("threshold", threshold, lambda v: 0 <= v < math.inf,
                                "a finite float of at least 0")
        super().__init__(threshold=self.threshold)

    def forward(self, x, **_):
        return x * (np.abs(x.data) >= self.threshold).astype(x.dtype)


class ActTopK(Layer):
    """The k entries of each example of largest magnitude, the others 0; ties by lowest index."""

    kind, coupling, passes = "ActTopK", "compete", True
    step = "topk"

    def __init__(self, k: int):
        (k,) = positive(k=k)
        super().__init__(k=k)
        self.k = k

    def forward(self, x, **_):
        flat = np.abs(x.data).reshape(x.shape[0], math.prod(x.shape[1:]))
        if self.k >= flat.shape[1]:
            return x
        keep = np.zeros(flat.shape, x.dtype)
        np.put_along_axis(keep, np.argsort(-flat, axis=1, kind="stable")[:, : self.k], 1, axis=1)
        return x * keep.reshape(x.shape)


class Dropout(Layer):
    """Zeroes each entry with probability p in training and scales the rest by 1 / (1 - p)."""

    kind, coupling, pointwise, drops, passes = "Dropout", "keep", True, True, True
    step = ""

    def __init__(self, p: float = 0.5):
        self.p = number("p", p, lambda v: 0 <= v < 1, "in [0, 1)")
        super().__init__(p=self.p)

    def forward(self, x, *, training, rng, **_):
        if not training or self.p == 0:
            return x
        if rng is None:
            raise ValueError("rng must be given when a model with dropout is training")
        keep = rng.random(x.shape, dtype=np.float32) >= self.p
        return x * (keep.astype(x.dtype) * float(1 / (1 - self.p)))
