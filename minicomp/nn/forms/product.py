"""Vectors of weights as codewords: blocks of columns, or all, in one stage or a sum of several
(Gong et al. 2014; Stock et al. 2020).

Rows are those of W (O, ...), flattened to (O, I); s = ceil(I / d) blocks of d columns, t stages.
"""

from __future__ import annotations

import math

import numpy as np

from ...ops import reshape, sum, take
from ...tensor import Array
from .base import Form
from .dense import Dense
from .parts import Part, Setting, check_codes


class Product(Form):
    """A code a block, row and stage, into codebooks of vectors.

    index : (t, O, s) integers 0..k-1; copied
    codebooks : an unmasked form of shape (t, s, k, d), or (t, 1, k, d) that all blocks share, or an
        array; copied        shape : of the weight, (O, ...)
    What the last block has beyond the columns is never read. No weight has a place of its own: no
    channel can be cut out, no mask can be carried. In training codebooks move, and the index stays.
    """

    kind, wire = "product", 13
    settings = {"stages": Setting(1, 64), "block": Setting(1, 2**16), "k": Setting(1, 2**16),
                "shared": Setting(type=bool)}
    parts = {
        "index": Part("code", axes=()),
        "codebooks": Part("table", moves=True, axes=(), nested=("dense", "half", "bfloat16")),
    }

    def __init__(self, index, codebooks, shape: tuple[int, ...], trainable: bool = True):
        if not isinstance(codebooks, Form):
            codebooks = Dense(np.asarray(codebooks, np.float32))
        if len(codebooks.shape) != 4 or codebooks.mask is not None:
            raise ValueError("codebooks must be unmasked, of shape (t, s, k, d), got "
                             f"{codebooks.shape}")
        self.shape = tuple(shape)
        self.stages, blocks, self.k, self.block = codebooks.shape
        self.shared = blocks == 1
        for name, setting in self.settings.items():
            setting.check(name, getattr(self, name))
        for name, got in (("index", np.shape(index)), ("codebooks", codebooks.shape)):
            if got != self.stored_shape(name):
                raise ValueError(f"{name} must have shape {self.stored_shape(name)} for a weight "
                                 f"{self.shape} in blocks of {self.block}, got {got}")
        check_codes("index", index, self.codes("index"))
        self._hold({"index": index, "codebooks": codebooks}, trainable)

    def _said(self):
        stages = f", {self.stages} stages" if self.stages > 1 else ""
        yield f"{self.k} codewords of {self.block}{stages}"
        yield f"{self.blocks} blocks{' of one codebook' if self.shared else ''}"
        yield "trainable" if self.trainable else "frozen"

    @property
    def columns(self) -> int:
        """The columns of W, I."""
        return math.prod(self.shape[1:])

    @property
    def blocks(self) -> int:
        """The blocks of columns, s."""
        return -(-self.columns // self.block)

    def codes(self, name):
        return range(self.k)

    def stored_shape(self, name):
        rows = self.shape[0] if self.shape else 1
        if name == "index":
            return (self.stages, rows, self.blocks)
        return (self.stages, 1 if self.shared else self.blocks, self.k, self.block)

    def places(self) -> Array:
        """Returns where in the codebooks, flattened, each stage finds each weight, (t, O, I)."""
        t, s = np.arange(self.stages, dtype=np.uint32), np.arange(self.blocks, dtype=np.uint32)
        first = t[:, None, None] if self.shared else t[:, None, None] * self.blocks + s
        rows = (first.astype(np.uint32) * self.k + self.index) * self.block
        at = rows[..., None] + np.arange(self.block, dtype=np.uint32)
        return at.reshape(*rows.shape[:2], -1)[..., : self.columns]

    def decode(self, *, training=False, rng=None):
        # d loss / d codeword is the sum over the vectors that share it, as Han et al. 2016, eq. (3)
        table = self.codebooks.dense(training=training, rng=rng)
        table = reshape(table, shape=(math.prod(table.shape),))
        places = self.places()
        lone = places[0].size == 1
        if lone:  # NumPy adds up a lone column in another order than columns side by side
            places = np.repeat(places, 2, axis=2)
        w = sum(take(table, index=np.ascontiguousarray(places)), axis=0)
        return reshape(w[:, :1] if lone else w, shape=self.shape)
