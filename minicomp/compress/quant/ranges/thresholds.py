"""Thresholds T at which |x| is clipped, from a histogram: the information that is lost decides.

A tensor whose range is cut at T < max |x| is called saturated: few numbers are clipped, all others
get a smaller step. At T = max |x| it is unsaturated. Migacz (NVIDIA, GTC 2017, S7310, "8-bit
inference with TensorRT") picks T so that the clipped, quantized distribution tells least apart
from the one that was seen. For every cut i of a histogram c_0 .. c_{n-1} of |x|, i = L .. n:

    P_k = c_k for k < i - 1,    P_{i-1} = c_{i-1} + sum_{k >= i} c_k     outliers folded in     (1)
    Q   = c_0 .. c_{i-1}, without outliers, merged into L levels; the mass of a level is spread
          evenly over those of its bins that are not empty                                      (2)
    KL(P || Q) = sum_k p_k log(p_k / q_k),      p = P / sum P,  q = Q / sum Q                   (3)
    T = (i + 1/2) width     of the cut with the least divergence                                (4)

n is 2048 and L the codes for |x|: 128 of 8 bits where there are two signs, 256 where there is one.
The slides leave open how i bins become L levels where L does not divide i; here bin k belongs to
level floor(k L / i), so that levels differ by one bin at most. A cut whose last bin is empty though
outliers are folded into it has P > 0 where Q = 0: its divergence is infinite and it is skipped.
(4) may exceed the largest |x| by up to one and a half bins; callers that know it clip.

All cuts are computed at once. Inside a level Q is A / m, its mass over its non-empty bins, so that

    sum_k P_k log Q_k = sum_levels A log(A / m) + outliers log Q_{i-1}                          (5)

and what belongs to levels are differences of running sums: (n - L) L numbers, no pass over bins.
"""

from __future__ import annotations

import numpy as np

from ....tensor import Array

CLIPPED = 0.5  # the share that may be clipped, of observers: see `kl_threshold`
ROUNDING = 1e-12  # divergences below it are rounding of sums that are equal: 0


def kl_threshold(counts: Array, width: float, *, levels: int = 128, clipped: float = 1.0
                 ) -> tuple[float, float]:
    """Returns (T, KL(P || Q) there, nats): of equal divergences the smallest T.

    clipped : cuts outside which more than this share of the counts lies are skipped; none is, as
        printed. Where no number lies near 0 a cut that holds a single bin has divergence 0, though
        nearly all is clipped: numbers in 2..3.4 want a limit
    counts : (n,) of |x|, bin k from k width to (k + 1) width; n at least 2 levels, 2048 as printed
    Raises ValueError for fewer bins, which would leave min-max; for counts below 0 and for none.
    Source: Migacz 2017, eqs. (1)-(4) above
    """
    return _least(kl_divergences(counts, levels=levels), counts, width, levels, clipped)


def symmetric_kl_threshold(counts: Array, width: float, *, levels: int = 128, clipped: float = 1.0
                           ) -> tuple[float, float]:
    """Returns (T, KL(P || Q) + KL(Q || P) there): Jeffreys' divergence in the search above."""
    back = reverse_divergences(counts, levels=levels)
    both = kl_divergences(counts, levels=levels) + back
    return _least(both, counts, width, levels, clipped)


def js_threshold(counts: Array, width: float, *, levels: int = 128, clipped: float = 1.0
                 ) -> tuple[float, float]:
    """Returns (T, JS there): KL(P || M) / 2 + KL(Q || M) / 2, M = (P + Q) / 2, at most log 2.

    scipy.spatial.distance.jensenshannon is its square root.
    """
    return _least(js_divergences(counts, levels=levels), counts, width, levels, clipped)


def histogram_percentile(counts: Array, width: float, *, percentile: float = 99.99,
                         edge: str = "right") -> float:
    """Returns the end of the first bin up to which a share percentile / 100 of the counts lie.

    percentile : in (0, 100]; 100 ends with the last bin that is not empty
    edge : "right"; "left", the beginning of that bin, as onnxruntime's calibration takes it: there
        percentile 100 is below the largest |x|
    """
    counts = _counts(counts)
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must be in (0, 100], got {percentile}")
    if edge not in ("left", "right"):
        raise ValueError(f"edge must be left or right, got {edge!r}")
    below = np.cumsum(counts)
    share = percentile / 100 * below[-1] * (1 - 1e-12)  # 99.9 % of 1000 are 999
    return (int(np.searchsorted(below, share)) + (edge == "right")) * float(width)


def kl_divergences(counts: Array, *, levels: int = 128) -> Array:
    """Returns KL(P || Q) of the cuts i = levels .. n, (n - levels + 1,) float64: eqs. (1)-(3)."""
    cut = _Cuts(counts, levels)
    seen = _log(cut.folded) * cut.folded + (_log(cut.c) * cut.c).cumsum()[cut.i - 1] - (
        _log(cut.last) * cut.last)  # sum P log P
    cross = (cut.A * cut.log_q).sum(axis=1) + cut.outliers * cut.log_q[:, -1]  # eq. (5)
    kl = (seen - cross) / cut.total - np.log(cut.total) + _log(cut.inside)
    return np.where(cut.void, np.inf, np.where(kl < ROUNDING, 0.0, kl))


def reverse_divergences(counts: Array, *, levels: int = 128) -> Array:
    """Returns KL(Q || P) of the same cuts: finite wherever P covers Q, which it always does."""
    cut = _Cuts(counts, levels)
    logs = np.diff(_running(_log(cut.c))[cut.starts], axis=1)  # sum of log P of a level's bins
    spread = np.exp(cut.log_q) * (cut.A > 0)  # Q of each bin of a level that is not empty
    cross = (spread * logs).sum(axis=1) + np.where(
        cut.last > 0, spread[:, -1] * (_log(cut.folded) - _log(cut.last)), 0.0)
    inside = np.where(cut.inside > 0, cut.inside, 1.0)
    kl = ((cut.A * cut.log_q).sum(axis=1) - cross) / inside - np.log(inside) + np.log(cut.total)
    return np.where(kl < ROUNDING, 0.0, kl)


def js_divergences(counts: Array, *, levels: int = 128, block: int = 64) -> Array:
    """Returns JS(P, Q) of the same cuts. M has no running sums: `block` cuts at a time, bin by bin.

    A cut whose last bin is empty is no exception here: M > 0 wherever P or Q is.
    """
    cut = _Cuts(counts, levels)
    bins = np.flatnonzero(cut.c)
    both = np.concatenate([
        _middle(cut, slice(at, at + block), bins, levels) for at in range(0, len(cut.i), block)])
    inside = np.maximum(cut.inside, 1e-300)
    p = ((_log(cut.c) * cut.c).cumsum()[cut.i - 1] - _log(cut.last) * cut.last
         + _log(cut.folded) * cut.folded) / cut.total - np.log(cut.total)
    q = np.where(cut.inside > 0, (cut.A * cut.log_q).sum(axis=1) / inside - np.log(inside), 0.0)
    js = (p + q) / 2 - both
    return np.where(js < ROUNDING, 0.0, js)


def _middle(cut: _Cuts, rows: slice, bins: Array, levels: int) -> Array:
    # sum M log M of some cuts, over the bins in front of the last and the last.
    i, spread = cut.i[rows, None], np.exp(cut.log_q[rows]) * (cut.A[rows] > 0)
    spread = spread / np.maximum(cut.inside[rows, None], 1e-300)
    q = np.take_along_axis(spread, np.minimum(bins * levels // i, levels - 1), axis=1)
    m = np.where(bins < i - 1, (cut.c[bins] / cut.total + q) / 2, 0.0)
    last = (cut.folded[rows] / cut.total + spread[:, -1] * (cut.last[rows] > 0)) / 2
    return (m * _log(m)).sum(axis=1) + last * _log(last)


class _Cuts:
    # What all divergences read: of the cuts i, and of their levels. void: P > 0 where Q = 0.
    def __init__(self, counts: Array, levels: int):
        self.c = c = _counts(counts)
        if levels < 1 or len(c) < 2 * levels:
            raise ValueError(f"counts must have at least 2 levels = {2 * levels} bins, or all that "
                             f"is left is min-max, got {len(c)}")
        self.i = i = np.arange(levels, len(c) + 1)
        below = _running(c)
        self.total, self.inside = below[-1], below[i]
        self.outliers, self.last = self.total - self.inside, c[i - 1]
        self.folded = self.last + self.outliers
        self.void = (self.last == 0) & (self.outliers > 0)
        self.starts = -(-np.arange(levels + 1) * i[:, None] // levels)  # k L >= j i, (cuts, L + 1)
        self.A = np.diff(below[self.starts], axis=1)
        filled = np.diff(_running(c > 0)[self.starts], axis=1)
        self.log_q = _log(self.A / np.maximum(filled, 1))  # eq. (2), not normalised


def within(counts: Array, levels: int, clipped: float) -> Array:
    """Returns which of the cuts i = levels .. n leave at most this share of the counts outside,
    bool (n - levels + 1,)."""
    below = np.cumsum(_counts(counts))
    return below[-1] - below[levels - 1:] <= clipped * below[-1]


def _least(divergences: Array, counts: Array, width: float, levels: int, clipped: float
           ) -> tuple[float, float]:
    divergences = np.where(within(counts, levels, clipped), divergences, np.inf)
    at = int(np.argmin(divergences))
    return (levels + at + 0.5) * float(width), float(divergences[at])


def _counts(counts: Array) -> Array:
    c = np.asarray(counts, np.float64)
    if c.ndim != 1 or not np.isfinite(c).all() or (c < 0).any() or not c.sum() > 0:
        raise ValueError("counts must be one row of finite numbers, at least 0 and not all 0, got "
                         f"shape {c.shape}, sum {c.sum():g}, least {c.min(initial=0):g}")
    return c


def _running(c: Array) -> Array:
    return np.concatenate(([0.0], np.cumsum(c, dtype=np.float64)))


def _log(x: Array) -> Array:
    # log x, and 0 where x is 0: 0 log 0 = 0.
    return np.log(np.where(x > 0, x, 1.0))
