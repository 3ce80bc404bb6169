"""The layout `mixed`: pattern and codes of a tensor from a range coder that mixes its models.

The layout `context` takes each probability from one count; here several are mixed, and there is
more to count: columns before and around, the input channel, images, signs, sizes, and how much of
the layer before is left. What is mixed, and how, is said in kernels/coding/mixing.py.

    kept        a count, unless the form has no pruned entries
    low         in ceil(log2(K + 1)) bits: how many of the K codes are values below 0
    picture     2 bits: 0 none, 1 the tensor's own last two axes, 2 images as long as a row, 3 of
                shorter blocks; then the width, a count, and for 3 the block, a count
    units       1 bit where there are some: whether they are used
    bytes       a count, only of a mask, of which values follow
    data        to the end of the section

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
NONE, OWN, ROWS, BLOCKS = range(4)  # pictures


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


def pays(size: int) -> bool:
    """Returns whether a tensor of so many entries is worth the time of trying."""
    return size <= SLOW_MOST or cpu.resolve("auto", "coding") > 0


def units_of(mask: Array | None) -> Array | None:
    """Returns the units that a tensor hands on, (rows,); None where it has no mask or one axis."""
    if mask is None or mask.ndim < 2:
        return None
    return np.count_nonzero(mask.reshape(len(mask), -1), axis=1)


def by_column(units: Array | None, columns: int) -> Array | None:
    """Returns the units of each column, (columns,); None where columns are no blocks of them."""
    if units is None or len(units) < 2 or columns % len(units) or not units.any():
        return None
    return np.repeat(units, columns // len(units))


def below_zero(symbols: Array, values: Array, size: int) -> int:
    """Returns how many of the symbols 1..size mean values below 0; half where they are not sorted.

    symbols, values : of one shape, 0 where none is kept
    """
    below = int(symbols[values < 0].max(initial=0))
    above = int(symbols[(values > 0) & (symbols > 0)].min(initial=size + 1))
    return below if below < above else size // 2


def pack(codes: Array, symbols: int, low: int, units: Array | None) -> Mixed:
    """Returns the cheapest of the pictures that the tensor suggests, with units and without.

    codes : of any shape, 0..symbols, 0 where none is kept        units : of the layer before
    """
    table = codes.reshape(table_shape(codes.shape))
    of = by_column(units, table.shape[1])
    kept = int(np.count_nonzero(table))
    block = table.shape[1] // len(units) if of is not None else 0
    tried = [(picture, of) for picture in _pictures(codes.shape, table != 0, block)]
    best = None
    for (width, block), of in tried + [(tried[0][0], None)] * (of is not None):
        data = kernel.encode(table, (low, symbols - low), width, block, of)
        if best is None or len(data) < len(best.data):
            best = Mixed(data, kept, low, width, block, of is not None)
    return best


def _pictures(shape: tuple[int, ...], kept: Array, block: int) -> list[tuple[int, int]]:
    # block : columns of a unit
    columns = kept.shape[1]
    found = [(0, columns)]
    if len(shape) == 4 and shape[2] * shape[3] > 1:
        return [(shape[3], shape[2] * shape[3]), *found]
    lag = best_lag(kept)
    if lag:
        found.append((lag, columns))
    side = math.isqrt(block)
    if side > 1 and side * side == block:
        found.append((side, block))
    return found


def cost(made: Mixed, shape: tuple[int, ...], symbols: int, units: Array | None, dense: bool
         ) -> int:
    """Returns the bits that `write` takes."""
    w = BitWriter()
    _write_head(w, made, shape, symbols, units, dense)
    return len(w) + 8 * len(made.data)


def write(w: BitWriter, made: Mixed, shape: tuple[int, ...], symbols: int, units: Array | None,
          dense: bool) -> None:
    """Appends what `pack` made; `dense` says that the form has no pruned entries."""
    _write_head(w, made, shape, symbols, units, dense)
    w.numbers(made.data, 8)


def _write_head(w, made, shape, symbols, units, dense):
    columns = table_shape(shape)[1]
    if not dense:
        w.count(made.kept)
    w.write(made.low, bits_needed(symbols + 1))
    picture = _picture(made, shape, columns)
    w.write(picture, 2)
    if picture in (ROWS, BLOCKS):
        w.count(made.width)
    if picture == BLOCKS:
        w.count(made.block)
    if by_column(units, columns) is not None:
        w.write(made.with_units, 1)
    if symbols == 1:
        w.count(len(made.data))


def _picture(made: Mixed, shape: tuple[int, ...], columns: int) -> int:
    if not made.width:
        return NONE
    if len(shape) == 4 and (made.width, made.block) == (shape[3], shape[2] * shape[3]):
        return OWN
    return ROWS if made.block == columns else BLOCKS


def read(r: BitReader, shape: tuple[int, ...], symbols: int, units: Array | None, dense: bool
         ) -> tuple[Array, str]:
    """Returns (codes, how) that `write` appended: codes 0..symbols of `shape`, uint16.

    Raises FormatError where they are damaged; the bits are charged to "index" and "values", about.
    """
    if not fits(shape, symbols):
        raise FormatError(f"mixed: {math.prod(shape)} entries of {symbols} symbols cannot be")
    rows, columns = table_shape(shape)
    kept = rows * columns if dense else r.count()
    low = r.read(bits_needed(symbols + 1))
    width, block = _read_picture(r, shape, columns)
    of = by_column(units, columns)
    of = of if of is not None and r.read(1) else None
    size = r.count() if symbols == 1 else r.left // 8
    r.charge("header")
    if kept > rows * columns or low > symbols:
        raise FormatError(f"mixed: {kept} of {rows * columns} entries, {low} of {symbols} symbols "
                          "below 0 cannot be")
    r.budget.allow(64 * columns)
    data = r.numbers(size, 8)
    sides = low, symbols - low
    codes, used, split = kernel.decode(data, (rows, columns), kept, sides, width, block, of)
    if size > used or (size and not data[-1]):
        raise FormatError(f"mixed: the stream does not hold {kept} codes of {symbols} symbols")
    r.charge("index", 8 * min(split, size))
    r.charge("values")
    return codes.reshape(shape), _in_words(width, block, columns, of is not None)


def _read_picture(r: BitReader, shape: tuple[int, ...], columns: int) -> tuple[int, int]:
    picture = r.read(2)
    if picture == NONE:
        return 0, columns
    if picture == OWN:
        if len(shape) != 4:
            raise FormatError(f"mixed: a tensor of {len(shape)} axes has no pictures of its own")
        return shape[3], shape[2] * shape[3]
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
