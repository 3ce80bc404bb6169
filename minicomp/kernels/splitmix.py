"""splitmix64: numbers that depend on a key and on their place alone, the same on every machine.

Output p of a key comes from the state key + (p + 1) 0x9E3779B97F4A7C15, mixed; no output needs the
one before it, so that any part of the stream can be had by itself.
Source: Steele, Lea & Flood 2014, Fast Splittable Pseudorandom Number Generators; the mixing is
    Stafford's variant 13
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
GAMMA, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def splitmix64(n: int, key: int, first: int = 0) -> Array:
    """Returns outputs first .. first + n - 1 of a key, uint64 (n,).

    key : in [0, 2**64)
    >>> [hex(z) for z in splitmix64(2, key=0)]
    ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']
    """
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(first + 1, first + n + 1, dtype=np.uint64) * np.uint64(GAMMA)
        z = (z ^ z >> np.uint64(30)) * np.uint64(FIRST)
        z = (z ^ z >> np.uint64(27)) * np.uint64(SECOND)
        return z ^ z >> np.uint64(31)
