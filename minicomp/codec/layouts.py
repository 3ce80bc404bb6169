"""The choice of a layout for one tensor, and its pattern of kept entries in that layout.

layout      3 bits, one of LAYOUTS
order       1 bit for tensors of two axes or more: C order, or axes reversed
pattern     nothing for `all`; codec/positions.py, or codec/context.py for `context`
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError
from . import positions, context as range_coder, streams
from .bits import BitReader, BitWriter, bits_needed
from .positions import LAYOUTS, Choice, Pattern

Array = np.ndarray
ALL = Choice("all", order=0)
_LAYOUT = 3  # bits


@dataclass(frozen=True)
class Plan:
    """What will be written of a tensor.

    choice : complete        mask : the tensor's        symbols, data : of the layout context
    """

    choice: Choice
    mask: Array
    symbols: int = 0
    data: Array | None = None


def plan(mask: Array, codes: Array, symbols: int, cost: Callable, choice: Choice) -> Plan:
    """Returns the plan that takes the fewest bits of those that `choice` allows.

    mask : the weight's, boolean        codes : of its shape, 0..symbols, 0 where the mask is False
    cost : (layout, fillers) -> bits of the values outside the pattern, None where the layout cannot
        be
    The layout context is tried in the scan order of the best of the others.
    Raises ValueError where nothing fits what `choice` demands.
    """
    forced = choice.layout == "context"
    best, bits = positions.cheapest(mask, cost, Choice(order=choice.order) if forced else choice)
    fits = range_coder.fits(mask.shape, symbols)
    if forced and not fits:
        raise ValueError(
            f"layout context takes at most 256 symbols, got {symbols}, or the tensor is too large"
        )
    if not forced and (choice.layout or choice.gaps or choice.values or not fits):
        return Plan(best, mask)
    data, lag = range_coder.pack(codes, best.order, symbols, choice.parameter if forced else None)
    kept = int(np.count_nonzero(mask))
    if not forced and range_coder.cost(data, kept, lag, symbols) + cost("context", 0) >= bits:
        return Plan(best, mask)
    return Plan(Choice("context", lag, best.order), mask, symbols, data)


def write(w: BitWriter, plan: Plan) -> Array:
    """Appends layout, order and pattern; returns the source of each value that must follow.

    A source is the number of a kept entry in scan order (of any entry for `all`), or -1 at a
    filler.
    """
    choice, mask = plan.choice, plan.mask
    w.write(LAYOUTS[choice.layout], _LAYOUT)
    w.write(choice.order, bits_needed(len(positions.orders(mask.ndim))))
    kept = int(np.count_nonzero(mask))
    if choice.layout == "all":
        return np.arange(mask.size)
    if choice.layout == "context":
        range_coder.write(w, plan.data, kept, choice.parameter, plan.symbols)
        return np.arange(kept)
    return positions.write(w, np.flatnonzero(positions.scan(mask, choice.order)), mask.size, choice)


def read_layout(r: BitReader, shape: tuple[int, ...]) -> tuple[str, int]:
    """Returns (layout, order); FormatError where there are none of that number."""
    layout, number = r.read(_LAYOUT), len(positions.orders(len(shape)))
    order = r.read(bits_needed(number))
    r.charge("header")
    for name, its_number in LAYOUTS.items():
        if its_number == layout:
            return name, order
    raise FormatError(f"no layout {layout}")


def read_values(
    r: BitReader, shape: tuple[int, ...], layout: str, order: int, read: Callable[[int], Array]
) -> tuple[Array, Array, str]:
    """Returns (values of `shape`, 0 where none is kept; mask; how) of any layout but `all`.

    read(n) -> (n,) values; in a relative index those whose bits are all 0 are fillers
    """
    pattern = (
        _read_context(r, shape, order)
        if layout == "context"
        else positions.read(r, math.prod(shape), layout)
    )
    values = read(pattern.entries)
    if layout == "relative":
        filler = streams.all_bits_zero(values)
        found, values = pattern.place(filler), values[~filler]
    else:
        found = pattern.place(None)
    r.budget.allow(8 * (2 + len(shape)) * len(found) * order)
    found = positions.places(found, shape, order)
    flat, mask = np.zeros(shape, values.dtype), np.zeros(shape, bool)
    flat.reshape(-1)[found], mask.reshape(-1)[found] = values, True
    return flat, mask, in_words(pattern.how, order)


def _read_context(r: BitReader, shape: tuple[int, ...], order: int) -> Pattern:
    codes, how = range_coder.read(r, shape, order, 1)
    r.budget.allow(2 * codes.nbytes + 8 * int(np.count_nonzero(codes)))
    found = np.flatnonzero(positions.scan(codes, order))
    return Pattern(len(found), how, lambda _: found)


def in_words(how: str, order: int) -> str:
    """Returns the layout in words with its order."""
    return how + (", axes reversed" if order else "")
