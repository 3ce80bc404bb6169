"""Bayesian compression with a group normal-Jeffreys prior (Louizos, Ullrich, Welling 2017,
"Bayesian Compression for Deep Learning", arXiv 1705.08665).

A scale z_i is shared by the weights of a group, those that one input of a linear layer or one
filter of a convolution has, and a prior that favours z_i = 0 prunes units, not weights:

    p(W, z) ~ prod_i 1 / |z_i|  prod_ij N(w_ij | 0, z_i^2)
    q(W, z) = prod_i N(z_i | mu_z, mu_z^2 alpha)  prod_ij N(w_ij | z_i mu_ij, z_i^2 sigma_ij^2) (6)

    KL = sum_i KL(alpha_i) + sum_ij (sigma_ij^2 + mu_ij^2 - 1 - log sigma_ij^2) / 2          (7, 8)

with the divergence of sparse variational dropout for z. Noise is drawn at outputs, for each example
a z of its own. A unit whose log alpha is above a threshold goes; a weight is mu_z mu_ij, of which
the posterior says how exactly it must be known:

    Var w_ij = mu_z^2 sigma^2 + var_z mu^2 + var_z sigma^2                                     (9)

A grid of step s adds s^2 / 12 to the variance of a weight; here its step makes that `share` of the
mean variance of the weights that are left in a layer.

Where we leave the paper: it counts the bits of a float of as many significant bits as the variance
asks for, ours are codes of a grid, which the file's coder takes at their entropy; its thresholds
are set by hand from histograms, ours is one knob for all layers, or by pattern; biases have no
noise. Its half-Cauchy prior (group horseshoe) is not here. Dead units are removed by `dead-units`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ops
from ...nn.forms import Affine
from ...nn.layers import Conv2d, Layer, Linear
from ...tensor import Array, Tensor
from ..moving import FREE
from ..technique import knob
from .divergence import certain, slopes
from .noisy import Noisy, NoisyConv2d, NoisyLinear
from .training import NoisyTraining

MOST_BITS = 12


def gaussian_slopes(mu: Array, log_var: Array) -> tuple[Array, Array]:
    """Returns the slopes in mu and log sigma^2 of KL(N(mu, sigma^2) || N(0, 1)): eq. (8)."""
    return mu, 0.5 * (np.exp(log_var) - 1)


def posterior_variance(mu: Array, log_var: Array, z: Array, z_log_var: Array) -> Array:
    """Returns Var(z w) of independent Gaussians z and w: eq. (9).

    mu, log_var : of w        z, z_log_var : of z, shapes that broadcast to w's
    """
    var, z_var = np.exp(log_var), np.exp(z_log_var)
    return z * z * var + z_var * mu * mu + z_var * var


def grid_of_variance(peak: float, variance: float, share: float) -> tuple[float, int]:
    """Returns (step, bits) of the grid whose rounding adds share times the variance.

    peak : the largest |w|        bits : 2..12, enough for the peak, or the step is enlarged
    """
    step = math.sqrt(12 * share * variance)
    needed = 1 + math.ceil(math.log2(max(peak / step, 1.0) + 1.5)) if step > 0 else MOST_BITS
    bits = min(max(needed, 2), MOST_BITS)
    return max(step, peak / (2 ** (bits - 1) - 1)) or 1.0, bits


class Grouped(Noisy):
    """What both kinds share.   buffers : log_var; z and z_log_var, one for each group"""

    buffer_parts = {"log_var": FREE, "z": FREE, "z_log_var": FREE}
    axis: ClassVar[int]  # of the weight, along which groups lie

    @classmethod
    def of(cls, layer, log_var):
        made = super().of(layer, log_var)
        groups = made.forms["weight"].shape[cls.axis]
        made.buffers |= {"z": np.ones(groups, np.float32),
                         "z_log_var": np.full(groups, log_var, np.float32)}
        return made

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


class GroupedLinear(Grouped, NoisyLinear):
    """A Linear whose inputs have a scale each."""

    kind, axis = "GroupedLinear", 1

    def forward(self, x, *, weights, training, rng):
        if not training:
            scaled = x * weights["z"].reshape(1, -1)
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
            y = y * weights["z"].reshape(1, -1, 1, 1)
        return y + weights["bias"].reshape(1, -1, 1, 1) if "bias" in weights else y


@dataclass(frozen=True)
class BayesianCompression(NoisyTraining):
    """Trains units with noise of their own, drops those that are mostly noise, and stores the
    others as exactly as their posterior knows them."""

    word: ClassVar[str] = "bayesian-compression"
    apart: ClassVar[dict[str, str]] = NoisyTraining.apart | {
        "sparse-vd": "each gives the same weights their noise"}
    kinds: ClassVar[dict[type[Layer], type[Noisy]]] = {Linear: GroupedLinear,
                                                       Conv2d: GroupedConv2d}
    title: ClassVar[str] = "Bayesian compression, group normal-Jeffreys prior"
    source: ClassVar[str] = ("Louizos, Ullrich & Welling 2017, Bayesian Compression for Deep "
                             "Learning, arXiv:1705.08665")

    threshold: float = knob(0.0, "log alpha above which a unit is dropped", lo=-8.0, hi=8.0,
                            per_layer=True)
    share: float = knob(1.0, "variance that rounding adds, of the posterior's", lo=1e-6)

    def known(self, node, layer):
        form, held = layer.forms["weight"], layer.buffers
        mu, z = form.dense().data, layer.spread(held["z"])
        stays = certain(held["z"], held["z_log_var"], self.at("threshold", node))
        keep = np.broadcast_to(layer.spread(stays), mu.shape) & layer.kept()
        w = np.where(keep, mu * z, 0).astype(np.float32)
        variance = posterior_variance(mu, held["log_var"], z, layer.spread(held["z_log_var"]))
        mean = float(variance[keep].mean()) if keep.any() else 0.0
        step, bits = grid_of_variance(float(np.abs(w).max(initial=0.0)), mean, self.share)
        return Affine.of(w, step, bits=bits, mask=keep)
