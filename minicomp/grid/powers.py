"""Levels that are powers of two, or sums of a few: multiplications by them are shifts.

| levels   | what they are                                                                       |
|----------|-------------------------------------------------------------------------------------|
| powers   | 0, +-2^top, +-2^(top-1) .. n exponents of each sign                                 |
| additive | 0, +-gamma sum_i p_i: of each group i of 2 bits a power of two or 0, the largest 1  |

Levels stand as 0, then ascending: the negative ones, the positive ones. A level's place is its
code.
Source: Zhou et al. 2017, arXiv 1702.03044 (powers); Li, Dong & Wang 2020, arXiv 1909.13144
(additive)
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from ..tensor import Array, primitive, rules

EXPONENTS = (-126, 127)  # of normal float32 numbers
MEETS = ("arithmetic", "log")  # where two neighbouring powers part


def power_levels(top: int, n: int) -> Array:
    """Returns 0, -2^top .. -2^(top-n+1), 2^(top-n+1) .. 2^top, float32 (2n + 1,).

    Raises ValueError where an exponent leaves -126..127, or n < 0.
    """
    lo, hi = EXPONENTS
    if n < 0 or n and not lo <= top - n + 1 <= top <= hi:
        raise ValueError(f"exponents must be in [{lo}, {hi}], got {n} up to {top}")
    sizes = np.ldexp(np.float32(1), np.arange(top - n + 1, top + 1)).astype(np.float32)
    return np.concatenate([np.zeros(1, np.float32), -sizes[::-1], sizes])


def power_codes(w: Array, top: int, n: int, *, meet: str = "arithmetic") -> Array:
    """Returns the code of each w among `power_levels(top, n)`, uint16 of w's shape.

    w : float, finite        n : exponents, at least 1
    meet : "arithmetic", |w| from 1.5 2^k on goes to 2^(k+1), and what is below half the least power
        to 0 (Zhou et al. 2017, eq. (4)); "log", |w| from 2^(k+1/2) on goes up: the exponent is
        log2 |w| rounded, and only 0 itself is 0 (Miyashita et al. 2016, arXiv 1603.01025, eq. (1))
    What is larger than 2^top saturates. Raises ValueError for NaN, infinity, another meet.
    """
    if meet not in MEETS:
        raise ValueError(f"meet must be one of {', '.join(MEETS)}, got {meet!r}")
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    power_levels(top, n)
    w = np.asarray(w)
    if not np.isfinite(w).all():
        raise ValueError("w must be finite, got NaN or infinity")
    m, e = np.frexp(w.astype(np.float64))  # |w| = |m| 2^e, |m| in [1/2, 1)
    e = e - 1 + (abs(m) >= 0.75 if meet == "arithmetic" else m * m > 0.5)
    live = w != 0 if meet == "log" else abs(w) >= 2.0 ** (top - n)
    down = np.clip(top - e, 0, n - 1)  # steps below 2^top
    return np.where(live, np.where(w < 0, 1 + down, 2 * n - down), 0).astype(np.uint16)


@primitive
def ap2(x):
    """Returns sign(x) 2^round(log2 |x|), in x's dtype; 0 for 0: the power of two that is nearest on
    a logarithmic scale. Its gradient is g, straight through.

    x : float, finite. AP2(3) = 4, AP2(-5) = -4, AP2(0.7) = 0.5. No float is half-way, as sqrt(2) is
        none. What is above the dtype's largest power of two becomes infinity
    Source: Courbariaux et al. 2016, arXiv 1602.02830, section 1.4
    """
    m, e = np.frexp(x)  # |x| = |m| 2^e, |m| in [1/2, 1)
    up = np.abs(m).astype(np.float64) >= math.sqrt(0.5)  # the float64 next above the root
    return np.copysign(np.where(m != 0, np.ldexp(x.dtype.type(1), e - 1 + up), x), x).astype(
        x.dtype, copy=False)


rules(ap2, lambda g, y, x: g)


def additive_levels(bits: int) -> Array:
    """Returns the levels of `bits` bits, a sign and 2-bit groups, float32 (2^bits - 1,).

    m = bits - 1 magnitude bits are n = floor(m / 2) groups, and one bit over where m is odd:

        level = gamma (sum_{i<n} p_i + p~)                                        eqs. (5), (6)
        p_i in {0, 2^-i, 2^-(i+n), 2^-(i+2n)}                         m even, with p~ = 0
        p_i in {0, 2^-i, 2^-(i+n), 2^-(i+2n+1)},  p~ in {0, 2^-2n}    m odd

    with gamma so that the largest is 1. All are different: no two terms share an exponent.
    bits : 2..8. Raises ValueError for others.
    Source: Li, Dong & Wang 2020, section 2.2
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be in [2, 8], got {bits}")
    n, odd = divmod(bits - 1, 2)
    groups = [(0.0, 2.0**-i, 2.0 ** -(i + n), 2.0 ** -(i + 2 * n + odd)) for i in range(n)]
    groups += [(0.0, 2.0 ** (-2 * n))] * odd
    sizes = np.sort([sum(terms) for terms in itertools.product(*groups)])
    sizes = (sizes[1:] / sizes[-1]).astype(np.float32)
    return np.concatenate([np.zeros(1, np.float32), -sizes[::-1], sizes])


def additive_codes(w: Array, scale, bits: int) -> Array:
    """Returns the code of the level nearest to each w, among scale `additive_levels(bits)`, uint16.

    w : float, finite        scale : a number > 0, taken as float32
    Half-way goes to the lower level. Raises ValueError for NaN, infinity, a scale that is none.
    """
    w, scale = np.asarray(w), np.float32(scale)
    if not np.isfinite(w).all():
        raise ValueError("w must be finite, got NaN or infinity")
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be finite and above 0, got {scale}")
    ordered = np.sort(scale * additive_levels(bits)).astype(np.float64)
    place = np.searchsorted((ordered[1:] + ordered[:-1]) / 2, w)
    zero = len(ordered) // 2
    return np.where(place < zero, place + 1, np.where(place == zero, 0, place)).astype(np.uint16)
