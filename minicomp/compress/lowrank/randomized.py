"""The randomised SVD (Halko, Martinsson & Tropp 2011, arXiv 0909.4061).

A (m, k), r singular triplets wanted, l = r + p random directions:

    Z = orth((A'A)^q A' Omega),   Omega (m, l)         range of A', algorithms 4.3 and 4.4
    A Z = U S W',   V = Z W                            algorithm 5.1, of A'

p oversamples, q power steps make the spectrum fall faster: sigma^(2q + 1). A pass over A is what
costs; there are 2q + 2.

How it is fast and exact in float32: the products are BLAS's; between them a block need only stay
well-conditioned, not orthonormal. Its Gram matrix is made in float64, so that Cholesky
orthogonalisation holds for condition numbers up to 1e7, which float32 products do not exceed by
much; where Cholesky fails a Householder QR takes over. At the end Z is orthonormalised twice, to
rounding.
"""

from __future__ import annotations

import numpy as np

from ...tensor import Array


def randomized_svd(w: Array, rank: int, *, oversample: int = 10, power: int = 2,
                   rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Returns U (m, r), s (r,) falling and V' (r, k) of about the r = `rank` largest singular
    values, in w's dtype.

    w : (m, k) float32 or float64        rank : in 1..min(m, k)
    oversample : p, directions beyond the rank, at most to min(m, k)        power : q, power steps
    Raises ValueError for a rank, oversample or power out of range.
    """
    w = np.asarray(w)
    most = min(w.shape)
    if not 1 <= rank <= most:
        raise ValueError(f"rank must be in 1..{most}, got {rank}")
    if min(oversample, power) < 0:
        raise ValueError(f"oversample and power must be at least 0, got {oversample} and {power}")
    l = min(rank + oversample, most)
    omega = rng.standard_normal((w.shape[0], l), dtype=w.dtype)
    U, s, Vt = projected(w, omega, power)
    return U[:, :rank], s[:rank], Vt[:rank]


def projected(w: Array, omega: Array, power: int) -> tuple[Array, Array, Array]:
    """Returns the SVD of w projected on the range of (w'w)^power w' omega, in w's dtype.

    w : (m, k)        omega : (m, l)        U (m, l), s (l,), V' (l, k)
    Source: Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1, of w'
    """
    z = w.T @ omega
    for _ in range(power):
        z = w.T @ conditioned(w @ conditioned(z))
    z = conditioned(conditioned(z))
    y = w @ z
    q = conditioned(conditioned(y))
    U, s, Wt = np.linalg.svd(q.T.astype(np.float64) @ y)
    return q @ U.astype(w.dtype), s.astype(w.dtype), Wt.astype(w.dtype) @ z.T


def randomized_low_rank(w: Array, omega: Array, power: int) -> Array:
    """Returns w projected on the range of (w'w)^power w' omega, (m, k): for given directions.

    w : (m, k)        omega : (m, l), l at most min(m, k)
    """
    U, s, Vt = projected(np.asarray(w), np.asarray(omega), power)
    return U * s @ Vt


def conditioned(y: Array) -> Array:
    """Returns y R^-1 of the same range, orthonormal up to eps cond(y)^2, in y's dtype.

    y : (m, l), m >= l        R by Cholesky of y'y in float64, else by Householder QR
    """
    from scipy.linalg import lapack

    wide = y.astype(np.float64)
    gram = wide.T @ wide
    R, failed = lapack.dpotrf(gram)
    pivots = np.diag(R)
    if failed or not pivots.min() > 1e-7 * pivots.max():
        return np.linalg.qr(y)[0]
    inverse, _ = lapack.dtrtri(R)
    return y @ np.triu(inverse).astype(y.dtype)
