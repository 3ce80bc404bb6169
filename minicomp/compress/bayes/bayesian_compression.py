"""Bayesian compression with a prior of groups (Louizos, Ullrich, Welling 2017,
"Bayesian Compression for Deep Learning", arXiv 1705.08665).

A scale z_i is shared by the weights of a group, those that one input of a linear layer or one
filter of a convolution has, and a prior that favours z_i = 0 prunes units, not weights. Normal-
Jeffreys (the horseshoe is in horseshoe.py):

    p(W, z) ~ prod_i 1 / |z_i|  prod_ij N(w_ij | 0, z_i^2)
    q(W, z) = prod_i N(z_i | mu_z, mu_z^2 alpha)  prod_ij N(w_ij | z_i mu_ij, z_i^2 sigma_ij^2) (6)

    KL = sum_i KL(alpha_i) + sum_ij (sigma_ij^2 + mu_ij^2 - 1 - log sigma_ij^2) / 2          (7, 8)

with the divergence of sparse variational dropout for z. Noise is drawn at outputs, for each example
a z of its own. A unit whose log alpha is above a threshold goes; a weight is mu_z mu_ij, of which
the posterior says how exactly it must be known:

    Var w_ij = mu_z^2 sigma^2 + var_z mu^2 + var_z sigma^2                                     (9)

A grid of step s adds s^2 / 12 to the variance of a weight; here its step makes that `share` of the
mean variance of the weights that are left in a layer. A few noisy weights make most of that mean:
with a share of 1 LeNet-300-100 lost all that it knew (`minicomp paper bayesian-compression2017`
says more), so that the default is a hundredth.

Where we leave the paper: it counts the bits of a float of as many significant bits as the variance
asks for, ours are codes of a grid, which the file's coder takes at their entropy; its thresholds
are set by hand from histograms, ours is one knob for all layers, or by pattern; biases have no
noise. Dead units are removed by `dead-units`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.forms import Affine
from ...nn.layers import Conv2d, Layer, Linear
from ...tensor import Array
from ..technique import knob
from .divergence import below
from .grouped import GroupedConv2d, GroupedLinear
from .horseshoe import kinds_of
from .noisy import Noisy
from .training import NoisyTraining

MOST_BITS = 12


def posterior_variance(mu: Array, log_var: Array, z: Array, z_var: Array) -> Array:
    """Returns Var(z w) of independent variables z and w: eq. (9).

    mu, log_var : of w        z, z_var : mean and variance of z, shapes that broadcast to w's
    """
    var = np.exp(log_var)
    return z * z * var + z_var * mu * mu + z_var * var


def grid_of_variance(peak: float, variance: float, share: float) -> tuple[float, int]:
    """Returns (step, bits) of the grid whose rounding adds share times the variance.

    peak : the largest |w|        bits : 2..12, enough for the peak, or the step is enlarged
    """
    step = math.sqrt(12 * share * variance)
    needed = 1 + math.ceil(math.log2(max(peak / step, 1.0) + 1.5)) if step > 0 else MOST_BITS
    bits = min(max(needed, 2), MOST_BITS)
    return max(step, peak / (2 ** (bits - 1) - 1)) or 1.0, bits


JEFFREYS: dict[type[Layer], type[Noisy]] = {Linear: GroupedLinear, Conv2d: GroupedConv2d}


@dataclass(frozen=True)
class BayesianCompression(NoisyTraining):
    """Trains units with noise of their own, drops those that are mostly noise, and stores the
    others as exactly as their posterior knows them."""

    word: ClassVar[str] = "bayesian-compression"
    apart: ClassVar[dict[str, str]] = NoisyTraining.apart | {
        "sparse-vd": "each gives the same weights their noise"}
    title: ClassVar[str] = "Bayesian compression, a prior of groups"
    source: ClassVar[str] = ("Louizos, Ullrich & Welling 2017, Bayesian Compression for Deep "
                             "Learning, arXiv:1705.08665")

    prior: str = knob("jeffreys", "of the groups' scales", choices=("jeffreys", "horseshoe"))
    threshold: float = knob(0.0, "log alpha, or with horseshoe minus the log of the mode of a "
                            "unit's scale, above which it is dropped", lo=-40.0, hi=40.0,
                            per_layer=True)
    tau: float = knob(1e-5, "scale of a layer's scale, of horseshoe", lo=1e-8, hi=1.0)
    share: float = knob(0.01, "variance that rounding adds, of the posterior's", lo=1e-6)

    @property
    def kinds(self):
        return JEFFREYS if self.prior == "jeffreys" else kinds_of(self.tau)

    def known(self, node, layer):
        mu = layer.forms["weight"].dense().data
        z, z_var = (layer.spread(a) for a in layer.moments())
        stays = below(layer.noise(), self.at("threshold", node))
        keep = np.broadcast_to(layer.spread(stays), mu.shape) & layer.kept()
        w = np.where(keep, mu * z, 0).astype(np.float32)
        variance = posterior_variance(mu, layer.buffers["log_var"], z, z_var)
        mean = float(variance[keep].mean()) if keep.any() else 0.0
        step, bits = grid_of_variance(float(np.abs(w).max(initial=0.0)), mean, self.share)
        return Affine.of(w, step, bits=bits, mask=keep)
