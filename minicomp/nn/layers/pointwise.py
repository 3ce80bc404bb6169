"""Layers that have no weights and keep channels: activations, dropout, sparser activations."""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from ...grid import drawn_sign, hard_sign
from ...tensor import Array
from ..forms import Dense, Part
from .base import Layer, Plain, number, positive


class _Activation(Plain):
    coupling, pointwise, activation = "keep", True, True


class ReLU(_Activation):
    """max(x, 0)."""

    kind, rectifies, homogeneous = "ReLU", True, True
    step = "relu"

    def forward(self, x, **_):
        return ops.relu(x)


class ReLU6(_Activation):
    """min(max(x, 0), 6)."""

    kind, rectifies = "ReLU6", True
    step = "relu6"

    def forward(self, x, **_):
        return ops.relu6(x)

    def rescaled(self, s):
        return self if (s == 1).all() else ClipChannels.of(6.0 / s)

    def shifted(self, c):
        return ClipChannels.of(6.0 - c) if (c <= 6).all() else None


class ClipChannels(Layer):
    """min(max(x, 0), ceiling), a ceiling of its own for each channel; x (N, C, ...).

    What becomes of ReLU6 where the channels that it reads are divided by s: ceiling = 6 / s. No
    weights: not counted, decayed or pruned. As in `ReLU6` the slope is 0 at 0 and at the ceiling.
    Source: Nagel et al. 2019, arXiv 1906.04721, section 4.1, on piecewise linear functions
    """

    kind, coupling, pointwise, activation, rectifies = "ClipChannels", "keep", True, True, True
    sizes = {"num_features": "out"}
    step = "clip"
    buffer_parts = {"ceiling": Part("table", axes=(0,), least=0)}

    def __init__(self, num_features: int):
        (num_features,) = positive(num_features=num_features)
        super().__init__(num_features=num_features)
        self.num_features = num_features
        self.buffers["ceiling"] = np.full(num_features, 6, np.float32)

    @classmethod
    def of(cls, ceiling: Array) -> ClipChannels:
        """Returns the layer of these ceilings, (C,), finite and at least 0, else ValueError."""
        ceiling = np.asarray(ceiling, np.float32)
        if ceiling.ndim != 1 or not ((0 <= ceiling) & (ceiling < math.inf)).all():
            raise ValueError(f"ceiling must be numbers (C,), finite and at least 0, got {ceiling}")
        layer = cls(len(ceiling))
        layer.buffers["ceiling"][...] = ceiling
        return layer

    @classmethod
    def entries(cls, num_features):
        return positive(num_features=num_features)[0]

    def forward(self, x, **_):
        ceiling = self.buffers["ceiling"].astype(x.dtype).reshape(-1, *[1] * (x.ndim - 2))
        return ops.where(x.data < ceiling, ops.relu(x), ceiling)

    def rescaled(self, s):
        return self.of(self.buffers["ceiling"] / s)

    def shifted(self, c):
        ceiling = self.buffers["ceiling"]
        return self.of(ceiling - c) if (c <= ceiling).all() else None

    def switched_off(self, channels):
        return self.buffers["ceiling"] == 0

    def lowered(self):
        return {"ceiling": Dense(self.buffers["ceiling"].copy(), trainable=False)}

    def out_shape(self, shape):
        if shape[0] != self.num_features:
            raise ValueError(f"ClipChannels needs {self.num_features} channels, got an input of "
                             f"shape {shape}")
        return shape


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


class Sign(_Activation):
    """+1 where x >= 0, else -1; its gradient is g 1[|x| <= 1].

    While `stochastic`, which a technique sets, training draws +1 with probability
    clip((x + 1) / 2, 0, 1), -1 else: one draw for all of a batch, or of a thread's part of it where
    it is split, which nets with batch norm never are.
    Source: Courbariaux, Hubara, Soudry, El-Yaniv & Bengio 2016, arXiv 1602.02830, eqs. (1)-(4)
    """

    kind, straight_through = "Sign", True
    step = "sign"
    stochastic = False

    def forward(self, x, *, training, rng, **_):
        if not (training and self.stochastic):
            return hard_sign(x)
        if rng is None:
            raise ValueError("rng must be given when a model whose signs are drawn is training")
        return drawn_sign(x, u=rng.random(x.shape, dtype=np.float32))


class Identity(Plain):
    """x."""

    kind, coupling, pointwise, passes, homogeneous = "Identity", "keep", True, True, True
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
    homogeneous = True
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
