"""The randomised SVD (Halko, Martinsson & Tropp 2011, arXiv 0909.4061), by block Krylov spaces
(Musco & Musco 2015, arXiv 1504.05477).

A (m, k), r singular triplets wanted, l random directions Omega (l, m), r + p and more, up to a
multiple of 16; their entries are 1/2 and -1/2, which does as well as Gaussians. After q power steps
the directions span the rows of Omega A (A'A)^q, and A is projected on them. The blocks on the way
there are as good as thrown away; kept, they span

    K = [Omega A, Omega A (A'A), ..., Omega A (A'A)^d]

in which A'A may take any polynomial of degree d instead of a power, so that half the steps do:

    d = ceil(q / 2)        Z = orth(K)        A Z' = U S W'        V' = W' Z

Passes over A are what costs: 2 d + 2 of them instead of the 2 q + 2 of algorithm 4.4, for a
residual that a test holds within 1 % of it, of matrices with fast, slow and stepped spectra.

How it is exact in float32: products are BLAS's; a block is orthonormalised by Cholesky of its Gram
matrix in float64, which holds for condition numbers up to 1e6; beyond, a Householder QR takes over.
Blocks lie as rows, in which form BLAS multiplies narrow matrices fastest.
"""

from __future__ import annotations

import numpy as np

from ...tensor import Array

LANES = 16  # a block has a multiple of so many rows: BLAS takes no longer for a full one
LEAST = 1e-4  # smallest wanted singular value over the largest, down to which eigenvalues will do


def randomized_svd(w: Array, rank: int, *, oversample: int = 10, power: int = 2,
                   rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Returns U (m, r), s (r,) falling and V' (r, k) of about the r = `rank` largest singular
    values, in w's dtype.

    w : (m, k) float32 or float64        rank : in 1..min(m, k)
    oversample : p, directions beyond the rank, at most to min(m, k)        power : q, power steps
        that the result is as good as
    Raises ValueError for a rank, oversample or power out of range.
    """
    w = np.asarray(w)
    most = min(w.shape)
    if not 1 <= rank <= most:
        raise ValueError(f"rank must be in 1..{most}, got {rank}")
    if min(oversample, power) < 0:
        raise ValueError(f"oversample and power must be at least 0, got {oversample} and {power}")
    l = min(-(-(rank + oversample) // LANES) * LANES, most)
    omega = rng.integers(0, 2, (l, w.shape[0]), np.int8).astype(w.dtype) - w.dtype.type(0.5)
    return projected(w, *krylov(w, omega, power), rank)


def krylov(w: Array, omega: Array, power: int) -> tuple[Array, Array]:
    """Returns orthonormal rows Z, (L, k), of the Krylov space of w'w from omega w, and Z w'.

    w : (m, k)        omega : (l, m), l at most min(m, k)        power : q; L = l (1 + ceil(q / 2)),
        or fewer blocks of l, after power steps, where these would be more than min(m, k)
    """
    l, (m, k) = len(omega), w.shape
    blocks = min(1 + (power + 1) // 2, min(m, k) // l)
    z = omega @ w
    for _ in range(power - 2 * (blocks - 1)):
        z = conditioned(conditioned(z) @ w.T) @ w
    Z, Y = np.empty((blocks * l, k), w.dtype), np.empty((blocks * l, m), w.dtype)
    for at in range(0, len(Z), l):
        if at:
            z = conditioned(Y[at - l:at]) @ w
        for dtype in (np.float64, w.dtype):  # twice is enough (Kahan; Parlett 1980)
            if at:
                z = z - (z @ Z[:at].T) @ Z[:at]
            z = conditioned(z, dtype)
        Z[at:at + l] = z
        np.matmul(z, w.T, out=Y[at:at + l])
    return Z, Y


def projected(w: Array, Z: Array, Y: Array, rank: int) -> tuple[Array, Array, Array]:
    """Returns the first `rank` singular triplets of w Z' Z: U (m, r), s (r,) and V' (r, k).

    Z : (L, k) orthonormal rows        Y : (L, m), Z w'
    """
    values, W = np.linalg.eigh(gram(Y))
    s, W = np.sqrt(np.maximum(values[:-rank - 1:-1], 0)), W[:, :-rank - 1:-1]
    if s[-1] > LEAST * s[0]:
        U = conditioned((W / s).T.astype(w.dtype) @ Y, w.dtype).T
    else:  # their squares are too small beside the largest: the SVD of a QR's R
        Q, R = np.linalg.qr(Y.T)
        inner, s, Wt = np.linalg.svd(R.astype(np.float64))
        U, s, W = Q @ inner[:, :rank].astype(w.dtype), s[:rank], Wt[:rank].T
    return U, s.astype(w.dtype), W.T.astype(w.dtype) @ Z


def randomized_low_rank(w: Array, omega: Array, power: int) -> Array:
    """Returns w projected on the block Krylov space of w'w from omega w, (m, k).

    w : (m, k)        omega : (l, m)        power : q, so that the blocks are omega w (w'w)^i, i up
        to ceil(q / 2); l (1 + ceil(q / 2)) at most min(m, k)
    """
    Z, Y = krylov(np.asarray(w), np.asarray(omega), power)
    return Y.T @ Z


def gram(y: Array, dtype=np.float64) -> Array:
    """Returns y y', of which the lower triangle counts.   y : (l, n)   dtype : of the sums"""
    from scipy.linalg import blas

    syrk = blas.ssyrk if dtype == np.float32 else blas.dsyrk
    return syrk(1.0, y.astype(dtype, copy=False).T, trans=1, lower=1)


def conditioned(y: Array, dtype=np.float64) -> Array:
    """Returns rows of the span of y's, (l, n), orthonormal up to eps cond(y), in y's dtype.

    y : (l, n), l <= n        dtype : of the Gram matrix; float32 for rows that are nearly
        orthonormal
    """
    from scipy.linalg import lapack

    L, failed = lapack.dpotrf(gram(y, dtype), lower=1)
    pivots = np.diag(L)
    if failed or not pivots.min() > 1e-6 * pivots.max():
        return np.linalg.qr(y.T)[0].T
    return lapack.dtrtri(L, lower=1)[0].astype(y.dtype) @ y
