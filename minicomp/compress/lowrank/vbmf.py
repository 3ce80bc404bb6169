"""How many singular values are signal: the analytic VBMF (Nakajima, Sugiyama, Babacan & Tomioka
2013, "Global Analytic Solution of Fully-observed Variational Bayesian Matrix Factorization").

V (L, M), L <= M, gamma_h its singular values, alpha = L / M. V is a matrix of low rank plus noise
of variance sigma^2; empirical Bayes keeps exactly the components with

    gamma_h^2 / (M sigma^2) > x_bar = (1 + tau_bar) (1 + alpha / tau_bar)                (theorem 2)

tau_bar the zero of Xi(tau) = Phi(tau) + Phi(tau / alpha), Phi(z) = log(1 + z) / z - 1/2, near
2.5129 sqrt(alpha). The noise is the sigma^2 of least free energy, one number on a bounded interval,

    Omega(sigma^2) = sum_h psi(gamma_h^2 / (M sigma^2))                                  (theorem 5)
    psi(x) = x - log x + [x > x_bar] (log(1 + tau) + alpha log(1 + tau / alpha) - tau)
    tau(x) = (x - 1 - alpha + sqrt((x - 1 - alpha)^2 - 4 alpha)) / 2

Kim et al. 2016 take the ranks of Tucker-2 from it.
"""

from __future__ import annotations

import math

import numpy as np

from ...tensor import Array

GRID = 400  # values of sigma^2 tried before the best is refined: Omega has several minima
REFINED = 80  # halvings of golden section


def evbmf_rank(v: Array) -> int:
    """Returns how many components of v empirical Bayes keeps, 0..min(L, M).

    v : (L, M), of either orientation; not all 0
    """
    v = np.asarray(v, np.float64)
    L, M = sorted(v.shape)
    gamma = np.linalg.svd(v, compute_uv=False)
    if not gamma[0] > 0:
        return 0
    noise = evbmf_noise(gamma, M)
    return int((np.square(gamma) > M * noise * threshold(L / M)).sum())


def evbmf_noise(gamma: Array, M: int) -> float:
    """Returns sigma^2, the variance of the noise, of least free energy.

    gamma : (L,) singular values, falling, the first above 0        M : the longer side, >= L
    """
    L = len(gamma)
    x_bar, squares = threshold(L / M), np.square(gamma)
    # Theorem 5: at most ceil(L / (1 + alpha)) - 1 components stand above the noise.
    most = min(math.ceil(L / (1 + L / M)) - 1, L - 1)
    low = max(squares[most] / (M * x_bar), squares[most:].mean() / M)
    high = squares.sum() / (L * M)
    low = max(low, 1e-12 * high)  # a matrix of low rank without noise
    grid = np.geomspace(low, high, GRID) if low < high else np.array([high])
    energy = np.array([free_energy(s2, squares, M, x_bar) for s2 in grid])
    at = int(np.argmin(energy))
    a, b = math.log(grid[max(at - 1, 0)]), math.log(grid[min(at + 1, len(grid) - 1)])
    return math.exp(_golden(lambda u: free_energy(math.exp(u), squares, M, x_bar), a, b))


def free_energy(noise: float, squares: Array, M: int, x_bar: float) -> float:
    """Returns Omega(sigma^2), up to what does not depend on it.   squares : (L,), of gamma"""
    alpha, x = len(squares) / M, squares / (M * noise)
    x = np.maximum(x, np.finfo(float).tiny)
    above = x[x > x_bar]
    shifted = above - (1 + alpha)
    tau = 0.5 * (shifted + np.sqrt(np.square(shifted) - 4 * alpha))
    kept = np.log1p(tau) + alpha * np.log1p(tau / alpha) - tau
    return float((x - np.log(x)).sum() + kept.sum())


def threshold(alpha: float) -> float:
    """Returns x_bar for alpha = L / M in (0, 1]: theorem 2."""
    def xi(tau: float) -> float:
        return _phi(tau) + _phi(tau / alpha)

    low, high = 1e-3 * math.sqrt(alpha), 10.0  # Xi falls, from above 0 to below
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if xi(middle) > 0 else (low, middle)
    return (1 + low) * (1 + alpha / low)


def _phi(z: float) -> float:
    return math.log1p(z) / z - 0.5


def _golden(f, a: float, b: float) -> float:
    # The least f on [a, b], where it has one minimum.
    ratio = (math.sqrt(5) - 1) / 2
    c, d = b - ratio * (b - a), a + ratio * (b - a)
    fc, fd = f(c), f(d)
    for _ in range(REFINED):
        if fc < fd:
            b, d, fd = d, c, fc
            c = b - ratio * (b - a)
            fc = f(c)
        else:
            a, c, fc = c, d, fd
            d = a + ratio * (b - a)
            fd = f(d)
    return 0.5 * (a + b)
