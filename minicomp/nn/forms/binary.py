"""Weights of one bit a basis, and of three values.

A scale belongs to a row of axis 0 (a filter, an output unit), or to the whole weight. Thawed, the
scales train and the signs stay; techniques that move signs put a form with floats behind them in
this one's place while they train (compress/binary/training.py).
"""

from __future__ import annotations

import numpy as np

from ...errors import FormatError
from ...grid.affine import TINY
from ...ops import mul
from ...tensor import Array, raw
from .affine import Integers, spread
from .parts import MASK, Part, Setting, check_codes

MOST_BASES = 8


class _Scaled(Integers):
    # Codes `q`, and scales of which there is a row for each of axis 0 (`by_row`) or one for all.

    latent = None  # a technique's form may have one

    @property
    def rows(self) -> int:
        """How many rows of scales there are."""
        return self.shape[0] if self.by_row else 1

    @classmethod
    def blank(cls, shape, settings):
        form = super().blank(shape, settings)
        if form.by_row and not shape:
            raise FormatError("a scale a row needs an axis")
        return form


class Binary(_Scaled):
    """sum_i alpha_i sign_i over m bases: one bit a weight and basis.

    sign : (m, *shape), m of 1..8; at least 0 is +1, else -1
    alpha : float32, finite: (m,), a scale a basis for all; or (O, m), one for each of axis 0 too;
        not 0 in all bases
    mask : True where kept, or None
    While trainable alpha moves.
    A code of `q` holds the bits of all bases, basis i in bit i, 1 for +1.
    Raises ValueError for other shapes, and for an alpha that is none.
    Source: Lin, Zhao & Pan 2017, arXiv 1711.11294; m = 1: Rastegari et al. 2016, arXiv 1603.05279
    """

    kind, wire = "binary", 11
    settings = {"bases": Setting(1, MOST_BASES), "by_row": Setting(type=bool),
                "pruned": Setting(type=bool)}
    parts = {"q": Part("code"), "alpha": Part("table", moves=True, axes=(0,)), "mask": MASK}
    zero_code = None

    def __init__(self, sign, alpha, *, mask=None, trainable: bool = False):
        sign, alpha = np.asarray(sign), np.asarray(raw(alpha), np.float32)
        if sign.dtype.kind not in "fiub" or not np.isfinite(sign).all():
            raise ValueError("sign must be finite real numbers, whose signs are taken, got "
                             f"{sign.dtype}" + (" with NaN or infinity" if sign.dtype.kind == "f"
                                                else ""))
        self.shape, self.bases = sign.shape[1:], len(sign) if sign.ndim else 0
        self.by_row, self.pruned = alpha.ndim == 2, mask is not None
        if not 1 <= self.bases <= MOST_BASES:
            raise ValueError(f"sign must have 1 to {MOST_BASES} bases in front, got shape "
                             f"{sign.shape}")
        want = self.stored_shape("alpha") if alpha.ndim == 2 else (self.bases,)
        if alpha.shape != want:
            raise ValueError(f"alpha must have shape {want}, got {alpha.shape}")
        _check_alpha(alpha)
        self._hold({"q": pack_bases(sign), "alpha": alpha.reshape(-1, self.bases), "mask": mask},
                   trainable)

    @classmethod
    def of(cls, w: Array, alpha, *, mask=None, trainable: bool = False) -> Binary:
        """Returns the form of one basis, alpha sign(w).

        alpha : a number, or (O,), one for each of axis 0        Arguments else of the class
        """
        alpha = np.asarray(raw(alpha), np.float32)
        return cls(np.asarray(raw(w))[None], alpha[..., None], mask=mask, trainable=trainable)

    def _said(self):
        yield f"{self.bases} bits a weight" if self.bases > 1 else "1 bit a weight"
        yield "a scale a row" if self.by_row else f"scale {raw(self.alpha).flat[0]:.4g}"
        *_, zeros, state = super()._said()
        yield from (zeros, state)

    def codes(self, name):
        return range(2**self.bases)

    def stored_shape(self, name):
        return (self.rows, self.bases) if name == "alpha" else super().stored_shape(name)

    def filled_parts(self, parts):
        _check_alpha(parts["alpha"])
        return super().filled_parts(parts)

    def signs(self) -> Array:
        """Returns +-1 of each basis, float32 (m, *shape), whatever the mask hides."""
        return np.stack([basis(self.q, i) for i in range(self.bases)])

    def decode(self, *, training=False, rng=None):
        return combined(self.alpha, self.q, self.shape)


def pack_bases(sign: Array) -> Array:
    """Returns the codes of bases, uint8 of their shape: bit i is 1 where sign[i] >= 0.

    sign : (m, *shape)
    """
    return sum((s >= 0).astype(np.uint8) << i for i, s in enumerate(sign))


def basis(q: Array, i: int) -> Array:
    """Returns +-1 of basis i, float32 of q's shape."""
    return (q >> i & 1).astype(np.float32) * 2 - 1


def combined(alpha, q: Array, shape: tuple[int, ...]):
    """Returns sum_i alpha_i sign_i, (*shape), an array or, where alpha is one, a Tensor.

    alpha : (rows, m), rows 1 or those of axis 0        q : codes
    """
    total = None
    for i in range(alpha.shape[1]):
        term = mul(spread(alpha[:, i], shape), basis(q, i))
        total = term if total is None else total + term
    return total


def _check_alpha(alpha: Array) -> None:
    if not (np.isfinite(alpha).all() and alpha.reshape(-1, alpha.shape[-1]).any(axis=1).all()):
        raise ValueError("alpha must be finite, and not 0 in all bases of a row")


class Ternary(_Scaled):
    """+Wp where a code is 1, -Wn where it is -1, else 0.

    q : integers -1, 0, 1 of the weight's shape, copied
    positive : Wp, float32, at least 2^-126: a number, or (O,), one for each of axis 0
    negative : Wn, likewise; None: the same scale
    mask : True where kept, or None
    While trainable the scales move. A file lists what is not 0 where that is smaller, else codes,
    at most five in a byte; `freeze()` of a masked form drops what is 0 from the mask.
    Raises ValueError for other codes, and for scales that are none.
    Source: Li, Zhang & Liu 2016, arXiv 1605.04711; Zhu, Han, Mao & Dally 2017, arXiv 1612.01064
    """

    kind, wire = "ternary", 12
    settings = {"by_row": Setting(type=bool), "equal": Setting(type=bool),
                "pruned": Setting(type=bool)}
    parts = {"q": Part("code"), "scale": Part("scale", moves=True, axes=(0,), least=float(TINY)),
             "mask": MASK}
    zero_code = 0

    def __init__(self, q, positive, negative=None, *, mask=None, trainable: bool = False):
        given = [positive] if negative is None else [positive, negative]
        given = [np.asarray(raw(s), np.float32) for s in given]
        self.shape, self.equal, self.pruned = np.shape(q), negative is None, mask is not None
        self.by_row = given[0].ndim > 0
        want = (self.rows,) if self.by_row else ()
        for s in given:
            if s.shape != want or not (np.isfinite(s).all() and (s >= TINY).all()):
                raise ValueError(f"a scale must be finite, above 0 and of shape {want}, got "
                                 f"{np.array2string(s, threshold=6)}")
        check_codes("q", q, self.codes("q"))
        self._hold({"q": q, "scale": np.stack(given, -1).reshape(-1, len(given)), "mask": mask},
                   trainable)

    def _said(self):
        of = "a scale a row" if self.by_row else "scales " + " and ".join(
            f"{s:.4g}" for s in raw(self.scale)[0])
        *_, zeros, state = super()._said()
        yield from (of, zeros, state)

    def codes(self, name):
        return range(-1, 2)

    def stored_shape(self, name):
        return (self.rows, 2 - self.equal) if name == "scale" else super().stored_shape(name)

    def decode(self, *, training=False, rng=None):
        return threefold(self.scale, self.q, self.shape)

    def project(self):
        super().project()
        if self.scale is not None:
            np.maximum(self.scale.data, TINY, out=self.scale.data)


def threefold(scale, q: Array, shape: tuple[int, ...]):
    """Returns Wp where q is 1, -Wn where it is -1, else +0, an array or, where scale is one, a
    Tensor.

    scale : (rows, 1 or 2), Wp and Wn        q : codes
    """
    positive, negative = (spread(scale[:, i], shape) for i in (0, -1))
    return mul(positive, (q > 0).astype(np.float32)) - mul(negative, (q < 0).astype(np.float32))
