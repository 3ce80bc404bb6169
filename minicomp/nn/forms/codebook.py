"""Shared weights: every entry is one of k centroids (Han et al. 2016, section 3)."""

from __future__ import annotations

import numpy as np

from ...ops import index_add, take
from ...tensor import raw
from .base import Form
from .dense import Dense
from .parts import Part, Setting, check_codes


TABLES = ("dense", "half", "bfloat16", "powers", "apot")


class Codebook(Form):
    """An index a weight into a table of centroids.

    index : integers 0..k-1 of the weight's shape, copied
    centroids : an unmasked form of shape (k,), or an array; copied. It may be a table that a rule
        derives (levels.py), which takes a few bytes of a file whatever k is
    pinned_zero : centroid 0 is exactly 0 and stays it: the code of pruned entries, and the mask
    """

    kind, wire = "codebook", 2
    settings = {"k": Setting(1, 2**16), "pinned_zero": Setting(type=bool)}
    parts = {
        "index": Part("code"),
        "centroids": Part("table", moves=True, axes=(), nested=TABLES),
    }

    def __init__(self, index, centroids, pinned_zero: bool = False, trainable: bool = True):
        if not isinstance(centroids, Form):
            centroids = Dense(np.asarray(centroids, np.float32))
        if len(centroids.shape) != 1:
            raise ValueError(f"centroids must have shape (k,), got {centroids.shape}")
        if centroids.mask is not None:
            raise ValueError(
                "centroids must not be masked; a pinned zero is the mask of a codebook"
            )
        self.k, self.pinned_zero = centroids.shape[0], bool(pinned_zero)
        if self.k < 1:
            raise ValueError("a codebook needs at least 1 centroid, got none")
        self.shape = np.shape(index)
        check_codes("index", index, self.codes("index"))
        self._hold({"index": index, "centroids": centroids}, trainable)

    def _said(self):
        zero = ", one pinned to 0" if self.pinned_zero else ""
        *_, zeros, state = super()._said()
        yield from (f"{self.k} centroids{zero}", f"{(self.k - 1).bit_length()} bits an index",
                    zeros, state)

    def codes(self, name):
        return range(self.k)

    @property
    def coded_zero(self) -> bool:
        return self.pinned_zero

    def decode(self, *, training=False, rng=None):
        # d loss / d c_k is the sum over the entries that share c_k: Han et al. 2016, eq. (3).
        return take(self.centroids.dense(training=training, rng=rng), index=self.index)

    def pull_back(self, w, g):
        # Eq. (3) in one pass of a kernel, then on to what moves of the centroids.
        if not self.parameters():
            return {}
        table = self.centroids.dense(training=True)
        pulled = self.centroids.pull_back(table, raw(index_add(g, index=self.index, n=self.k)))
        return {f"centroids.{path}".rstrip("."): a for path, a in pulled.items()}

    def project(self):
        super().project()
        if self.pinned_zero:
            self.centroids.pin_zero()

    # A pinned zero is not stored.

    def stored_shape(self, name):
        return (self.k - self.pinned_zero,) if name == "centroids" else self.shape

    def stored(self):
        stored = super().stored()
        if self.pinned_zero:
            stored["centroids"] = stored["centroids"].without_zero()
        return stored

    def filled_parts(self, parts):
        table = parts["centroids"]
        return parts | {"centroids": table.after_zero() if self.pinned_zero else table}
