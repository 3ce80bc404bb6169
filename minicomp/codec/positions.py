"""The pattern of a pruned tensor: which of its entries are kept, in the fewest bits.

A tensor is scanned in C order or with its axes reversed, and its kept entries are described by a
*layout*:

    all        every entry is stored, pruned ones too
    bitmap     one bit an entry
    relative   Deep Compression's relative index of p bits, whose fillers take a value each
    rice       gap - 1 in a Rice code of parameter k: best for gaps of a random pattern, no table
    bucket     gap - 1 = v cut into a symbol for its size and plain bits below it, as DEFLATE cuts
               its distances, so that a table of some twenty symbols does for any gap:
                   v < 2^(s+1)   symbol v, no bits below
                   else          symbol (e - s) 2^s + (v >> (e - s)) with e = floor(log2 v),
                                 e - s bits below
    context    a range coder that learns from neighbours; it codes the values as well
               (codec/context.py)
    mixed      one that mixes more of such models (codec/mixed.py)

The order matters where kept entries cluster: pixels that are always black empty whole columns of a
first layer's (O, I) weight. Which order has the cheaper gaps is found by trying.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import FormatError
from . import streams
from .bits import BitReader, BitWriter, count_cost, rice_cost
from .index import filler_count, gaps, relative_index, relative_positions

Array = np.ndarray
# their numbers in a file
LAYOUTS = {"all": 0, "bitmap": 1, "relative": 2, "rice": 3, "bucket": 4, "context": 5, "mixed": 6}
# parameters tried where none is asked for; a file may have p up to 16, k and s up to 15
TRIED = {
    "all": [None],
    "bitmap": [None],
    "relative": range(1, 9),
    "rice": range(16),
    "bucket": range(4),
}
_PARAMETER = 4  # bits of p - 1, k or s


@dataclass(frozen=True)
class Choice:
    """How a tensor's entries are laid out; what is None is left to what takes the fewest bits.

    layout : one of LAYOUTS        parameter : p of relative, k of rice, s of bucket, lag of context
    order : number in `orders(ndim)`; a tensor of one axis has order 0 alone, whatever is asked
    gaps, values : "plain" or "huffman"; context and mixed are then out of the question
    """

    layout: str | None = None
    parameter: int | None = None
    order: int | None = None
    gaps: str | None = None
    values: str | None = None

    def __post_init__(self):
        if self.layout not in (None, *LAYOUTS):
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        for coder in (self.gaps, self.values):
            if coder not in (None, *streams.CODERS):
                raise ValueError(
                    f"a coder must be one of {', '.join(streams.CODERS)}, got {coder!r}"
                )
        if self.parameter is not None and not 0 <= self.parameter <= 255:
            raise ValueError(f"parameter must be in [0, 255], got {self.parameter}")
        if self.order not in (None, 0, 1):
            raise ValueError(f"order must be 0 or 1, got {self.order!r}")


def orders(ndim: int) -> list[tuple[int, ...]]:
    """Returns the orders of axes, slowest first, of a scan: C order and its reverse."""
    forward = tuple(range(ndim))
    return [forward, forward[::-1]] if ndim > 1 else [forward]


def scan(a: Array, order: int) -> Array:
    """Returns the entries of `a` in an order, (n,)."""
    return a.transpose(orders(a.ndim)[order]).ravel()


def places(found: Array, shape: tuple[int, ...], order: int) -> Array:
    """Returns where positions of a scan stand in C order."""
    if order == 0:
        return found
    axes = orders(len(shape))[order]
    index = np.unravel_index(found, [shape[a] for a in axes])
    return np.ravel_multi_index([index[axes.index(a)] for a in range(len(shape))], shape)


def unscan(flat: Array, shape: tuple[int, ...], order: int) -> Array:
    """Returns the array of `shape` whose `scan` is flat."""
    axes = orders(len(shape))[order]
    return np.ascontiguousarray(flat.reshape([shape[a] for a in axes]).transpose(np.argsort(axes)))


def cheapest(mask: Array, values_cost, choice: Choice) -> tuple[Choice, int]:
    """Returns (choice, bits): what is open in `choice` is filled in by the fewest bits.

    The coders stay open; the layout context is not among those tried.

    mask : array of bool        values_cost : (layout, fillers) -> bits of the values, None where
        impossible
    Raises ValueError where nothing fits what `choice` demands.
    """
    best, least = None, None
    number = len(orders(mask.ndim))
    for order in range(number) if choice.order is None else [min(choice.order, number - 1)]:
        positions = np.flatnonzero(scan(mask, order))
        for candidate, bits, fillers in _candidates(
            positions, mask.size, replace(choice, order=order)
        ):
            values = values_cost(candidate.layout, fillers)
            if values is not None and (least is None or bits + values < least):
                best, least = candidate, bits + values
    if best is None:
        raise ValueError(f"no layout stores this tensor as {choice}")
    return best, least


def _candidates(positions: Array, n: int, choice: Choice):
    # (choice, bits of the pattern, fillers) of every layout and parameter that `choice` allows
    ahead, fillers = gaps(positions) - 1, 0
    head = count_cost(len(ahead)) + _PARAMETER
    for layout in TRIED if choice.layout is None else [choice.layout]:
        for parameter in _parameters(choice, TRIED[layout]):
            if layout == "all":
                bits = 0
            elif layout == "bitmap":
                bits = n
            elif layout == "rice":
                bits = head + rice_cost(ahead, parameter)
            elif layout == "bucket":
                symbols, below = bucket(ahead, parameter)
                freq = np.bincount(symbols, minlength=buckets(n, parameter))
                bits = head + streams.choose(freq, choice.gaps).bits + int(below.sum())
            else:
                fillers = filler_count(positions, parameter)
                freq = np.bincount(ahead & ((1 << parameter) - 1), minlength=1 << parameter)
                freq[-1] += fillers
                bits = (
                    count_cost(len(ahead) + fillers)
                    + _PARAMETER
                    + streams.choose(freq, choice.gaps).bits
                )
            yield replace(choice, layout=layout, parameter=parameter), bits, (
                fillers if layout == "relative" else 0
            )


def _parameters(choice: Choice, tried):
    return tried if choice.parameter is None or tried == [None] else [choice.parameter]


def bucket(v: Array, s: int) -> tuple[Array, Array]:
    """Returns (symbol, number of bits below it) of integers v >= 0; see the head of this file.

    >>> [a.tolist() for a in bucket(np.array([0, 1, 2, 3, 4, 7, 8]), 0)]
    [[0, 1, 2, 2, 3, 3, 4], [0, 0, 1, 1, 2, 2, 3]]
    """
    v = np.asarray(v, np.int64)
    e = np.frexp(v.astype(np.float64))[1] - 1  # floor(log2 v), exact below 2^53; -1 at 0
    below = np.maximum(e - s, 0)
    return (below << s) + (v >> below), below


def unbucket(symbols: Array, s: int) -> tuple[Array, Array]:
    """Returns (v with its bits below 0, number of bits below) of bucket's symbols."""
    symbols = symbols.astype(np.int64)
    below = np.maximum((symbols >> s) - 1, 0)
    return (symbols - (below << s)) << below, below


def buckets(n: int, s: int) -> int:
    """Returns the number of symbols that `bucket` gives to 0..n - 1."""
    return int(bucket(np.array([max(n - 1, 0)]), s)[0][0]) + 1


def write(w: BitWriter, positions: Array, n: int, choice: Choice) -> Array:
    """Appends the pattern; returns the source of each value that follows, -1 at a filler."""
    m = len(positions)
    if choice.layout == "bitmap":
        mask = np.zeros(n, np.uint8)
        mask[positions] = 1
        w.bits(mask)
        return np.arange(m)
    if choice.layout == "relative":
        stored, source = relative_index(positions, choice.parameter)
        w.count(len(stored))
        w.write(choice.parameter - 1, _PARAMETER)
        streams.write_symbols(
            w, streams.as_symbols(stored, 1 << choice.parameter), 1 << choice.parameter, choice.gaps
        )
        return source
    ahead = gaps(positions) - 1
    w.count(m)
    w.write(choice.parameter, _PARAMETER)
    if choice.layout == "rice":
        w.rice(ahead, choice.parameter)
        return np.arange(m)
    symbols, below = bucket(ahead, choice.parameter)
    size = buckets(n, choice.parameter)
    streams.write_symbols(w, streams.as_symbols(symbols, size), size, choice.gaps)
    _write_below(w, ahead, below)
    return np.arange(m)


def _write_below(w: BitWriter, v: Array, below: Array) -> None:
    # widths rise from 1: all numbers with one bit below, then those with two, ...
    for width in range(1, int(below.max(initial=0)) + 1):
        w.numbers(v[below == width] & ((1 << width) - 1), width)


@dataclass(frozen=True)
class Pattern:
    """A pattern as it was read.

    entries : number of values that follow        how : the layout in words
    place : (n values' fillers, bool array or None) -> positions of the values that are no fillers
    """

    entries: int
    how: str
    place: Callable[[Array], Array]


def read(r: BitReader, n: int, layout: str) -> Pattern:
    """Returns the pattern of n entries in a layout of TRIED but "all".

    Its bits are charged to "index".

    Raises FormatError where it is damaged, from `place` where a relative index is.
    """
    if layout == "bitmap":
        kept = r.bits(n)
        r.budget.allow(8 * int(np.count_nonzero(kept)))
        positions = np.flatnonzero(kept)
        r.charge("index")
        return Pattern(len(positions), layout, lambda _: positions)
    m, parameter = r.count(), r.read(_PARAMETER)
    r.charge("header")
    if m > n:
        raise FormatError(f"at most {n} entries can be kept, got {m}")
    r.budget.allow(48 * m)  # at most six arrays of int64 at a time
    if layout == "relative":
        p = parameter + 1
        stored = streams.read_symbols(r, m, 1 << p, "index")
        return Pattern(
            m, f"relative p={p}", lambda filler: relative_positions(stored, filler, p, n)
        )
    ahead = r.rice(m, parameter, n) if layout == "rice" else _read_buckets(r, m, n, parameter)
    r.charge("index")
    positions = np.cumsum(ahead + 1) - 1
    if m and int(positions[-1]) >= n:
        raise FormatError(f"position must be below {n}, got {int(positions[-1])}")
    return Pattern(
        m, f"{layout} {'k' if layout == 'rice' else 's'}={parameter}", lambda _: positions
    )


def _read_buckets(r: BitReader, m: int, n: int, s: int) -> Array:
    ahead, below = unbucket(streams.read_symbols(r, m, buckets(n, s), "index"), s)
    for width in range(1, int(below.max(initial=0)) + 1):
        chosen = below == width
        ahead[chosen] += r.numbers(int(chosen.sum()), width)
    return ahead
