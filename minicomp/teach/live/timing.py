"""Timing two functions fairly, and saying which is faster."""

from __future__ import annotations

from collections.abc import Callable

from ...kernels.threads import blas
from ...timing import race


def side_by_side(first: Callable, second: Callable, *, seconds: float = 0.4) -> tuple[float, float]:
    """Returns the median seconds of first() and of second(), called in turn for about `seconds`."""
    with blas(1):
        first(), second()
        taken = race({"first": first, "second": second}, seconds=seconds, least=5)
    return taken["first"], taken["second"]


def times(ratio: float) -> str:
    """Returns "3.1x faster" or "1.4x slower"; within 5 %, "as fast"."""
    if 0.95 <= ratio <= 1.05:
        return "as fast"
    return f"{ratio:.1f}x faster" if ratio > 1 else f"{1 / ratio:.1f}x slower"
