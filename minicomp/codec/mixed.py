"""The layout `mixed`: pattern and codes of a tensor from a range coder that mixes its models.

The layout `context` takes each probability from one count; here several are mixed, and there is
more to count: columns before and around, the input channel, images, signs, sizes, and how much of
the layer before is left. What is mixed, and how, is said in kernels/coding/mixing.py.

    kept        in ceil(log2(n + 1)) bits of n entries, unless the form has no pruned ones
    low         in ceil(log2(K + 1)) bits: how many of the K codes are values below 0; not written
                where the form holds a table of K values, which says it
    picture     2 bits: 0 none, 1 the tensor's own last two axes or else the square of a unit's
                columns, 2 images as long as a row, 3 of shorter blocks; then the width, a count,
                and for 3 the block, a count
    units       1 bit where there are some: whether they are used
    bytes       a count, only of a mask, of which values follow
    data        to the end of the section

There are at most 2^20 entries, and 2^12 more for each byte of the data: every entry is decoded, so
that few bytes must not stand for many. Whoever writes takes another layout then.

The tensor is a table with a row for each index of its first axis; a bias is one row. *Units* are
the entries kept of each row of the last tensor before it that had a mask and two axes or more: the
next layer's inputs, so that its columns fall into as many blocks of equal width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError
from ..kernels import cpu
from ..kernels.coding import mixing as kernel
from .bits import BitReader, BitWriter, bits_needed
from .context import best_lag

Array = np.ndarray
DENSE_MOST = 4096  # entries of a tensor without zeros that are worth coding bit by bit
SLOW_MOST = 2**16  # entries that are coded in Python, where the kernel was not built
FREE, PER_BYTE = 2**20, 2**12  # entries that a stream may stand for: so many, and more by its size
NONE, OWN, ROWS, BLOCKS = range(4)  # pictures


@dataclass(frozen=True)
class Known:
    """What a reader knows of a tensor before it reads it.

    symbols : K, of kept entries        units : of the layer before, (rows of it,), or None
    dense : no entry can be pruned        below : how many values of the form's table are below 0,
        None where it has none of K values
    """

    shape: tuple[int, ...]
    symbols: int
    units: Array | None = None
    dense: bool = False
    below: int | None = None

    @property
    def columns(self) -> int:
        return table_shape(self.shape)[1]

    @property
    def by_column(self) -> Array | None:
        """The units of each column, (columns,); None where columns are no blocks of them."""
        units = self.units
        if units is None or len(units) < 2 or self.columns % len(units) or not units.any():
            return None
        return np.repeat(units, self.columns // len(units))

    @property
    def own(self) -> tuple[int, int] | None:
        """(width, block) of the pictures that the tensor itself suggests."""
        if len(self.shape) == 4 and self.shape[2] * self.shape[3] > 1:
            return self.shape[3], self.shape[2] * self.shape[3]
        block = self.columns // len(self.units) if self.by_column is not None else 0
        side = math.isqrt(block)
        return (side, block) if side > 1 and side * side == block else None


@dataclass(frozen=True)
class Mixed:
    """A tensor as it will be written."""

    data: Array
    kept: int
    low: int
    width: int
    block: int
    with_units: bool


def table_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns (rows, columns) of the table that a tensor is coded as."""
    if len(shape) < 2:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])


def fits(shape: tuple[int, ...], symbols: int) -> bool:
    """Returns whether a tensor whose kept entries have so many symbols can be coded."""
    return (1 <= symbols <= kernel.MAX_CODES
            and 0 < math.prod(shape) <= kernel.MAX_ENTRIES
            and max(table_shape(shape)) <= kernel.MAX_SIDE)


def holds(n: int, size: int) -> bool:
    """Returns whether n entries may stand in a stream of so many bytes."""
    return n <= FREE + PER_BYTE * size


def pays(size: int) -> bool:
    """Returns whether a tensor of so many entries is worth the time of trying."""
    return size <= SLOW_MOST or cpu.resolve("auto", "coding") > 0


def units_of(mask: Array | None) -> Array | None:
    """Returns the units that a tensor hands on, (rows,); None where it has no mask or one axis."""
    if mask is None or mask.ndim < 2:
        return None
    return np.count_nonzero(mask.reshape(len(mask), -1), axis=1)


def below_zero(symbols: Array, values: Array, size: int) -> int:
    """Returns how many of the symbols 1..size mean values below 0; half where they are not sorted.

    symbols, values : of one shape, 0 where none is kept
    """
    symbols = symbols.astype(np.int64)  # size + 1 may be past what theirs holds
    below = int(symbols[values < 0].max(initial=0))
    above = int(symbols[(values > 0) & (symbols > 0)].min(initial=size + 1))
    return below if below < above else size // 2


def pack(codes: Array, known: Known, low: int) -> Mixed:
    """Returns the cheapest of the pictures that the tensor suggests, with units and without.

    codes : of any shape, 0..K, 0 where none is kept        low : how many codes are below 0
    """
    table = codes.reshape(table_shape(codes.shape))
    low = low if known.below is None else known.below
    units, kept = known.by_column, int(np.count_nonzero(table))
    tried = [(picture, units) for picture in _pictures(known, table != 0)]
    best = None
    for (width, block), of in tried + [(tried[0][0], None)] * (units is not None):
        data = kernel.encode(table, (low, known.symbols - low), width, block, of)
        if best is None or len(data) < len(best.data):
            best = Mixed(data, kept, low, width, block, of is not None)
    return best


def _pictures(known: Known, kept: Array) -> list[tuple[int, int]]:
    found = [known.own] if known.own else []
    lag = 0 if len(known.shape) == 4 and found else best_lag(kept)
    return found + [(lag, known.columns)] * (lag > 0) + [(0, known.columns)]


def cost(made: Mixed, known: Known) -> int:
    """Returns the bits that `write` takes."""
    w = BitWriter()
    _write_head(w, made, known)
    return len(w) + 8 * len(made.data)


def write(w: BitWriter, made: Mixed, known: Known) -> None:
    """Appends what `pack` made."""
    _write_head(w, made, known)
    w.numbers(made.data, 8)


def _write_head(w: BitWriter, made: Mixed, known: Known) -> None:
    if not known.dense:
        w.write(made.kept, bits_needed(math.prod(known.shape) + 1))
    if known.below is None:
        w.write(made.low, bits_needed(known.symbols + 1))
    picture = _picture(made, known)
    w.write(picture, 2)
    if picture in (ROWS, BLOCKS):
        w.count(made.width)
    if picture == BLOCKS:
        w.count(made.block)
    if known.by_column is not None:
        w.write(made.with_units, 1)
    if known.symbols == 1:
        w.count(len(made.data))


def _picture(made: Mixed, known: Known) -> int:
    if not made.width:
        return NONE
    if (made.width, made.block) == known.own:
        return OWN
    return ROWS if made.block == known.columns else BLOCKS


def read(r: BitReader, known: Known) -> tuple[Array, str]:
    """Returns (codes, how) that `write` appended: codes 0..K of the tensor's shape, uint16.

    Raises FormatError where they are damaged; the bits are charged to "index" and "values", about.
    """
    shape, symbols, n = known.shape, known.symbols, math.prod(known.shape)
    if not fits(shape, symbols):
        raise FormatError(f"mixed: {n} entries of {symbols} symbols cannot be")
    kept = n if known.dense else r.read(bits_needed(n + 1))
    low = r.read(bits_needed(symbols + 1)) if known.below is None else known.below
    width, block = _read_picture(r, known)
    units = known.by_column
    units = units if units is not None and r.read(1) else None
    size = r.count() if symbols == 1 else r.left // 8
    r.charge("header")
    if kept > n or low > symbols:
        raise FormatError(f"mixed: {kept} of {n} entries, {low} of {symbols} symbols below 0 "
                          "cannot be")
    if not holds(n, size):
        raise FormatError(f"mixed: {size} bytes cannot stand for {n} entries, at most {FREE} and "
                          f"{PER_BYTE} a byte")
    r.budget.allow(64 * known.columns)
    data = r.numbers(size, 8)
    codes, used, split = kernel.decode(data, table_shape(shape), kept, (low, symbols - low), width,
                                       block, units)
    if size > used or (size and not data[-1]):
        raise FormatError(f"mixed: the stream does not hold {kept} codes of {symbols} symbols")
    r.charge("index", 8 * min(split, size))
    r.charge("values")
    return codes.reshape(shape), _in_words(width, block, known.columns, units is not None)


def _read_picture(r: BitReader, known: Known) -> tuple[int, int]:
    picture, columns = r.read(2), known.columns
    if picture == NONE:
        return 0, columns
    if picture == OWN:
        if known.own is None:
            raise FormatError("mixed: the tensor has no pictures of its own")
        return known.own
    width = r.count()
    block = r.count() if picture == BLOCKS else columns
    if not 1 <= width <= block <= columns:
        raise FormatError(f"mixed: pictures {width} wide of {block} entries cannot be in rows of "
                          f"{columns}")
    return width, block


def _in_words(width: int, block: int, columns: int, with_units: bool) -> str:
    image = f" {width} wide" if width else ""
    return f"mixed{image}{f' of {block}' if width and block < columns else ''}" + (
        ", units" if with_units else "")
