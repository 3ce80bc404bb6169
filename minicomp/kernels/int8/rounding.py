"""Rounding to fixed point, stochastic and nearest.

    t = x 2^fl
    stochastic   q_i = floor(t_i) + [u_i < t_i - floor(t_i)],   u_i uniform in [0, 1)
    nearest      q_i = floor(t_i) + [t_i - floor(t_i) > 1/2]    a tie goes down

saturated to lo..hi. u_i depends on the key and on i alone, so that the result is the same for any
number of threads: entries 2 j and 2 j + 1 take the low and the high 32 bits of splitmix64's output
j, whose state is key + (j + 1) 0x9E3779B97F4A7C15, and of them the upper 24, which a float32 holds
exactly. The probability of going up is therefore that of t - floor(t) rounded up to a multiple of
2^-24: the mean is off by less than 2^-24 of a step, and a number on the grid stays where it is.
The compiled twin is in kernels_pyx/int8.pyx.
Source: Gupta et al. 2015, arXiv 1502.02551, section 3.1; Steele et al. 2014 for splitmix64
"""

from __future__ import annotations

import numpy as np

from .. import cpu, doors
from ..splitmix import FIRST, GAMMA, SECOND, splitmix64
from ..threads import threads

Array = np.ndarray
WIDEST = 2**24  # codes, and powers of two, that float32 arithmetic keeps exact
FURTHEST = 100
WORD = 2**64 - 1


def stochastic_round(x: Array, fl: int, lo: int, hi: int, *, key: int, values: bool = False,
                     isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns the codes q, int32 of x's shape; with `values` the numbers q 2^-fl, float32.

    x : float32        fl : bits behind the point, in [-100, 100]
    lo, hi : least and largest code, in [-2^24, 2^24]        key : of the draws, in [0, 2**64)
    Infinities saturate. NaN has no code; as a value it stays NaN.
    Raises ValueError for other arguments, and for NaN where codes are asked for.
    """
    key = doors.whole("key", key, 0, 2**64 - 1)
    return _rounded(x, fl, lo, hi, key, values, isa, threads(n_threads))


def nearest_round(x: Array, fl: int, lo: int, hi: int, *, values: bool = False, isa: str = "auto",
                  n_threads: int = 1) -> Array:
    """Returns codes or values, as `stochastic_round`, rounded to nearest."""
    return _rounded(x, fl, lo, hi, None, values, isa, threads(n_threads))


def _rounded(x: Array, fl: int, lo: int, hi: int, key: int | None, values: bool, isa: str,
             n_threads: int) -> Array:
    doors.floats("x", x)
    if x.dtype != np.float32:
        raise ValueError(f"x must be an array of float32, got {x.dtype}")
    fl = doors.whole("fl", fl, -FURTHEST, FURTHEST)
    lo = doors.whole("lo", lo, -WIDEST, WIDEST)
    hi, values = doors.whole("hi", hi, lo, WIDEST), doors.switch("values", values)
    level = cpu.resolve(isa, "int8")
    if level == 0:
        return _rounded_ref(x, fl, lo, hi, key, values)
    out = np.empty(x.shape, np.float32 if values else np.int32)
    module, flat = cpu.kernel_module("int8"), np.ascontiguousarray(x).reshape(-1)
    kernel = module.round_values if values else module.round_codes
    nan = kernel(flat, 2.0**fl, lo, hi, key is not None, key or 0, out.reshape(-1), level,
                 n_threads)
    if nan:
        _refuse_nan()
    return out


def stochastic_round_ref(x: Array, fl: int, lo: int, hi: int, *, key: int, values: bool = False
                         ) -> Array:
    """Returns what `stochastic_round` returns, by NumPy."""
    return _rounded_ref(x, fl, lo, hi, key, values)


def nearest_round_ref(x: Array, fl: int, lo: int, hi: int, *, values: bool = False) -> Array:
    """Returns what `nearest_round` returns, by NumPy."""
    return _rounded_ref(x, fl, lo, hi, None, values)


def _rounded_ref(x: Array, fl: int, lo: int, hi: int, key: int | None, values: bool) -> Array:
    # lo and hi are whole: to saturate before rounding, and not after, changes nothing.
    with np.errstate(over="ignore"):
        t = np.clip(x * np.float32(2.0**fl), lo, hi)
    down = np.floor(t)
    if key is None:
        up = t > down + np.float32(0.5)  # exact, which t - down is not for a small t below 0
    else:
        up = draws(t.size, key).reshape(t.shape) < t - down
    q = down + up
    if values:
        return q * np.float32(2.0**-fl)
    if np.isnan(q).any():
        _refuse_nan()
    return q.astype(np.int32)


def _refuse_nan():
    raise ValueError("x must be numbers, got NaN")


def key_of(*numbers: int) -> int:
    """Returns the key of a place, such as (seed, step, node): splitmix64 of one after the other.

    numbers : in [0, 2**64)
    Places that differ have keys that are no more alike than random ones.
    """
    key = 0
    for number in numbers:
        z = (key ^ number) + GAMMA & WORD
        z = (z ^ z >> 30) * FIRST & WORD
        z = (z ^ z >> 27) * SECOND & WORD
        key = z ^ z >> 31
    return key


def draws(n: int, key: int) -> Array:
    """Returns u_0..u_n-1, float32 in [0, 1), multiples of 2^-24."""
    z = splitmix64(n // 2 + 1, key)
    low, high = z & np.uint64(0xFFFFFFFF), z >> np.uint64(32)
    bits = np.stack([low, high], axis=1).reshape(-1)[:n] >> np.uint64(8)
    return bits.astype(np.float32) * np.float32(2.0**-24)
