"""The words in which a form declares what it stores, their rules, and the two kinds of mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...tensor import Array, primitive, rules


BFLOAT16 = np.uint16  # NumPy has no such dtype: the bits stand for it


@dataclass(frozen=True)
class Part:
    """One array of a form, or a form within it.

    role : "value", floats; "code", integers in `Form.codes`; "scale", floats that are not 0;
        "table", floats that codes point into, or beside the weights; "mask", True where kept;
        "latent", the floats behind codes, which no file holds
    moves : an optimizer moves it while the form is trainable        optional : it may be None
    axes : None: of the weight's shape; (0,): an entry for each of axis 0, or for each block of it,
        or one for all; (): it belongs to no place
    nested : kinds of the form that it is; () for an array        dtype : of its floats in a file;
        BFLOAT16 are the upper two bytes of float32
    least : the smallest that its floats may be, or None
    """

    role: str
    moves: bool = False
    optional: bool = False
    axes: tuple[int, ...] | None = None
    nested: tuple[str, ...] = ()
    dtype: type = np.float32
    least: float | None = None


@dataclass(frozen=True)
class Setting:
    """A number in lo..hi that a form needs beside its parts; with type bool, true or false."""

    lo: int = 0
    hi: int = 1
    type: type = int

    def check(self, name: str, value):
        """Returns the value; ValueError names the setting, its range and what was given."""
        if type(value) is not self.type or not self.lo <= value <= self.hi:
            what = "true or false" if self.type is bool else f"an integer in [{self.lo}, {self.hi}]"
            raise ValueError(f"{name} must be {what}, got {str(value)[:40]!r}")
        return value


MASK = Part("mask", optional=True)


@primitive
def keep(w, mask):
    """Returns w where the mask is True, else +0, whatever w is there; its gradient likewise."""
    # A product of the bits, as integers, with 0 or 1: eight times as fast as where().
    return (w.view(f"i{w.itemsize}") * mask).view(w.dtype)


@primitive
def hide(w, mask):
    """Returns keep(w, mask); the cotangent reaches every entry of w.

    Source: Guo et al. 2016 (arXiv 1608.04493), eq. (2)
    """
    return keep.fn(w, mask)


rules(keep, lambda g, y, w, mask: keep(g, mask), None)
rules(hide, lambda g, y, w, mask: g, None)


def check_codes(name: str, codes: Array, allowed: range) -> None:
    """Raises ValueError unless all codes are integers of the range."""
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integers, got {codes.dtype}")
    if codes.size and not (allowed.start <= codes.min() and codes.max() < allowed.stop):
        raise ValueError(f"{name} must be in [{allowed.start}, {allowed.stop - 1}], "
                         f"got {codes.min()}..{codes.max()}")


def check_held(name: str, mine: Array, given: Array) -> None:
    """Raises ValueError where an array of `mine`'s dtype cannot hold what is given, a number each:
    NaN, infinity, what overflows, in a mask what is neither 0 nor 1."""
    given = np.asarray(given)
    if mine.dtype.kind == "f":
        with np.errstate(over="ignore"):
            sound = np.isfinite(given.astype(mine.dtype, copy=False))
        if not sound.all():
            raise ValueError(f"{name} must be finite in {mine.dtype}, got {given[~sound].flat[0]}")
    elif mine.dtype.kind == "b" and not ((given == 0) | (given == 1)).all():
        raise ValueError(f"{name} must be true or false")


def check_floats(name: str, part: Part, held: Array) -> Array:
    """Returns the array as float32; ValueError for no number, one too small, a scale of 0."""
    if not np.isfinite(held).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    if part.least is not None and (held < part.least).any():
        raise ValueError(f"{name} must be at least {part.least:g}, got {held.min():g}")
    if part.role == "scale" and not held.all():
        raise ValueError(f"{name} must not be 0")
    return held.astype(np.float32, copy=False)


def code_dtype(codes: range) -> np.dtype:
    """Returns the smallest dtype of integers that holds all codes."""
    return np.min_scalar_type(min(codes.start, -codes.stop) if codes.start < 0 else codes.stop - 1)
