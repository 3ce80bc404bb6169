"""Factors of matrices: the truncated SVD, and the one that looks at the inputs.

W (m, k) = U S V', U (m, n), S (n,) falling, V' (n, k), n = min(m, k). Factors are balanced, each
with the square root of S: equal norms are good for training on and for quantization.

Inputs X (k, N) seldom use all directions alike. With their second moment C = X X' / N = L L'
(Cholesky) the error of a layer's output is that of a matrix,

    |(W - W') X|_F^2 / N = |(W - W') L|_F^2        so that        W' = (W L)_t L^-1

is the best of rank t: Eckart & Young's theorem for W L (Wang et al. 2024, SVD-LLM, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...tensor import Array


def low_rank(w: Array, rank: int) -> Array:
    """Returns the nearest matrix of rank at most `rank`, (m, k) float64: the truncated SVD.

    w : (m, k)        rank : in 1..min(m, k)
    Source: Eckart & Young 1936; Denton et al. 2014 (arXiv 1404.0736), section 3
    """
    U, s, Vt = truncated(svd(w), rank)
    return U * s @ Vt


def eckart_young(w: Array, rank: int) -> float:
    """Returns the squared error of the nearest matrix of a rank: sum_{i > rank} sigma_i^2.

    w : (m, k)        rank : in 1..min(m, k)
    """
    s = svd(w)[1]
    _check_rank(rank, len(s))
    return float(np.square(s[rank:]).sum())


def whitened_low_rank(w: Array, moment: Array, rank: int) -> Array:
    """Returns the W' of rank at most `rank` of least |(W - W') X|, (m, k) float64.

    w : (m, k)        moment : (k, k), X X' / N, positive definite        rank : in 1..min(m, k)
    Raises ValueError where the moment is not positive definite: damp it.
    Source: Wang et al. 2024 (arXiv 2403.07378), section 3.1
    """
    L = cholesky(moment)
    U, s, Vt = truncated(svd(w @ L), rank)
    return unwhitened(U * s @ Vt, L)


def svd(w: Array) -> tuple[Array, Array, Array]:
    """Returns U (m, n), s (n,) falling, V' (n, k) in float64; leading axes are a stack."""
    return np.linalg.svd(np.asarray(w, np.float64), full_matrices=False)


def truncated(factors: Sequence[Array], rank: int) -> tuple[Array, Array, Array]:
    """Returns the first `rank` of the columns of U, of s and of the rows of V'; a stack's of each.

    Raises ValueError for a rank outside 1..n.
    """
    U, s, Vt = factors
    _check_rank(rank, s.shape[-1])
    return U[..., :rank], s[..., :rank], Vt[..., :rank, :]


def balanced(factors: Sequence[Array], rank: int) -> tuple[Array, Array]:
    """Returns a (m, t) = U sqrt(s) and b (t, k) = sqrt(s) V', whose product is the truncation."""
    U, s, Vt = truncated(factors, rank)
    root = np.sqrt(s)
    return U * root[..., None, :], root[..., None] * Vt


def cholesky(moment: Array) -> Array:
    """Returns L, lower triangular, with L L' = moment; ValueError where there is none."""
    try:
        return np.linalg.cholesky(np.asarray(moment, np.float64))
    except np.linalg.LinAlgError:
        raise ValueError("the second moment of the inputs must be positive definite, got one that "
                         "is not: damp it") from None


def unwhitened(b: Array, L: Array) -> Array:
    """Returns b L^-1.   b : (t, k)   L : (k, k), lower triangular"""
    from scipy.linalg import solve_triangular

    return solve_triangular(L, b.T, lower=True, trans="T").T


def _check_rank(rank: int, most: int) -> None:
    if not 1 <= rank <= most:
        raise ValueError(f"rank must be in 1..{most}, got {rank}")
