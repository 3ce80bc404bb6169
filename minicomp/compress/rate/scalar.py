"""Codes of a scalar grid by error and bits together, on arrays: see rate_distortion.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...tensor import Array
from .pricing import code_bits, code_counts, refit

_BLOCK = 1 << 13  # weights looked at together, so that their costs stay in a cache
SETTLED = 1e-3  # part of the codes that may still change in the last turn


def cheapest(w: Array, step: float, codes: Sequence[int], points: Sequence[int], price: Array,
             h: Array) -> tuple[Array, Array]:
    """Returns (cost, code), (n,): the least h (w - step p)^2 + price of some codes, and which.

    w, h : (n,) float64        points, price : of each of the codes; of equal costs the first
    """
    least, found = np.full(w.shape, np.inf), np.zeros(w.shape, np.int64)
    for at in range(0, len(w), _BLOCK):
        part = slice(at, at + _BLOCK)
        x, weight, best, chosen = w[part], h[part], least[part], found[part]
        for k, p, r in zip(codes, points, price):
            cost = np.square(x - step * p)
            cost *= weight
            cost += r
            less = cost < best
            np.copyto(best, cost, where=less)
            np.copyto(chosen, k, where=less)
    return least, found


def by_size(bits: Array) -> list[int]:
    """Returns the codes that may be taken, those of finite bits, nearest 0 first, negative first.

    bits : (2 m + 1,), of -m..m
    """
    most = len(bits) // 2
    return sorted((k for k in range(-most, most + 1) if np.isfinite(bits[k + most])),
                  key=lambda k: (abs(k), k))


def rd_codes(w: Array, step: float, bits: Array, lam: float, h: Array | float = 1.0) -> Array:
    """Returns the code of least h (w - step k)^2 + lam bits, int64 (n,), k in -m..m.

    w : (n,) float        bits : (2 m + 1,) of each code, inf for one that may not be taken
    h : (n,) or one for all, at least 0
    Of equal costs the code nearest 0, of those the negative one.
    Source: Chou, Lookabaugh & Gray 1989; eq. (1) of rate_distortion.py
    """
    w, codes = np.asarray(w, np.float64), by_size(bits)
    price = [lam * bits[k + len(bits) // 2] for k in codes]
    return cheapest(w, step, codes, codes, price, np.broadcast_to(h, w.shape))[1]


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
        if settled(k, was):
            break
    return k, step


def settled(k: Array, was: Array) -> bool:
    """Returns whether next to no codes are others than they were."""
    return np.count_nonzero(k != was) <= SETTLED * k.size
