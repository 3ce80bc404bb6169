"""From an array of the graph to a weight: its codes where it was made of such, else its numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...errors import FormatError
from ...grid import code_range
from ...nn.forms import Affine, Dense, Form
from .graph import Coded, Constant

Array = np.ndarray
SIGN = 128  # what unsigned codes of 8 bits lie above signed ones


def grid_named(lo: int, hi: int) -> tuple[int, str] | None:
    """Returns (bits, name) of the grid with codes lo..hi, None where there is none.

    >>> grid_named(-127, 127), grid_named(0, 15), grid_named(-3, 9)
    ((8, 'narrow'), (4, 'unsigned'), None)
    """
    for bits in range(1, 17):
        for grid in ("narrow", "full", "unsigned"):
            if (bits > 1 or grid != "narrow") and code_range(bits, grid) == (lo, hi):
                return bits, grid
    return None


def coded_constant(c: Coded) -> Constant:
    """Returns the array that codes stand for, scale (q - zero_point), float32."""
    scale, zero_point = (spread(a, c.q.shape, c.axis, c.block) for a in (c.scale, c.zero_point))
    with np.errstate(over="ignore", invalid="ignore"):
        real = scale * (c.q.astype(np.float32) - zero_point.astype(np.float32))
    return Constant(real.astype(np.float32), None, c)


def spread(a: Array, shape: tuple[int, ...], axis: int | None, block: int) -> Array:
    """Returns scales or zero points so that they broadcast to codes of a shape."""
    if axis is None:
        return a.reshape(())
    if block:
        return np.repeat(a, block, axis=axis)[tuple(slice(n) for n in shape)]
    return a.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def transposed(c: Constant, axes: tuple[int, ...]) -> Constant:
    """Returns a constant with its axes in another order, codes too."""
    coded = c.coded
    if coded is not None:
        turned = {"q": coded.q.transpose(axes)}
        if coded.axis is not None:
            turned["axis"] = axes.index(coded.axis)
        if coded.block:
            turned |= {part: getattr(coded, part).transpose(axes) for part in ("scale",
                                                                               "zero_point")}
        coded = replace(coded, **turned)
    return Constant(c.array.transpose(axes), c.limits, coded)


def columns(c: Constant, order: Array) -> Constant:
    """Returns a constant (O, I) with its columns in another order."""
    coded = c.coded
    if coded is not None:
        along = coded.axis == 1  # scales of columns move, of blocks of them cannot
        coded = None if coded.block else replace(coded, q=coded.q[:, order], **(
            {part: getattr(coded, part)[order] for part in ("scale", "zero_point")}
            if along else {}))
    return Constant(c.array[:, order], c.limits, coded)


def times(c: Constant, factor: float) -> Constant:
    """Returns a constant times a number."""
    if factor == 1:
        return c
    coded = c.coded and replace(c.coded, scale=c.coded.scale * np.float32(factor))
    return Constant(c.array * np.float32(factor), None, coded)


def stretched(c: Constant, before: tuple[int, int], after: tuple[int, int],
              apart: tuple[int, int]) -> tuple[Constant, Array | None]:
    """Returns a weight (O, C, K, K) with zeros in it, and which entries are none; None for all.

    before, after : rows and columns of zeros at either end        apart : 1 and more, from one
        entry to the next
    """
    if not any(before + after) and apart == (1, 1):
        return c, None
    sizes = [(k - 1) * d + 1 + b + a for k, d, b, a in zip(c.array.shape[2:], apart, before, after)]
    here = (slice(None), slice(None), *(slice(b, n - a, d) for n, d, b, a in
                                        zip(sizes, apart, before, after)))
    mask = np.zeros((*c.array.shape[:2], *sizes), bool)
    mask[here] = True

    def laid(a, fill):
        wide = np.empty(mask.shape, a.dtype)
        wide[...] = fill
        wide[here] = a
        return wide

    coded = c.coded
    if coded is not None:
        zero = spread(coded.zero_point, coded.q.shape, coded.axis, 0) if not coded.block else None
        coded = None if zero is None else replace(coded, q=laid(coded.q, zero))
    return Constant(laid(c.array, 0), c.limits, coded), mask


def weight_form(c: Constant, notes: list[str], what: str, mask: Array | None = None) -> Form:
    """Returns the form of a weight (O, ...): its codes, scales and zero points as they are, where
    a scale belongs to all, to a row, or to a block of a row; else its numbers.

    notes : takes a sentence where codes are lost        what : whose weight it is, for that
    Raises FormatError for NaN and infinity, ValueError for what no form can hold.
    """
    finite(c.array, "the weight")
    coded = c.coded
    if coded is None:
        return Dense(c.array.astype(np.float32, copy=False), mask)
    last = coded.axis == coded.q.ndim - 1 == 1 and coded.block > 0
    if not (coded.axis in (None, 0) and not coded.block or last):
        notes.append(f"{what}: scales do not belong to output channels, the weight is kept as "
                     "floats")
        return Dense(c.array.astype(np.float32), mask)
    q, zero_point, (lo, hi) = coded.q.astype(np.int32), coded.zero_point.astype(np.int32), (
        coded.limits)
    if (lo, hi) == (0, 255) and (zero_point == SIGN).all():  # bytes of signed codes
        q, zero_point, (lo, hi) = q - SIGN, zero_point - SIGN, (-SIGN, SIGN - 1)
    if lo == -hi - 1 and hi > 0 and not zero_point.any() and q.min(initial=0) > lo:
        lo += 1  # the one code more is not used
    bits, grid = _grid(lo, hi, zero_point)
    return Affine(q, coded.scale, zero_point if zero_point.any() else None, bits=bits, grid=grid,
                  group=coded.block if last else 0, mask=mask)


def _grid(lo: int, hi: int, zero_point: Array) -> tuple[int, str]:
    # The grid of these codes, or the smallest that has them all.
    found = grid_named(lo, hi)
    if found and not (zero_point.any() and found[1] == "narrow"):
        return found
    signs = ("unsigned",) if lo >= 0 else ("full",) if zero_point.any() else ("narrow", "full")
    for bits in range(2, 17):
        for grid in signs:
            least, most = code_range(bits, grid)
            if least <= lo and hi <= most:
                return bits, grid
    raise ValueError(f"codes must fit into 16 bits, got {lo}..{hi}")


def bias_form(b: Array, channels: int) -> Dense:
    """Returns the form of a bias, one for each output channel; ValueError for another shape."""
    finite(b, "the bias")
    if b.size not in (1, channels) or b.size != max(b.shape, default=1):
        raise ValueError(f"the bias must be {channels} numbers, got shape {b.shape}")
    return Dense(np.broadcast_to(b.astype(np.float32).reshape(-1), (channels,)).copy())


def finite(a: Array, what: str) -> None:
    """Raises FormatError where an array is none of numbers, or holds NaN or infinity."""
    if a.dtype.kind not in "fiu" or not np.isfinite(a.astype(np.float32, copy=False)).all():
        raise FormatError(f"{what} must be finite float32 numbers")
