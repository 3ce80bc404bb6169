"""Random numbers for hidden tests: the same on every machine and every NumPy.

`numpy.random.Generator` may change how it turns bits into numbers from one NumPy to the next; the
bits of PCG64 do not change. `Draw` uses only those bits and exact arithmetic, so that a student and
a teacher with different installations see the same cases.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

Array = np.ndarray
_SEPARATOR = "\x1f"


def seed_of(*words: str) -> int:
    """Returns a 128-bit seed that depends on every word and on their order."""
    digest = hashlib.sha256(_SEPARATOR.join(words).encode()).digest()
    return int.from_bytes(digest[:16], "little")


class Draw:
    """A stream of numbers from one seed."""

    def __init__(self, seed: int):
        self._raw = np.random.PCG64(seed).random_raw

    def uniform(self, *shape: int, lo: float = 0.0, hi: float = 1.0) -> Array:
        """Returns float64 of `shape` in [lo, hi), a multiple of 2**-53 before scaling."""
        unit = (self._words(shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return lo + (hi - lo) * unit

    def normal(self, *shape: int) -> Array:
        """Returns float64 of `shape`, mean 0 and variance 1: the sum of twelve uniforms, less six.

        Sums of multiples of 2**-53 are exact up to rounding in a fixed order; log and cos are not.
        """
        total = np.full(shape, -6.0)
        for _ in range(12):
            total += self.uniform(*shape)
        return total

    def integers(self, lo: int, hi: int, *shape: int) -> Array:
        """Returns int64 of `shape` in [lo, hi), by the remainder: a bias below 2**-40."""
        if not 0 < hi - lo < 2**24:
            raise ValueError(f"hi - lo must be in [1, 2**24), got {hi - lo}")
        return (self._words(shape) % np.uint64(hi - lo)).astype(np.int64) + lo

    def integer(self, lo: int, hi: int) -> int:
        """Returns one Python int in [lo, hi)."""
        return int(self.integers(lo, hi, 1)[0])

    def permutation(self, n: int) -> Array:
        """Returns 0..n-1 in random order, int64."""
        return np.argsort(self._words((n,)), kind="stable")

    def choice(self, options):
        """Returns one of a sequence."""
        return options[self.integer(0, len(options))]

    def _words(self, shape) -> Array:
        return np.asarray(self._raw(math.prod(shape)), np.uint64).reshape(shape)
