"""The layout `context`: pattern and codes of a pruned tensor from an adaptive range coder.

A Huffman code spends a whole number of bits on a symbol, needs its table stored, and gives a symbol
the same bits wherever it stands. A range coder spends -log2 p bits on an event of probability p,
learns p as it goes, and may take p from the neighbourhood: rows and columns of a trained layer
differ in density, neighbouring pixels are kept together and their weights tend to have one sign.
What is learned from, and how, is said in kernels/coding/range_coder.py.

The tensor is scanned as a table, one row for each index of its first axis (last, if axes are
reversed). `lag` is the distance along a row at which kept entries repeat, the width of the images
that a first layer sees; 0 if there is none.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import FormatError
from ..kernels.coding import range_coder as kernel
from .bits import BitReader, BitWriter, bits_needed, count_cost
from .positions import scan, unscan

Array = np.ndarray
LAGS = range(2, 65)  # tried
LIFT = 2.0  # how much more often than at the median lag kept entries must repeat at the best one


def fits(shape: tuple[int, ...], symbols: int) -> bool:
    """Returns whether a tensor whose kept entries have so many symbols can be coded."""
    rows, columns = sides(shape, 0)
    return (
        0 < rows * columns <= kernel.MAX_ENTRIES
        and max(rows, columns, shape[-1]) <= kernel.MAX_SIDE
        and max(math.prod(shape) // shape[-1], 1) <= kernel.MAX_SIDE
        and bits_needed(symbols) <= kernel.MAX_BITS
    )


def best_lag(kept: Array) -> int:
    """Returns the distance in 2..64 at which kept entries of a row repeat most.

    0 where it is not much more often than at the others        kept : (R, C) bool

    >>> best_lag(np.tile(np.arange(60) % 10 == 3, (4, 1)))
    10
    """
    both = [
        np.count_nonzero(kept[:, lag:] & kept[:, :-lag]) / kept[:, lag:].size
        for lag in LAGS
        if lag < kept.shape[1]
    ]
    if not both or max(both) <= LIFT * np.median(both):
        return 0
    return LAGS[int(np.argmax(both))]


def pack(codes: Array, order: int, symbols: int, lag: int | None) -> tuple[Array, int]:
    """Returns (bytes, lag) of a tensor of codes 0..symbols, 0 where none is kept.

    order : of positions.scan        lag : 0 (none), 2..255; None takes best_lag
    """
    table = scan(codes, order).reshape(sides(codes.shape, order))
    lag = best_lag(table != 0) if lag is None else lag
    return kernel.encode(table, bits_needed(symbols), lag), lag


def cost(data: Array, kept: int, lag: int, symbols: int) -> int:
    """Returns the bits that `write` takes."""
    return (
        8 * len(data)
        + count_cost(kept)
        + count_cost(lag)
        + (count_cost(len(data)) if symbols == 1 else 0)
    )


def write(w: BitWriter, data: Array, kept: int, lag: int, symbols: int) -> None:
    """Appends what `pack` made.

    Codes of several symbols are all that a section has left to hold: the bytes run to its end.
    A mask, of one symbol, is followed by values: the number of bytes stands before them.
    """
    w.count(kept)
    w.count(lag)
    if symbols == 1:
        w.count(len(data))
    w.numbers(data, 8)


def read(r: BitReader, shape: tuple[int, ...], order: int, symbols: int) -> tuple[Array, str]:
    """Returns (codes, how) that `write` appended: codes 0..symbols of `shape`, uint16.

    Raises FormatError where they are damaged; the bits are charged to "index" and "values", to the
    byte.
    """
    kept, lag = r.count(), r.count()
    size = r.count() if symbols == 1 else r.left // 8
    r.charge("header")
    n = math.prod(shape)
    if not fits(shape, symbols) or kept > n or lag == 1 or lag > kernel.MAX_LAG:
        raise FormatError(
            f"context: {kept} of {n} entries with {symbols} symbols at lag {lag} cannot be"
        )
    data = r.numbers(size, 8)
    codes, used, split = kernel.decode(data, sides(shape, order), kept, bits_needed(symbols), lag)
    if (
        size > used
        or (size and not data[-1])
        or np.count_nonzero(codes) != kept
        or codes.max(initial=0) > symbols
    ):
        raise FormatError(f"context: the stream does not hold {kept} codes of {symbols} symbols")
    r.charge("index", 8 * min(split, size))
    r.charge("values")
    return unscan(codes.ravel(), shape, order), f"context lag={lag}" if lag else "context"


def sides(shape: tuple[int, ...], order: int) -> tuple[int, int]:
    """Returns (rows, columns) of the table that a tensor is coded as, in a scan order."""
    if len(shape) < 2:
        return 1, math.prod(shape)
    rows = shape[-1] if order else shape[0]
    return rows, math.prod(shape) // max(rows, 1)
