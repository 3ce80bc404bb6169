"""k-means of numbers on a line: the optimal partition by dynamic programming, and the nearest centroid.

On a line clusters are intervals of the sorted values. n groups of values in ascending order are given by the
running sums of their counts, values and squares, p0, p1, p2 (n + 1,); the squared error of the groups a..b-1
around their mean is

    cost(a, b) = p2[b] - p2[a] - (p1[b] - p1[a])^2 / (p0[b] - p0[a])

and the least error of the first b groups in j intervals is D_j[b] = min_a D_{j-1}[a] + cost(a, b). The best a
does not fall as b grows (the cost is concave Monge), so the middle b splits the search for the others:
n log n costs a j instead of n^2 (Wu 1991; Gronlund et al. 2017, arXiv 1701.07204).
"""

from __future__ import annotations

import numpy as np

from . import cpu

Array = np.ndarray
MAX_CELLS = 2**29  # of the table of best splits, int32


def partition(p0: Array, p1: Array, p2: Array, k: int, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns the starts of the k intervals of least squared error and n at the end, (k + 1,) int64.

    p0, p1, p2 : (n + 1,) float64, running sums of count (rising), value and square, 0 first
    k : in [1, n]        isa : rung, see kernels/cpu.py        n_threads : no effect
    Of equally good splits the leftmost is taken.
    Raises ValueError where k is not in [1, n] or the table of splits would pass 2 GiB.
    """
    p0, p1, p2 = (np.ascontiguousarray(p, np.float64) for p in (p0, p1, p2))
    n = len(p0) - 1
    if not 1 <= k <= n:
        raise ValueError(f"k must be in [1, {n}], got {k}")
    if k * (n + 1) > MAX_CELLS:
        raise ValueError(f"k times the number of groups must be at most {MAX_CELLS}, got {k} x {n}")
    if cpu.resolve(isa, "kmeans") == 0:
        return partition_ref(p0, p1, p2, k)
    splits = np.empty((k, n + 1), np.int32)
    cpu.kernel_module("kmeans").partition(p0, p1, p2, splits)
    return _starts(splits, n)


def partition_ref(p0: Array, p1: Array, p2: Array, k: int) -> Array:
    """Returns what `partition` returns, by trying every split: k n^2 costs."""
    n = len(p0) - 1
    splits = np.zeros((k, n + 1), np.int32)
    before = np.full(n + 1, np.inf)
    before[0] = 0
    for j in range(k):
        now = np.full(n + 1, np.inf)
        for b in range(j + 1, n + 1):
            a = np.arange(j, b)
            d = p1[b] - p1[a]
            total = before[a] + ((p2[b] - p2[a]) - d * d / (p0[b] - p0[a]))
            best = int(np.argmin(total))
            splits[j, b], now[b] = j + best, total[best]
        before = now
    return _starts(splits, n)


def _starts(splits: Array, n: int) -> Array:
    # Walks the best splits back from the end.
    starts = [n]
    for row in splits[::-1]:
        starts.append(int(row[starts[-1]]))
    return np.array(starts[::-1], np.int64)


def nearest(x: Array, edges: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns how many edges lie below each x: the interval it falls into, uint16 of x's shape.

    x : float32        edges : (k - 1,) float32, ascending, k <= 65536; an x equal to an edge lies below it
    """
    x, edges = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(edges, np.float32)
    if len(edges) > 65535:
        raise ValueError(f"edges must be at most 65535, got {len(edges)}")
    if cpu.resolve(isa, "kmeans") == 0:
        return nearest_ref(x, edges)
    out = np.empty(x.size, np.uint16)
    cpu.kernel_module("kmeans").nearest(x.ravel(), edges, out, n_threads)
    return out.reshape(x.shape)


def nearest_ref(x: Array, edges: Array) -> Array:
    """Returns what `nearest` returns, by NumPy's binary search."""
    return np.searchsorted(edges, x, side="left").astype(np.uint16)
