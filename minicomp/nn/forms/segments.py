"""Weights in C order as runs of one value each: piecewise constant."""

from __future__ import annotations

import math

import numpy as np

from ...ops import take
from .base import Form
from .dense import Dense
from .parts import Part, Setting, check_codes

MAX_RUN = 2**16


class Segments(Form):
    """Runs: how long each is, and its value.

    lengths : (s,) integers of at least 1, whose sum is the number of weights; copied
    levels : an unmasked form of shape (s,), or an array; copied        shape : of the weight
    No run belongs to one place: no channel can be cut out, no mask can be carried. In training
    levels move, and lengths stay.
    """

    kind, wire = "segments", 9
    settings = {"count": Setting(0, 2**28), "longest": Setting(1, MAX_RUN)}
    parts = {
        "lengths": Part("code", axes=()),
        "levels": Part("value", moves=True, axes=(),
                       nested=("affine", "dense", "half", "bfloat16")),
    }

    def __init__(self, lengths, levels, shape: tuple[int, ...], trainable: bool = True):
        lengths = np.asarray(lengths)
        if not isinstance(levels, Form):
            levels = Dense(np.asarray(levels, np.float32))
        self.shape, self.count = tuple(shape), len(lengths)
        self.longest = int(lengths.max(initial=1))
        check_codes("lengths", lengths, range(1, MAX_RUN + 1))
        if levels.shape != (self.count,) or levels.mask is not None:
            raise ValueError(f"levels must be unmasked, of shape {(self.count,)}, got "
                             f"{levels.shape}")
        self._hold(self.filled_parts({"lengths": lengths, "levels": levels}), trainable)

    def _said(self):
        yield f"{self.count} runs of 1..{self.longest} weights"
        yield "trainable" if self.trainable else "frozen"

    def codes(self, name):
        return range(1, self.longest + 1)

    def stored_shape(self, name):
        return (self.count,)

    def filled_parts(self, parts):
        total, n = int(parts["lengths"].astype(np.int64).sum()), math.prod(self.shape)
        if total != n:
            raise ValueError(f"lengths must sum to the {n} weights, got {total}")
        return parts

    def decode(self, *, training=False, rng=None):
        run = np.repeat(np.arange(self.count, dtype=np.uint32), self.lengths)
        return take(self.levels.dense(training=training, rng=rng), index=run.reshape(self.shape))
