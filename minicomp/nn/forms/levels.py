"""Tables that a rule derives: a file holds an exponent, or a scale, instead of the levels.

They are tables of a Codebook: levels of shape (k,), 0 first where k is odd. Their rules are in
`grid/powers.py`.
"""

from __future__ import annotations

import numpy as np

from ...errors import FormatError
from ...grid.affine import TINY
from ...grid.powers import EXPONENTS, additive_levels, power_levels
from ...ops import mul
from ...tensor import Array, Tensor, raw
from .base import Form
from .parts import Part, Setting


class _Levels(Form):
    # Of shape (k,); 0 first where k is odd.

    def levels(self) -> Array:
        """Returns all levels with their 0; ValueError where there are none of the form's shape."""
        raise NotImplementedError

    def _units(self) -> Array:
        return self.levels()[1 - self.shape[0] % 2:]

    @classmethod
    def blank(cls, shape, settings):
        form = super().blank(shape, settings)
        try:
            if len(form.shape) != 1:
                raise ValueError(f"{cls.kind} levels stand on one axis, got shape {form.shape}")
            form.levels()
        except ValueError as e:
            raise FormatError(str(e)) from None
        return form

    # As a table whose first entry is a pinned 0.

    def pin_zero(self) -> None:
        """Raises ValueError where the first entry is not 0."""
        if not self.shape[0] % 2:
            raise ValueError(f"a pinned zero needs {self.kind} levels with a 0, got none")

    def without_zero(self) -> Form:
        """Returns the form of the entries behind the 0."""
        return self._with({}, shape=(self.shape[0] - 1,))

    def after_zero(self) -> Form:
        """Returns the form of a 0 and then the entries; ValueError where a 0 is there."""
        if self.shape[0] % 2:
            raise ValueError(f"{self.kind} levels have one 0, not two")
        return self._with({}, shape=(self.shape[0] + 1,))


class Powers(_Levels):
    """0, -2^top .. -2^(top-n+1), 2^(top-n+1) .. 2^top: n powers of two of each sign.

    top : the largest exponent        n : of how many exponents; all are in -126..127
    zero : whether 0 stands in front
    Nothing of it moves. Source: Zhou et al. 2017, arXiv 1702.03044, eqs. (1)-(3)
    """

    kind, wire = "powers", 6
    settings = {"top": Setting(*EXPONENTS)}
    parts: dict[str, Part] = {}

    def __init__(self, top: int, n: int, zero: bool = True, trainable: bool = False):
        self.top, self.shape = int(top), (2 * n + bool(zero),)
        self.levels()
        self._hold({}, trainable)

    def _said(self):
        n = self.shape[0] // 2
        yield f"{'0 and ' if self.shape[0] % 2 else ''}+-2^{self.top - n + 1}..2^{self.top}"
        yield "trainable" if self.trainable else "frozen"

    def levels(self):
        return power_levels(self.top, self.shape[0] // 2)

    def decode(self, *, training=False, rng=None):
        return Tensor(self._units())


class AdditivePowers(_Levels):
    """scale u: u the levels of `grid.powers.additive_levels(bits)`, the largest of which is 1.

    scale : a number > 0, which may be trained (the paper's alpha)        bits : 2..8
    zero : whether 0 stands in front: 2^bits - 1 levels, or one fewer
    Source: Li, Dong & Wang 2020, arXiv 1909.13144, eqs. (5), (6)
    """

    kind, wire = "apot", 7
    parts = {"scale": Part("scale", moves=True, axes=(), least=float(TINY))}

    def __init__(self, scale, bits: int, zero: bool = True, trainable: bool = False):
        scale = np.asarray(raw(scale), np.float32).reshape(-1)
        if scale.size != 1 or not (np.isfinite(scale).all() and scale[0] >= TINY):
            raise ValueError(f"scale must be one finite number > 0, got {scale}")
        self.shape = (len(additive_levels(bits)) - (not zero),)
        self._hold({"scale": scale}, trainable)

    def _said(self):
        yield f"{self.bits} bits, scale {raw(self.scale)[0]:.4g}"
        yield "trainable" if self.trainable else "frozen"

    @property
    def bits(self) -> int:
        """The bits of a code."""
        return self.shape[0].bit_length()

    def levels(self):
        found = additive_levels(self.bits)
        if self.shape[0] not in (len(found), len(found) - 1):
            raise ValueError(f"apot levels must be 2^bits - 1, or one fewer, got {self.shape[0]}")
        return found

    def stored_shape(self, name):
        return (1,)

    def decode(self, *, training=False, rng=None):
        return mul(self.scale, self._units())

    def project(self):
        np.maximum(self.scale.data, TINY, out=self.scale.data)
