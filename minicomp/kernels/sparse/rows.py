"""Products Y = W X of a sparse weight W (O, I), X (I, N), from a compressed layout.

A weight is a code into a table of float32 centroids, code 0 being the pruned 0; or a float32
itself. Two layouts:

`Rows`: Han's relative index, row by row. An entry holds the distance to the weight before, less
one, in gap_bits, and the code above it; a longer gap is cut by fillers, the largest gap with code
0. Columns are cut into blocks of `width`, in each of which a row starts afresh, so that `width`
rows of X stay in the nearest cache.

`Csr`: values, their columns, and where each row starts.

Sums are float32, entry after entry as they lie, multiplied and added with a rounding each, so that
every rung and number of threads gives the same bits. A filler adds 0 x, so X must be finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import cpu, doors
from ..threads import threads
from .lanes import checked
from .packed import Packed, of_kind

Array = np.ndarray


@dataclass(frozen=True, init=False)
class Rows(Packed):
    """W as relative index for many columns; made by `pack_rows`.

    shape : (O, I)
    width : columns of a block
    gap_bits : of an entry, the code above them
    start : (blocks O + 1,) int32, the first entry of row o in block b at b O + o
    entry : (entries,), gap - 1 | code << gap_bits, uint8 or uint16
    table : (2^code bits,) float32
    """

    packer = "pack_rows"
    shape: tuple[int, int]
    width: int
    gap_bits: int
    start: Array
    entry: Array
    table: Array


@dataclass(frozen=True, init=False)
class Csr(Packed):
    """W in compressed sparse rows; made by `pack_csr`.

    shape : (O, I)        values : (m,) float32        columns : (m,) int32, in 0..I-1
    starts : (O + 1,) int32, 0 first and m last, not falling
    """

    packer = "pack_csr"
    shape: tuple[int, int]
    values: Array
    columns: Array
    starts: Array


def pack_rows(
    codes: Array, table: Array, *, gap_bits: int | None = None, width: int | None = None
) -> Rows:
    """Returns W as relative index, in entries of 8 bits where code and gap fit, else 16.

    codes : (O, I) integers, 0 where pruned        table : (k,) float32 with table[0] = 0, k <= 4096
    gap_bits : 1..15; None takes what the codes leave of 8 bits, or of 16 where that would need more
        than a filler for every fourth weight
    width : columns of a block; None takes about 16 weights a row, and 128 at least
    Raises ValueError for a code, table, gap_bits or width out of range.
    """
    codes, table = checked(codes, table)
    code_bits, (O, I) = max((len(table) - 1).bit_length(), 1), codes.shape
    if gap_bits is not None:
        gap_bits = doors.whole("gap_bits", gap_bits, 1, 16 - code_bits)
    if width is None:
        width = 128 * max(1, round(16 * codes.size / max(np.count_nonzero(codes), 1) / 128))
    width = min(doors.whole("width", width, 1), max(I, 1))  # one block holds a row
    blocks = -(-I // width)
    padded = np.zeros((O, blocks * width), codes.dtype)
    padded[:, :I] = codes
    lines = padded.reshape(O, blocks, width).swapaxes(0, 1).reshape(O * blocks, width)
    line, place = np.nonzero(lines)  # row o of block b is line b O + o
    first = np.diff(line, prepend=-1) > 0
    ahead = np.where(first, place, np.diff(place, prepend=0) - 1)  # gap to the one before, less 1
    if gap_bits is None:
        gap_bits = 8 - code_bits
        if gap_bits < 1 or 4 * (ahead >> gap_bits).sum() > len(ahead):
            gap_bits = 16 - code_bits
    size = 8 if code_bits + gap_bits <= 8 else 16
    entries = (ahead >> gap_bits) + 1  # the weight and the fillers before it
    ends = np.cumsum(entries)
    if len(ends) and ends[-1] > doors.MOST:
        raise ValueError(f"w must take at most {doors.MOST} entries, got {ends[-1]}")
    filler = (1 << gap_bits) - 1
    entry = np.full(int(entries.sum()), filler)
    entry[ends - 1] = (ahead & filler) | lines[line, place].astype(np.int64) << gap_bits
    start = np.append(0, ends)[np.searchsorted(line, np.arange(O * blocks + 1))].astype(np.int32)
    full = np.zeros(1 << (size - gap_bits), np.float32)
    full[: len(table)] = table
    return Rows._made(shape=(O, I), width=width, gap_bits=gap_bits, start=start, table=full,
                      entry=entry.astype(np.uint8 if size == 8 else np.uint16))


def matmul(w: Rows, X: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns Y = W X, (O, N) float32.

    X : (I, N) float32, finite        isa : rung, see kernels/cpu.py
    Raises ValueError for what is no Rows, and another type or shape of X.
    """
    of_kind(w, Rows)
    n_threads = threads(n_threads)
    X = _columns(X, w.shape)
    level = cpu.resolve(isa, "sparse")
    if level == 0:
        return matmul_ref(w, X)
    Y = np.empty((w.shape[0], X.shape[1]), np.float32)
    module = cpu.kernel_module("sparse")
    run = module.rows8 if w.entry.dtype == np.uint8 else module.rows16
    run(w.entry, w.table, w.gap_bits, w.start, w.width, X, Y, level, n_threads)
    return Y


def matmul_ref(w: Rows, X: Array) -> Array:
    """Returns what `matmul` returns: decodes all entries, then adds the next one of every row."""
    O, _ = w.shape
    gaps = (w.entry & ((1 << w.gap_bits) - 1)).astype(np.int64) + 1
    ends = np.concatenate([[0], np.cumsum(gaps)])
    length = np.diff(w.start)
    before = np.repeat(ends[w.start[:-1]] - np.arange(len(length)) // max(O, 1) * w.width, length)
    column = ends[1:] - 1 - before
    return _add_entries(w.table[w.entry >> w.gap_bits], column, w.start, X, O)


def pack_csr(w: Array) -> Csr:
    """Returns W, (O, I) float32, in CSR."""
    w, _ = checked(w, None)
    rows, columns = np.nonzero(w)
    if len(rows) > doors.MOST:
        raise ValueError(f"w must have at most {doors.MOST} weights that are not 0, "
                         f"got {len(rows)}")
    starts = np.searchsorted(rows, np.arange(len(w) + 1)).astype(np.int32)
    return Csr._made(shape=w.shape, values=w[rows, columns], columns=columns.astype(np.int32),
                     starts=starts)


def csr_matmul(w: Csr, X: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns Y = W X, (O, N) float32; arguments and errors as of `matmul`, of a Csr."""
    of_kind(w, Csr)
    n_threads = threads(n_threads)
    X = _columns(X, w.shape)
    level = cpu.resolve(isa, "sparse")
    if level == 0:
        return _add_entries(w.values, w.columns, w.starts, X, w.shape[0])
    Y = np.empty((w.shape[0], X.shape[1]), np.float32)
    cpu.kernel_module("sparse").csr(w.columns, w.values, w.starts, X, Y, level, n_threads)
    return Y


def _add_entries(weight: Array, column: Array, start: Array, X: Array, O: int) -> Array:
    # Y[o] += weight X[column], entry after entry, all rows at once; start: (blocks O + 1,).
    Y = np.zeros((O, X.shape[1]), np.float32)
    for b in range((len(start) - 1) // max(O, 1)):
        at, end = start[b * O : (b + 1) * O].copy(), start[b * O + 1 : (b + 1) * O + 1]
        while (live := np.flatnonzero(at < end)).size:
            Y[live] += weight[at[live], None] * X[column[at[live]]]
            at[live] += 1
    return Y


def _columns(X: Array, shape: tuple[int, int]) -> Array:
    doors.floats("X", X)
    if X.ndim != 2 or len(X) != shape[1] or X.dtype != np.float32:
        raise ValueError(f"X must have shape ({shape[1]}, N) and be float32, "
                         f"got {X.shape}, {X.dtype}")
    return np.ascontiguousarray(X)
