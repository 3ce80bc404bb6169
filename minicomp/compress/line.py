"""Values on a line, cut into k intervals: what every quantizer that fits its levels needs.

n values, k clusters. A cluster is an interval of the sorted values, so one iteration of Lloyd's
moves k - 1 edges and reads k means off running sums, in k log n steps. The least squared error
there is, which in more dimensions nobody can find, is cheap on a line.
"""

from __future__ import annotations

import numpy as np

from ..kernels.codebook import kmeans as kernel
from ..tensor import Array

GROUPS = 4096  # of neighbouring values, among whose borders "histogram" looks for edges
ZOOMS = 2  # times it looks again, among finer groups around the edges found


def kmeans_1d_optimal(x: Array, k: int) -> tuple[Array, float]:
    """Returns the centroids of least squared error, (k',) float64 ascending, and that error.

    x : float32 or float64, any shape, at least one value
    k : at least 1; k' = min(k, number of distinct values)
    Least but for the rounding of float64.
    Source: Gronlund et al. 2017 (arXiv 1701.07204); see kernels/codebook/kmeans.py
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    line = Line(x)
    starts = line.optimum(min(k, line.distinct()))
    return line.means(starts), line.error(starts)


def assign(x: Array, centroids: Array) -> Array:
    """Returns the number of the nearest centroid for every x, uint16; half-way goes to the lower.

    x : float32, any shape        centroids : (k,) float32, ascending
    """
    index = kernel.nearest(np.asarray(x, np.float32), edges_between(centroids))
    if (centroids[1:] == centroids[:-1]).any():
        index = np.searchsorted(centroids, centroids).astype(np.uint16)[index]
    return index


def edges_between(centroids: Array) -> Array:
    """Returns the k - 1 edges between ascending centroids; what lies above is nearer to the next.

    An edge is the half-way point rounded down: a float32 lies above the one if and only if above
    the other.
    """
    a, b = centroids[:-1].astype(np.float64), centroids[1:].astype(np.float64)
    total = a + b
    # What rounding took from a + b (Knuth's two-sum).
    lost = (a - (total - (total - a))) + (b - (total - a))
    edges = (0.5 * total).astype(np.float32)
    above = (edges > 0.5 * total) | (edges == 0.5 * total) & (lost < 0)
    return np.where(above, np.nextafter(edges, np.float32(-np.inf)), edges)


class Line:
    """Finite values in ascending order, with float64 running sums of value and square.

    Clusters are `starts` (k + 1,): cluster i is values[starts[i]:starts[i + 1]].
    """

    def __init__(self, x: Array):
        x = np.asarray(x)
        self.values = np.sort(x if x.dtype == np.float32 else x.astype(np.float64), axis=None)
        self.p1, self.p2, self.centre = kernel.running_sums(self.values)
        self.n = len(self.values)

    def distinct(self) -> int:
        """Returns the number of distinct values."""
        return 1 + int(np.count_nonzero(self.values[1:] != self.values[:-1]))

    def means(self, starts: Array, empty: Array | float = np.nan) -> Array:
        """Returns the mean of each cluster; an empty one gets `empty`."""
        count = np.diff(starts)
        return np.where(
            count > 0, self.centre + np.diff(self.p1[starts]) / np.maximum(count, 1), empty
        )

    def error(self, starts: Array) -> float:
        """Returns the squared error of the clusters around their means, summed."""
        return kernel.cost(starts, self.p1[starts], self.p2[starts], np.arange(len(starts)))

    def error_at(self, levels: Array) -> float:
        """Returns the squared error of every value at the nearest of ascending levels, summed."""
        starts = self.starts(levels)
        count, off = np.diff(starts), levels - self.centre
        total, squares = np.diff(self.p1[starts]), self.p2[-1] - self.p2[0]
        return float(squares - (2 * off * total).sum() + (off * off * count).sum())

    def starts(self, centroids: Array) -> Array:
        """Returns the clusters of ascending centroids."""
        edges = 0.5 * (centroids[1:] + centroids[:-1])
        if self.values.dtype == np.float32:  # searched without a copy in float64
            edges = edges_between(centroids)
        inner = np.searchsorted(self.values, edges, side="right")
        return np.concatenate([[0], inner, [self.n]])

    def lloyd(self, centroids: Array, iterations: int) -> Array:
        """Returns the centroids after `iterations` of Lloyd's, or once nothing moves."""
        before = None
        for _ in range(iterations):
            starts = self.starts(centroids)
            if before is not None and np.array_equal(starts, before):
                break
            # Sorted: the centroid of an empty cluster may be overtaken.
            centroids, before = np.sort(self.means(starts, centroids)), starts
        return centroids

    def optimum(self, k: int) -> Array:
        """Returns the k clusters of least error, k at most the number of distinct values."""
        groups = self.group_bounds(max(GROUPS, 8 * k), 2 * k)
        penalty = self._among(groups, k)[1] if len(groups) > 2 * k else None
        new = self.values[1:] != self.values[:-1]
        bounds = np.concatenate([[0], np.flatnonzero(new) + 1, [self.n]])
        return self._among(bounds, k, penalty)[0]

    def near_optimum(self, k: int) -> Array:
        """Returns k clusters of nearly the least error, k at most the number of distinct values.

        First the least among clusters of whole groups; then, twice, among finer groups around the
        edges found.
        """
        groups = max(GROUPS, 8 * k)
        bounds = self.group_bounds(groups, 2 * k)
        if self.n <= 8 * groups or len(bounds) <= 2 * k:
            return self.optimum(k)
        starts, penalty = self._among(bounds, k)
        for _ in range(ZOOMS):
            at = np.searchsorted(bounds, starts)
            lo, hi = bounds[np.maximum(at - 2, 0)], bounds[np.minimum(at + 2, len(bounds) - 1)]
            near = np.linspace(lo, hi, max(GROUPS // k, 8)).astype(np.int64)
            bounds = np.unique(np.concatenate([near.ravel(), starts]))
            starts, penalty = self._among(bounds, k, penalty)
        return starts

    def _among(self, bounds: Array, k: int, penalty=None) -> tuple[Array, float | None]:
        # The k clusters of least error that start at some of the bounds; the penalty of a cluster.
        whole = len(bounds) > self.n
        p1, p2 = (p if whole else p[bounds] for p in (self.p1, self.p2))
        starts, penalty = kernel.partition(bounds, p1, p2, k, penalty=penalty)
        return bounds[starts], penalty

    def group_bounds(self, groups: int, alone: int) -> Array:
        """Returns about `groups` + 1 places, 0 and n among them, that bound groups of values.

        The outermost `alone` values at both ends are groups by themselves.

        Where values are sparse clusters are wide: at density p the best width is ~ p^(-1/3)
        (Panter & Dite 1951). Groups follow it, so that every cluster is made of about groups / k
        of them. The density is read off the distances of values whose ranks are evenly spaced, and
        closer together at the ends.
        """
        ends = np.geomspace(1, self.n, 256)
        ranks = np.concatenate([np.linspace(0, self.n, 1024), ends, self.n - ends]).astype(np.int64)
        ranks = np.unique(np.clip(ranks, 0, self.n - 1))
        knots = self.values[ranks].astype(np.float64)
        widths = np.diff(ranks) ** (1 / 3) * np.diff(knots) ** (2 / 3)  # p^(1/3) dx, p = dn / dx
        measure = np.concatenate([[0], np.cumsum(widths)])
        cuts = np.interp(np.linspace(0, measure[-1], groups + 1)[1:-1], measure, knots)
        cuts = cuts.astype(self.values.dtype)
        alone = np.arange(min(alone, self.n) + 1)
        inner = np.searchsorted(self.values, cuts, side="right")
        return np.unique(np.concatenate([alone, inner, self.n - alone]))
