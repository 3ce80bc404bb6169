"""Codes of dependent quantization: which of two scalar quantizers a code is of, the codes before it
in its row say (`grid/trellis.py`)."""

from __future__ import annotations

import math

import numpy as np

from ...errors import FormatError
from ...grid.trellis import check_states, trellis_points
from ...tensor import Array, Tensor, raw
from .base import Form
from .parts import Part, Setting, check_codes

MAX_BITS = 8


class Trellis(Form):
    """scale p(k): integers k, whose points p are those of a walk along each row of axis 0.

    k : integers of the weight's shape in -(2^(bits-1) - 1)..2^(bits-1) - 1, copied
    scale : a number, > 0 or < 0, the step between points of both quantizers together
    states : 4 or 8        bits : 2..8
    Nothing of it moves in training.
    Code 0 is 0, and a file may list the other codes alone. No code can be put to 0 later, and no
    column be cut out, for the points of all codes behind it in its row would become others: prune
    before.
    """

    kind, wire = "trellis", 17
    zero_code = 0
    settings = {"bits": Setting(2, MAX_BITS), "states": Setting(4, 8)}
    parts = {"k": Part("code"), "scale": Part("scale", axes=())}

    def __init__(self, k, scale, *, bits: int = 8, states: int = 8, trainable: bool = False):
        check_states(states)
        if np.ndim(k) < 2:
            raise ValueError(f"a trellis needs two axes or more, got shape {np.shape(k)}")
        self.shape, self.bits, self.states = np.shape(k), int(bits), int(states)
        check_codes("k", k, self.codes("k"))
        scale = np.asarray(raw(scale), np.float32).reshape(-1)
        if scale.size != 1 or not (np.isfinite(scale).all() and scale.all()):
            raise ValueError(f"scale must be one finite number, not 0, got {scale}")
        self._hold({"k": k, "scale": scale}, trainable)

    def _said(self):
        yield f"{self.bits} bits, {self.states} states, scale {self.scale[0]:.4g}"
        *_, zeros, state = super()._said()
        yield from (zeros, state)

    def codes(self, name):
        most = 2 ** (self.bits - 1) - 1
        return range(-most, most + 1)

    def stored_shape(self, name):
        return (1,) if name == "scale" else self.shape

    def listed(self):
        return self.k != 0

    @classmethod
    def blank(cls, shape, settings):
        form = super().blank(shape, settings)
        try:
            check_states(form.states)
        except ValueError as e:
            raise FormatError(str(e)) from None
        if len(form.shape) < 2:
            raise FormatError(f"a trellis needs two axes or more, got shape {form.shape}")
        return form

    def points(self) -> Array:
        """Returns what the codes stand for, in steps, float32 of the weight's shape."""
        rows = self.k.reshape(self.shape[0], math.prod(self.shape[1:]))
        return trellis_points(rows, self.states).astype(np.float32).reshape(self.shape)

    def decode(self, *, training=False, rng=None):
        return Tensor(self.scale[0] * self.points())

    def gather(self, index):
        places = np.arange(math.prod(self.shape[1:])).reshape(1, *self.shape[1:])
        try:
            came = np.broadcast_to(places, self.shape)[index]
        except IndexError as e:
            raise ValueError(f"index does not fit shape {self.shape}: {e}") from None
        if came.shape[1:] != self.shape[1:] or (came != places).any():
            raise ValueError("a trellis cannot be cut so: a code's point depends on the codes "
                             "before it in its row")
        return super().gather(index)

    def masked(self, keep, *, behind=False):
        raise ValueError("a trellis cannot be pruned: a code's point depends on the codes before "
                         "it; prune before")
