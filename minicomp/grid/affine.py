"""Affine grids: real = scale (q - zero_point), q integers of b bits (Jacob et al. 2018).

    q = clip(rint(x / scale) + zero_point, q_min, q_max)        float32 division, half to even  (1)
    x^ = scale (q - zero_point)                                                                 (2)

A grid has a name, which says what codes there are:

| name     | codes                          | what it is for                                       |
|----------|--------------------------------|------------------------------------------------------|
| narrow   | -(2^(b-1) - 1) .. 2^(b-1) - 1  | symmetric weights: as far below 0 as above; b >= 2   |
| full     | -2^(b-1) .. 2^(b-1) - 1        | two's complement: one code more below                |
| unsigned | 0 .. 2^b - 1                   | activations, and whatever has a zero point           |
| midrise  | -2^(b-1) .. 2^(b-1) - 1        | x^ = scale (q + 1/2): levels around 0, none at 0     |

The real range always contains 0, so that 0 is exact (midrise apart, which has no 0): what is cut
off, padded or inactive stays that. A zero point belongs to grids "full" and "unsigned".
"""

from __future__ import annotations

import numpy as np

from ..ops import sum_to
from ..tensor import Array, primitive, raw, rules

GRIDS = ("narrow", "full", "unsigned", "midrise")  # the index is their number in a file
MAX_BITS = 16
TINY = np.float32(2.0**-126)  # the smallest scale: below it, float32 has fewer digits


def code_range(bits: int, grid: str) -> tuple[int, int]:
    """Returns (q_min, q_max) of a grid.

    Raises ValueError for bits outside 1..16 (2..16 where the grid is narrow) or another grid.
    """
    if grid not in GRIDS:
        raise ValueError(f"grid must be one of {', '.join(GRIDS)}, got {grid!r}")
    least = 2 if grid == "narrow" else 1
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not (
            least <= bits <= MAX_BITS):
        raise ValueError(f"bits must be an integer in [{least}, {MAX_BITS}] for grid {grid}, "
                         f"got {bits!r}")
    half = 1 << (int(bits) - 1)
    if grid == "unsigned":
        return 0, 2 * half - 1
    return -half + (grid == "narrow"), half - 1


def affine_params(r_min, r_max, *, bits: int = 8, grid: str = "unsigned") -> tuple[Array, Array]:
    """Returns (scale float32, zero_point int32) of a grid that covers r_min..r_max and 0.

        s = (r_max - r_min) / (q_max - q_min)        z = clip(rint(q_min - r_min / s))

    r_min, r_max : numbers, or arrays of one shape (an entry each channel), r_min <= r_max. Ranges
        on one side of 0, as 2..3.4, are stretched to it. A range of 0 alone has scale 1. A scale
        below 2^-126 becomes that: float32 has no digits left for codes of smaller ones
    grid : "full" or "unsigned"
    Computed in float64 and rounded once. Raises ValueError for NaN or infinity, a range turned
    round, another grid.
    Source: Jacob et al. 2018, section 3; DESIGN's rule 1
    """
    q_min, q_max = code_range(bits, grid)
    if grid not in ("full", "unsigned"):
        raise ValueError(f"a zero point needs grid full or unsigned, got {grid}")
    lo, hi = _range(r_min, r_max)
    lo, hi = np.minimum(lo, 0.0), np.maximum(hi, 0.0)
    scale = _positive((hi - lo) / (q_max - q_min))
    zero_point = np.clip(np.rint(q_min - lo / scale.astype(np.float64)), q_min, q_max)
    return scale, zero_point.astype(np.int32)


def symmetric_scale(peak, *, bits: int = 8, grid: str = "narrow", divisor: float | None = None
                    ) -> Array:
    """Returns the scale, float32, at which `peak` is the last code of a grid around 0.

    peak : largest |x|, >= 0, a number or an array        divisor : codes to that peak; None takes
        q_max (on midrise q_max + 1/2). 127.5, (q_max - q_min) / 2 of the grid full, is what torch,
        torchao and compressed-tensors take: their largest weight is never reproduced
    0 has scale 1, on midrise, which has no 0, the smallest; scales below 2^-126 become that. Raises
    ValueError for NaN, infinity or a peak below 0, and where a divisor is not positive.
    """
    q_min, q_max = code_range(bits, grid)
    if grid == "unsigned":
        raise ValueError("a symmetric grid must be narrow, full or midrise, got unsigned")
    if divisor is None:
        divisor = q_max + 0.5 if grid == "midrise" else max(q_max, 1)
    if not divisor > 0:
        raise ValueError(f"divisor must be positive, got {divisor}")
    peak = np.asarray(peak, np.float64)
    if not (np.isfinite(peak) & (peak >= 0)).all():
        raise ValueError("peak must be finite and at least 0, got "
                         f"{peak[~(np.isfinite(peak) & (peak >= 0))].flat[0]}")
    scale = peak / divisor
    return _positive(np.maximum(scale, TINY) if grid == "midrise" else scale)


def quantize(x: Array, scale, zero_point=0, *, bits: int = 8, grid: str = "narrow",
             rounding: str = "divide") -> Array:
    """Returns the codes of x, int32 of its shape: eq. (1).

    x : float        scale : finite and not 0        zero_point : integers; both broadcast to x
    rounding : "divide", x / scale as onnxruntime and we do; "reciprocal", x (1 / scale) as torch
        does. The two differ where that quotient lies at a tie
    What is beyond the grid saturates, infinity too. Raises ValueError for NaN, and for a scale or
    zero point that is none.
    """
    lo, hi = code_range(bits, grid)
    if rounding not in ("divide", "reciprocal"):
        raise ValueError(f"rounding must be divide or reciprocal, got {rounding!r}")
    x, scale = np.asarray(x), np.asarray(scale)
    if scale.dtype.kind != "f":
        scale = scale.astype(np.float32)
    if np.isnan(x).any():
        raise ValueError("x must be numbers, got NaN")
    if not (np.isfinite(scale).all() and scale.all()):
        raise ValueError("scale must be finite and not 0, got one that is NaN, infinity or 0")
    if not (np.asarray(zero_point) == np.rint(zero_point)).all():
        raise ValueError("zero_point must hold integers, got a number that is none")
    with np.errstate(over="ignore"):
        t = x / scale if rounding == "divide" else x * (1 / scale).astype(scale.dtype)
        return _code(t, zero_point, lo, hi, grid == "midrise").astype(np.int32)


def dequantize(q: Array, scale, zero_point=0, *, midrise: bool = False) -> Array:
    """Returns scale (q - zero_point), on midrise scale (q + 1/2), float32: eq. (2).

    Beyond float32 it is infinite, which forms refuse.
    """
    steps = np.asarray(q, np.float32) - np.asarray(zero_point, np.float32)
    with np.errstate(over="ignore"):
        return np.asarray(scale, np.float32) * (steps + np.float32(0.5) if midrise else steps)


@primitive
def fake_quantize(x, scale, zero_point, *, lo: int, hi: int, midrise: bool = False):
    """Returns x on the grid, in x's dtype: `dequantize` of its codes lo..hi.

    scale, zero_point : arrays that broadcast to x, constants
    Gradient: 1 where the code was not clipped, else 0 (as torch's fake quantization has it).
    Source: Jacob et al. 2018, eq. (12)
    """
    q = _code(x / scale, zero_point, lo, hi, midrise)
    return (scale * (q - zero_point + (0.5 if midrise else 0.0))).astype(x.dtype, copy=False)


def _inside(x: Array, scale, zero_point, lo: int, hi: int, midrise: bool) -> Array:
    t = x / scale
    q = np.floor(t) if midrise else np.rint(t) + zero_point
    return (q >= lo) & (q <= hi)


rules(fake_quantize, lambda g, y, x, scale, zero_point, lo, hi, midrise=False:
      g * _inside(raw(x), raw(scale), zero_point, lo, hi, midrise), None, None)


@primitive
def lsq_quantize(v, scale, *, lo: int, hi: int, gain):
    """Returns scale clip(rint(v / scale), lo, hi), in v's dtype, whose step size is learnt too.

        d v^ / d scale = rint(v / s) - v / s   inside,  lo or hi  outside                 (eq. 3)
        d v^ / d v     = 1 where lo < v / s < hi, else 0                                  (eq. 5)

    scale : an array that broadcasts to v        gain : g, the factor of the gradient of scale, a
        number or an array that broadcasts to v
    Source: Esser et al. 2020, arXiv 1902.08153, eqs. (1)-(3), (5); section 2.2 for the gain
    """
    q = np.clip(np.rint(v / scale), lo, hi) + 0.0  # never -0, which integers have not
    return (scale * q).astype(v.dtype, copy=False)


def _step_slope(v: Array, scale: Array, lo: int, hi: int) -> Array:
    t = v / scale
    return np.where(t <= lo, lo, np.where(t >= hi, hi, np.rint(t) - t)).astype(v.dtype, copy=False)


def _lsq_inside(v: Array, scale: Array, lo: int, hi: int) -> Array:
    t = v / scale
    return (t > lo) & (t < hi)


rules(lsq_quantize,
      lambda g, y, v, scale, lo, hi, gain: g * _lsq_inside(raw(v), raw(scale), lo, hi),
      lambda g, y, v, scale, lo, hi, gain: sum_to(
          g * (gain * _step_slope(raw(v), raw(scale), lo, hi)), scale))


@primitive
def pact_quantize(x, scale, *, hi: int):
    """Returns scale clip(rint(x / scale), 0, hi), in x's dtype: y = clip(x, 0, alpha) on a grid
    whose end, alpha = scale hi, is learnt.

        d y / d alpha = 1 where x >= alpha, else 0        d y / d x = 1 where 0 <= x < alpha, else 0

    scale : one number, as an array that broadcasts to x. Its gradient is (dL / d alpha) / hi, with
        which a step of SGD moves alpha as one along dL / d alpha does
    Source: Choi et al. 2018, arXiv 1805.06085, eqs. (1)-(3)
    """
    return (scale * (np.clip(np.rint(x / scale), 0, hi) + 0.0)).astype(x.dtype, copy=False)


rules(pact_quantize,
      lambda g, y, x, scale, hi: g * ((raw(x) >= 0) & (raw(x) < raw(scale) * hi)),
      lambda g, y, x, scale, hi: sum_to(g * (raw(x) >= raw(scale) * hi) / hi, scale))


def _code(t: Array, zero_point, lo: int, hi: int, midrise: bool) -> Array:
    # t = x / scale. On midrise a code is the cell that t lies in; at an edge the upper one.
    return np.clip(np.floor(t) if midrise else np.rint(t) + zero_point, lo, hi)


def _range(r_min, r_max) -> tuple[Array, Array]:
    lo, hi = np.asarray(r_min, np.float64), np.asarray(r_max, np.float64)
    for name, value in (("r_min", lo), ("r_max", hi)):
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    if (lo > hi).any():
        raise ValueError(f"r_min must be at most r_max, got {lo[lo > hi].flat[0]:g} and "
                         f"{np.broadcast_to(hi, lo.shape)[lo > hi].flat[0]:g}")
    return lo, hi


def _positive(scale: Array) -> Array:
    # A scale as float32: 1 where all values are 0, at least TINY elsewhere.
    with np.errstate(over="ignore"):
        narrow = np.where(scale == 0, 1.0, np.maximum(scale, TINY)).astype(np.float32)
    if not np.isfinite(narrow).all():
        raise ValueError("a range must fit into float32, got one beyond it")
    return narrow
