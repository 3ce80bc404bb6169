"""A histogram of a stream of numbers whose range nobody knows beforehand, in one pass.

Bins are counted by magnitude, below 0 and from 0 on apart, so that one table gives the histogram of
x and that of |x|. A bin is 2^e wide, e the least at which every |x| so far has a bin:

    bin of x = floor(|x| / 2^e),    max |x| < BINS 2^e                                          (1)

When a larger |x| comes, e grows and two bins become one: floor(floor(t) / 2) = floor(t / 2), so
that nothing is split or guessed. Division by a power of two is exact, hence the table depends on
the numbers alone, to the last count: not on their order nor on how they were cut into batches.
At least half of the bins have numbers below or in them: 2^15 < max |x| / 2^e.
"""

from __future__ import annotations

import math

import numpy as np

from ....tensor import Array

LOG_BINS = 16
BINS = 2**LOG_BINS
NARROW = 2.0**-100  # below it 1 / width may leave float32
BLOCK = 2**18  # entries at a time: they stay in the cache


class Histogram:
    """Counts by magnitude and sign, smallest and largest number, zeros and moments.

    counts : (2, BINS) float64: row 0 the x < 0, row 1 the x >= 0, by |x|
    width : of a bin, in the unit of x, a power of two; 0 while every x is 0
    min, max : of x, -0 as 0        total, zeros : numbers of x, and of those that are 0
    sum, squares : of x and x^2
    """

    def __init__(self):
        self.counts = np.zeros((2, BINS))
        self.width = self.sum = self.squares = 0.0
        self.min, self.max = math.inf, -math.inf
        self.total = self.zeros = 0

    def update(self, x: Array) -> None:
        """Counts the entries of x, an array of any shape and float or integer dtype; none are none.

        Raises ValueError for NaN and infinity, and then counts nothing of x.
        """
        x = widened(x).reshape(-1)
        if not x.size:
            return
        low, high = float(x.min()), float(x.max())
        self.min, self.max = min(self.min, low + 0.0), max(self.max, high + 0.0)
        self._grow(max(-low, high))
        for i in range(0, x.size, BLOCK):
            self._count(x[i:i + BLOCK])

    @property
    def peak(self) -> float:
        """The largest |x|."""
        return max(-self.min, self.max, 0.0)

    @property
    def one_sided(self) -> bool:
        """Whether no two numbers lie on different sides of 0."""
        return self.min >= 0 or self.max <= 0

    def magnitudes(self, bins: int = 2048, *, zeros: bool = True) -> tuple[Array, float]:
        """Returns the histogram of |x|, (at most `bins`,) float64, and the width of its bins.

        zeros : whether the x that are 0 are counted
        As many neighbours, from 0 on, become one as leave at most `bins`: more than
        bins - bins^2 / 2^15 of them. The last holds the largest |x|.
        """
        if not 1 <= bins <= BINS:
            raise ValueError(f"bins must be in [1, {BINS}], got {bins}")
        used = self._used()
        merged = -(-used // bins)
        counts = self.counts[:, :used].sum(axis=0)
        counts[0] -= 0 if zeros else self.zeros
        counts = np.pad(counts, (0, -used % merged)).reshape(-1, merged).sum(axis=1)
        return counts, merged * self.width

    def signed(self, half: int) -> tuple[Array, float]:
        """Returns a histogram of x of 2 half + 1 bins or fewer, 0 in the middle of one, and the
        width of the bins (the middle one is as wide as the others).

        Bins from 0 on are merged by odd numbers and the middle one takes both signs: as in
        `magnitudes`, nothing is split.
        """
        used = self._used()
        merged = -(-used // (2 * half + 1))  # half a bin: the middle one has two, one a side
        sides = []
        for row in self.counts:
            row = np.pad(row[:used], (0, -(used - merged) % (2 * merged)))
            sides.append((row[:merged].sum(), row[merged:].reshape(-1, 2 * merged).sum(axis=1)))
        (below, left), (above, right) = sides
        return np.concatenate((left[::-1], [below + above], right)), 2 * merged * self.width

    def points(self) -> tuple[Array, Array]:
        """Returns the middles of the bins that hold numbers, ascending, and their counts, float64.

        Zeros are a point of their own, at 0.
        """
        counts = self.counts.copy()
        counts[1, 0] -= self.zeros
        below, above = (np.flatnonzero(row) for row in counts)
        x = np.concatenate((-(below[::-1] + 0.5), [0.0], above + 0.5)) * self.width
        n = np.concatenate((counts[0, below[::-1]], [float(self.zeros)], counts[1, above]))
        return np.clip(x[n > 0], self.min, self.max), n[n > 0]

    def line(self) -> Array:
        """Returns the counts of x along the number line, (2 BINS,): bin k from (k - BINS) width."""
        return np.concatenate((self.counts[0, ::-1], self.counts[1]))

    def _used(self) -> int:
        return int(self.peak / self.width) + 1 if self.width else 1

    def _grow(self, peak: float) -> None:
        if peak == 0:
            return
        width = math.ldexp(1.0, max(math.frexp(peak)[1] - LOG_BINS, -1000))  # peak < BINS width
        if self.width == 0:
            self.width = width  # all before were 0 and lie in the first bin
        while self.width < width:
            merged = self.counts.reshape(2, -1, 2).sum(axis=2)
            self.counts = np.concatenate((merged, np.zeros_like(merged)), axis=1)
            self.width *= 2

    def _count(self, x: Array) -> None:
        self.total += x.size
        self.zeros += int(np.count_nonzero(x == 0))
        if self.width == 0:
            self.counts[1, 0] += x.size
            return
        wide = x.astype(np.float64)
        x = wide.copy() if self.width < NARROW else x
        self.sum += float(wide.sum())
        with np.errstate(over="ignore"):  # of numbers beyond 1e154
            wide *= wide  # in place: a further array costs more than the product
            self.squares += float(wide.sum())
        at = (np.abs(x) * (1 / self.width)).astype(np.int32)  # eq. (1)
        if self.min >= 0:
            self.counts[1] += np.bincount(at, minlength=BINS)
        else:
            at |= (x >= 0).astype(np.int32) << LOG_BINS
            self.counts += np.bincount(at, minlength=2 * BINS).reshape(2, BINS)


def widened(x: Array) -> Array:
    """Returns x as float32, or as float64 where it is that or integers: float16 sums overflow and
    its quantiles are no numbers.

    Raises ValueError for NaN and infinity.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise ValueError(f"x must be numbers, got dtype {x.dtype}")
    wide = np.float32 if x.dtype.kind == "f" and x.dtype.itemsize <= 4 else np.float64
    x = x.astype(wide, copy=False)
    if not (np.isfinite(x.sum(dtype=np.float64)) or np.isfinite(x).all()):
        raise ValueError("x must be finite numbers, got NaN or infinity")
    return x

