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
