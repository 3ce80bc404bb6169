"""What forms share whose entries are few stored numbers by a fixed map, each with a sign."""

from __future__ import annotations

import functools

import numpy as np

from ...kernels.codebook import buckets
from ...tensor import primitive, raw, rules
from .base import Form
from .parts import Part

VALUES = Part("value", moves=True, axes=(), nested=("affine", "dense", "half", "bfloat16"))


@primitive
def spread(b, *, places):
    """Returns sign_p b[bucket_p] of every entry p, of the places' shape in b's dtype."""
    return buckets.decode(b, places)


@primitive
def gathered(g, *, places):
    """Returns the sums of sign_p g_p of each bucket, (k,) in g's dtype: `spread`'s adjoint."""
    return buckets.add(g, places)


rules(spread, lambda g, y, b, places: gathered(g, places=places))
rules(gathered, lambda g, y, x, places: spread(g, places=places))


class Shared(Form):
    """sign_p b[bucket_p], b the one part; no entry has a place of its own in it.

    A form that is one declares its part, `stored_shape` (k,) of it, and `found_places`.
    """

    @property
    def held(self) -> str:
        """The name of the part."""
        return next(iter(self.parts))

    def _take(self, values: Form, trainable: bool) -> None:
        # Holds the values once shape and settings are there.
        want = self.stored_shape(self.held)
        if values.shape != want or values.mask is not None:
            raise ValueError(f"{self.held} must be unmasked, of shape {want}, got {values.shape}")
        self._hold({self.held: values}, trainable)

    def holding(self, values: Form) -> Form:
        """Returns the form that holds other values, of the same number."""
        return self._with({self.held: values})

    def found_places(self) -> buckets.Places:
        """Returns the map, of shape and settings alone."""
        raise NotImplementedError

    @functools.cached_property
    def places(self) -> buckets.Places:
        """The map, found once; copies share it."""
        return self.found_places()

    def _said(self):
        yield from self.in_words()
        yield "trainable" if self.trainable else "frozen"

    def decode(self, *, training=False, rng=None):
        return spread(getattr(self, self.held).dense(training=training, rng=rng),
                      places=self.places)

    def pull_back(self, w, g):
        # dL/db in one pass, then on to what moves of the part.
        values = getattr(self, self.held)
        if not values.parameters():
            return {}
        pulled = values.pull_back(values.dense(training=True), raw(gathered(g, places=self.places)))
        return {f"{self.held}.{path}".rstrip("."): a for path, a in pulled.items()}

    def averaged(self, w) -> np.ndarray:
        """Returns the values of least squared error to a weight w: signed means, 0 of no entry.

        w : float, of the form's shape        result : (k,) in w's dtype
        """
        entries = np.bincount(self.places.bucket.reshape(-1), minlength=self.places.k)
        total = raw(gathered(np.asarray(w, np.float64), places=self.places))
        return (total / np.maximum(entries, 1)).astype(w.dtype)
