"""Timing two functions fairly: in turn, in one thread, by their medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def side_by_side(first: Callable, second: Callable, *, seconds: float = 0.4) -> tuple[float, float]:
    """Returns the median seconds of first() and of second(), called in turn for about `seconds`.

    Neighbours on the machine slow both alike, so their ratio holds where single times do not.
    """
    from threadpoolctl import threadpool_limits

    taken: tuple[list, list] = ([], [])
    with threadpool_limits(1):
        first(), second()
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop or len(taken[0]) < 5:
            for fn, times in zip((first, second), taken):
                start = time.perf_counter()
                fn()
                times.append(time.perf_counter() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])


def times(ratio: float) -> str:
    """Returns "3.1x faster" or "1.4x slower"; within 5 %, "as fast"."""
    if 0.95 <= ratio <= 1.05:
        return "as fast"
    return f"{ratio:.1f}x faster" if ratio > 1 else f"{1 / ratio:.1f}x slower"
