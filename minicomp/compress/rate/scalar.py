"""Codes of a scalar grid by error and bits together, on arrays: see rate_distortion.py."""

from __future__ import annotations

import numpy as np

from ...tensor import Array
from .pricing import code_bits, code_counts, refit

_BLOCK = 1 << 14  # weights looked at together, so that their costs stay in a cache


def rd_codes(w: Array, step: float, bits: Array, lam: float, h: Array | float = 1.0) -> Array:
    """Returns the code of least h (w - step k)^2 + lam bits, int64 (n,), k in -m..m.

    w : (n,) float        bits : (2 m + 1,) of each code, inf for one that may not be taken
    h : (n,) or one for all, at least 0
    Of equal costs the code nearest 0, of those the negative one.
    Source: Chou, Lookabaugh & Gray 1989; eq. (1) of rate_distortion.py
    """
    w = np.asarray(w, np.float64)
    h, found = np.broadcast_to(h, w.shape), np.zeros(w.shape, np.int64)
    most = len(bits) // 2
    order = sorted(range(-most, most + 1), key=lambda k: (abs(k), k))
    for at in range(0, len(w), _BLOCK):
        x, weight = w[at:at + _BLOCK], h[at:at + _BLOCK]
        best, chosen = np.full(x.shape, np.inf), found[at:at + _BLOCK]
        for k in order:
            if np.isfinite(bits[k + most]):
                cost = weight * np.square(x - step * k) + lam * bits[k + most]
                less = cost < best
                best[less], chosen[less] = cost[less], k
    return found


def rd_quantize(w: Array, step: float, lam: float, *, most: int, h: Array | float = 1.0,
                zeros: int = 0, iterations: int = 20) -> tuple[Array, float]:
    """Returns (codes int64 (n,), step) after prices, codes and step are fitted in turn.

    w : (n,)        step : > 0, where it begins        lam : squared error that a bit is worth
    most : the largest code        zeros : pruned entries beside, all of code 0
    """
    k = np.clip(np.rint(w / step), -most, most).astype(np.int64)
    for _ in range(iterations):
        bits = code_bits(code_counts(k, most, zeros))
        was, k = k, rd_codes(w, step, bits, lam, h)
        step = refit(w, k, step, h)
        if np.array_equal(k, was):
            break
    return k, step
