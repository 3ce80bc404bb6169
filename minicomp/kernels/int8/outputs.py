"""From int32 sums to numbers: y = clamp(float32(acc) scale + bias, lo, hi), float32.

Each step is rounded to float32 by itself.
"""

from __future__ import annotations

import math

import numpy as np

from .. import cpu, doors
from ..doors import F32
from ..threads import threads
from .checks import rung, sums

Array = np.ndarray


def to_floats_ref(acc: Array, scale: Array, bias: Array, lo: float = -math.inf,
                  hi: float = math.inf) -> Array:
    """Returns the numbers of sums, float32; see `to_floats`."""
    y = acc.astype(np.float32) * scale
    y += bias
    return np.clip(y, np.float32(lo), np.float32(hi))


def to_floats(acc: Array, scale: Array, bias: Array, lo: float = -math.inf, hi: float = math.inf,
              *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns the numbers of sums, float32 of their shape.

    acc : (..., O) int32        scale, bias : (O,) float32, finite        lo, hi : ends of a clamp,
    perhaps infinite
    Raises ValueError for other arrays and sizes, and NaN as an end.
    """
    acc, n_threads, level = sums("acc", acc), threads(n_threads), rung(isa, None)
    for name, a in (("scale", scale), ("bias", bias)):
        doors.floats(name, a, 1)
        if acc.ndim == 0 or a.dtype != F32 or a.shape != acc.shape[-1:]:
            raise ValueError(f"{name} must have shape {acc.shape[-1:]} and be float32, got "
                             f"{a.shape} of {a.dtype}")
    for name, end in (("lo", lo), ("hi", hi)):
        if isinstance(end, bool) or not isinstance(end, (int, float, np.floating)) or end != end:
            raise ValueError(f"{name} must be a number or infinite, got {type(end).__name__}")
    if level == 0 or not acc.size:
        return to_floats_ref(acc, scale, bias, lo, hi)
    y = np.empty(acc.shape, np.float32)
    cpu.kernel_module("int8").to_floats(
        acc.reshape(-1, acc.shape[-1]), np.ascontiguousarray(scale), np.ascontiguousarray(bias),
        lo, hi, y.reshape(-1, acc.shape[-1]), level, n_threads)
    return y
