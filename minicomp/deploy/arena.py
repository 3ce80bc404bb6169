"""Where the values of a program lie: one block of memory, its places planned before the first call.

A value lives from the step that gives it to the last that reads it; two that live at a time may not
overlap. The largest sum of values that live at a time is a bound below which no plan gets. Values
are laid down one after the other, each as low as it fits, the largest first; then the one that ends
at the top is taken first, and so on, as long as there is a gap to the bound.
Source: Pisarchyk & Lee 2020, arXiv 2001.03288, greedy by size
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CACHE_LINE = 64  # bytes at a multiple of which a value begins
ROUNDS = 64  # orders that are tried


@dataclass(frozen=True)
class Value:
    """A value of `size` bytes that step `first` gives and step `last` is the last to read."""

    name: str
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """offsets : bytes, by value        size : of the block        bound : the largest sum of values
    that live at a time, as they are; a value takes whole cache lines, which may be a few more"""

    offsets: dict[str, int]
    size: int
    bound: int


def planned(values: Sequence[Value]) -> Arena:
    """Returns where values lie; the same for the same values."""
    bound, least = live(values), live([_in_lines(v) for v in values])
    order = sorted(values, key=lambda v: (-v.size, v.first, v.name))
    best = None
    for _ in range(ROUNDS):
        offsets = _laid(order)
        tops = [offsets[v.name] + _in_lines(v).size for v in order]
        if best is None or max(tops, default=0) < best.size:
            best = Arena(offsets, max(tops, default=0), bound)
        if best.size <= least:
            break
        highest = order[tops.index(max(tops))]
        order = [highest, *(v for v in order if v is not highest)]
    return best


def live(values: Sequence[Value]) -> int:
    """Returns the largest sum of bytes that live at a time."""
    return max((sum(v.size for v in values if v.first <= one.first <= v.last) for one in values),
               default=0)


def _in_lines(v: Value) -> Value:
    return Value(v.name, -(-v.size // CACHE_LINE) * CACHE_LINE, v.first, v.last)


def _laid(order: Sequence[Value]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    placed: list[tuple[int, int, Value]] = []  # (begin, end, value)
    for v in order:
        at, size = 0, _in_lines(v).size
        for begin, end, other in sorted(placed, key=lambda p: p[:2]):
            if other.last < v.first or v.last < other.first:
                continue
            if at + size <= begin:
                break
            at = max(at, end)
        placed.append((at, at + size, v))
        offsets[v.name] = at
    return offsets
