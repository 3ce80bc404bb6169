"""Weights that a generator draws again: of each block a file holds which sample it was."""

from __future__ import annotations

import math

import numpy as np

from ...grid.shared_random import shared_normals, shared_order
from ...tensor import Tensor, raw
from .base import Form
from .parts import Part, Setting, check_codes

MAX_BITS = 20


class Seeded(Form):
    """scale z, z the sample number index[b] of each block b of weights.

    index : (count,) integers of `bits` bits, a number for each block; copied
    scale : a number, > 0, the standard deviation of the samples        shape : of the weight
    seed : of the samples, and of the order in which weights are dealt to blocks of equal size
        (`grid/shared_random.py`); the last block may have fewer
    Nothing belongs to one place, and nothing of it moves in training.
    """

    kind, wire = "seeded", 18
    settings = {"seed": Setting(0, 2**31 - 1), "count": Setting(0, 2**24),
                "bits": Setting(1, MAX_BITS)}
    parts = {"index": Part("code", axes=()), "scale": Part("scale", axes=(), least=0.0)}

    def __init__(self, index, scale, shape: tuple[int, ...], *, seed: int, bits: int,
                 trainable: bool = False):
        index, scale = np.asarray(index), np.asarray(raw(scale), np.float32).reshape(-1)
        self.shape, self.seed = tuple(shape), int(seed)
        self.count, self.bits = len(index), int(bits)
        check_codes("index", index, self.codes("index"))
        if scale.size != 1 or not (np.isfinite(scale).all() and scale[0] > 0):
            raise ValueError(f"scale must be one finite number > 0, got {scale}")
        self._hold(self.filled_parts({"index": index, "scale": scale}), trainable)

    def _said(self):
        yield f"{self.count} blocks, {self.bits} bits each, seed {self.seed}"
        yield "trainable" if self.trainable else "frozen"

    def codes(self, name):
        return range(2**self.bits)

    def stored_shape(self, name):
        return (1,) if name == "scale" else (self.count,)

    def filled_parts(self, parts):
        n = math.prod(self.shape)
        if self.count > n or n and not self.count:
            raise ValueError(f"blocks must be 1..{n}, the weights, got {self.count}")
        return parts

    def decode(self, *, training=False, rng=None):
        n = math.prod(self.shape)
        w = np.zeros(n, np.float32)
        if n:
            order = shared_order(n, self.seed)
            z = shared_normals(self.seed, np.arange(self.count), self.index,
                               block_size(n, self.count))
            w[order] = z.reshape(-1)[:n]
        return Tensor((w * self.scale[0]).reshape(self.shape))


def block_size(n: int, count: int) -> int:
    """Returns how many of n weights each of `count` blocks has, the last perhaps fewer."""
    return -(-n // count)
