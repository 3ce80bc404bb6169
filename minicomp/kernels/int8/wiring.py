"""Sums of codes on several grids, and whatever maps one code to one code: a table.

    add      y = clip(round(sum over i of (q_i - z_i) M_i) + z),    M_i = s_i / s_y

The products have one shift, so that the sum is exact and rounded once: M_i = m_i 2^-n, where the
largest of the m_i has 31 bits. Rule float multiplies and adds in float32, from the first to the
last, and rounds to even; single rounds ties upward, gemmlowp away from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .requantize import MOST_SHIFT, ROUNDINGS, multiplier

Array = np.ndarray
MOST_ADDED = 64  # inputs: 64 255 2^31 < 2^46


@dataclass(frozen=True)
class Adder:
    """How codes of I inputs become those of their sum.

    m : (I,) int64, one shift n        factor : (I,) float32, M_i        zero : (I,) int32, z_i
    zero_point, lo, hi : of the output, 0..255        rounding : one of ROUNDINGS
    """

    m: Array
    shift: int
    factor: Array
    zero: Array
    zero_point: int
    lo: int
    hi: int
    rounding: str = "single"


def adder(factors: Sequence[float], zero: Sequence[int], *, zero_point: int, lo: int, hi: int,
          rounding: str = "single") -> Adder:
    """Returns the adder of real factors M_i > 0; errors of `requantize.multiplier`."""
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, got {rounding!r}")
    factors = np.asarray(factors, np.float64)
    shift = min(int(multiplier(np.abs(factors).max())[1]), MOST_SHIFT)
    m = np.rint(factors * 2.0**shift).astype(np.int64)
    return Adder(m, shift, factors.astype(np.float32), np.asarray(zero, np.int32), int(zero_point),
                 int(lo), int(hi), rounding)


def add_ref(xs: Sequence[Array], a: Adder) -> Array:
    """Returns the codes of the sum, uint8.   xs : I arrays of uint8, of one shape"""
    steps = [x.astype(np.int64) - z for x, z in zip(xs, a.zero)]
    if a.rounding == "float":
        total = np.zeros(steps[0].shape, np.float32)
        for step, factor in zip(steps, a.factor):
            total += step.astype(np.float32) * factor
        y = np.rint(total).astype(np.int64)
    else:
        total = sum(step * m for step, m in zip(steps, a.m))
        half = np.int64(1) << a.shift >> 1
        if a.rounding == "single":
            y = total + half >> a.shift
        else:
            y = np.sign(total) * (np.abs(total) + half >> a.shift)
    return np.clip(y + a.zero_point, a.lo, a.hi).astype(np.uint8)


def look_up_ref(x: Array, table: Array) -> Array:
    """Returns table[x], uint8 of x's shape.   x : uint8   table : (256,) uint8"""
    return table[x]
