"""Fixed point <IL, FL>: two's complement of IL + FL bits, FL of them behind the point.

    eps = 2^-FL        range [-2^(IL-1), 2^(IL-1) - eps], beyond which it saturates

    nearest     floor(x) if x - floor(x) <= eps / 2, else floor(x) + eps
    stochastic  floor(x) with probability 1 - (x - floor(x)) / eps, else floor(x) + eps

floor(x) is the largest multiple of eps that is at most x. Nearest rounding is biased for any one x;
stochastic rounding is unbiased, E = x, so that updates smaller than eps are not lost but happen now
and then.
Source: Gupta et al. 2015, arXiv 1502.02551, section 3
"""

from __future__ import annotations

import numpy as np

from ..kernels.int8.rounding import nearest_round, stochastic_round
from ..tensor import Array, primitive, rules


def fixed_point(x: Array, il: int, fl: int, *, rounding: str = "nearest", key: int | None = None
                ) -> Array:
    """Returns the codes of x, int32 of its shape: x / eps rounded and saturated.

    x : float        il, fl : integer and fractional bits, 1 <= il + fl <= 24, il >= 1
    rounding : "nearest", a tie goes down as in the paper; "stochastic", which draws from `key`, an
        integer in [0, 2**64), the same numbers for the same key, whatever the number of threads
    Raises ValueError for NaN, other bits, and a key that is missing or not needed.
    Source: Gupta et al. 2015, section 3.1
    """
    lo, hi = fixed_range(il, fl)
    _check(rounding, key)
    x = np.asarray(x)
    if np.isnan(x).any():
        raise ValueError("x must be numbers, got NaN")
    return _rounded(x, fl, lo, hi, key, values=False).astype(np.int32, copy=False)


def _check(rounding: str, key: int | None) -> None:
    if rounding not in ("nearest", "stochastic"):
        raise ValueError(f"rounding must be nearest or stochastic, got {rounding!r}")
    if (key is None) != (rounding == "nearest"):
        raise ValueError("key belongs to stochastic rounding, and stochastic rounding needs one")


def _rounded(x: Array, fl: int, lo: int, hi: int, key: int | None, values: bool) -> Array:
    # Codes, or values among which NaN stays NaN; stochastic rounding is of float32.
    if key is not None:
        x = x.astype(np.float32, copy=False)
        return stochastic_round(x, fl, lo, hi, key=key, values=values)
    if x.dtype == np.float32:
        return nearest_round(x, fl, lo, hi, values=values)
    t = np.clip(np.ldexp(x.astype(np.float64, copy=False), fl), lo, hi)
    down = np.floor(t)
    q = down + (t > down + 0.5)
    return np.ldexp(q, -fl) if values else q


def fixed_range(il: int, fl: int) -> tuple[int, int]:
    """Returns the least and the largest code; ValueError where il < 1 or il + fl is not 1..24."""
    if il < 1 or not 1 <= il + fl <= 24:
        raise ValueError(f"il must be at least 1 and il + fl in [1, 24], got il = {il}, fl = {fl}")
    half = 1 << (il + fl - 1)
    return -half, half - 1


@primitive
def round_fixed(x, *, il: int, fl: int, rounding: str = "nearest", key: int | None = None):
    """Returns x in fixed point, in its dtype; arguments of `fixed_point`.

    Gradient: straight through, clipped values too, as the paper's training has it.
    """
    _check(rounding, key)
    return _rounded(x, fl, *fixed_range(il, fl), key, values=True).astype(x.dtype, copy=False)


rules(round_fixed, lambda g, y, x, **form: g)
