"""The product of a weight W (O, I) of shared values with one column, y = W x, by table look-up.

A row is a sequence of p codes, and position i adds the product of its codeword with its part of x:

    y[o] = sum_i T[i][code[o, i]],      T[i][c] = sum_j x_i[j] book_i[c][j]

The tables T are made once for all rows, so that a row costs one look-up a position and no
multiplication. Of a codebook of single weights a position is a column, d = 1, and all positions
have one book; of codewords of d columns (nn/forms/product.py) it is a block of a stage. One rung or
another looks up 16 or 64 rows at a time; what each gains is said in simd/codebook/tables.h.

Codes take 4 bits where there are at most 16 codewords, else 8. Sums are float32 in a fixed order:
j upwards within a table; positions upwards in blocks of BLOCK, each summed by itself, the blocks
then added up; so every rung and number of threads gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import cpu, doors
from ..memory import aligned
from ..sparse.lanes import column
from ..sparse.packed import Packed, of_kind
from ..threads import threads

Array = np.ndarray
ROWS, CHUNK = 64, 8  # rows of a group; positions whose codes of 4 bits share 32
BLOCK = {16: 256, 256: 32}  # positions by size of the tables: those of a block fit the L1 cache
MAX_CODES = 256


@dataclass(frozen=True, init=False)
class Tables(Packed):
    """W as codes for look-ups; made by `pack_tables`.

    shape : (O, I)        stages : of codewords that are summed
    code : uint8, the codes block by block, (groups of 64 rows, positions, 64 rows) each; of 4 bits
        (groups, positions / 8, 64 rows), the 8 of a row in 32 bits, the first lowest
    book : (p, d, K) float32, or (1, d, K) for all positions; K is 16 or 256, of p positions
    """

    packer = "pack_tables"
    shape: tuple[int, int]
    stages: int
    positions: int
    code: Array
    book: Array


def pack_tables(index: Array, books: Array, columns: int) -> Tables:
    """Returns W for look-ups.

    index : (t, O, s) integers below k        books : (t, s, k, d) float32, or (t, 1, k, d) for all
        blocks, k at most 256        columns : I, at most s d and more than (s - 1) d
    Raises ValueError for a code out of range, too many codewords, and what does not fit.
    """
    doors.floats("books", books, 4)
    t, s, k, d = books.shape
    doors.integers("index", index, 3, least=0, most=k - 1)
    blocks = index.shape[2]
    if index.shape[0] != t or s not in (1, blocks) or not 1 <= k <= MAX_CODES or t < 1:
        raise ValueError(f"books must be (t, s, k, d) or (t, 1, k, d) for an index (t, O, s), k at "
                         f"most {MAX_CODES}, got {books.shape} and {index.shape}")
    columns = doors.whole("columns", columns, 1)
    if d < 1 or blocks != -(-columns // d):
        raise ValueError(f"columns must be those of {blocks} blocks of {d}, got {columns}")
    O, K = index.shape[1], 16 if k <= 16 else 256
    positions = -(-t * blocks // CHUNK) * CHUNK
    code = np.zeros((positions, _groups(O) * ROWS), np.uint8)
    code[: t * blocks, :O] = index.transpose(0, 2, 1).reshape(t * blocks, O)
    if s == 1 and t > 1:
        books = np.broadcast_to(books, (t, blocks, k, d))
    books = books.reshape(-1, k, d).transpose(0, 2, 1)
    book = aligned(1 if len(books) == 1 else positions, d, K)
    book[...] = 0
    book[: len(books), :, :k] = books
    return Tables._made(shape=(O, columns), stages=t, positions=positions,
                        code=_in_groups(code, K), book=book)


def _in_groups(code: Array, K: int) -> Array:
    # (positions, rows) -> bytes, block by block, groups of rows outside, positions inside
    parts, groups = [], code.shape[1] // ROWS
    for at in range(0, len(code), BLOCK[K]):
        part = code[at : at + BLOCK[K]].reshape(-1, groups, ROWS).transpose(1, 0, 2)
        if K == 16:
            chunks = part.reshape(groups, -1, CHUNK, ROWS).astype(np.uint32)
            part = np.zeros((groups, chunks.shape[1], ROWS), np.uint32)
            for j in range(CHUNK):
                part |= chunks[:, :, j] << np.uint32(4 * j)
        parts.append(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
    whole = np.concatenate(parts)
    room = aligned(len(whole) // 4).view(np.uint8)
    room[...] = whole
    return room


def _groups(rows: int) -> int:
    # The last one filled up; one at least, so that no array is empty.
    return max(-(-rows // ROWS), 1)


def matvec(w: Tables, x: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns y = W x, (O,) float32.

    x : (I,) float32, finite        isa : rung, see kernels/cpu.py
    Raises ValueError for what is no Tables, and another type or shape of x.
    """
    of_kind(w, Tables)
    n_threads, x = threads(n_threads), column(x, w.shape)
    level = cpu.resolve(isa, "codebook")
    if level == 0:
        return matvec_ref(w, x)
    K = w.book.shape[2]
    y = np.empty(_groups(w.shape[0]) * ROWS, np.float32)
    cpu.kernel_module("codebook").table_products(
        w.code, w.book, _parts(w, x).reshape(-1), aligned(BLOCK[K] * K), y, BLOCK[K], level,
        n_threads)
    return y[: w.shape[0]]


def matvec_ref(w: Tables, x: Array) -> Array:
    """Returns what `matvec` returns, position by position for all rows at once."""
    parts, K = _parts(w, x), w.book.shape[2]
    book = np.broadcast_to(w.book, (len(parts), *w.book.shape[1:]))
    table = parts[:, 0, None] * book[:, 0]
    for j in range(1, parts.shape[1]):
        table += parts[:, j, None] * book[:, j]
    groups, start = _groups(w.shape[0]), 0
    y = np.zeros((groups, ROWS), np.float32)
    for at in range(0, len(parts), BLOCK[K]):
        n = min(BLOCK[K], len(parts) - at)
        size = groups * n * ROWS // (2 if K == 16 else 1)
        codes = _codes(w.code[start : start + size], groups, K)
        total, start = np.zeros_like(y), start + size
        for i in range(n):
            total += table[at + i][codes[:, i]]
        y += total
    return y.reshape(-1)[: w.shape[0]]


def _codes(code: Array, groups: int, K: int) -> Array:
    # The codes of a block, (groups, positions, 64).
    if K == 256:
        return code.reshape(groups, -1, ROWS)
    chunks = code.view(np.uint32).reshape(groups, -1, 1, ROWS)
    shift = 4 * np.arange(CHUNK, dtype=np.uint32)[:, None]
    return (chunks >> shift & np.uint32(15)).reshape(groups, -1, ROWS)


def _parts(w: Tables, x: Array) -> Array:
    # What each position is multiplied by, (positions, d): x again for each stage, then zeros.
    d = w.book.shape[1]
    if w.stages == 1 and w.positions * d == len(x):
        return x.reshape(-1, d)
    blocks = -(-len(x) // d)
    parts = np.zeros((w.positions, d), np.float32)
    own = parts[: w.stages * blocks].reshape(w.stages, blocks * d)
    own[:, : len(x)] = x
    return parts
