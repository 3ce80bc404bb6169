"""Layers whose weights are noisy by groups, those of an input of a linear layer or of a filter of
a convolution: see bayesian_compression.py."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ... import ops
from ...tensor import Array, Tensor
from ..moving import FREE
from .divergence import log_alpha, slopes
from .noisy import Noisy, NoisyConv2d, NoisyLinear


def gaussian_slopes(mu: Array, log_var: Array) -> tuple[Array, Array]:
    """Returns the slopes in mu and log sigma^2 of KL(N(mu, sigma^2) || N(0, 1)), in their dtype.

    mu, log_var : float, of one shape        Source: Louizos et al. 2017, eq. (8)
    """
    return mu, 0.5 * (np.exp(log_var) - 1)


class Grouped(Noisy):
    """What both kinds share, with a log-uniform prior of scales.

    buffers : log_var; z and z_log_var, (groups,)
    """

    buffer_parts = {"log_var": FREE, "z": FREE, "z_log_var": FREE}
    axis: ClassVar[int]  # of the weight, along which groups lie

    @classmethod
    def of(cls, layer, log_var):
        made = super().of(layer, log_var)
        made.buffers |= cls.begun(made.forms["weight"].shape[cls.axis], log_var)
        return made

    @classmethod
    def begun(cls, groups: int, log_var: float) -> dict[str, Array]:
        """Returns the buffers of the scales when training begins."""
        return {"z": np.ones(groups, np.float32),
                "z_log_var": np.full(groups, log_var, np.float32)}

    def spread(self, a: Array) -> Array:
        """Returns numbers of groups so that they broadcast to the weight."""
        shape = [1] * len(self.forms["weight"].shape)
        shape[self.axis] = -1
        return a.reshape(shape)

    def slopes_of(self, theta):
        held, kept = self.buffers, self.kept()
        of_z = zip(("z", "z_log_var"), slopes(held["z"], held["z_log_var"]))
        of_w = zip(("weight", "log_var"), gaussian_slopes(theta, held["log_var"]))
        return {name: slope * kept for name, slope in of_w} | dict(of_z)

    def drawn(self, weights: dict, n: int, rng) -> Tensor:
        """Returns a z of each of n examples, (N, groups)."""
        shape = (n, len(self.buffers["z"]))
        spread = ops.exp(weights["z_log_var"] * 0.5).reshape(1, -1)
        noise = rng.standard_normal(shape, np.float32)
        return weights["z"].reshape(1, -1) + spread * noise

    def moments(self) -> tuple[Array, Array]:
        """Returns mean and variance of each scale, (groups,)."""
        return self.buffers["z"], np.exp(self.buffers["z_log_var"])

    def expected(self) -> Array:
        """Returns the mean of each scale, (groups,) float32."""
        return self.moments()[0].astype(np.float32)

    def noise(self) -> Array:
        """Returns log alpha of each scale, (groups,): above a threshold its group goes."""
        return log_alpha(self.buffers["z"], self.buffers["z_log_var"])


class GroupedLinear(Grouped, NoisyLinear):
    """A Linear whose inputs have a scale each."""

    kind, axis = "GroupedLinear", 1

    def forward(self, x, *, weights, training, rng):
        if not training:
            scaled = x * self.expected().reshape(1, -1)
        else:
            scaled = x * self.drawn(weights, x.shape[0], rng)
        return super().forward(scaled, weights=weights, training=training, rng=rng)


class GroupedConv2d(Grouped, NoisyConv2d):
    """A Conv2d whose filters have a scale each."""

    kind, axis = "GroupedConv2d", 0

    def forward(self, x, *, weights, training, rng):
        bare = {name: t for name, t in weights.items() if name != "bias"}
        y = super().forward(x, weights=bare, training=training, rng=rng)
        if training:
            y = y * self.drawn(weights, x.shape[0], rng).reshape(*y.shape[:2], 1, 1)
        else:
            y = y * self.expected().reshape(1, -1, 1, 1)
        return y + weights["bias"].reshape(1, -1, 1, 1) if "bias" in weights else y
