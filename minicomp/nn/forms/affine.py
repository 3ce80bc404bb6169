"""Integers of 1 to 16 bits: affine, and with a fixed point."""

from __future__ import annotations

import math

import numpy as np

from ... import grid as grids
from ...errors import FormatError
from ...grid import GRIDS, code_range, dequantize, fake_quantize, lsq_quantize, quantize
from ...grid.affine import MAX_BITS
from ...tensor import Array, Tensor, raw
from .base import Form
from .parts import MASK, Part, Setting, check_codes

WITH_ZERO_POINT = ("full", "unsigned")  # grids that may have one
LEARNS = (None, "lsq", "plain")  # how a scale moves in training


class Integers(Form):
    """Integers `q`, with a float32 latent behind them while trainable.

    Once frozen, an entry that is masked or whose code is that of 0 is both, and `pruned` says
    whether that is a mask: a file may then list the other entries alone.
    """

    pruned: bool

    def filled_parts(self, parts):
        zero, mask = self.zero_of(parts), parts.get("mask")
        if self.pruned and mask is None:
            if zero is None:
                raise ValueError(f"a pruned {self.kind} form needs a mask")
            mask = parts["q"] != zero
        elif not self.pruned and mask is not None:
            if zero is None:
                raise ValueError("a pattern without a mask needs one code of 0")
            parts = parts | {"q": np.where(mask, parts["q"], np.asarray(zero, parts["q"].dtype))}
            mask = None
        return parts | {"mask": mask}

    def _settle(self):
        super()._settle()
        zero = self.zero_code
        if self.q is not None and self.mask is not None and zero is not None and not self.behind:
            self.mask &= self.q != zero
            self.q[~self.mask] = zero

    def listed(self):
        zero = self.zero_code
        return self.mask if zero is None or self.q is None else self.q != zero

    def masked(self, keep, *, behind=False):
        form = super().masked(keep, behind=behind)
        form.pruned = True
        return form

    def remask(self, mask):
        super().remask(mask)
        self.pruned = True

    def values(self):
        if self.latent is None:
            return super().values()
        return self.latent.data

    def visible(self) -> Array:
        """Returns the latent, 0 where masked, whatever stands there."""
        w = self.latent.data
        return w if self.mask is None else np.where(self.mask, w, w.dtype.type(0))


class Affine(Integers):
    """scale (q - zero_point), integers q on a named grid (`grid/affine.py`).

    q : integers of the weight's shape, copied
    scale : float32, > 0 or < 0: a number; one for each entry of axis 0, (O,); or one for each block
        of `group` entries of a row of axis 0, (O, ceil(row / group))
    zero_point : None (0), or integers of the scale's shape, on grids "full" and "unsigned"
    bits, grid : of the codes        mask : True where kept, or None
    While trainable, `latent` stands behind the codes, float32; `learns` says what moves beside it:
    None, the scale stays where a technique puts it (`rescale`); "lsq", it is learnt (a symmetric
    grid with a 0); "plain", so without the gain of its gradient.

    Where one code is the 0 of all entries a file lists the others alone where that is smaller; then
    `freeze()` of a masked form drops what rounds to 0 from the mask.
    Raises ValueError for codes out of range, and for a scale or zero point that does not fit.
    """

    kind, wire = "affine", 3
    settings = {"bits": Setting(1, MAX_BITS), "grid_number": Setting(0, len(GRIDS) - 1),
                "by_row": Setting(type=bool), "group": Setting(0, 2**16),
                "pruned": Setting(type=bool)}
    parts = {
        "latent": Part("latent", moves=True, optional=True),
        "q": Part("code", optional=True),
        "scale": Part("scale", moves=True, axes=(0,)),
        "zero_point": Part("code", optional=True, axes=(0,)),
        "mask": MASK,
    }
    learns: str | None = None

    def __init__(self, q, scale, zero_point=None, *, bits: int = 8, grid: str = "narrow",
                 group: int = 0, mask=None, trainable: bool = False):
        code_range(bits, grid)
        scale = np.asarray(scale, np.float32)
        self.shape, self.bits, self.grid_number = np.shape(q), int(bits), GRIDS.index(grid)
        self.by_row, self.group = scale.ndim > 0 and scale.shape != (1,) or group > 0, int(group)
        self.pruned = mask is not None
        check_codes("q", q, self.codes("q"))
        parts = {"q": q, "scale": scale.reshape(-1) if scale.ndim == 0 else scale, "mask": mask}
        if zero_point is not None:
            if grid not in WITH_ZERO_POINT:
                raise ValueError(f"a zero point needs grid full or unsigned, got {grid}")
            check_codes("zero_point", zero_point, self.codes("zero_point"))
            parts["zero_point"] = np.asarray(zero_point).reshape(parts["scale"].shape)
        want = self.stored_shape("scale")
        if parts["scale"].shape != want:
            raise ValueError(f"scale must have shape {want}, got {parts['scale'].shape}")
        if not (np.isfinite(parts["scale"]).all() and parts["scale"].all()):
            raise ValueError("scale must be finite and not 0")
        self._hold(parts, False)
        if trainable:
            vars(self).update(vars(self.thaw()))

    @classmethod
    def of(cls, w: Array, scale, zero_point=None, *, bits: int = 8, grid: str = "narrow",
           group: int = 0, mask=None, rounding: str = "divide", trainable: bool = False) -> Affine:
        """Returns the form of w on the grid; arguments of the class and of `grid.quantize`."""
        w, scale = np.asarray(raw(w)), np.asarray(scale, np.float32)
        spread_scale = spread(scale, w.shape, group)
        offset = 0 if zero_point is None else spread(np.asarray(zero_point), w.shape, group)
        q = quantize(w, spread_scale, offset, bits=bits, grid=grid, rounding=rounding)
        form = cls(q, scale, zero_point, bits=bits, grid=grid, group=group,
                   mask=None if trainable else mask, trainable=trainable)
        if trainable:  # what the codes leave of w is not lost, nor what rounds to 0 yet
            form.latent.data[...] = w
        return form.masked(mask) if trainable and mask is not None else form

    @property
    def grid(self) -> str:
        """The grid's name."""
        return GRIDS[self.grid_number]

    def in_words(self):
        shared = [f"group={self.group}"] if self.group else []
        return [f"bits={self.bits}", self.grid, *shared]

    def _said(self):
        where = (f"a scale for {self.group} weights of a row" if self.group else
                 "a scale a row" if self.by_row else f"scale {raw(self.scale).flat[0]:.4g}")
        yield f"{self.bits} bits, {self.grid}, {where}"
        if self.zero_point is not None:
            yield "zero points" if self.by_row else f"zero point {self.zero_point.flat[0]}"
        *_, zeros, state = super()._said()
        yield from (zeros, state)

    def codes(self, name):
        lo, hi = code_range(self.bits, self.grid)
        return range(lo, hi + 1)

    @property
    def zero_code(self):
        if self.grid == "midrise":
            return None
        if self.zero_point is None:
            return 0
        first = int(self.zero_point.flat[0]) if self.zero_point.size else 0
        return first if (self.zero_point == first).all() else None

    def stored_shape(self, name):
        if name not in ("scale", "zero_point"):
            return super().stored_shape(name)
        if not self.by_row:
            return (1,)
        rows, row = self.shape[0], math.prod(self.shape[1:])
        return (rows, -(-row // self.group)) if self.group else (rows,)

    @classmethod
    def blank(cls, shape, settings):
        form = super().blank(shape, settings)
        try:
            code_range(form.bits, form.grid)
        except ValueError as e:
            raise FormatError(str(e)) from None
        if form.by_row and not shape or form.group and not form.by_row:
            raise FormatError("a scale a row needs an axis, and one a group is one a row")
        form.zero_point = None
        return form

    def zero_of(self, parts):
        self.zero_point = parts.get("zero_point")
        return self.zero_code

    def filled_parts(self, parts):
        if parts.get("zero_point") is not None and self.grid not in WITH_ZERO_POINT:
            raise ValueError(f"a zero point needs grid full or unsigned, got {self.grid}")
        return super().filled_parts(parts)

    def decode(self, *, training=False, rng=None):
        lo, hi = self.codes("q").start, self.codes("q").stop - 1
        offset = self.offset()
        if self.latent is None:
            w = dequantize(self.q, self.spread(raw(self.scale)), offset,
                           midrise=self.grid == "midrise")
            return Tensor(w)
        if self.learns:
            gain = self.gain(hi) if self.learns == "lsq" else 1.0
            return lsq_quantize(self.latent, self.spread(self.scale), lo=lo, hi=hi, gain=gain)
        return fake_quantize(self.latent, self.spread(raw(self.scale)), offset, lo=lo, hi=hi,
                             midrise=self.grid == "midrise")

    def gain(self, last: int):
        """Returns g = 1 / sqrt(N Q), the factor of the gradient of each scale, so that it
        broadcasts to the weight: N the entries kept that share the scale, Q the `last` code.

        Source: Esser et al. 2020, arXiv 1902.08153, section 2.2
        """
        kept = np.ones(self.shape, bool) if self.mask is None else self.mask
        if not self.by_row:
            counts = np.array([np.count_nonzero(kept)])
        elif not self.group:
            counts = kept.reshape(len(kept), -1).sum(axis=1)
        else:
            rows = kept.reshape(len(kept), -1)
            counts = np.add.reduceat(rows, np.arange(0, rows.shape[1], self.group), axis=1)
        gain = 1 / np.sqrt(np.maximum(counts, 1) * max(last, 1))
        return self.spread(gain.astype(self.latent.dtype))

    def spread(self, a):
        """Returns a scale or zero point for every entry: it broadcasts to the weight."""
        return spread(a, self.shape, self.group)

    def offset(self):
        """Returns the zero points for every entry, or 0."""
        return 0 if self.zero_point is None else self.spread(self.zero_point.astype(np.float32))

    def rescale(self, scale, zero_point=None) -> None:
        """Puts other scales, and zero points where the form has them, in place; ValueError where
        a shape differs or a scale is none."""
        scale = np.asarray(scale, np.float32)
        if scale.size != self.scale.size or not (np.isfinite(scale).all() and scale.all()):
            raise ValueError(f"scale must be {self.scale.size} numbers, finite and not 0")
        self.scale.data[...] = scale.reshape(self.scale.shape)
        if self.zero_point is not None:
            self.zero_point[...] = np.asarray(zero_point).reshape(self.zero_point.shape)

    def parameters(self):
        found = super().parameters()
        if self.learns is None:
            found.pop("scale", None)
        return found

    @property
    def ranged(self) -> bool:
        """Whether its scales are the range of its latent, for `rescale` to follow."""
        return self.learns is None

    def learning(self, how: str | None) -> Affine:
        """Returns the form, trainable, whose scale moves so: one of LEARNS.

        ValueError for a learnt one on a grid that has a zero point or no 0."""
        if how not in LEARNS:
            raise ValueError(f"how must be one of None, lsq, plain, got {how!r}")
        if how and (self.zero_point is not None or self.grid == "midrise"):
            raise ValueError("a learnt step size needs a symmetric grid that has a 0")
        form = self.thaw()
        form.learns = how
        return form

    def project(self):
        super().project()
        if self.learns and self.scale is not None:  # a step size keeps its sign
            np.maximum(self.scale.data, grids.affine.TINY, out=self.scale.data)

    def frozen_parts(self):
        if self.latent is None:
            return {}
        q = quantize(self.visible(), self.spread(raw(self.scale)), self.offset(), bits=self.bits,
                     grid=self.grid)
        return {"q": q, "latent": None}

    def thawed_parts(self):
        w = dequantize(self.q, self.spread(raw(self.scale)), self.offset(),
                       midrise=self.grid == "midrise")
        return {"q": None, "latent": w}

    def gather(self, index):
        if self.group:
            places = np.arange(math.prod(self.shape[1:])).reshape(1, *self.shape[1:])
            came = np.broadcast_to(places, self.shape)[index]
            if came.shape[1:] != self.shape[1:] or (came != places).any():
                raise ValueError("an affine cannot be cut so: scales are shared along its rows")
        return super().gather(index)


def spread(a, shape: tuple[int, ...], group: int = 0):
    """Returns scales or zero points, array or Tensor, so that they broadcast to a weight's shape.

    a : a number, (1,), (O,), or (O, groups) with `group` entries of a row each
    """
    if not a.shape or a.shape == (1,):
        return a.reshape(*[1] * len(shape)) if shape else a.reshape()
    if not group:
        return a.reshape(-1, *[1] * (len(shape) - 1))
    row = math.prod(shape[1:])
    index = (np.arange(shape[0])[:, None], np.arange(row) // group)
    return a[index].reshape(*shape)


class FixedPoint(Integers):
    """q 2^-fl, two's-complement integers of il + fl bits.

    q : integers of the weight's shape, copied        mask : True where kept, or None
    While trainable a float32 latent stands behind the codes, rounded to nearest (`grid/fixed.py`).
    Source: Gupta et al. 2015, arXiv 1502.02551
    """

    kind, wire = "fixed", 4
    settings = {"il": Setting(1, 24), "fl": Setting(-23, 23), "pruned": Setting(type=bool)}
    parts = {"latent": Part("latent", moves=True, optional=True),
             "q": Part("code", optional=True), "mask": MASK}
    zero_code = 0

    def __init__(self, q, il: int, fl: int, *, mask=None, trainable: bool = False):
        grids.fixed.fixed_range(il, fl)
        self.shape, self.il, self.fl, self.pruned = np.shape(q), il, fl, mask is not None
        check_codes("q", q, self.codes("q"))
        self._hold({"q": q, "mask": mask}, False)
        if trainable:
            vars(self).update(vars(self.thaw()))

    @classmethod
    def of(cls, w: Array, il: int, fl: int, *, mask=None, rounding: str = "nearest",
           key: int | None = None, trainable: bool = False) -> FixedPoint:
        """Returns the form of w; arguments of the class and of `grid.fixed_point`."""
        q = grids.fixed_point(np.asarray(raw(w)), il, fl, rounding=rounding, key=key)
        form = cls(q, il, fl, mask=None if trainable else mask, trainable=trainable)
        return form.masked(mask) if trainable and mask is not None else form

    def _said(self):
        yield f"<{self.il}, {self.fl}>"
        *_, zeros, state = super()._said()
        yield from (zeros, state)

    def codes(self, name):
        lo, hi = grids.fixed.fixed_range(self.il, self.fl)
        return range(lo, hi + 1)

    @classmethod
    def blank(cls, shape, settings):
        form = super().blank(shape, settings)
        try:
            grids.fixed.fixed_range(form.il, form.fl)
        except ValueError as e:
            raise FormatError(str(e)) from None
        return form

    def decode(self, *, training=False, rng=None):
        if self.latent is None:
            return Tensor(self.q.astype(np.float32) * np.float32(2.0**-self.fl))
        return grids.round_fixed(self.latent, il=self.il, fl=self.fl)

    def frozen_parts(self):
        if self.latent is None:
            return {}
        return {"q": grids.fixed_point(self.visible(), self.il, self.fl), "latent": None}

    def thawed_parts(self):
        return {"q": None, "latent": self.q.astype(np.float32) * np.float32(2.0**-self.fl)}
