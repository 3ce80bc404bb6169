"""Weights of circulant blocks (Cheng et al. 2015, arXiv 1502.03436).

A circulant matrix has its first column c, (b,), moved down by one in each further column:

    R_ij = c_(i - j) mod b        R x = IFFT(FFT(c) FFT(x)), the circular convolution of both

Of a weight, (O, I), blocks of b x b are circulant, the last ones cut off; b of at least O and I
makes it one block, the paper's. D, a sign for each input, stands in front of it, for a circulant
matrix alone sees shifts of x as shifts of the output: y = R D x. The signs are bits of splitmix64:
-1 where output j of the seed is odd.

P = ceil(O / b), Q = ceil(I / b)
columns : (P Q b,), those of block (p, q) from (p Q + q) b on
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

MOST = 2**20  # rows of a block


def flips(n: int, seed: int) -> Array:
    """Returns the signs D of n inputs, int8.   seed : in [0, 2^32)"""
    return 1 - 2 * (splitmix64(n, seed) & np.uint64(1)).astype(np.int8)


def blocks(shape: tuple[int, ...], block: int) -> tuple[int, int]:
    """Returns (P, Q), how many blocks there are; of more axes than two the last ones are one."""
    return -(-shape[0] // block), -(-math.prod(shape[1:]) // block)


def circulant_places(shape: tuple[int, ...], block: int) -> Array:
    """Returns which entry of `columns` each weight is, int64 of `shape`."""
    rows, cols = shape[0], math.prod(shape[1:])
    i, j = np.arange(rows)[:, None], np.arange(cols)
    at = i // block * blocks(shape, block)[1] + j // block
    return (at * block + (i - j) % block).reshape(shape)


class Circulant(Shared):
    """First columns of circulant blocks, and the seed of the inputs' signs.

    columns : an unmasked form of shape (P Q b,), or an array; copied        shape : of the weight
    block : b, 1..2^20        seed : 0..2^32 - 1 of the signs, or None: all are +1
    No number belongs to one place: no channel can be cut out, no mask can be carried.
    """

    least_axes = 2
    kind, wire = "circulant", 15
    settings = {"block": Setting(1, MOST), "flipped": Setting(type=bool),
                "seed": Setting(0, 2**32 - 1)}
    parts = {"columns": VALUES}

    def __init__(self, columns, shape: tuple[int, ...], block: int, seed: int | None = None,
                 trainable: bool = True):
        self.shape, self.flipped = tuple(shape), seed is not None
        if len(self.shape) < 2:
            raise ValueError(f"shape must have two axes or more, got {self.shape}")
        self.block = self.settings["block"].check("block", block)
        self.seed = self.settings["seed"].check("seed", seed if self.flipped else 0)
        self._take(numbers(columns), trainable)

    def stored_shape(self, name):
        return (math.prod(blocks(self.shape, self.block)) * self.block,)

    def in_words(self):
        return [f"blocks of {self.block}"] + [f"signs of seed {self.seed}"] * self.flipped

    @property
    def signs(self) -> Array:
        """The sign of each input, int8 (I,)."""
        inputs = math.prod(self.shape[1:])
        return flips(inputs, self.seed) if self.flipped else np.ones(inputs, np.int8)

    def found_places(self):
        negative = np.broadcast_to(self.signs.reshape(self.shape[1:]) < 0, self.shape)
        return Places(circulant_places(self.shape, self.block), negative,
                      self.stored_shape("columns")[0])
