"""Stochastic rounding to fixed point.

    q_i = floor(t_i) + [u_i < t_i - floor(t_i)],   t = x 2^fl,   u_i uniform in [0, 1)

saturated to lo..hi. u_i depends on the key and on i alone, so that the result is the same for any
number of threads: entries 2 j and 2 j + 1 take the low and the high 32 bits of splitmix64's output
j, whose state is key + (j + 1) 0x9E3779B97F4A7C15, and of them the upper 24, which a float32 holds
exactly.
Source: Gupta et al. 2015, arXiv 1502.02551, section 3.1; Steele et al. 2014 for splitmix64
"""

from __future__ import annotations

import numpy as np

from .. import doors

Array = np.ndarray


def stochastic_round(x: Array, fl: int, lo: int, hi: int, *, key: int) -> Array:
    """Returns the codes, int32 of x's shape.

    x : float32, finite        fl : bits behind the point        lo, hi : least and largest code
    key : in [0, 2**64)
    """
    key = doors.whole("key", key, 0, 2**64 - 1)
    return stochastic_round_ref(x, fl, lo, hi, key=key)


def stochastic_round_ref(x: Array, fl: int, lo: int, hi: int, *, key: int) -> Array:
    """Returns what `stochastic_round` returns, by NumPy."""
    t = np.ldexp(np.asarray(x, np.float32), fl)
    down = np.floor(t)
    up = draws(t.size, key).reshape(t.shape) < t - down
    return np.clip(down + up, lo, hi).astype(np.int32)


def draws(n: int, key: int) -> Array:
    """Returns u_0..u_n-1, float32 in [0, 1), multiples of 2^-24."""
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(1, n // 2 + 2, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z = z ^ z >> np.uint64(31)
    low, high = z & np.uint64(0xFFFFFFFF), z >> np.uint64(32)
    bits = np.stack([low, high], axis=1).reshape(-1)[:n] >> np.uint64(8)
    return bits.astype(np.float32) * np.float32(2.0**-24)
