"""The product of a sparse weight W (O, I) with one column, y = W x, from a compressed layout.

A weight is a code into a table of k float32 centroids, code 0 being the pruned 0; or a float32
itself. Sixteen rows, of about equally many weights, are the lanes of a vector, and advance
together: a step takes the next weight of every row that has it within the 16 columns from `base`
on, base being the least column that is still to come. An entry of one byte holds the place within
the 16 columns and the code:

    column   0                   7                      20       step 0, base 1: rows 0 and 1 take
    row 0    . . 5 . . . . 7 . . . . . . . . . . . . 2 .        5 and 3, at 1 + 1 and 1 + 0
    row 1    . 3 . . . . . . . . . . . . . . . . . . . .        step 1, base 7: row 0 takes 7 at
                                                                7 + 0, row 1 takes code 0; ...

Sums are float32 in a fixed order, the even and the odd steps of a row apart, then added; multiplied
and added with a rounding each, so that every rung and number of threads gives the same bits. A lane
that waits adds 0 x, so x must be finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import cpu, doors
from ..threads import threads
from .packed import Packed, of_kind

Array = np.ndarray
LANES = 16
MAX_CODES = 4096  # 4 bits of place and 12 of code in 16 bits


@dataclass(frozen=True, init=False)
class Lanes(Packed):
    """W in groups of 16 rows for one column; made by `pack_lanes`.

    shape : (O, I)        row : (16 groups,) int32, which row a lane is, -1 for none
    start : (groups + 1,) int64, the first step of each group        base : (steps,) int32
    entry : (steps, 16), place | code << 4, uint8 for up to 16 codes, else uint16
    table : (k,) float32, padded with 0 to a multiple of 16; or
    value : (steps, 16) float32 beside entries that are places only
    """

    packer = "pack_lanes"
    shape: tuple[int, int]
    row: Array
    start: Array
    base: Array
    entry: Array
    table: Array
    value: Array | None


def pack_lanes(w: Array, table: Array | None = None) -> Lanes:
    """Returns W in lanes.

    w : (O, I), codes where there is a table, else float32 weights; 0 is not stored
    table : (k,) float32 with table[0] = 0, k <= 4096
    Raises ValueError for a code or table out of range.
    """
    w, table = checked(w, table)
    O, I = w.shape
    groups = -(-O // LANES)
    mask = w != 0
    row = np.full(groups * LANES, -1, np.int32)
    row[:O] = np.argsort(-mask.sum(axis=1), kind="stable")  # rows alike in number share a group
    ranks, columns = np.nonzero(mask[row[:O]])
    count = np.bincount(ranks, minlength=groups * LANES)
    first = np.cumsum(count) - count  # of each lane, in `columns`
    nothing = np.iinfo(np.int64).max // 2
    columns = np.append(columns, nothing)
    at, last = first.copy(), first + count
    group, steps, bases, places, sources = np.arange(groups), [], [], [], []
    while True:
        coming = np.where(at < last, columns[at], nothing).reshape(groups, LANES)
        base = coming.min(axis=1)
        live = base < nothing
        if not live.any():
            break
        base = np.minimum(base, max(I - LANES, 0))  # x is read 16 at a time
        take = coming < (base + LANES)[:, None]
        steps.append(group[live])
        bases.append(base[live])
        places.append(np.where(take, coming - base[:, None], 0)[live])
        sources.append(np.where(take, at.reshape(groups, LANES), len(columns) - 1)[live])
        at += take.ravel()
    return _in_lanes(w, table, row, ranks, columns, steps, bases, places, sources)


def _in_lanes(w, table, row, ranks, columns, steps, bases, places, sources) -> Lanes:
    # Steps were found for all groups at once; here they are put together group by group.
    groups = len(row) // LANES
    if not steps:
        steps, bases = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        places = sources = [np.zeros((0, LANES), np.int64)]
    steps, bases, places, sources = map(np.concatenate, (steps, bases, places, sources))
    order = np.argsort(steps, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(steps, minlength=groups))]).astype(np.int64)
    weight = np.append(w[row[ranks], columns[:-1]], w.dtype.type(0))[sources[order]]
    place, base = places[order], bases[order].astype(np.int32)
    k = 1 if table is None else len(table)
    padded = np.zeros(-(-k // LANES) * LANES, np.float32)
    where = dict(shape=w.shape, row=row, start=start, base=base, table=padded)
    if table is None:
        return Lanes._made(**where, entry=place.astype(np.uint8), value=weight)
    padded[:k] = table
    entry = (place | weight.astype(np.int64) << 4).astype(np.uint8 if k <= 16 else np.uint16)
    return Lanes._made(**where, entry=entry, value=None)


def matvec(w: Lanes, x: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns y = W x, (O,) float32.

    x : (I,) float32, finite        isa : rung, see kernels/cpu.py
    Raises ValueError for what is no Lanes, and another type or shape of x.
    """
    of_kind(w, Lanes)
    n_threads = threads(n_threads)
    x = column(x, w.shape)
    O, I = w.shape
    if I < LANES:
        x = np.concatenate([x, np.zeros(LANES - I, np.float32)])
    level = cpu.resolve(isa, "sparse")
    if level == 0:
        return matvec_ref(w, x[:I])
    y = np.empty(O, np.float32)
    module, where = cpu.kernel_module("sparse"), (w.base, w.start, w.row)
    if w.value is not None:
        module.lanes_of_values(w.entry, w.value, *where, x, y, level, n_threads)
    else:
        run = module.lanes8 if w.entry.dtype == np.uint8 else module.lanes16
        run(w.entry, w.table, *where, x, y, level, n_threads)
    return y


def matvec_ref(w: Lanes, x: Array) -> Array:
    """Returns what `matvec` returns, step by step for all groups at once."""
    O, _ = w.shape
    x = np.append(x, np.zeros(LANES, np.float32))
    weight = w.table[w.entry >> 4] if w.value is None else w.value
    product = weight * x[w.base[:, None] + (w.entry & 15)]
    groups, length = len(w.start) - 1, np.diff(w.start)
    parts = np.zeros((2, groups, LANES), np.float32)
    for s in range(int(length.max(initial=0))):
        live = np.flatnonzero(length > s)
        parts[s % 2, live] += product[w.start[live] + s]
    y = np.zeros(O, np.float32)
    y[w.row[w.row >= 0]] = (parts[0] + parts[1]).ravel()[w.row >= 0]
    return y


def column(x: Array, shape: tuple[int, int]) -> Array:
    """Returns x, (I,) float32, contiguous; ValueError where it does not fit a weight of (O, I)."""
    doors.floats("x", x)
    if x.shape != shape[1:] or x.dtype != np.float32:
        raise ValueError(f"x must have shape ({shape[1]},) and be float32, "
                         f"got {x.shape}, {x.dtype}")
    return np.ascontiguousarray(x)


def checked(w: Array, table: Array | None) -> tuple[Array, Array | None]:
    """Returns w, (O, I), and its table as float32; without a table w itself as float32.

    Raises ValueError for a code or table out of range, and for sides beyond 2^31 - 1.
    """
    if table is None:
        doors.floats("w", w)
        w = w.astype(np.float32, copy=False)
    else:
        doors.floats("table", table, 1)
        if not 1 <= len(table) <= MAX_CODES or table[0] != 0:
            raise ValueError(f"table must hold 1..{MAX_CODES} centroids, the first of them 0")
        doors.integers("codes", w, least=0, most=len(table) - 1)
        table = table.astype(np.float32, copy=False)
    if w.ndim != 2 or max(w.shape) > doors.MOST:
        raise ValueError(f"w must have shape (O, I), each at most {doors.MOST}, got {w.shape}")
    return w, table
