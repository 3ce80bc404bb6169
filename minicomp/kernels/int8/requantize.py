"""From accumulators to codes: y = clip(round(acc M) + z, lo, hi), under a named rule.

M = s_x s_w / s_y is a real number; an integer program holds it as M0 2^-n, M0 an int32 of magnitude
in [2^30, 2^31) whose sign is M's, 1 <= n <= 62.

| rounding | computes                                            | ties           | who         |
|----------|-----------------------------------------------------|----------------|-------------|
| single   | (acc M0 + 2^(n-1)) >> n, in 64 bits                 | upward         | ours        |
| gemmlowp | a doubling high product, then a shift, each rounded | away from zero | TFLite      |
| float    | float32(acc) float32(M), rounded once to an integer | to even        | onnxruntime |

The zero point is added after rounding, or (`zero_first`) before: as a number under float, as z at
the scale of what the last shift takes under the others, under which only gemmlowp's ties tell the
difference. Where M = 0.1, single makes 10, 0, 0, 1, 299 of 100, 5, -5, 15, 2995; gemmlowp 10, 1,
-1, 2, 300; float 10, 0, 0, 2, 300.

The compiled twin is in kernels_pyx/simd/int8/requantize.h, which a product calls on its sums.
Source: Jacob et al. 2018, arXiv 1712.05877, section 2.2; gemmlowp's `SaturatingRoundingDoubling-
HighMul` and `RoundingDivideByPOT`; ONNX, QLinearConv
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import cpu, doors
from ..threads import threads
from . import checks

Array = np.ndarray
ROUNDINGS = ("single", "gemmlowp", "float")  # the index is their number in a kernel
LEAST_SHIFT, MOST_SHIFT = 1, 62
DTYPES = {"m0": np.int32, "shift": np.int32, "factor": np.float32, "lo": np.uint8, "hi": np.uint8}


@dataclass(frozen=True)
class Requantizer:
    """How accumulators become codes 0..255; O channels, the last axis of an accumulator.

    m0 : (O,) int32, M0        shift : (O,) int32, n        factor : (O,) float32, M
    zero_point : 0..255        lo, hi : (O,) uint8, the least and the largest code of each channel
    rounding : one of ROUNDINGS        zero_first : whether z is added before rounding
    A kernel trusts it, so that its arrays are checked, once, and become read-only.
    Raises ValueError for arrays of other types and sizes, numbers out of range, and an M0 too small
    for its n.
    """

    m0: Array
    shift: Array
    factor: Array
    zero_point: int
    lo: Array
    hi: Array
    rounding: str = "single"
    zero_first: bool = False

    def __post_init__(self):
        checks.settle(self, "r", "O", DTYPES)
        doors.integers("r.shift", self.shift, least=LEAST_SHIFT, most=MOST_SHIFT)
        small = (np.abs(self.m0.astype(np.int64)) < 2**30) & (self.m0 != 0)
        if (small & (self.shift < MOST_SHIFT) | (self.m0 == -2**31)).any():
            raise ValueError("r.m0 must be 0 or of magnitude in [2^30, 2^31), below that only with "
                             f"a shift of {MOST_SHIFT}")
        if not np.isfinite(self.factor).all() or (self.lo > self.hi).any():
            raise ValueError("r.factor must be finite, and r.lo be at most r.hi")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"r.rounding must be one of {', '.join(ROUNDINGS)}, "
                             f"got {self.rounding!r}")
        doors.whole("r.zero_point", self.zero_point, 0, 255)
        doors.switch("r.zero_first", self.zero_first)


def multiplier(m) -> tuple[Array, Array]:
    """Returns (M0 int32, n int32) of real factors, of their shape: m = M0 2^-n up to 2^-31 of it.

        |m| = f 2^e, f in [1/2, 1)        M0 = rint(f 2^31), n = 31 - e

    Where rounding gives 2^31 it is halved and n one lower. 0 is (0, 1); below 2^-32 of a step n is
    62 and M0 smaller than 2^30: such a factor makes 0 of every accumulator, as it should.
    Raises ValueError for NaN, infinity, and factors of 2^30 and more, whose n would be below 1.
    Source: Jacob et al. 2018, eq. (6)
    """
    m = np.asarray(m, np.float64)
    if not np.isfinite(m).all():
        raise ValueError("m must be finite, got NaN or infinity")
    fraction, exponent = np.frexp(m)
    m0, n = np.rint(fraction * 2.0**31).astype(np.int64), 31 - exponent.astype(np.int64)
    full = np.abs(m0) == 2**31
    m0, n = np.where(full, m0 // 2, m0), n - full
    low = np.clip(n - MOST_SHIFT, 0, 40)
    m0, n = np.where(low > 0, np.rint(m0 / 2.0**low).astype(np.int64), m0), n - low
    m0, n = np.where(m0 == 0, 0, m0), np.where(m0 == 0, LEAST_SHIFT, np.minimum(n, MOST_SHIFT))
    if (n < LEAST_SHIFT).any():
        raise ValueError(f"m must be below 2^30, got {np.abs(m).max():g}")
    return m0.astype(np.int32), n.astype(np.int32)


def requantizer(m, *, zero_point: int, lo, hi, rounding: str = "single", zero_first: bool = False,
                factor=None) -> Requantizer:
    """Returns the requantizer of real factors.

    m : (O,) float64, M        lo, hi : codes 0..255, numbers or (O,)
    factor : (O,) float32, what rule float multiplies by; None takes float32(m)
    Raises ValueError as `multiplier` does, for codes out of 0..255, lo above hi, and a rule that
    there is not.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, got {rounding!r}")
    m = np.asarray(m, np.float64).reshape(-1)
    m0, shift = multiplier(m)
    lo, hi = (np.broadcast_to(np.asarray(a), m.shape) for a in (lo, hi))
    for name, a in (("zero_point", np.asarray(zero_point)), ("lo", lo), ("hi", hi)):
        if a.dtype.kind not in "iu" or a.size and not (0 <= a.min() and a.max() <= 255):
            raise ValueError(f"{name} must be integers in [0, 255], got {a.min()}..{a.max()}")
    if (lo > hi).any():
        raise ValueError(f"lo must be at most hi, got {lo[lo > hi][0]} and {hi[lo > hi][0]}")
    factor = m.astype(np.float32) if factor is None else np.asarray(factor, np.float32).reshape(-1)
    return Requantizer(m0, shift, factor, int(zero_point), lo.astype(np.uint8),
                       hi.astype(np.uint8), rounding, bool(zero_first))


def rule(r: Requantizer, channels: int) -> Requantizer:
    """Returns r; ValueError unless it is a requantizer of that many channels."""
    if not isinstance(r, Requantizer):
        raise ValueError(f"r must be a Requantizer, got a {type(r).__name__}")
    if len(r.m0) != channels:
        raise ValueError(f"r must be of {channels} channels, got {len(r.m0)}")
    return r


def numbers(r: Requantizer) -> tuple[int, int, bool]:
    """Returns what a kernel takes of r beside arrays: zero point, number of the rule, order."""
    return r.zero_point, ROUNDINGS.index(r.rounding), r.zero_first


def requantize(acc: Array, r: Requantizer, *, out: Array | None = None, isa: str = "auto",
               n_threads: int = 1) -> Array:
    """Returns the codes of accumulators, uint8 of their shape, in `out` where that is given.

    acc : (..., O) int32        out : uint8, of acc's shape, C-contiguous
    Raises ValueError for other arrays, and a requantizer of other channels.
    """
    acc = checks.sums("acc", acc)
    rule(r, acc.shape[-1] if acc.ndim else 0)
    out, n_threads = checks.result(out, acc.shape, acc), threads(n_threads)
    level = cpu.resolve(isa, "int8")
    if level == 0 or not acc.size:
        out[...] = requantize_ref(acc, r)
        return out
    rows = (-1, acc.shape[-1])
    checks.kernels(None).requantize(acc.reshape(rows), r, numbers(r), out.reshape(rows), level,
                                    n_threads)
    return out


def requantize_ref(acc: Array, r: Requantizer) -> Array:
    """Returns the codes of accumulators, uint8 of their shape.   acc : (..., O) int32"""
    z, first = r.zero_point, r.zero_point if r.zero_first else 0
    if r.rounding == "float":
        t = acc.astype(np.float32) * r.factor
        y = np.rint(t + np.float32(first))
        y = np.clip(y, -1024, 1024).astype(np.int64)  # so that z can be added to an integer
    elif r.rounding == "single":
        n = r.shift.astype(np.int64)
        y = (acc.astype(np.int64) * r.m0 + (np.int64(1) << n - 1) >> n) + first
    else:
        y = _gemmlowp(acc.astype(np.int64), r.m0.astype(np.int64), r.shift.astype(np.int64), first)
    return np.clip(y + (z - first), r.lo, r.hi).astype(np.uint8)


def _gemmlowp(acc: Array, m0: Array, n: Array, first: int) -> Array:
    # A left shift where n < 31 (which saturates), the doubling high product, ties away from zero
    # and quotients towards it, then the rounding shift, ties away from zero.
    left, right = np.maximum(31 - n, 0), np.maximum(n - 31, 0)
    acc = np.clip(acc << left, -2**31, 2**31 - 1)
    product = acc * m0
    high = product + np.where(product >= 0, 2**30, 1 - 2**30)
    high = np.sign(high) * (np.abs(high) >> 31)
    high += np.int64(first) << right
    half = (np.int64(1) << right) >> 1
    return np.sign(high) * (np.abs(high) + half >> right)
