"""Where the kept weights are: relative index, bitmap, CSR and CSC.

A pruned tensor of n entries keeps m of them. Its *positions* are their places 0..n - 1 in the
flattened tensor, in order; a *gap* is the distance from one to the next, the one before the first
being -1.

The relative index of Deep Compression stores each gap in p bits, as gap - 1, so gaps 1..2^p. A
longer gap is cut: a *filler*, the largest gap with value 0, is stored until the rest fits (p = 3):

    position      0   3               14        (figure 2 of the paper counts 1, 4, 15)
    gap           1   3       11
    stored gap    1   3   8    3                 8 is the filler: 8 + 3 = 11
    stored bits   0   2   7    2

Source: Han, Mao & Dally 2016 (arXiv 1510.00149), section 2. CSR takes 2 m + rows + 1 numbers there.
"""

from __future__ import annotations

import numpy as np

from ..errors import FormatError
from .bits import pack_bits, unpack_bits

Array = np.ndarray
GAP_BITS = (1, 16)  # range of p


def relative_index(positions: Array, p: int) -> tuple[Array, Array]:
    """Returns (stored, source) of a relative index of p bits, one entry for each weight and filler.

    positions : (m,) strictly increasing integers >= 0        p : bits of a gap, 1..16
    stored : (m + fillers,) int64, gap - 1, below 2^p
    source : (m + fillers,) int64, which weight an entry holds; -1 at a filler, whose value is 0
    Raises ValueError where p or positions are out of range.

    >>> [a.tolist() for a in relative_index(np.array([0, 3, 14]), 3)]
    [[0, 2, 7, 2], [0, 1, -1, 2]]
    """
    ahead = gaps(positions) - 1
    _check_p(p)
    last = np.cumsum((ahead >> p) + 1) - 1  # the entry of each weight, after its fillers
    entries = int(last[-1]) + 1 if len(last) else 0
    stored = np.full(entries, (1 << p) - 1)
    source = np.full(entries, -1)
    stored[last] = ahead & ((1 << p) - 1)
    source[last] = np.arange(len(last))
    return stored, source


def relative_positions(stored: Array, filler: Array, p: int, n: int) -> Array:
    """Returns the positions, (m,) int64, that a relative index of p bits holds.

    stored : (entries,) gap - 1        filler : (entries,) bool, True where the value is 0
    n : entries of the flattened tensor
    Raises FormatError where a position is n or more, a filler's gap is not the largest, or one
    comes last.
    """
    ends = np.cumsum(stored.astype(np.int64) + 1) - 1
    if len(ends) and int(ends[-1]) >= n:
        raise FormatError(f"position must be below {n}, got {int(ends[-1])}")
    if (stored[filler] != (1 << p) - 1).any():
        raise FormatError(f"a filler must have the largest gap, {1 << p}")
    if len(ends) and filler[-1]:
        raise FormatError("a filler must be followed by a weight")
    return ends[~filler]


def gaps(positions: Array) -> Array:
    """Returns the distance of each position to the one before, (m,) int64; the first to -1.

    Raises ValueError where positions are negative or do not increase.
    """
    distance = np.diff(np.asarray(positions, np.int64), prepend=-1)
    if (distance < 1).any():
        raise ValueError("positions must be >= 0 and strictly increasing")
    return distance


def filler_count(positions: Array, p: int) -> int:
    """Returns how many fillers a relative index of p bits needs: sum of (gap - 1) div 2^p."""
    _check_p(p)
    return int(((gaps(positions) - 1) >> p).sum())


def best_gap_bits(positions: Array, value_bits: int) -> int:
    """Returns the p of the fewest bits, (m + fillers) (p + value_bits); of equals the smallest."""
    m = len(positions)
    sizes = {
        p: (m + filler_count(positions, p)) * (p + value_bits)
        for p in range(GAP_BITS[0], GAP_BITS[1] + 1)
    }
    return min(sizes, key=sizes.get)


def bitmap_encode(mask: Array) -> Array:
    """Returns one bit an entry, uint8 (ceil(n / 8),); mask : any shape, boolean, in C order."""
    return pack_bits(np.asarray(mask, bool).ravel(), 1)


def bitmap_decode(data: Array, n: int) -> Array:
    """Returns the mask, (n,) bool; errors of unpack_bits."""
    return unpack_bits(data, 1, n).astype(bool)


def csr_encode(w: Array) -> tuple[Array, Array, Array]:
    """Returns (values, columns, starts) of compressed sparse rows.

    w : (rows, columns)        values : (m,) non-zeros in row order        columns : (m,) int32
    starts : (rows + 1,) int32; row i holds the entries starts[i] .. starts[i + 1] - 1
    """
    rows, columns = np.nonzero(w)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(w)))])
    return w[rows, columns], columns.astype(np.int32), starts.astype(np.int32)


def csr_decode(values: Array, columns: Array, starts: Array, shape: tuple[int, int]) -> Array:
    """Returns the dense array of compressed sparse rows.

    Raises FormatError where starts do not rise from 0 to m, or the columns of a row do not rise
    below its width.
    """
    if (
        len(starts) != shape[0] + 1
        or starts[0] != 0
        or starts[-1] != len(values)
        or (np.diff(starts) < 0).any()
    ):
        raise FormatError(f"starts must rise from 0 to {len(values)} in {shape[0] + 1} steps")
    rows = np.repeat(np.arange(shape[0]), np.diff(starts))
    columns = np.asarray(columns)
    within = np.diff(rows) == 0
    if (
        len(columns) != len(values)
        or ((columns < 0) | (columns >= shape[1])).any()
        or (np.diff(columns)[within] < 1).any()
    ):
        raise FormatError(f"columns of a row must rise and lie in [0, {shape[1] - 1}], one a value")
    w = np.zeros(shape, values.dtype)
    w[rows, columns] = values
    return w


def csc_encode(w: Array) -> tuple[Array, Array, Array]:
    """Returns (values, rows, starts) of compressed sparse columns: csr_encode of the transpose."""
    return csr_encode(w.T)


def csc_decode(values: Array, rows: Array, starts: Array, shape: tuple[int, int]) -> Array:
    """Returns the dense array of compressed sparse columns; FormatError as csr_decode."""
    return csr_decode(values, rows, starts, shape[::-1]).T


def csr_numbers(m: int, lines: int) -> int:
    """Returns how many numbers CSR (lines: rows) or CSC (columns) stores, 2 m + lines + 1."""
    return 2 * m + lines + 1


def csr_bytes(m: int, lines: int, value_bytes: int = 4, index_bytes: int = 4) -> int:
    """Returns the bytes of CSR or CSC: m values, m + lines + 1 indices."""
    return m * value_bytes + (m + lines + 1) * index_bytes


def _check_p(p: int) -> None:
    if not GAP_BITS[0] <= p <= GAP_BITS[1]:
        raise ValueError(f"p must be in [{GAP_BITS[0]}, {GAP_BITS[1]}], got {p}")
