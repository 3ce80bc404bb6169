"""The choice of a layout for one tensor, and its pattern of kept entries in that layout.

layout      3 bits, one of LAYOUTS
order       1 bit for tensors of two axes or more: C order, or axes reversed
pattern     nothing for `all`; codec/positions.py, codec/context.py for `context`, codec/mixed.py
            for `mixed`
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import FormatError
from . import context as range_coder, mixed, positions, streams
from .bits import BitReader, BitWriter, bits_needed
from .positions import LAYOUTS, Choice, Pattern

Array = np.ndarray
ALL = Choice("all", order=0)
LEARNT = ("context", "mixed")  # that code the values as well
_LAYOUT = 3  # bits


@dataclass(frozen=True)
class Tensor:
    """What a layout is to hold.

    mask : the weight's, boolean        codes : of its shape, 0..K, 0 where the mask is False
    known : what a reader knows of it        low : how many of the K symbols are values below 0
    followed : the section goes on behind it: no codes may run to its end
    """

    mask: Array
    codes: Array
    known: mixed.Known
    low: int = 0
    followed: bool = False


@dataclass(frozen=True)
class Plan:
    """How a tensor will be written; `made` is what a learnt layout made of it."""

    choice: Choice
    tensor: Tensor
    made: Array | mixed.Mixed | None = None


def plan(tensor: Tensor, cost: Callable, choice: Choice) -> Plan:
    """Returns the plan that takes the fewest bits of those that `choice` allows.

    cost : (layout, fillers) -> bits of the values outside the pattern, None where the layout cannot
        be
    The layout context is tried in the scan order of the best of the others.
    Raises ValueError where nothing fits what `choice` demands.
    """
    learnt = [name for name in LEARNT if _tried(name, tensor, choice)]
    others = replace(choice, layout=None, parameter=None) if choice.layout in LEARNT else choice
    best, least = positions.cheapest(tensor.mask, cost, others)
    best, least = Plan(best, tensor), math.inf if choice.layout in LEARNT else least
    for name in learnt:
        made, bits = _learn(name, tensor, best.choice.order, choice)
        if bits + cost(name, 0) < least:
            best, least = made, bits + cost(name, 0)
    return best


def plan_dense(tensor: Tensor, bits: int, choice: Choice) -> Plan:
    """Returns the plan of a tensor whose entries are all stored, in so many `bits` as they are."""
    best = Plan(ALL, tensor)
    small = tensor.known.dense and tensor.known.symbols > 1 and tensor.mask.size <= mixed.DENSE_MOST
    if not (choice.layout == "mixed" or small) or not _tried("mixed", tensor, choice):
        return best
    made, learnt = _learn("mixed", tensor, 0, choice)
    return made if learnt < bits or choice.layout == "mixed" else best


def _tried(name: str, tensor: Tensor, choice: Choice) -> bool:
    # Whether a learnt layout may take the tensor; ValueError where it must and cannot.
    fits = {"context": range_coder, "mixed": mixed}[name].fits(
        tensor.mask.shape, tensor.known.symbols)
    if choice.layout == name and not fits:
        raise ValueError(f"layout {name} takes at most 256 symbols, got {tensor.known.symbols}, or "
                         "the tensor is too large")
    free = not (choice.layout or choice.gaps or choice.values
                or tensor.followed and tensor.known.symbols > 1)
    return choice.layout == name or free and fits and (
        name == "context" or mixed.pays(tensor.mask.size))


def _learn(name: str, tensor: Tensor, order: int, choice: Choice) -> tuple[Plan, float]:
    # (plan, bits) of a learnt layout: infinitely many where it may not be written, ValueError if it
    # must
    symbols = tensor.known.symbols
    if name == "mixed":
        made = mixed.pack(tensor.codes, tensor.known, tensor.low)
        held = mixed.holds(tensor.mask.size, len(made.data))
        if choice.layout == "mixed" and not held:
            raise ValueError(f"layout mixed takes at most {mixed.PER_BYTE} entries a byte, got "
                             f"{tensor.mask.size} in {len(made.data)} bytes")
        bits = mixed.cost(made, tensor.known) if held else math.inf
        return Plan(Choice("mixed", order=0), tensor, made), bits
    data, lag = range_coder.pack(tensor.codes, order, symbols, choice.parameter)
    kept = int(np.count_nonzero(tensor.mask))
    return (Plan(Choice("context", lag, order), tensor, data),
            range_coder.cost(data, kept, lag, symbols))


def write(w: BitWriter, plan: Plan) -> Array:
    """Appends layout, order and pattern; returns the source of each value that must follow.

    A source is the number of a kept entry in scan order (of any entry for `all`), or -1 at a
    filler.
    """
    choice, tensor, mask = plan.choice, plan.tensor, plan.tensor.mask
    w.write(LAYOUTS[choice.layout], _LAYOUT)
    w.write(choice.order, bits_needed(len(positions.orders(mask.ndim))))
    kept = int(np.count_nonzero(mask))
    if choice.layout == "all":
        return np.arange(mask.size)
    if choice.layout == "context":
        range_coder.write(w, plan.made, kept, choice.parameter, tensor.known.symbols)
        return np.arange(kept)
    if choice.layout == "mixed":
        mixed.write(w, plan.made, tensor.known)
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


def read_learnt(r: BitReader, layout: str, order: int, known: mixed.Known) -> tuple[Array, str]:
    """Returns (codes of the known shape, how) of a layout that codes the values as well."""
    if layout == "context":
        codes, how = range_coder.read(r, known.shape, order, known.symbols)
        return codes, in_words(how, order)
    if order:
        raise FormatError("layout mixed has no axes reversed")
    return mixed.read(r, known)


def read_values(
    r: BitReader, layout: str, order: int, known: mixed.Known, read: Callable[[int], Array]
) -> tuple[Array, Array, str]:
    """Returns (values of `shape`, 0 where none is kept; mask; how) of any layout but `all`.

    read(n) -> (n,) values; in a relative index those whose bits are all 0 are fillers
    """
    shape = known.shape
    pattern = (
        _read_mask(r, layout, order, known)
        if layout in LEARNT
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
    return flat, mask, pattern.how if layout in LEARNT else in_words(pattern.how, order)


def _read_mask(r: BitReader, layout: str, order: int, known: mixed.Known) -> Pattern:
    codes, how = read_learnt(r, layout, order, replace(known, symbols=1))
    r.budget.allow(2 * codes.nbytes + 8 * int(np.count_nonzero(codes)))
    found = np.flatnonzero(positions.scan(codes, order))
    return Pattern(len(found), how, lambda _: found)


def in_words(how: str, order: int) -> str:
    """Returns the layout in words with its order."""
    return how + (", axes reversed" if order else "")
