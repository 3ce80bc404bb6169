"""Floats of 16 bits: IEEE half (1 sign, 5 exponent, 10 mantissa bits) and bfloat16 (1, 8, 7)."""

from __future__ import annotations

import numpy as np

from ..tensor import Array, primitive, rules


@primitive
def round_half(x):
    """Returns x rounded to IEEE float16 (half to even) in x's dtype; beyond 65504 it saturates.

    Gradient: straight through.
    """
    return np.clip(x, -65504.0, 65504.0).astype(np.float16).astype(x.dtype)


rules(round_half, lambda g, y, x: g)


@primitive
def round_bfloat16(x):
    """Returns x rounded to bfloat16 (half to even) in x's dtype; beyond its largest it saturates.

    Gradient: straight through. A NaN stays one.
    """
    return bfloat16_of(bfloat16_bits(x)).astype(x.dtype)


rules(round_bfloat16, lambda g, y, x: g)


def bfloat16_bits(x: Array) -> Array:
    """Returns the bits of bfloat16 numbers nearest to x, uint16 of x's shape.

    x : float. float64 is rounded once: it is brought to float32 by rounding to odd, which a second
        rounding to fewer bits does not notice
    Half to even; what is beyond the largest, 3.3895e38, saturates; a NaN stays one.
    """
    narrow = _to_odd(np.asarray(x))
    u = np.ascontiguousarray(narrow).view(np.uint32).reshape(narrow.shape)
    rounded = (u + (0x7FFF + (u >> 16 & 1))) >> 16  # half to even of the lower 16 bits
    sign, size = u >> 16 & 0x8000, np.minimum(rounded & 0x7FFF, LARGEST)
    return np.where(np.isnan(narrow), sign | 0x7FC0, sign | size).astype(np.uint16)


LARGEST = 0x7F7F  # bits of the largest bfloat16


def bfloat16_of(bits: Array) -> Array:
    """Returns the float32 numbers of bfloat16 bits (uint16), exactly."""
    u = np.asarray(bits, np.uint16).astype(np.uint32) << 16
    return u.view(np.float32)


def _to_odd(x: Array) -> Array:
    # x as float32; where that is not exact, towards 0 and then the last bit set.
    if x.dtype != np.float64:
        return x.astype(np.float32)
    with np.errstate(over="ignore"):
        near = x.astype(np.float32)
    over = np.abs(near) > np.abs(x)
    near = np.where(over, np.nextafter(near, np.float32(0)), near)
    inexact = (near != x) & np.isfinite(x)
    u = np.ascontiguousarray(near).view(np.uint32).reshape(near.shape)
    return (u | inexact).astype(np.uint32).view(np.float32).reshape(near.shape)
