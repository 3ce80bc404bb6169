"""What every criterion says about every threshold of one tensor: to be looked at."""

from __future__ import annotations

import numpy as np

from ....tensor import Array
from .error import range_error
from .histogram import Histogram
from .thresholds import (CLIPPED, histogram_percentile, js_divergences, kl_divergences,
                         reverse_divergences, within)

Curve = tuple[Array, Array]


def threshold_curves(histogram: Histogram, *, bits: int = 8, bins: int = 2048,
                     percentile: float = 99.99, zeros: bool = False) -> dict[str, Curve]:
    """Returns {method: (T, criterion at T)}, float64, of ranges -T..T on the grid narrow.

    Methods are named as in METHODS. "kl", "symmetric-kl" and "js" in nats, one value each cut, inf
    where a cut is skipped; "mse" the mean squared error, in the unit of x squared; "percentile"
    one T and the share of numbers beyond it.
    bins, percentile, zeros : as of the observers
    Raises ValueError where all numbers are 0, or none was seen.
    """
    if not histogram.peak > 0:
        raise ValueError("a histogram must hold a number other than 0 to have thresholds")
    levels = 2 ** (bits - 1)
    counts, width = histogram.magnitudes(max(bins, 4 * levels), zeros=zeros)
    T = np.minimum((np.arange(levels, len(counts) + 1) + 0.5) * width, histogram.peak)
    kl = kl_divergences(counts, levels=levels)
    divergences = {"kl": kl, "symmetric-kl": kl + reverse_divergences(counts, levels=levels),
                   "js": js_divergences(counts, levels=levels)}
    allowed = within(counts, levels, CLIPPED)
    found = {name: (T, np.where(allowed, d, np.inf)) for name, d in divergences.items()}
    every = T[::max(1, len(T) // 512)]
    x, n = histogram.points()
    found["mse"] = every, range_error(x, -every, every, n / n.sum(), bits=bits, grid="narrow")
    fine = histogram.counts.sum(axis=0)
    cut = min(histogram_percentile(fine, histogram.width, percentile=percentile), histogram.peak)
    beyond = fine[round(cut / histogram.width):].sum() / histogram.total
    return found | {"percentile": (np.array([cut]), np.array([beyond]))}
