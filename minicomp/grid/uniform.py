"""Uniform partitions of an interval, and how signed codes are written as bits.

n reconstruction levels of [a, b], each a constant in its cell:

| ends      | step          | levels                        | the ends                          |
|-----------|---------------|-------------------------------|-----------------------------------|
| "kept"    | (b-a) / (n-1) | a + i step                    | are levels; outer cells are half  |
| "cells"   | (b-a) / n     | a + (i + 1/2) step, mid-points| are edges of cells                |

With n even and a = -b "kept" and "cells" have no level at 0 (mid-rise), with n odd they have
(mid-tread).

Signed integers of b bits are written as a sign and a magnitude, -(2^(b-1) - 1) .. 2^(b-1) - 1 with
two zeros, or in two's complement, -2^(b-1) .. 2^(b-1) - 1, which integer kernels take.
"""

from __future__ import annotations

import numpy as np

from ..tensor import Array

ENDS = ("kept", "cells")


def uniform_levels(a: float, b: float, n: int, *, ends: str = "kept") -> Array:
    """Returns the n levels of [a, b], float64 ascending.

    Raises ValueError unless a < b are finite, n at least 1 (2 where the ends are kept), ends one of
    ENDS.
    """
    step, first = _steps(a, b, n, ends)
    return first + step * np.arange(n)


def uniform_codes(x: Array, a: float, b: float, n: int, *, ends: str = "kept") -> Array:
    """Returns the code 0..n-1 of each x, int64 of its shape: of the nearest level, half to even;
    with cells, of the cell it lies in, at an edge the upper one.

    x : float; what is beyond a..b has the last code. Raises ValueError for NaN too.
    """
    step, first = _steps(a, b, n, ends)
    x = np.asarray(x, np.float64)
    if np.isnan(x).any():
        raise ValueError("x must be numbers, got NaN")
    x = np.clip(x, a, b)
    t = np.rint((x - first) / step) if ends == "kept" else np.floor((x - a) / step)
    return np.clip(t, 0, n - 1).astype(np.int64)


def _steps(a: float, b: float, n: int, ends: str) -> tuple[float, float]:
    # (step, first level)
    if ends not in ENDS:
        raise ValueError(f"ends must be one of {', '.join(ENDS)}, got {ends!r}")
    if not (np.isfinite(a) and np.isfinite(b) and a < b):
        raise ValueError(f"a and b must be finite and a below b, got {a} and {b}")
    least = 2 if ends == "kept" else 1
    if n < least:
        raise ValueError(f"n must be at least {least}, got {n}")
    step = (b - a) / (n - 1 if ends == "kept" else n)
    return step, a if ends == "kept" else a + step / 2


def sign_magnitude(q: Array, bits: int) -> Array:
    """Returns signed integers as a sign, the upper bit, and a magnitude, uint32 of q's shape.

    q : -(2^(bits-1) - 1) .. 2^(bits-1) - 1, of which 0 is written as +0        bits : 2..32
    Raises ValueError for others.
    """
    q, half = _signed(q, bits)
    _check_within(q, 1 - half, half - 1)
    return (np.abs(q) | (q < 0) * half).astype(np.uint32)


def from_sign_magnitude(u: Array, bits: int) -> Array:
    """Returns the signed integers, int64; both zeros are 0. u : 0 .. 2^bits - 1."""
    u, half = _signed(u, bits)
    _check_within(u, 0, 2 * half - 1)
    return np.where(u >= half, half - u, u)


def twos_complement(q: Array, bits: int) -> Array:
    """Returns signed integers modulo 2^bits, uint32 of q's shape.

    q : -2^(bits-1) .. 2^(bits-1) - 1        bits : 2..32        Raises ValueError for others.
    """
    q, half = _signed(q, bits)
    _check_within(q, -half, half - 1)
    return (q % (2 * half)).astype(np.uint32)


def from_twos_complement(u: Array, bits: int) -> Array:
    """Returns the signed integers, int64. u : 0 .. 2^bits - 1."""
    u, half = _signed(u, bits)
    _check_within(u, 0, 2 * half - 1)
    return np.where(u >= half, u - 2 * half, u)


def _signed(q: Array, bits: int) -> tuple[Array, int]:
    if not 2 <= bits <= 32:
        raise ValueError(f"bits must be in [2, 32], got {bits}")
    q = np.asarray(q)
    if q.dtype.kind not in "iu":
        raise ValueError(f"codes must be integers, got {q.dtype}")
    return q.astype(np.int64), 1 << bits - 1


def _check_within(q: Array, lo: int, hi: int) -> None:
    if q.size and not (lo <= q.min() and q.max() <= hi):
        raise ValueError(f"codes must be in [{lo}, {hi}], got {q.min()}..{q.max()}")
