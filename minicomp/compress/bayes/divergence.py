"""Divergences of a posterior from a prior, and their slopes, on arrays.

alpha = sigma^2 / theta^2 is how noisy a weight is beside its size.
"""

from __future__ import annotations

import numpy as np

from ...tensor import Array

K1, K2, K3 = 0.63576, 1.87320, 1.48695
TINY = 1e-8  # beside theta^2, so that log alpha of a weight of 0 is finite
REACH = 8.0  # |log alpha| at most; beyond it the slope is next to 0


def log_alpha(theta: Array, log_var: Array) -> Array:
    """Returns log alpha = log sigma^2 - log(theta^2 + 1e-8), cut to -8..8, in theta's dtype.

    theta, log_var : mean and log variance of each weight, of one shape
    Source: Molchanov, Ashukha & Vetrov 2017, section 4.2
    """
    return np.clip(log_var - np.log(np.square(theta) + theta.dtype.type(TINY)), -REACH, REACH)


def kl_log_uniform(log_alpha: Array) -> Array:
    """Returns KL(N(theta, alpha theta^2) || log-uniform prior), nats, within 0.01; 0 at alpha
    = infinity: the constant of the improper prior is chosen so.

        -KL = k1 sigm(k2 + k3 log alpha) - log(1 + 1 / alpha) / 2 - k1

    log_alpha : float, any shape        Source: Molchanov, Ashukha & Vetrov 2017, eq. (14)
    """
    return K1 - K1 * sigmoid(K2 + K3 * log_alpha) + 0.5 * np.logaddexp(0, -log_alpha)


def kl_slope(log_alpha: Array) -> Array:
    """Returns d KL / d log alpha of `kl_log_uniform`, in its dtype: never above 0."""
    s = sigmoid(K2 + K3 * log_alpha)
    return -K1 * K3 * s * (1 - s) - 0.5 * sigmoid(-log_alpha)


def sigmoid(x: Array) -> Array:
    """Returns 1 / (1 + e^-x) without overflow, in x's dtype."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def slopes(theta: Array, log_var: Array) -> tuple[Array, Array]:
    """Returns (d KL / d theta, d KL / d log sigma^2), in theta's dtype and shape.

    0 where log alpha is cut; d log alpha / d theta = -2 theta / (theta^2 + 1e-8)
    """
    a = log_alpha(theta, log_var)
    d = np.where(np.abs(a) < REACH, kl_slope(a), 0).astype(theta.dtype)
    return d * (-2 * theta / (np.square(theta) + theta.dtype.type(TINY))), d


def certain(theta: Array, log_var: Array, threshold: float = 3.0, mask: Array | None = None
            ) -> Array:
    """Returns which weights stay: those of log alpha <= threshold, or the one of least alpha where
    there are none.

    theta, log_var : of one shape        mask : where False none stays
    Source: Molchanov, Ashukha & Vetrov 2017, section 4.3
    """
    a = log_alpha(theta, log_var)
    return below(a if mask is None else np.where(mask, a, np.inf), threshold)


def below(noise: Array, threshold: float) -> Array:
    """Returns where noise is at most the threshold, bool; of none the first of the least.

    noise : float, any shape, infinite where nothing may stay
    """
    keep = noise <= threshold
    if not keep.any() and np.isfinite(noise).any():
        keep.reshape(-1)[noise.argmin()] = True
    return keep
