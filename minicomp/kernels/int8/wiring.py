"""Sums of codes on several grids, and whatever maps one code to one code: a table.

    add      y = clip(round(sum over i of (q_i - z_i) M_i) + z),    M_i = s_i / s_y

The products have one shift, so that the sum is exact and rounded once: M_i = m_i 2^-n, where the
largest of the m_i has 31 bits. Rule float multiplies and adds in float32, from the first to the
last, and rounds to even; single rounds ties upward, gemmlowp away from zero. The zero point is
added after rounding, also where a program's other steps add it before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import doors
from ..threads import threads
from .checks import codes, kernels, result, rung, settle
from .requantize import LEAST_SHIFT, MOST_SHIFT, ROUNDINGS, multiplier

Array = np.ndarray
MOST_ADDED = 64  # inputs: 64 255 2^31 < 2^46


@dataclass(frozen=True)
class Adder:
    """How codes of I inputs become those of their sum.

    m : (I,) int64, one shift n        factor : (I,) float32, M_i        zero : (I,) int32, z_i
    zero_point, lo, hi : of the output, 0..255        rounding : one of ROUNDINGS
    A kernel trusts it, so that it is checked, once, and its arrays become read-only.
    Raises ValueError for arrays of other types and sizes, and numbers out of range.
    """

    m: Array
    shift: int
    factor: Array
    zero: Array
    zero_point: int
    lo: int
    hi: int
    rounding: str = "single"

    def __post_init__(self):
        settle(self, "a", "I", {"m": np.int64, "factor": np.float32, "zero": np.int32})
        doors.integers("a.m", self.m, least=-doors.MOST)
        doors.integers("a.zero", self.zero, least=0, most=255)
        doors.whole("a.shift", self.shift, LEAST_SHIFT, MOST_SHIFT)
        for name in ("zero_point", "lo", "hi"):
            doors.whole(f"a.{name}", getattr(self, name), 0, 255)
        if self.rounding not in ROUNDINGS or not np.isfinite(self.factor).all():
            raise ValueError(f"a must have finite factors and a rounding of {', '.join(ROUNDINGS)}")


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


def sums_ref(xs: Sequence[Array], a: Adder) -> Array:
    """Returns what is rounded, of xs' shape: sum (q_i - z_i) m_i, int64; under rule float
    sum (q_i - z_i) M_i, float32, from the first input to the last.   xs : as of `add_ref`"""
    steps = [x.astype(np.int64) - z for x, z in zip(xs, a.zero)]
    if a.rounding != "float":
        return sum(step * m for step, m in zip(steps, a.m))
    total = np.zeros(steps[0].shape, np.float32)
    for step, factor in zip(steps, a.factor):
        total += step.astype(np.float32) * factor
    return total


def add_ref(xs: Sequence[Array], a: Adder) -> Array:
    """Returns the codes of the sum, uint8.   xs : I arrays of uint8, of one shape"""
    total = sums_ref(xs, a)
    if a.rounding == "float":
        y = np.clip(np.rint(total), -1024, 1024).astype(np.int64)  # so that z can be added
    else:
        half = np.int64(1) << a.shift >> 1
        if a.rounding == "single":
            y = total + half >> a.shift
        else:
            y = np.sign(total) * (np.abs(total) + half >> a.shift)
    return np.clip(y + a.zero_point, a.lo, a.hi).astype(np.uint8)


def look_up_ref(x: Array, table: Array) -> Array:
    """Returns table[x], uint8 of x's shape.   x : uint8   table : (256,) uint8"""
    return table[x]


def concat_ref(xs: Sequence[Array], tables: Sequence[Array]) -> Array:
    """Returns the channels of all inputs side by side, (..., sum of C) uint8, of which each went
    through its table.   xs : arrays (..., C) of uint8        tables : (256,) uint8 each"""
    return np.concatenate([t[x] for x, t in zip(xs, tables)], axis=-1)


def shuffle_ref(x: Array, groups: int) -> Array:
    """Returns the channels (g, k) of x as (k, g), uint8.   x : (..., C) uint8   groups : divides
    C"""
    apart = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return np.ascontiguousarray(apart.swapaxes(-1, -2)).reshape(x.shape)


def add(xs: Sequence[Array], a: Adder, *, isa: str = "auto", n_threads: int = 1,
        out: Array | None = None, calls=None) -> Array:
    """Returns the codes of the sum, uint8.

    xs : at most MOST_ADDED arrays of uint8, of one shape        a : of as many inputs
    out : where to write, which may be one of xs; or None
    Raises ValueError for other arrays, and for an adder out of bounds.
    """
    given, n_threads, xs = xs, threads(n_threads), _listed("xs", xs)
    if len(xs) > MOST_ADDED or len({x.shape for x in xs}) != 1:
        raise ValueError(f"xs must be 1..{MOST_ADDED} arrays of one shape, "
                         f"got {[x.shape for x in xs][:4]}")
    if not isinstance(a, Adder) or len(a.m) != len(xs):
        raise ValueError(f"a must be an Adder of {len(xs)} inputs, got a {type(a).__name__} of "
                         f"{len(getattr(a, 'm', ()))}")
    level, out = rung(isa, calls, *given), result(out, xs[0].shape, *xs, in_place=True)
    if level == 0:
        out[...] = add_ref(xs, a)
    else:
        how = (a.zero_point, a.lo, a.hi, ROUNDINGS.index(a.rounding))
        kernels(calls).add([x.reshape(-1) for x in xs], a.m, a.factor, a.zero, a.shift, how,
                           out.reshape(-1), level, n_threads)
    return out


def look_up(x: Array, table: Array, *, isa: str = "auto", n_threads: int = 1,
            out: Array | None = None, calls=None) -> Array:
    """Returns table[x], uint8.   x : uint8   table : (256,) uint8   out : may be x, or None

    Raises ValueError for other arrays.
    """
    given, x, table = (x, table), codes("x", x), codes("table", table, 1)
    if len(table) != 256:
        raise ValueError(f"table must be of shape (256,), got {table.shape}")
    level, n_threads = rung(isa, calls, *given), threads(n_threads)
    out = result(out, x.shape, x, in_place=True)
    if level == 0:
        out[...] = look_up_ref(x, table)
    elif x.size:
        kernels(calls).place(x.reshape(-1, 1), table, 0, out.reshape(-1, 1), level, n_threads)
    return out


def concat(xs: Sequence[Array], tables: Sequence[Array], *, isa: str = "auto", n_threads: int = 1,
           out: Array | None = None, calls=None) -> Array:
    """Returns the channels of all inputs side by side, each through its table, uint8.

    xs : arrays (..., C) of uint8, alike but in C        tables : (256,) uint8, one for each
    out : where to write, or None
    Raises ValueError for other arrays.
    """
    given, n_threads = (xs, tables), threads(n_threads)
    xs, tables = _listed("xs", xs), _listed("tables", tables)
    if len({x.shape[:-1] for x in xs}) != 1 or xs[0].ndim == 0:
        raise ValueError("xs must be arrays alike but in channels, got "
                         f"{[x.shape for x in xs][:4]}")
    if len(tables) != len(xs) or any(t.shape != (256,) for t in tables):
        raise ValueError(f"tables must be {len(xs)} of shape (256,), got "
                         f"{[t.shape for t in tables][:4]}")
    level, width = rung(isa, calls, *given[0], *given[1]), sum(x.shape[-1] for x in xs)
    out = result(out, (*xs[0].shape[:-1], width), *xs, in_place=len(xs) == 1)
    if level == 0:
        out[...] = concat_ref(xs, tables)
        return out
    at, rows = 0, out.reshape(-1, width) if out.size else out
    for x, table in zip(xs, tables):
        if x.size:
            kernels(calls).place(x.reshape(-1, x.shape[-1]), table, at, rows, level, n_threads)
        at += x.shape[-1]
    return out


def shuffle(x: Array, groups: int, *, isa: str = "auto", n_threads: int = 1,
            out: Array | None = None, calls=None) -> Array:
    """Returns the channels (g, k) of x as (k, g), uint8.

    x : (..., C) uint8        groups : divides C        out : where to write, or None
    Raises ValueError for other arrays.
    """
    given, n_threads, x = x, threads(n_threads), codes("x", x)
    groups = doors.whole("groups", groups, 1)
    if x.ndim == 0 or x.shape[-1] % groups:
        raise ValueError(f"groups must divide the channels of x, {x.shape}, got {groups}")
    out = result(out, x.shape, x)
    if rung(isa, calls, given) == 0:
        out[...] = shuffle_ref(x, groups)
    elif x.size:
        rows = (-1, x.shape[-1])
        kernels(calls).shuffle(x.reshape(rows), groups, out.reshape(rows), n_threads)
    return out


def _listed(name: str, xs: Sequence[Array]) -> list[Array]:
    if not isinstance(xs, (list, tuple, Array)) or getattr(xs, "ndim", 1) == 0 or not len(xs):
        raise ValueError(f"{name} must be a list of arrays, got a {type(xs).__name__}")
    return [codes(name, x) for x in xs]
