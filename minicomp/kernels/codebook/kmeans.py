"""k-means of numbers on a line: the optimal partition, and the interval that a number falls into.

On a line clusters are intervals of the sorted values. Groups of values in ascending order are
given by the running sums of their counts, values and squares, p0, p1, p2 (n + 1,); the squared
error of the groups a..b-1 around their mean is

    cost(a, b) = p2[b] - p2[a] - (p1[b] - p1[a])^2 / (p0[b] - p0[a])

Two facts about it make the optimum cheap. It is concave Monge,

    cost(a, c) + cost(b, d) <= cost(a, d) + cost(b, c)   for a <= b <= c <= d

so the best start of an interval does not fall as its end rises (Wu 1991). And hence f(k), the
least error in k intervals, is convex in k: some penalty an interval makes k intervals the cheapest
(Aggarwal, Schieber & Tokuyama 1994; Gronlund et al. 2017, arXiv 1701.07204). One sweep finds the
cheapest partition under a penalty, and a few sweeps the penalty.
"""

from __future__ import annotations

from numbers import Real

import numpy as np

from .. import cpu, doors
from ..threads import threads

Array = np.ndarray
MAX_CELLS = 2**29  # of the reference's table of best splits, int32
SWEEPS = 200  # far beyond what the search for a penalty takes


def running_sums(x: Array, *, isa: str = "auto") -> tuple[Array, Array, float]:
    """Returns (p1, p2, centre): running sums of x - centre and its square, and the median.

    x : (n,) float32 or float64, ascending, n >= 1        p1, p2 : (n + 1,) float64
    Both are 0 at the median and grow away from it, so that a large number costs the sums of the
    others no digits.
    Raises ValueError for other arrays.
    """
    doors.floats("x", x, 1)
    if x.dtype not in (np.float32, np.float64) or not x.size:
        raise ValueError(f"x must hold a float32 or float64 at least, got {x.size} of {x.dtype}")
    x = np.ascontiguousarray(x)
    m = len(x) // 2
    if cpu.resolve(isa, "codebook") == 0:
        return running_sums_ref(x)
    p1, p2 = np.empty(len(x) + 1), np.empty(len(x) + 1)
    cpu.kernel_module("codebook").running_sums(x, m, p1, p2)
    return p1, p2, float(x[m])


def running_sums_ref(x: Array) -> tuple[Array, Array, float]:
    """Returns what `running_sums` returns, by two cumulative sums."""
    m = len(x) // 2
    d = x.astype(np.float64) - float(x[m])
    right, left = d[m:], d[:m][::-1]
    p1, p2 = (
        np.concatenate([np.cumsum(-(left**e))[::-1], [0.0], np.cumsum(right**e)]) for e in (1, 2)
    )
    return p1, p2, float(x[m])


def cost(p0: Array, p1: Array, p2: Array, starts: Array) -> float:
    """Returns the squared error of the intervals starts[i]..starts[i + 1] - 1 around the means."""
    count, d = np.diff(p0[starts]), np.diff(p1[starts])
    return float(np.sum(np.diff(p2[starts]) - d * d / np.where(count > 0, count, 1)))


def partition(
    p0: Array, p1: Array, p2: Array, k: int, *, penalty: float | None = None, isa: str = "auto"
) -> tuple[Array, float | None]:
    """Returns (starts, penalty): where the k intervals of least squared error start, and n.

    p0, p1, p2 : (n + 1,) float64, running sums of count (rising), value and square
    k : in [1, n]        isa : rung, see kernels/cpu.py
    penalty : of an interval, where the search starts: one that a like problem returned saves sweeps
        and changes nothing else
    starts : (k + 1,) int64        returned penalty : the last tried, None without a search
    Least but for the rounding of the sums; which one of equally good partitions is not said, but it
    is always the same.
    Raises ValueError where k is not in [1, n], for sums that are not finite or do not rise, and for
        more than 2^31 groups.
    """
    for name, p in (("p0", p0), ("p1", p1), ("p2", p2)):
        if not isinstance(p, np.ndarray) or p.dtype.kind not in "iuf" or p.shape != p0.shape:
            raise ValueError(f"{name} must be numbers of one axis, as many as p0")
    p0, p1, p2 = (np.ascontiguousarray(p, np.float64) for p in (p0, p1, p2))
    n = len(p0) - 1
    if p0.ndim != 1 or n < 1 or not np.isfinite(p0[-1] + p1.sum() + p2.sum()):
        raise ValueError("p0, p1, p2 must be finite running sums of at least one group")
    if not (p0[1:] > p0[:-1]).all():
        raise ValueError("p0 must rise: each group has a count above 0")
    k = doors.whole("k", k, 1, min(n, 2**31 - 2))
    if not (penalty is None or isinstance(penalty, Real)):
        raise ValueError(f"penalty must be a number or None, got {penalty!r}")
    if cpu.resolve(isa, "codebook") == 0:
        return partition_ref(p0, p1, p2, k), None
    if k in (1, n):
        return (np.array([0, n]) if k == 1 else np.arange(n + 1)), None
    module, before = cpu.kernel_module("codebook"), np.empty(n + 1, np.int32)

    def cheapest(price: float) -> Array:
        module.sweep(p0, p1, p2, price, before)
        return _walk(before, n)

    return _search(cheapest, lambda starts: cost(p0, p1, p2, starts), n, k, penalty)


def _search(cheapest, error, n: int, k: int, price: float | None) -> tuple[Array, float]:
    # Closes in on a price under which k intervals are cheapest, from one under which fewer are and
    # one under which more are. Where both cost the same under a third, either one between them is
    # cheaper, or all cost the same.
    few, many = np.array([0, n]), np.arange(n + 1)  # cheapest under a price of infinity, of 0
    price_few = price_many = None  # not of these two: they tell little about the price of k
    if price is None:
        price = 2 * error(few) / k**3  # -f'(k), were f(k) = f(1) / k^2
    for turn in range(SWEEPS):
        chord = turn % 4 == 3 or not 0 < price < np.inf
        if chord:
            price = (error(few) - error(many)) / (len(many) - len(few))
        found = cheapest(price)
        links = len(found) - 1
        if links == k:
            return found, price
        if len(few) - 1 < links < k:
            few, price_few = found, price
        elif k < links < len(many) - 1:
            many, price_many = found, price
        elif chord:
            break
        # A chord between errors that are equal but for rounding may fall the wrong way: price <= 0.
        if not all(p is not None and p > 0 for p in (price_few, price_many)):
            price *= (links / k) ** 3  # the price is about 1 / k^3
        else:  # on the straight line between both, in the logarithms
            part = np.log(k / (len(few) - 1)) / np.log((len(many) - 1) / (len(few) - 1))
            price = price_few * (price_many / price_few) ** part
    return _spliced(few, many, k), price


def _spliced(few: Array, many: Array, k: int) -> Array:
    # k intervals from two partitions of equal penalised cost, one with fewer and one with more:
    # where an interval of `many` lies within one of `few`, go from the one to the other. The Monge
    # condition says that costs nothing.
    s = np.arange(len(few) - 1)
    t = s + (len(many) - 1) - k
    first = int(np.argmax((few[s] <= many[t]) & (many[t + 1] <= few[s + 1])))
    return np.concatenate([few[: first + 1], many[t[first] + 1 :]])


def _walk(before: Array, n: int) -> Array:
    # The starts of the intervals, from the last back to 0.
    starts = [n]
    while starts[-1]:
        starts.append(int(before[starts[-1]]))
    return np.array(starts[::-1], np.int64)


def partition_ref(p0: Array, p1: Array, p2: Array, k: int) -> Array:
    """Returns what `partition` returns, layer by layer: D_j[b] = min_a D_{j-1}[a] + cost(a, b).

    The best a does not fall as b rises: the best starts of every other b bound those of the b
    between.
    Raises ValueError where the table of k n starts would pass 2 GiB.
    """
    n = len(p0) - 1
    if k * (n + 1) > MAX_CELLS:
        raise ValueError(f"k times the number of groups must be at most {MAX_CELLS}, got {k} x {n}")
    starts = np.zeros((k, n + 1), np.int32)
    least = np.full(n + 1, np.inf)
    least[0] = 0
    for j in range(k):
        now, best = np.full(n + 1, np.inf), starts[j]
        step = 1 << n.bit_length()
        while step := step // 2:
            b = np.arange(step, n + 1, 2 * step)
            b = b[b > j]  # j + 1 intervals need as many groups
            if not len(b):
                continue
            lo = np.maximum(best[b - step], j)
            hi = np.where(b + step <= n, best[np.minimum(b + step, n)], n - 1)
            width = np.minimum(hi, b - 1) - lo + 1
            begin = np.cumsum(width) - width
            a = np.arange(width.sum()) + np.repeat(lo - begin, width)
            ends = np.repeat(b, width)
            d = p1[ends] - p1[a]
            total = least[a] + ((p2[ends] - p2[a]) - d * d / (p0[ends] - p0[a]))
            now[b] = np.minimum.reduceat(total, begin)
            hit = np.flatnonzero(total == np.repeat(now[b], width))
            best[b] = a[hit[np.searchsorted(hit, begin)]]
        least = now
    found = [n]
    for row in starts[::-1]:
        found.append(int(row[found[-1]]))
    return np.array(found[::-1], np.int64)


def nearest(x: Array, edges: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns how many edges lie below each x: the interval it falls into, uint16 of x's shape.

    x : float32, any shape; NaN lies above all edges, where sorting puts it
    edges : (m,) float32, ascending, m < 65536; an x equal to an edge is not above it
    Raises ValueError for other arrays, unordered or too many edges.
    """
    n_threads = threads(n_threads)
    doors.floats("edges", edges, 1)
    for name, a in (("x", x), ("edges", edges)):
        if not isinstance(a, np.ndarray) or a.dtype != np.float32:
            raise ValueError(f"{name} must be an array of float32, got {getattr(a, 'dtype', a)!s}")
    shape, x, edges = x.shape, np.ascontiguousarray(x), np.ascontiguousarray(edges)
    if len(edges) > 65535:
        raise ValueError(f"edges must be at most 65535, got {len(edges)}")
    if not (edges[1:] >= edges[:-1]).all() or np.isnan(edges[:1]).any():
        raise ValueError("edges must be ascending, and none NaN")
    level = cpu.resolve(isa, "codebook")
    if level == 0:
        return nearest_ref(x, edges).reshape(shape)
    out = np.empty(x.size, np.uint16)
    cpu.kernel_module("codebook").nearest(x.reshape(-1), edges, out, level, n_threads)
    return out.reshape(shape)


def nearest_ref(x: Array, edges: Array) -> Array:
    """Returns what `nearest` returns, by NumPy's binary search."""
    return np.searchsorted(edges, x, side="left").astype(np.uint16)
