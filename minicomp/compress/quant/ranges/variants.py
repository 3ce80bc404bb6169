"""The divergence search of MXNet, on a histogram of signed x, and as onnxruntime has it.

Beside `thresholds.kl_threshold`, which follows the published slides, for whoever checks a tool:

- cuts are taken on both sides of 0 at once, bins middle - i .. middle + i, outliers folded at both
  ends; 2 i + 1 bins become L levels of floor((2 i + 1) / L) bins, the last of all that is left;
- Q is spread over bins where P, outliers included, is not 0;
- zeros of P and of Q are made 1e-4 and what that adds is taken off the others (`_smoothed`), so
  that no cut is skipped. This is done to counts, hence T depends on how many numbers were seen.

MXNet takes 8001 bins and 255 levels (511 for numbers on one side of 0). Its last level ends one bin
early (`stop = -1`), which is no part of the method and not done here.

onnxruntime 1.32 (`HistogramCollector.get_entropy_threshold`) differs: 2048 bins have no middle,
so that a cut has one bin more above 0 than below; bins beyond L floor((2 i + 1) / L) keep Q = 0
while their mass goes to the last level; and Q is cut to integers, so that levels of fewer numbers
than bins vanish.
"""

from __future__ import annotations

import numpy as np

from ....tensor import Array
from .thresholds import _counts

VARIANTS = ("mxnet", "onnxruntime")
SMOOTH = 1e-4


def signed_kl_threshold(counts: Array, width: float, *, levels: int = 255, variant: str = "mxnet"
                        ) -> tuple[float, float]:
    """Returns (T, KL(P || Q) there): the upper edge of the cut of least divergence.

    counts : (n,) of x, from -n width / 2 on; mxnet: n odd, 8001 as published. n > levels
    levels : of the whole of -T..T
    Raises ValueError for another variant, for an even n where it must be odd, for fewer bins.
    Source: MXNet 1.x, contrib/quantization.py; onnxruntime 1.32, calibrate.py
    """
    kl = signed_divergences(counts, levels=levels, variant=variant)
    at, bins = int(np.argmin(kl)), len(counts)
    stop = min(bins // 2 + levels // 2 + at + 1, bins)
    return (stop - bins / 2) * float(width), float(kl[at])


def signed_divergences(counts: Array, *, levels: int = 255, variant: str = "mxnet") -> Array:
    """Returns KL(P || Q) of the cuts i = levels // 2 .. n // 2, float64: the search above."""
    c = _counts(counts)
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    if variant == "mxnet" and len(c) % 2 == 0:
        raise ValueError(f"counts must be an odd number of bins, got {len(c)}")
    if not 1 < levels < len(c):
        raise ValueError(f"levels must be in [2, {len(c) - 1}], fewer than bins, got {levels}")
    middle = len(c) // 2
    return np.array([
        _divergence(c, max(middle - i, 0), min(middle + i + 1, len(c)), levels, variant)
        for i in range(levels // 2, middle + 1)])


def _divergence(c: Array, start: int, stop: int, levels: int, variant: str) -> float:
    inside = c[start:stop]
    p = inside.copy()
    p[0] += c[:start].sum()
    p[-1] += c[stop:].sum()
    filled, merged = p != 0, len(inside) // levels
    first = np.arange(levels) * merged
    mass, spread = np.add.reduceat(inside, first), np.add.reduceat(filled, first, dtype=np.int64)
    size = np.full(levels, merged)
    if variant == "onnxruntime":
        spread[-1] = filled[first[-1]:first[-1] + merged].sum()
        q = np.repeat(np.trunc(mass / np.maximum(spread, 1)) * (spread > 0), size)
        q = np.pad(q, (0, len(p) - len(q)))
    else:
        size[-1] = len(p) - first[-1]
        q = np.repeat(mass / np.maximum(spread, 1), size) * filled
    if not q.any():
        return np.inf
    p, q = _smoothed(p), _smoothed(q)
    return float((p * np.log(p / q)).sum() / p.sum() + np.log(q.sum() / p.sum()))


def _smoothed(counts: Array) -> Array:
    zero = counts == 0
    return np.where(zero, SMOOTH, counts - SMOOTH * zero.sum() / (~zero).sum())
