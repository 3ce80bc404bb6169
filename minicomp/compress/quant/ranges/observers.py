"""Observers: each sees batches of one tensor and says over which range it is to be quantized.

`update(batch)` as often as there are batches, `range(bits, grid)` at any time, for any width. There
are two families.

Of a histogram, one pass, the same for any order and size of the batches:

| method       | range                                                                             |
|--------------|-----------------------------------------------------------------------------------|
| min-max      | all that was seen: unsaturated                                                    |
| percentile   | but for a share of the numbers, half of it at either end                          |
| mse          | least squared error, or another norm                                              |
| kl           | least divergence of the quantized distribution, with symmetric-kl and js          |

Of the largest |x| of each batch, m_t, as published operators keep it; these depend on what a batch
is, and on the order of the batches:

| method         | T                                                                               |
|----------------|---------------------------------------------------------------------------------|
| abs-max        | m of the last batch (Paddle FakeQuantizeAbsMax: a scale for every batch)        |
| window         | max over the last `window` batches (FakeQuantizeRangeAbsMax)                    |
| mean           | mean of all m_t                                                                 |
| moving-average | accum / state; accum <- rho accum + m_t, state <- rho state + 1: free of bias   |
|                | from the start (FakeQuantizeMovingAverageAbsMax)                                |
| ema            | both ends by r <- r + c (r_t - r), from those of the first batch on (torch's    |
|                | MovingAverageMinMaxObserver): with c = 0.01 the first batch weighs 0.37 after a |
|                | hundred more                                                                    |

A range is (lo, hi), float64, lo <= 0 <= hi. On a symmetric grid it is (-T, T). Else a T is cut to
the side on which numbers were seen: (0, T) where there was none below 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ....errors import did_you_mean, printable
from ....grid import code_range
from ....tensor import Array
from .error import SYMMETRIC, mse_range
from .histogram import BINS, Histogram, widened
from .thresholds import (CLIPPED, histogram_percentile, js_threshold, kl_threshold,
                         symmetric_kl_threshold)
from .variants import signed_kl_threshold

Range = tuple[float, float]
MOST_KL_BITS = 10  # the search has as many columns as levels
MXNET_HALF = 4000  # bins on each side of the middle one


@dataclass(kw_only=True)
class Observer:
    """Sees batches of a tensor and says its range. Made by `observer`.

    bits : of the codes where `range` is not told        symmetric : whether ranges are (-T, T);
        None: on grids narrow and midrise, which have no zero point
    min, max : of all that was seen
    """

    bits: int = 8
    symmetric: bool | None = None
    min: float = field(default=np.inf, init=False)
    max: float = field(default=-np.inf, init=False)

    def update(self, batch: Array) -> None:
        """Takes in a batch, an array of any shape; an empty one changes nothing.

        Raises ValueError for NaN and infinity, and then nothing changes either.
        """
        batch = widened(batch)
        if batch.size:
            low, high = float(batch.min()) + 0.0, float(batch.max()) + 0.0
            self.min, self.max = min(self.min, low), max(self.max, high)
            self._update(batch, low, high)

    def range(self, bits: int | None = None, grid: str = "unsigned") -> Range:
        """Returns (lo, hi), float64, lo <= 0 <= hi, for codes of such a grid.

        bits : None takes the observer's        grid : one of `minicomp.grid.GRIDS`
        Raises ValueError where no number was seen, for bits and grids that are none.
        """
        bits = self.bits if bits is None else bits
        code_range(bits, grid)
        if self.min > self.max:
            raise ValueError("an observer must see at least one number before it has a range")
        even = grid in SYMMETRIC if self.symmetric is None else self.symmetric
        lo, hi = self._range(bits, grid, even) if self.peak else (0.0, 0.0)
        return (-max(-lo, hi), max(-lo, hi)) if even else (min(lo, 0.0), max(hi, 0.0))

    @property
    def peak(self) -> float:
        """The largest |x| seen."""
        return max(-self.min, self.max, 0.0)

    def _update(self, batch: Array, low: float, high: float) -> None:
        pass

    def _range(self, bits: int, grid: str, even: bool) -> Range:
        return self.min, self.max

    def _cut(self, T: float) -> Range:
        return max(self.min, -T), min(self.max, T)


class MinMax(Observer):
    """The smallest and the largest number: nothing is clipped, T = max |x|."""


@dataclass(kw_only=True)
class OfHistogram(Observer):
    """Keeps a histogram, of which a rule makes the range.

    histogram : to begin with; None: an empty one
    """

    histogram: Histogram | None = None

    def __post_init__(self):
        self.histogram = self.histogram or Histogram()
        self.min, self.max = self.histogram.min, self.histogram.max

    def _update(self, batch: Array, low: float, high: float) -> None:
        self.histogram.update(batch)


@dataclass(kw_only=True)
class Percentile(OfHistogram):
    """All but a share of the numbers, the largest |x| or, with a zero point, half at either end.

    percentile : in (0, 100]; 100 is min-max
    Right edges of bins are taken: onnxruntime takes left ones, and its 100 % is below the maximum.
    """

    percentile: float = 99.99

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile must be in (0, 100], got {self.percentile}")

    def _range(self, bits: int, grid: str, even: bool) -> Range:
        h = self.histogram
        if even:
            return self._cut(histogram_percentile(h.counts.sum(axis=0), h.width,
                                                  percentile=self.percentile))
        p, zero, line = (100 + self.percentile) / 2, BINS * h.width, h.line()
        hi = histogram_percentile(line, h.width, percentile=p) - zero
        lo = zero - histogram_percentile(line[::-1], h.width, percentile=p)
        return max(lo, self.min), min(hi, self.max)


@dataclass(kw_only=True)
class MSE(OfHistogram):
    """The range with the least sum of |x - x^|^norm over the histogram (`mse_range`)."""

    norm: float = 2.0

    def _range(self, bits: int, grid: str, even: bool) -> Range:
        x, n = self.histogram.points()
        return mse_range(x, n, bits=bits, grid=grid, symmetric=even, norm=self.norm)


@dataclass(kw_only=True)
class Divergence(OfHistogram):
    """The T at which a divergence is least: 2^(b-1) levels for |x|, 2^b for numbers on one side of
    0 where there is a zero point. No T clips more than half of the numbers.

    bins : of the histogram of |x|, 2048 as published; more where the levels ask for four each
    zeros : whether the x that are 0 are counted, as published. Here they are not: every grid with a
        0 has them exactly, while a bin of them, behind a ReLU half of all numbers, is smeared over
        a level in the search and pulls T down until that level is narrow
    """

    bins: int = 2048
    zeros: bool = False

    def _rule(self, counts: Array, width: float, levels: int) -> tuple[float, float]:
        raise NotImplementedError

    def _threshold(self, levels: int) -> float:
        bins = max(self.bins, 4 * levels)
        return self._rule(*self.histogram.magnitudes(bins, zeros=self.zeros), levels)[0]

    def _range(self, bits: int, grid: str, even: bool) -> Range:
        if bits > MOST_KL_BITS:
            raise ValueError(f"bits must be at most {MOST_KL_BITS} for a range by divergence, "
                             f"got {bits}")
        halved = even or not self.histogram.one_sided
        return self._cut(self._threshold(2 ** (bits - halved)))


@dataclass(kw_only=True)
class KL(Divergence):
    """`kl_threshold`, or `signed_kl_threshold` of 8001 bins and 2 levels - 1.

    variant : "tensorrt" or "mxnet", whose search takes a hundred times as long
    """

    variant: str = "tensorrt"

    def __post_init__(self):
        super().__post_init__()
        if self.variant not in ("tensorrt", "mxnet"):
            raise ValueError(f"variant must be tensorrt or mxnet, got {self.variant!r}")

    def _rule(self, counts: Array, width: float, levels: int) -> tuple[float, float]:
        if self.variant == "tensorrt":
            return kl_threshold(counts, width, levels=levels, clipped=CLIPPED)
        counts, width = self.histogram.signed(MXNET_HALF)
        counts[len(counts) // 2] -= 0 if self.zeros else self.histogram.zeros
        return signed_kl_threshold(counts, width, levels=max(2 * levels - 1, 2))


class SymmetricKL(Divergence):
    """`symmetric_kl_threshold`."""

    def _rule(self, counts: Array, width: float, levels: int) -> tuple[float, float]:
        return symmetric_kl_threshold(counts, width, levels=levels, clipped=CLIPPED)


class JS(Divergence):
    """`js_threshold`."""

    def _rule(self, counts: Array, width: float, levels: int) -> tuple[float, float]:
        return js_threshold(counts, width, levels=levels, clipped=CLIPPED)


@dataclass(kw_only=True)
class OfPeaks(Observer):
    """Keeps the largest |x| of batches, of which a rule makes T."""

    def _update(self, batch: Array, low: float, high: float) -> None:
        self._peak(max(-low, high))

    def _range(self, bits: int, grid: str, even: bool) -> Range:
        return self._cut(self.T)


@dataclass(kw_only=True)
class AbsMax(OfPeaks):
    """T of the last batch.

    Source: Paddle, FakeQuantizeAbsMax
    """

    T: float = field(default=0.0, init=False)

    def _peak(self, m: float) -> None:
        self.T = m


@dataclass(kw_only=True)
class Window(OfPeaks):
    """T = max over the last `window` batches.

    Source: Paddle, FakeQuantizeRangeAbsMax, window_size 10000
    """

    window: int = 10000

    def __post_init__(self):
        self.peaks = deque(maxlen=_at_least_one("window", self.window))

    def _peak(self, m: float) -> None:
        self.peaks.append(m)

    @property
    def T(self) -> float:
        """The threshold."""
        return max(self.peaks)


@dataclass(kw_only=True)
class Mean(OfPeaks):
    """T = the mean of the batches' largest |x|."""

    batches: int = field(default=0, init=False)
    sum: float = field(default=0.0, init=False)

    def _peak(self, m: float) -> None:
        self.batches, self.sum = self.batches + 1, self.sum + m

    @property
    def T(self) -> float:
        """The threshold."""
        return self.sum / self.batches


@dataclass(kw_only=True)
class MovingAverage(OfPeaks):
    """T = accum / state: accum <- rho accum + m, state <- rho state + 1, both 0 at first.

    A weighted mean of all m_t, the last weighing most: after one batch T = m_1.
    Source: Paddle, FakeQuantizeMovingAverageAbsMax, moving_rate 0.9
    """

    rho: float = 0.9
    accum: float = field(default=0.0, init=False)
    state: float = field(default=0.0, init=False)

    def __post_init__(self):
        _between_0_and_1("rho", self.rho)

    def _peak(self, m: float) -> None:
        self.accum, self.state = self.rho * self.accum + m, self.rho * self.state + 1

    @property
    def T(self) -> float:
        """The threshold."""
        return self.accum / self.state


@dataclass(kw_only=True)
class EMA(Observer):
    """Both ends by r <- r + c (r_t - r), from those of the first batch on.

    c : in [0, 1]; what a batch weighs; with 0.05, batches of maximum 0 and then 6 give 0.3
    Source: torch.ao.quantization, MovingAverageMinMaxObserver, averaging_constant 0.01
    """

    c: float = 0.01
    ends: Range | None = field(default=None, init=False)

    def __post_init__(self):
        _between_0_and_1("c", self.c)

    def _update(self, batch: Array, low: float, high: float) -> None:
        lo, hi = self.ends or (low, high)
        self.ends = lo + self.c * (low - lo), hi + self.c * (high - hi)

    def _range(self, bits: int, grid: str, even: bool) -> Range:
        return self.ends


_OBSERVERS: dict[str, Callable[..., Observer]] = {
    "min-max": MinMax, "percentile": Percentile, "mse": MSE, "kl": KL, "symmetric-kl": SymmetricKL,
    "js": JS, "abs-max": AbsMax, "window": Window, "mean": Mean, "moving-average": MovingAverage,
    "ema": EMA}
METHODS = tuple(_OBSERVERS)


def observer(method: str, *, bits: int = 8, symmetric: bool | None = None, **knobs) -> Observer:
    """Returns an observer that has seen nothing.

    method : one of METHODS
    knobs : of that method: percentile, norm, bins, zeros, variant, window, rho, c
    Raises ValueError for another method, TypeError for a knob that it has not.
    """
    if method not in _OBSERVERS:
        raise ValueError(f"unknown method {printable(repr(method))}"
                         f"{did_you_mean(str(method), METHODS)}")
    return _OBSERVERS[method](bits=bits, symmetric=symmetric, **knobs)


def _at_least_one(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be an integer, at least 1, got {value!r}")
    return int(value)


def _between_0_and_1(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
