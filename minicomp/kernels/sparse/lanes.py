"""Products of a sparse weight W (O, I) with one column or many, straight from a compressed layout.

O outputs, I inputs, N columns, k centroids. A weight is a code into a table of float32 centroids,
code 0 being the pruned 0; or a float32 itself. Three layouts:

`Lanes`, for y = W x. Sixteen rows, of about equally many weights, are the lanes of a vector, and
advance together: a step takes the next weight of every row that has it within the 16 columns from
`base` on, base being the least column that is still to come. An entry of one byte holds the place
within the 16 columns and the code:

    column   0                   7                      20       step 0, base 1: rows 0 and 1 take
    row 0    . . 5 . . . . 7 . . . . . . . . . . . . 2 .        5 and 3, at 1 + 1 and 1 + 0
    row 1    . 3 . . . . . . . . . . . . . . . . . . . .        step 1, base 7: row 0 takes 7 at
                                                                7 + 0, row 1 takes code 0; ...

`Rows`, for Y = W X: Han's relative index, row by row. An entry holds the distance to the weight
before, less one, in gap_bits, and the code above it; a longer gap is cut by fillers, the largest
gap with code 0. Columns are cut into blocks of `width`, in each of which a row starts afresh, so
that `width` rows of X stay in the nearest cache.

CSR, for Y = W X: values, their columns, and where each row starts.

Sums are float32 in a fixed order, multiplied and added with a rounding each, so that every rung
and number of threads gives the same bits: in `Lanes` the even and the odd steps of a row are
summed apart, then added; in the others entries are added as they lie. An entry with code 0 adds
0 x, so x must be finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import cpu

Array = np.ndarray
LANES = 16
MAX_CODES = 4096  # 4 bits of place and 12 of code in 16 bits


@dataclass(frozen=True)
class Lanes:
    """W in groups of 16 rows for one column; made by `pack_lanes`.

    shape : (O, I)        row : (16 groups,) int32, which row a lane is, -1 for none
    start : (groups + 1,) int64, the first step of each group        base : (steps,) int32
    entry : (steps, 16), place | code << 4, uint8 for up to 16 codes, else uint16
    table : (k,) float32, padded with 0 to a multiple of 16; or
    value : (steps, 16) float32 beside entries that are places only
    """

    shape: tuple[int, int]
    row: Array
    start: Array
    base: Array
    entry: Array
    table: Array
    value: Array | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that one product reads of the weight."""
        parts = (self.row, self.start, self.base, self.entry, self.table, self.value)
        return sum(a.nbytes for a in parts if a is not None)


@dataclass(frozen=True)
class Rows:
    """W as relative index for many columns; made by `pack_rows`.

    shape : (O, I)
    width : columns of a block
    gap_bits : of an entry, the code above them
    start : (blocks O + 1,) int32, the first entry of row o in block b at b O + o
    entry : (entries,), gap - 1 | code << gap_bits, uint8 or uint16
    table : (2^code bits,) float32
    """

    shape: tuple[int, int]
    width: int
    gap_bits: int
    start: Array
    entry: Array
    table: Array

    @property
    def nbytes(self) -> int:
        """Bytes that one product reads of the weight."""
        return self.start.nbytes + self.entry.nbytes + self.table.nbytes


@dataclass(frozen=True)
class Csr:
    """W in compressed sparse rows.

    shape : (O, I)        values : (m,) float32        columns : (m,) int32, in 0..I-1
    starts : (O + 1,) int32, 0 first and m last, not falling
    Raises ValueError where they do not fit together.
    """

    shape: tuple[int, int]
    values: Array
    columns: Array
    starts: Array

    def __post_init__(self):
        (O, I), m = self.shape, len(self.values)
        types = (("values", np.float32), ("columns", np.int32), ("starts", np.int32))
        for name, dtype in types:
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype))
        starts, columns = self.starts, self.columns
        if starts.shape != (O + 1,) or columns.shape != (m,) or self.values.ndim != 1:
            raise ValueError(
                f"starts must be ({O + 1},), columns and values one axis of one length"
            )
        if starts[0] != 0 or starts[-1] != m or (np.diff(starts) < 0).any():
            raise ValueError(f"starts must rise from 0 to the {m} values")
        if m and not (0 <= columns.min() and columns.max() < I):
            found = f"{columns.min()}..{columns.max()}"
            raise ValueError(f"columns must be in [0, {I - 1}], got {found}")

    @property
    def nbytes(self) -> int:
        """Bytes that one product reads of the weight."""
        return self.values.nbytes + self.columns.nbytes + self.starts.nbytes


def pack_lanes(w: Array, table: Array | None = None) -> Lanes:
    """Returns W in lanes.

    w : (O, I), codes where there is a table, else float32 weights; 0 is not stored
    table : (k,) float32 with table[0] = 0, k <= 4096
    Raises ValueError for a code or table out of range.
    """
    w, table = _checked(w, table)
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
    if table is None:
        return Lanes(w.shape, row, start, base, place.astype(np.uint8), padded, weight)
    padded[:k] = table
    entry = (place | weight.astype(np.int64) << 4).astype(np.uint8 if k <= 16 else np.uint16)
    return Lanes(w.shape, row, start, base, entry, padded)


def matvec(w: Lanes, x: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns y = W x, (O,) float32.

    x : (I,) float32, finite        isa : rung, see kernels/cpu.py
    Raises ValueError for another shape of x.
    """
    x = np.ascontiguousarray(x, np.float32)
    O, I = w.shape
    if x.shape != (I,):
        raise ValueError(f"x must have shape ({I},), got {x.shape}")
    if I < LANES:
        x = np.concatenate([x, np.zeros(LANES - I, np.float32)])
    level = cpu.resolve(isa, "sparse")
    if level == 0:
        return matvec_ref(w, x[:I])
    y = np.empty(O, np.float32)
    byte, word = (w.entry, None) if w.entry.dtype == np.uint8 else (None, w.entry)
    cpu.kernel_module("sparse").lanes(
        byte, word, w.value, w.base, w.table, w.start, w.row, x, y, level, n_threads
    )
    return y


def matvec_ref(w: Lanes, x: Array) -> Array:
    """Returns what `matvec` returns, step by step for all groups at once."""
    O, I = w.shape
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
    codes, table = _checked(codes, table)
    code_bits, (O, I) = max((len(table) - 1).bit_length(), 1), codes.shape
    if gap_bits is not None and not 1 <= gap_bits <= 16 - code_bits:
        raise ValueError(f"gap_bits must be in [1, {16 - code_bits}], got {gap_bits}")
    if width is None:
        width = 128 * max(1, round(16 * codes.size / max(np.count_nonzero(codes), 1) / 128))
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
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
    filler = (1 << gap_bits) - 1
    entry = np.full(int(entries.sum()), filler)
    entry[ends - 1] = (ahead & filler) | lines[line, place].astype(np.int64) << gap_bits
    start = np.append(0, ends)[np.searchsorted(line, np.arange(O * blocks + 1))].astype(np.int32)
    full = np.zeros(1 << (size - gap_bits), np.float32)
    full[: len(table)] = table
    entry = entry.astype(np.uint8 if size == 8 else np.uint16)
    return Rows((O, I), width, gap_bits, start, entry, full)


def matmul(w: Rows, X: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns Y = W X, (O, N) float32.

    X : (I, N) float32, finite        isa : rung, see kernels/cpu.py
    Raises ValueError for another shape of X.
    """
    X = _columns(X, w.shape)
    level = cpu.resolve(isa, "sparse")
    if level == 0:
        return matmul_ref(w, X)
    Y = np.empty((w.shape[0], X.shape[1]), np.float32)
    byte, word = (w.entry, None) if w.entry.dtype == np.uint8 else (None, w.entry)
    cpu.kernel_module("sparse").rows(
        byte, word, None, None, w.table, w.gap_bits, w.start, w.width, X, Y, level, n_threads
    )
    return Y


def matmul_ref(w: Rows, X: Array) -> Array:
    """Returns what `matmul` returns: decodes all entries, then adds the next one of every row."""
    O, I = w.shape
    gaps = (w.entry & ((1 << w.gap_bits) - 1)).astype(np.int64) + 1
    ends = np.concatenate([[0], np.cumsum(gaps)])
    length = np.diff(w.start)
    before = np.repeat(ends[w.start[:-1]] - np.arange(len(length)) // max(O, 1) * w.width, length)
    column = ends[1:] - 1 - before
    return _add_entries(w.table[w.entry >> w.gap_bits], column, w.start, X, O)


def pack_csr(w: Array) -> Csr:
    """Returns W, (O, I) float32, in CSR."""
    w, _ = _checked(w, None)
    rows, columns = np.nonzero(w)
    return Csr(w.shape, w[rows, columns], columns, np.searchsorted(rows, np.arange(len(w) + 1)))


def csr_matmul(w: Csr, X: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns Y = W X, (O, N) float32; arguments as of `matmul`."""
    X = _columns(X, w.shape)
    level = cpu.resolve(isa, "sparse")
    if level == 0:
        return _add_entries(w.values, w.columns, w.starts, X, w.shape[0])
    Y = np.empty((w.shape[0], X.shape[1]), np.float32)
    module, width = cpu.kernel_module("sparse"), max(w.shape[1], 1)
    module.rows(None, None, w.columns, w.values, None, 0, w.starts, width, X, Y, level, n_threads)
    return Y


def csr_matvec(w: Csr, x: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns y = W x, (O,) float32; x : (I,) float32, finite."""
    x = np.asarray(x)
    if x.shape != w.shape[1:]:
        raise ValueError(f"x must have shape {w.shape[1:]}, got {x.shape}")
    return csr_matmul(w, x[:, None], isa=isa, n_threads=n_threads)[:, 0]


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
    X = np.ascontiguousarray(X, np.float32)
    if X.ndim != 2 or len(X) != shape[1]:
        raise ValueError(f"X must have shape ({shape[1]}, N), got {X.shape}")
    return X


def _checked(w: Array, table: Array | None) -> tuple[Array, Array | None]:
    w = np.asarray(w)
    if w.ndim != 2:
        raise ValueError(f"w must have shape (O, I), got {w.shape}")
    if table is None:
        return w.astype(np.float32, copy=False), None
    table = np.asarray(table, np.float32)
    if table.ndim != 1 or not 1 <= len(table) <= MAX_CODES or table[0] != 0:
        raise ValueError(f"table must hold 1..{MAX_CODES} centroids, the first of them 0")
    if w.dtype.kind not in "iu" or w.size and not (0 <= w.min() and w.max() < len(table)):
        raise ValueError(f"codes must be integers in [0, {len(table) - 1}]")
    return w, table
