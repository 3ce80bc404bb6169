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

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ....grid import affine_params, code_range, symmetric_scale
from ....tensor import Array
from .histogram import widened

OCTAVES = 16  # ends down to 2^-16 of the largest
LOOKUPS = 2**20  # of a coarse grid: codes times candidates
SYMMETRIC = ("narrow", "midrise")  # grids that have no zero point


def mse_range(x: Array, weights: Array | None = None, *, bits: int = 8, grid: str = "unsigned",
              symmetric: bool | None = None, norm: float = 2.0) -> tuple[float, float]:
    """Returns (r_min, r_max) with the least sum of weights |x - x^|^norm that the search meets.

    x : any shape, finite        weights : of x's shape, at least 0; None counts every x once
    symmetric : r_min = -r_max and no zero point; None: on grids narrow and midrise. Else r_min <= 0
        <= r_max, and an end beyond which no x lies is 0
    norm : p > 0; 2 is the squared error and fast
    Constant and one-sided x are ranges like others. Raises ValueError for an empty x.
    """
    how = _How(bits, grid, symmetric, norm)
    points = _Points(x, weights)
    low, high = min(points.x[0], 0.0), max(points.x[-1], 0.0)
    if low == high:
        return 0.0, 0.0
    if how.even:
        low, high = -max(-low, high), max(-low, high)
    tied = how.even or low == 0 or high == 0  # one number to find

    def error(f: Array) -> Array:  # (candidates, axes): what is left of the ends
        return points.errors(f[:, 0] * low, f[:, -1] * high, how)

    best = _search(error, 1 if tied else 2, points.cost(how))
    return float(best[0] * low), float(best[-1] * high)


def range_error(x: Array, r_min, r_max, weights: Array | None = None, *, bits: int = 8,
                grid: str = "unsigned", symmetric: bool | None = None, norm: float = 2.0):
    """Returns sum of weights |x - x^|^norm of a range, float64: eq. (1).

    r_min, r_max : numbers, or (n,) of many ranges, the result then too
    """
    points, how = _Points(x, weights), _How(bits, grid, symmetric, norm)
    lo, hi = (np.asarray(end, np.float64) for end in (r_min, r_max))
    if lo.ndim:
        return points.errors(lo, hi, how)
    return float(points.by_point(lo[None], hi[None], how)[0])


def _search(error: Callable[[Array], Array], axes: int, cost: int) -> Array:
    # The best factors of the ends: a coarse grid over OCTAVES, then finer ones around the best.
    n = int(np.clip(LOOKUPS / cost, 64, 1024) ** (1 / axes))
    starts, fine = (4, 9) if cost <= 1024 else (1, 5)
    step = OCTAVES / (n - 1)
    logs = _grid(np.zeros(axes), np.linspace(-OCTAVES, 0, n))[::-1]  # of equal ones the widest
    found = error(np.exp2(logs))
    order = np.argsort(found, kind="stable")[:starts]
    best, least = logs[order[0]], found[order[0]]
    for start in order:
        centre, span = logs[start], step
        while span > 1e-5:
            near = _grid(centre, np.linspace(-span, span, fine if axes == 2 else 4 * fine + 1))
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


@dataclass(frozen=True)
class _How:
    # How numbers are quantized and what an error costs.
    bits: int
    grid: str
    symmetric: bool | None
    norm: float

    def __post_init__(self):
        code_range(self.bits, self.grid)
        if not self.norm > 0:
            raise ValueError(f"norm must be positive, got {self.norm}")

    @property
    def even(self) -> bool:
        return self.grid in SYMMETRIC if self.symmetric is None else self.symmetric

    @property
    def ends(self) -> tuple[int, int]:
        return code_range(self.bits, self.grid)

    @property
    def codes(self) -> int:
        return self.ends[1] - self.ends[0] + 1

    def steps(self, lo: Array, hi: Array) -> tuple[Array, Array]:
        # (scale, shift), a row each: x^ = scale (q - shift)
        if self.even:
            scale, shift = symmetric_scale(hi, bits=self.bits, grid=self.grid), np.zeros(len(hi))
        else:
            scale, shift = affine_params(lo, hi, bits=self.bits, grid=self.grid)
        half = 0.5 if self.grid == "midrise" else 0.0
        return scale[:, None].astype(np.float64), shift[:, None] - half


class _Points:
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

    def cost(self, how: _How) -> int:
        # Of a candidate: numbers that are looked at.
        return min(how.codes if how.norm == 2 else len(self.x), len(self.x))

    def errors(self, lo: Array, hi: Array, how: _How) -> Array:
        # (candidates,): a block of candidates at a time, code by code where that is less.
        cost = self.cost(how)
        block = max(1, LOOKUPS // cost)
        error = self.by_point if cost == len(self.x) else self.by_code
        return np.concatenate([error(lo[i:i + block], hi[i:i + block], how)
                               for i in range(0, len(lo), block)])

    def by_code(self, lo: Array, hi: Array, how: _How) -> Array:
        scale, shift = how.steps(lo, hi)
        levels = scale * (np.arange(how.ends[0], how.ends[1] + 1) - shift)  # (candidates, codes)
        at = np.searchsorted(self.x, (levels[:, 1:] + levels[:, :-1]) / 2)
        ends = np.zeros((len(levels), 1), at.dtype)
        at = np.concatenate((ends, at, ends + len(self.x)), axis=1)
        s0, s1, s2 = (np.diff(s[at], axis=1) for s in self.sums)
        return (s2 - 2.0 * levels * s1 + levels**2 * s0).sum(axis=1)  # eq. (2)

    def by_point(self, lo: Array, hi: Array, how: _How) -> Array:
        scale, shift = how.steps(lo, hi)
        q = np.clip(np.rint(self.x / scale + shift), *how.ends)
        return (self.w * np.abs(self.x - scale * (q - shift)) ** how.norm).sum(axis=1)
