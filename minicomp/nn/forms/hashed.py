"""Weights in buckets that a hash chooses (Chen et al. 2015, arXiv 1504.04788, section 4).

h : a hash of positions to buckets        xi : another one to signs        K buckets, b their values

    V_p = xi(p) b_h(p)

p is the position in C order, i n + j of entry (i, j) of n columns. Both hashes are bits of one
splitmix64 output z_p of the seed, which is all that a file holds of them:

    h(p) = floor(K floor(z_p / 2^32) / 2^32)        xi(p) = -1 where z_p is odd, else +1

Where we leave the paper: theirs are xxHash of (i, j) and of another seed.
"""

from __future__ import annotations

import math

import numpy as np

from ...kernels.codebook.buckets import Places
from ...kernels.splitmix import splitmix64
from ...tensor import Array
from .dense import numbers
from .parts import Setting
from .shared import VALUES, Shared

MOST = 2**28  # buckets
_BLOCK = 1 << 20  # positions hashed at once


def hash_places(n: int, k: int, seed: int) -> tuple[Array, Array]:
    """Returns (buckets in [0, k), signs +1 or -1) of positions 0 .. n - 1: uint32 and int8, (n,).

    k : in [1, 2^28]        seed : in [0, 2^32)
    """
    bucket, sign = np.empty(n, np.uint32), np.empty(n, np.int8)
    for at in range(0, n, _BLOCK):
        z = splitmix64(min(_BLOCK, n - at), seed, at)
        bucket[at : at + _BLOCK] = (z >> np.uint64(32)) * np.uint64(k) >> np.uint64(32)
        sign[at : at + _BLOCK] = 1 - 2 * (z & np.uint64(1)).astype(np.int8)
    return bucket, sign


def hashed(k: int, shape: tuple[int, ...], seed: int) -> Places:
    """Returns the map of a weight of `shape`; arguments else of `hash_places`."""
    bucket, sign = hash_places(math.prod(shape), k, seed)
    return Places(bucket.reshape(shape), (sign < 0).reshape(shape), k)


class Hashed(Shared):
    """Buckets, and the seed of the hash that says which entry is in which, with which sign.

    buckets : an unmasked form of shape (K,), K of 1..2^28, or an array; copied
    shape : of the weight        seed : 0..2^32 - 1
    No bucket belongs to one place: no channel can be cut out, no mask can be carried.
    """

    kind, wire = "hashed", 14
    settings = {"count": Setting(1, MOST), "seed": Setting(0, 2**32 - 1)}
    parts = {"buckets": VALUES}

    def __init__(self, buckets, shape: tuple[int, ...], seed: int, trainable: bool = True):
        self.shape = tuple(shape)
        buckets = numbers(buckets)
        self.count = self.settings["count"].check("buckets", math.prod(buckets.shape))
        self.seed = self.settings["seed"].check("seed", seed)
        self._take(buckets, trainable)

    def stored_shape(self, name):
        return (self.count,)

    def in_words(self):
        return [f"{self.count} buckets", f"seed {self.seed}"]

    def found_places(self):
        return hashed(self.count, self.shape, self.seed)
