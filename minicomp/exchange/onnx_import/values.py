"""What a name of the graph stands for while the graph is read, and moving without computing.

The graph sees a value of the net in a shape and order of its own: transposed to channels last,
flattened, padded. Nothing is done about that where it happens. A `Value` keeps for each entry that
the graph sees its place in what the node gives, and reshape, transpose, squeeze, pad and concat are
those of NumPy on an array of places. Where a layer then reads it, two transposes have cancelled, a
padding lies around maps, or channels are shuffled: `resolve` finds out which.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .graph import Constant

Array = np.ndarray
Shape = tuple[int, ...]
ZERO = -1  # the place of an entry that is 0 whatever the node gives


@dataclass(frozen=True)
class Value:
    """What the graph sees of a node of the net, N left out everywhere.

    source : the node        at : shape of what it gives, (C, H, W) or (D,)
    shape : in which the graph sees it
    places : of that shape, for each entry its place in `at` in C order, or ZERO; None: in order
    """

    source: str
    at: Shape
    shape: Shape
    places: Array | None = None


@dataclass(frozen=True)
class Grid:
    """scale (q - zero_point), codes lo..hi, of an activation."""

    scale: float
    zero_point: int
    lo: int
    hi: int


@dataclass(frozen=True)
class Codes:
    """Integers of which the net has the real numbers.

    value : those numbers, which go onto the grid yet, unless `there`
    """

    value: Value
    grid: Grid
    there: bool = False


@dataclass(frozen=True)
class Integers:
    """Integers that the net holds as floats equal to them: an input of bytes, a sum of products."""

    value: Value
    limits: tuple[int, int] | None = None


@dataclass(frozen=True)
class Tail:
    """What stands behind the logits of a classifier and is cut off.   of : the operator"""

    value: Value
    of: str


Item = Value | Codes | Integers | Tail | Constant
Seen = (Value, Codes, Integers)  # of which the net has numbers


def batch(shape: Shape) -> str:
    """Returns the shape of a batch in words.

    >>> batch((3, 8, 8))
    '(N, 3, 8, 8)'
    """
    return f"(N, {', '.join(map(str, shape))})"


def over(item: Value | Codes | Integers, change: Callable[[Value], Value]):
    """Returns an item of the same kind, of the changed value."""
    return change(item) if isinstance(item, Value) else replace(item, value=change(item.value))


def value_of(item: Value | Codes | Integers) -> Value:
    """Returns the value that an item is about."""
    return item if isinstance(item, Value) else item.value


class Moves:
    """Moves values about, within a number of bytes that all of it may take.

    Raises ValueError where a value would have to be larger.
    """

    def __init__(self, max_bytes: int):
        self.left, self.max_bytes = max_bytes, max_bytes

    def charge(self, entries: int, each: int = 8) -> None:
        """Takes the bytes of an array off what is left; ValueError where there are too few."""
        self.left -= entries * each
        if self.left < 0:
            raise ValueError(f"constants and views of the graph must take at most {self.max_bytes} "
                             "bytes in all, got more")

    def places(self, v: Value) -> Array:
        """Returns the place of each entry that the graph sees."""
        if v.places is not None:
            return v.places
        self.charge(math.prod(v.shape))
        return np.arange(math.prod(v.shape)).reshape(v.shape)

    def moved(self, v: Value, move: Callable[[Array], Array]) -> Value:
        """Returns the value after a move of its entries.   move : of an array of v.shape"""
        return self.seen(v, move(self.places(v)))

    def seen(self, v: Value, places: Array) -> Value:
        """Returns the value of these places."""
        self.charge(places.size)
        entries = math.prod(v.at)
        ordered = places.size == entries and (places.ravel() == np.arange(entries)).all()
        return replace(v, shape=places.shape, places=None if ordered else places)

    def reshaped(self, v: Value, shape: Shape) -> Value:
        """Returns the value in another shape; ValueError where it has not as many entries."""
        if math.prod(shape) != math.prod(v.shape):
            raise ValueError(f"{math.prod(v.shape)} entries cannot have shape {shape}")
        places = None if v.places is None else v.places.reshape(shape)
        return replace(v, shape=tuple(shape), places=places)


def box(places: Array) -> tuple[int, int, int, int] | None:
    """Returns (top, left, bottom, right), the rows and columns of ZERO around maps (C, H, W); None
    where nothing else is there."""
    inside = (places != ZERO).any(axis=0)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    h, w = inside.shape
    return (int(rows[0]), int(columns[0]), h - 1 - int(rows[-1]), w - 1 - int(columns[-1]))


def channels_first(places: Array, at: Shape) -> bool:
    """Returns whether maps (H, W, C) are seen as (C, H, W).   at : of the node"""
    last = len(at) == 3 and places.shape == (at[2], *at[:2])
    return last and bool((places.ravel() == np.arange(places.size).reshape(at).transpose(
        2, 0, 1).ravel()).all())


def channel_order(places: Array, at: Shape) -> Array | None:
    """Returns the source channel of each channel of maps whose channels alone are reordered, (C,);
    None where it is something else.   places : (C, H, W)        at : of the node"""
    if places.shape != at:
        return None
    plane = math.prod(at[1:])
    first = places.reshape(at[0], plane)[:, :1]
    whole = (places.reshape(at[0], plane) == first + np.arange(plane)).all()
    return first[:, 0] // plane if whole and (first % plane == 0).all() else None
