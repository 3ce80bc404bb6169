"""Random numbers that a coder and its decoder draw alike, on every machine: by integers alone.

z = mix(key + (i + 1) G) are the outputs of splitmix64 begun at `key`; the eight bytes of one,
summed and centred, are close to normal (a sum of eight uniform numbers), and exact.

Source: Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number Generators"
"""

from __future__ import annotations

import math

import numpy as np

from ..tensor import Array

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MEAN, SPREAD = 1020, math.sqrt(8 * (256**2 - 1) / 12)  # of a sum of eight bytes


def mix(z: Array) -> Array:
    """Returns splitmix64's finaliser of each number, uint64."""
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)


def keyed(key: Array, i: Array) -> Array:
    """Returns the number at place i of the stream of each key, uint64; arrays broadcast.

    key : uint64        i : integers >= 0
    """
    with np.errstate(over="ignore"):
        return mix(np.asarray(key, np.uint64) + (np.asarray(i).astype(np.uint64) + np.uint64(1))
                   * GOLDEN)


def shared_order(n: int, seed: int) -> Array:
    """Returns 0..n-1 in an order that the seed decides, int64."""
    return np.argsort(keyed(np.uint64(seed), np.arange(n)), kind="stable")


def shared_normals(seed: int, block: Array, k: Array, size: int) -> Array:
    """Returns the k-th sample of each block, `size` numbers of mean 0 and variance 1, float32.

    seed : >= 0        block, k : integers >= 0 that broadcast; result : their shape and (size,)
    Multiples of 1 / SPREAD, in -4.9..4.9: sums of eight bytes, centred.
    """
    key = keyed(keyed(keyed(np.uint64(seed), np.uint64(2**32)), block), k)
    z = np.ascontiguousarray(keyed(key[..., None], np.arange(size)))
    total = z.view(np.uint8).reshape(*z.shape, 8).sum(axis=-1, dtype=np.int32)
    return (total - np.int32(MEAN)).astype(np.float32) * np.float32(1 / SPREAD)
