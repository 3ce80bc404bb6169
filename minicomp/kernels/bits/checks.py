"""What the entries of this room ask of their arguments, beside what those of room int8 do."""

from __future__ import annotations

import numpy as np

from .. import doors

Array = np.ndarray
U64 = np.dtype(np.uint64)
WORD = 64  # bits


def word_count(n: int) -> int:
    """Returns how many words hold n bits."""
    return -(-n // WORD)


def tail(n: int) -> np.uint64:
    """Returns the bits of the last word of n > 0 that are meant."""
    return np.uint64(2 ** ((n - 1) % WORD + 1) - 1)


def words(name: str, x: Array, *axes: int) -> Array:
    """Returns x contiguous; ValueError unless it is an array of uint64 with `axes` axes."""
    if not isinstance(x, np.ndarray) or x.dtype != U64 or axes and x.ndim not in axes:
        doors.integers(name, x, *axes)
        raise ValueError(f"{name} must be words of bits, uint64, got {x.dtype}")
    return np.ascontiguousarray(x)


def clean(name: str, x: Array, n: int) -> None:
    """Raises ValueError unless x, (..., words), holds n bits in each row and 0 behind them."""
    if x.shape[-1] != word_count(n):
        raise ValueError(f"{name} must have {word_count(n)} words for {n} bits, "
                         f"got shape {x.shape}")
    if n % WORD and (x[..., -1] > tail(n)).any():
        raise ValueError(f"{name} must have no bit set behind the last of {n}")
