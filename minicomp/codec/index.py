"""Where the kept weights are: the relative index.

A pruned tensor of n entries keeps m of them. Its *positions* are their places 0..n - 1 in the
flattened tensor, in order; a *gap* is the distance from one to the next, the one before the first
being -1.

The relative index of Deep Compression stores each gap in p bits, as gap - 1, so gaps 1..2^p. A
longer gap is cut: a *filler*, the largest gap with value 0, is stored until the rest fits (p = 3):

    position      0   3               14        (figure 2 of the paper counts 1, 4, 15)
    gap           1   3       11
    stored gap    1   3   8    3                 8 is the filler: 8 + 3 = 11
    stored bits   0   2   7    2

Source: Han, Mao & Dally 2016 (arXiv 1510.00149), section 2.
"""

from __future__ import annotations

import numpy as np

from ..errors import FormatError

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


def _check_p(p: int) -> None:
    if not GAP_BITS[0] <= p <= GAP_BITS[1]:
        raise ValueError(f"p must be in [{GAP_BITS[0]}, {GAP_BITS[1]}], got {p}")
