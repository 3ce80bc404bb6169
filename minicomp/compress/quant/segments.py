"""Contiguous optimal segmentation into constant pieces (Fisher 1958, "On Grouping for Maximum
Homogeneity"; Jackson et al. 2005, "An Algorithm for Optimal Partitioning of Data on an Interval").

Clustering of a series in time must keep neighbours together: the weights in the order in which they
are scanned are cut into runs, each of which has one value, its mean. This is what "time-series
clustering" of weights means here. With C(i, j) the squared error of x_i .. x_{j-1} around their
mean, s runs of least error follow from

    F_s(j) = min_{i < j} F_{s-1}(i) + C(i, j)                                                   (1)

in s n^2 steps (`segment`), and runs of least error plus a price for each, from

    F(j) = min_{j - longest <= i < j} F(i) + C(i, j) + lam                                      (2)

in n `longest` steps (`segment_rows`), which is what large layers take: every row of axis 0 is cut
by itself, at one price for all, nearly the least that leaves at most n / run runs. (2) gives the
corners of the lower convex hull of (1)'s errors: no cut of as few runs, none of them longer, has a
lesser error.

Neighbouring weights of a net are hardly alike, so that runs save little: a run costs its length and
its value. A layer whose neighbours are alike, smoothed or with blocks of zeros, has runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...grid import symmetric_scale
from ...nn.forms import Affine, Segments
from ...tensor import Array
from ..technique import knob, weights
from .tables import WholeQuantizer

HALVINGS = 40  # of the bracket of a price, at most
SLACK = 0.002  # of the number of runs


def segment(x: Array, s: int) -> tuple[Array, float]:
    """Returns (lengths (s,) int64, squared error) of the s runs of least error: eq. (1).

    x : (n,) float, finite        s : 1..n        Of equal cuts the one whose last cut is earliest.
    Raises ValueError for another s, NaN, infinity.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError(f"x must be (n,) and finite, got shape {x.shape}")
    if not 1 <= s <= len(x):
        raise ValueError(f"s must be in [1, {len(x)}], got {s}")
    n, (p1, p2) = len(x), _sums(x[None])
    error, came = np.full(n + 1, np.inf), np.zeros((s + 1, n + 1), np.int64)
    error[0] = 0
    for count in range(1, s + 1):
        after = np.full(n + 1, np.inf)
        for j in range(count, n + 1):
            i = np.arange(count - 1, j)
            total = error[i] + _cost(p1, p2, i, j)[0]
            came[count, j] = i[total.argmin()]
            after[j] = total.min()
        error = after
    ends = [n]
    for count in range(s, 0, -1):
        ends.append(came[count, ends[-1]])
    return np.diff(ends[::-1]), float(error[n])


def segment_rows(x: Array, lam: float, *, longest: int) -> list[Array]:
    """Returns the lengths of the runs of each row, at a price of lam a run: eq. (2).

    x : (rows, n) float, finite        lam : >= 0, of squared error        longest : of a run
    Of equal cuts the one of fewer, longer runs.
    """
    rows, n = x.shape
    p1, p2 = _sums(x)
    best, came = np.zeros((rows, n + 1)), np.zeros((rows, n + 1), np.int64)
    for j in range(1, n + 1):
        i = np.arange(max(0, j - longest), j)
        total = best[:, i] + _cost(p1, p2, i, j)
        at = total.argmin(axis=1)
        came[:, j] = i[at]
        best[:, j] = total[np.arange(rows), at] + lam
    return [_lengths(row) for row in came]


def segments_of(x: Array, runs: int, *, longest: int) -> list[Array]:
    """Returns the runs of `segment_rows` at a price with at most so many in all, and not fewer by
    more than SLACK where there is such a price; where even the highest price leaves more: those.
    """
    centred = x - x.mean(axis=1, keepdims=True) if x.size else x
    lo, hi = 0.0, float(np.square(centred).sum()) + 1.0
    cut = segment_rows(x, hi, longest=longest)
    for _ in range(HALVINGS):
        lam = (lo + hi) / 2
        found = segment_rows(x, lam, longest=longest)
        count = sum(len(lengths) for lengths in found)
        if count <= runs:
            hi, cut = lam, found
            if count >= (1 - SLACK) * runs:
                break
        else:
            lo = lam
    return cut


def _sums(x: Array) -> tuple[Array, Array]:
    # Running sums of values and squares, (rows, n + 1), around the mean, which loses no digits.
    x = np.asarray(x, np.float64)
    x = x - (x.mean() if x.size else 0)
    zero = np.zeros((len(x), 1))
    return (np.concatenate([zero, np.cumsum(a, axis=1)], axis=1) for a in (x, x * x))


def _cost(p1: Array, p2: Array, i: Array, j: int) -> Array:
    # C(i, j) of every row, (rows, len(i))
    total = p1[:, [j]] - p1[:, i]
    return np.maximum(p2[:, [j]] - p2[:, i] - total * total / (j - i), 0)


def _lengths(came: Array) -> Array:
    ends = [len(came) - 1]
    while ends[-1]:
        ends.append(came[ends[-1]])
    return np.diff(ends[::-1])


@dataclass(frozen=True)
class Segmentation(WholeQuantizer):
    """Cuts the weights of every output channel into runs of one value."""

    word: ClassVar[str] = "segments"
    title: ClassVar[str] = "Contiguous segmentation (time-series clustering)"
    source: ClassVar[str] = ("Fisher 1958, On Grouping for Maximum Homogeneity; Jackson et al. "
                             "2005, An Algorithm for Optimal Partitioning of Data on an Interval")

    run: float = knob(2.0, "weights of a run, on average, at least", lo=1, per_layer=True)
    longest: int = knob(32, "weights of a run, at most", lo=2, hi=65536, per_layer=True)
    bits: int = knob(6, "bits of a run's value", lo=2, hi=16, per_layer=True)

    def check_shapes(self, model):
        for node, name in weights(model).items():
            shape = model.forms()[name].shape
            row, longest = math.prod(shape[1:]), self.at("longest", node)
            runs = shape[0] * -(-row // longest)
            if runs * self.at("run", node) > max(shape[0] * row, 1):
                raise UserError(f"{self.word}: run@{node} must be at most "
                                f"{shape[0] * row / max(runs, 1):.4g}, what runs of at most "
                                f"{longest} (longest) leave, got {self.at('run', node):g}")

    def form(self, node, form, run):
        w = form.dense().data
        rows = w.reshape(len(w), -1) if w.size else np.zeros((0, 0), np.float32)
        cut = segments_of(rows, max(int(w.size / self.at("run", node)), 1),
                          longest=self.at("longest", node))
        lengths = np.concatenate([np.zeros(0, np.int64), *cut])
        starts = np.cumsum(lengths) - lengths
        total = np.add.reduceat(w.reshape(-1), starts, dtype=np.float64) if w.size else lengths
        means = total / np.maximum(lengths, 1)
        bits = self.at("bits", node)
        scale = symmetric_scale(np.abs(means).max(initial=0), bits=bits)
        return Segments(lengths, Affine.of(means, scale, bits=bits, trainable=True), form.shape)
