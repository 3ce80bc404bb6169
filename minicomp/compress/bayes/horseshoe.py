"""The group horseshoe prior of Bayesian compression (Louizos, Ullrich & Welling 2017, section 4.2;
Carvalho, Polson & Scott 2010, "The Horseshoe Estimator for Sparse Signals").

The scale of a group is a product of two half-Cauchy variables, one of the layer, one of its own:

    s ~ C+(0, tau0),   z_i ~ C+(0, 1),   w_ij ~ N(0, s^2 z_i^2)

A half-Cauchy variable is the root of a product of a Gamma and an inverse Gamma variable,

    s = sqrt(s_a s_b),        s_a ~ G(1/2, tau0^2),  s_b ~ IG(1/2, 1)
    z_i = sqrt(a_i b_i),      a_i ~ G(1/2, 1),       b_i ~ IG(1/2, 1)

and each of these has a log-normal posterior, so that s z_i is log-normal too: its logarithm has the
mean half the sum of four means, and a fourth of the sum of four variances. For x ~ LN(mu, sigma^2),
up to constants,

    KL(x || G(1/2, b)) = exp(mu + sigma^2 / 2) / b - mu / 2 - log(sigma^2) / 2                   (1)
    KL(x || IG(1/2, 1)) = exp(-mu + sigma^2 / 2) + mu / 2 - log(sigma^2) / 2                     (2)

(1) from E x = exp(mu + sigma^2 / 2) and the entropy mu + log(2 pi e sigma^2) / 2; (2) is (1) of
1 / x. A group goes where minus the log of the mode of z_i, var(log z_i) - mean(log z_i), is above a
threshold.
"""

from __future__ import annotations

import functools
import math
from typing import ClassVar

import numpy as np

from ... import ops
from ...nn.layers import Conv2d, Layer, Linear
from ...tensor import Array, Tensor
from ..moving import FREE
from .grouped import Grouped, GroupedConv2d, GroupedLinear, gaussian_slopes
from .noisy import LOW

FAR, WIDE = 60.0, 2.0  # mean and log variance of a logarithm, at most: exp stays finite


def half_cauchy_slopes(mean: Array, log_var: Array, tau: Array | float = 1.0
                       ) -> tuple[Array, Array]:
    """Returns the slopes of (1) + (2) in means and log variances, each (2, ...), in mean's dtype.

    mean, log_var : float (2, ...) of the logarithms of the Gamma and of the inverse Gamma variable
    tau : > 0, the scale of the half-Cauchy variable, one or (...)
    Source: Louizos et al. 2017, section 4.2; (1) and (2) as above
    """
    sign = np.array([1, -1], mean.dtype).reshape(-1, *[1] * (mean.ndim - 1))
    var = np.exp(log_var)
    grown = np.exp(sign * mean + var / 2)
    grown[0] /= np.square(tau)
    return sign * (grown - 0.5), 0.5 * (grown * var - 1)


class Horseshoe(Grouped):
    """A layer whose groups have half-Cauchy scales.

    buffers : log_var; scale and scale_log_var, (2, groups + 1): mean and log variance of the
        logarithms of the Gamma and inverse Gamma variables, the layer's own in the last column
    """

    buffer_parts = {"log_var": FREE, "scale": FREE, "scale_log_var": FREE}
    tau: ClassVar[float]

    @classmethod
    def begun(cls, groups, log_var):
        """The layer's scale begins at tau0, those of groups so that all products are 1."""
        scale = np.zeros((2, groups + 1), np.float32)
        scale[0, -1] = 2 * math.log(cls.tau)
        scale[1, :-1] = -2 * math.log(cls.tau)  # of the heavier tail, where it costs least
        return {"scale": scale, "scale_log_var": np.full_like(scale, log_var)}

    def project(self):
        super().project()
        for name, lo, hi in (("scale", -FAR, FAR), ("scale_log_var", LOW, WIDE)):
            np.clip(self.buffers[name], lo, hi, out=self.buffers[name])

    def slopes_of(self, theta):
        held, kept = self.buffers, self.kept()
        tau = np.ones(held["scale"].shape[1])
        tau[-1] = self.tau
        of_scale = half_cauchy_slopes(held["scale"].astype(np.float64), held["scale_log_var"], tau)
        of_w = zip(("weight", "log_var"), gaussian_slopes(theta, held["log_var"]))
        return {name: slope * kept for name, slope in of_w} | {
            name: slope.astype(np.float32)
            for name, slope in zip(("scale", "scale_log_var"), of_scale)}

    def drawn(self, weights, n, rng):
        return ops.exp(self.logs(weights["scale"], weights["scale_log_var"], n, rng))

    def logs(self, mean: Tensor, log_var: Tensor, n: int, rng) -> Tensor:
        """Returns drawn logarithms of s z_i, (N, groups)."""
        spread = ops.exp(log_var * 0.5)
        each = [mean[part].reshape(1, -1) + spread[part].reshape(1, -1)
                * rng.standard_normal((n, mean.shape[1]), np.float32) for part in (0, 1)]
        both = (each[0] + each[1]) * 0.5
        return both[:, :-1] + both[:, -1:]

    def local(self) -> tuple[Array, Array]:
        """Returns mean and variance of log z_i, (groups,) each, float64."""
        mean, var = self.logarithms()
        return mean[:, :-1].sum(axis=0) / 2, var[:, :-1].sum(axis=0) / 4

    def logarithms(self) -> tuple[Array, Array]:
        """Returns mean and variance of the logarithms of all variables, float64."""
        return (self.buffers["scale"].astype(np.float64),
                np.exp(self.buffers["scale_log_var"].astype(np.float64)))

    def moments(self):
        (mean, var), (of_layer, its_var) = self.local(), self.logarithms()
        mean, var = mean + of_layer[:, -1].sum() / 2, var + its_var[:, -1].sum() / 4
        expected = np.exp(mean + var / 2)
        return expected, np.square(expected) * np.expm1(var)

    def noise(self):
        mean, var = self.local()
        return var - mean


class HorseshoeLinear(Horseshoe, GroupedLinear):
    """A Linear whose inputs have half-Cauchy scales."""

    kind = "HorseshoeLinear"


class HorseshoeConv2d(Horseshoe, GroupedConv2d):
    """A Conv2d whose filters have half-Cauchy scales."""

    kind = "HorseshoeConv2d"


@functools.cache
def kinds_of(tau: float) -> dict[type[Layer], type[Horseshoe]]:
    """Returns the layers with half-Cauchy scales of scale tau, by the layers that they replace."""
    return {of: type(kind.__name__, (kind,), {"tau": tau})
            for of, kind in ((Linear, HorseshoeLinear), (Conv2d, HorseshoeConv2d))}
