"""What a broken variant may be asked: tests of inputs that several lessons share."""

from __future__ import annotations

import numpy as np


def is_sparsity(value) -> bool:
    """Returns whether a value is a number in [0, 1): a fraction of zeros."""
    number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    return number and bool(0 <= value < 1)


def is_finite(value: np.ndarray, kinds: str = "f", most: int = 10_000) -> bool:
    """Returns whether an array has 1 to `most` entries, finite, of a dtype of these kinds."""
    return value.dtype.kind in kinds and 1 <= value.size <= most and bool(np.isfinite(value).all())


def wrong_grid(scale, zero_point, bits) -> str | None:
    """Returns what is wrong with the grid of codes 0 .. 2^bits - 1 of a student's input or None."""
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 8:
        return "bits is a whole number from 1 to 8"
    if not isinstance(scale, int | float) or not 1e-6 < scale < 1e6:
        return "scale is a number above 0, from 1e-6 to 1e6"
    if isinstance(zero_point, bool) or not isinstance(zero_point, int) or not (
        0 <= zero_point < 2**bits
    ):
        return "zero_point is a code: a whole number from 0 to 2^bits - 1"
    return None
