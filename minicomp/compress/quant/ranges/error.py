"""The range whose quantization errs least: argmin over (r_min, r_max) of sum |x - x^|^p.

    x^ = scale (clip(rint(x / scale) + z, q_min, q_max) - z),  scale and z of the range       (1)

x is a row of points with weights: numbers themselves, or the middles and counts of a histogram.
With p = 2 the sum over a cell, the x of one code, needs only running sums of n, n x and n x^2:

    sum n (x - x^)^2 = S2 - 2 x^ S1 + x^^2 S0                                                  (2)

so that a candidate costs a look-up for each code, however many points there are. Candidates are a
grid, geometric as an outlier may be a thousand times what matters, and then ever finer grids around
the best of it. The end points of x itself are among them: the result never errs more than min-max.
"""

from __future__ import annotations

import numpy as np

from ....grid import affine_params, code_range, symmetric_scale
from ....tensor import Array
from .histogram import widened

OCTAVES = 16  # ends down to 2^-16 of the largest
STARTS = 4  # cells of the coarse grid that are looked at more closely
LOOKUPS = 2**20  # of a coarse grid: codes times candidates
SYMMETRIC = ("narrow", "midrise")  # grids that have no zero point


def mse_range(x: Array, weights: Array | None = None, *, bits: int = 8, grid: str = "unsigned",
              symmetric: bool | None = None, norm: float = 2.0) -> tuple[float, float]:
    """Returns (r_min, r_max) with the least sum of weights |x - x^|^norm that the search meets.

    x : any shape, finite        weights : of x's shape, at least 0; None counts every x once
    symmetric : r_min = -r_max and no zero point; None: on grids narrow and midrise. Else r_min <= 0
        <= r_max, and an end beyond which no x lies is 0
    norm : p; 2 is the squared error and fast
    Constant and one-sided x are ranges like others. Raises ValueError for an empty x.
    """
    points = Points(x, weights)
    low, high = min(points.x[0], 0.0), max(points.x[-1], 0.0)
    even = grid in SYMMETRIC if symmetric is None else symmetric
    if low == high:
        code_range(bits, grid)
        return 0.0, 0.0
    if even:
        low, high = -max(-low, high), max(-low, high)
    tied = even or low == 0 or high == 0  # one number to find

    def error(f: Array) -> Array:  # (candidates, 2): what is left of both ends
        return points.errors(f[:, 0] * low, f[:, -1] * high, bits, grid, even, norm)

    best = _search(error, 1 if tied else 2, _codes(bits, grid))
    return float(best[0] * low), float(best[-1] * high)


def range_error(x: Array, r_min: float, r_max: float, weights: Array | None = None, *,
                bits: int = 8, grid: str = "unsigned", symmetric: bool | None = None,
                norm: float = 2.0) -> float:
    """Returns sum of weights |x - x^|^norm of one range, float64: eq. (1)."""
    even = grid in SYMMETRIC if symmetric is None else symmetric
    ends = np.array([r_min], np.float64), np.array([r_max], np.float64)
    return float(Points(x, weights).errors(*ends, bits, grid, even, norm)[0])


def _search(error, axes: int, codes: int) -> Array:
    # The best factors of the ends: a coarse grid over OCTAVES, then finer ones around the best.
    n = int(np.clip(LOOKUPS / codes, 64, 1024) ** (1 / axes))
    step = OCTAVES / (n - 1)
    logs = _grid(np.zeros(axes), np.linspace(-OCTAVES, 0, n))[::-1]  # of equal ones the widest
    found = error(np.exp2(logs))
    order = np.argsort(found, kind="stable")[:STARTS]
    best, least = logs[order[0]], found[order[0]]
    for start in order:
        centre, span = logs[start], step
        while span > 1e-5:
            near = _grid(centre, np.linspace(-span, span, 33 if axes == 1 else 9))
            errors = error(np.exp2(near))
            at = int(np.argmin(errors))
            centre, span = near[at], span / 4
            if errors[at] < least:
                best, least = near[at], errors[at]
    return np.exp2(best)


def _grid(centre: Array, offsets: Array) -> Array:
    # (len(offsets) ** axes, axes)
    axes = np.meshgrid(*(c + offsets for c in centre), indexing="ij")
    return np.stack([a.ravel() for a in axes], axis=1)


class Points:
    # Points in ascending order, with the running sums of eq. (2).
    def __init__(self, x: Array, weights: Array | None):
        x = widened(x).astype(np.float64).ravel()
        w = np.ones(x.size) if weights is None else np.asarray(weights, np.float64).ravel()
        if not x.size or w.shape != x.shape or not np.isfinite(w).all() or (w < 0).any():
            raise ValueError("x must hold at least one number, and weights as many, at least 0, "
                             f"got {x.size} and {w.size}")
        order = np.argsort(x, kind="stable")
        self.x, self.w = x[order], w[order]
        self.sums = np.zeros((3, x.size + 1))
        for k in range(3):
            np.cumsum(self.w * self.x**k, out=self.sums[k, 1:])

    def errors(self, lo, hi, bits, grid, even, norm) -> Array:
        # (candidates,): a block of candidates at a time.
        levels, edges = _cells(lo, hi, bits, grid, even)
        if norm != 2:
            return np.array([self._direct(v, e, norm) for v, e in zip(levels, edges)])
        block = max(1, LOOKUPS // levels.shape[1])
        return np.concatenate([self._squared(levels[i:i + block], edges[i:i + block])
                               for i in range(0, len(levels), block)])

    def _squared(self, levels: Array, edges: Array) -> Array:
        at = np.searchsorted(self.x, edges)
        ends = np.zeros((len(levels), 1), at.dtype)
        at = np.concatenate((ends, at, ends + len(self.x)), axis=1)
        s0, s1, s2 = (np.diff(s[at], axis=1) for s in self.sums)
        return (s2 - 2.0 * levels * s1 + levels**2 * s0).sum(axis=1)  # eq. (2)

    def _direct(self, levels: Array, edges: Array, norm: float) -> float:
        nearest = levels[np.searchsorted(edges, self.x)]
        return float((self.w * np.abs(self.x - nearest) ** norm).sum())


def _cells(lo, hi, bits, grid, even) -> tuple[Array, Array]:
    # The levels of each candidate, (candidates, codes), and the edges between them, float64.
    q_min, q_max = code_range(bits, grid)
    if even:
        scale, zero_point = symmetric_scale(hi, bits=bits, grid=grid), np.zeros(len(hi))
    else:
        scale, zero_point = affine_params(lo, hi, bits=bits, grid=grid)
    steps = np.arange(q_min, q_max + 1) - zero_point[:, None] + (0.5 if grid == "midrise" else 0.0)
    levels = scale[:, None].astype(np.float64) * steps
    return levels, (levels[:, 1:] + levels[:, :-1]) / 2


def _codes(bits: int, grid: str) -> int:
    q_min, q_max = code_range(bits, grid)
    return q_max - q_min + 1
