"""The product of an N:M weight W (O, I) with one column: n of every m weights of a row are kept.

O outputs, I inputs. Sixteen rows are the lanes of a vector, as in lanes.py. All rows keep n weights
in every block of m columns, so that a window of x, the 16 // m blocks that fit 16 columns, serves
the same number of steps in every group of rows. Where a step begins need not be stored, no lane
waits, and a weight takes its float32 and 4 bits: its column within the window. 2:4:

    row 0    . a . b | c d . . | ...       step 0    lane 0: a, 1    lane 1: e, 0    ...
    row 1    e . f . | . g . h | ...       step 1            b, 3            f, 2
                                           step 2            c, 4            g, 5
                                           step 3            d, 5            h, 7

The sum is float32 in a fixed order, even and odd steps apart, then added; multiplied and added with
a rounding each, so that every rung and number of threads gives the same bits. A lane that stands
empty adds 0 x, so x must be finite. For many columns blocks gain nothing over CSR: there the
columns are the lanes, and a weight's column is read once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import cpu, doors
from ..threads import threads
from .lanes import checked, column
from .packed import Packed, of_kind

Array = np.ndarray
LANES = 16
# Where the place of a lane lies in a step's word: even lanes in its low half, odd in its high one.
_SHIFT = np.array([4 * ((lane & 1) * 8 + lane // 2) for lane in range(LANES)], np.uint64)


@dataclass(frozen=True, init=False)
class NM(Packed):
    """W with n of every m weights; made by `pack_nm`.

    shape : (O, I)        n, m : kept, of a block        windows : of `width` columns each
    value : (groups of 16 rows, windows steps, 16) float32
    place : (groups, windows steps) uint64, sixteen columns within the window of 4 bits
    """

    packer = "pack_nm"
    shape: tuple[int, int]
    n: int
    m: int
    value: Array
    place: Array

    @property
    def width(self) -> int:
        """Columns of a window."""
        return LANES // self.m * self.m

    @property
    def windows(self) -> int:
        """Windows in a row; the last may reach past I."""
        return -(-self.shape[1] // self.width)


def pack_nm(w: Array, n: int, m: int) -> NM:
    """Returns W in groups of 16 rows.

    w : (O, I) float32, at most n of every m consecutive weights of a row not 0        m : up to 16
    Raises ValueError where m does not divide I, or a block holds more than n.
    """
    w, _ = checked(w, None)
    n, m = doors.whole("n", n, 1), doors.whole("m", m, 1)
    if not n <= m <= LANES:
        raise ValueError(f"n and m must be 1 <= n <= m <= {LANES}, got {n} and {m}")
    O, I = w.shape
    if I % m:
        raise ValueError(f"m must divide the {I} weights of a row, got {m}")
    most = int((w.reshape(O, I // m, m) != 0).sum(axis=2).max(initial=0))
    if most > n:
        raise ValueError(f"w must have at most {n} weights in {m} that are not 0, got {most}")
    per = LANES // m  # blocks of a window
    groups, windows = -(-O // LANES), -(-I // (per * m))
    full = np.zeros((groups * LANES, windows * per * m), np.float32)
    full[:O, :I] = w
    blocks = full.reshape(groups, LANES, windows, per, m)
    kept = np.sort(np.argsort(blocks == 0, axis=4, kind="stable")[..., :n], axis=4)
    value = np.take_along_axis(blocks, kept, axis=4)
    place = (kept + m * np.arange(per)[:, None]).astype(np.uint64)  # column within the window

    def by_step(a):  # (groups, 16, windows, per, n) -> (groups, steps, 16)
        return np.ascontiguousarray(np.moveaxis(a, 1, 4)).reshape(groups, windows * per * n, LANES)

    words = np.bitwise_or.reduce(by_step(place) << _SHIFT, axis=2)
    return NM._made(shape=(O, I), n=n, m=m, value=by_step(value), place=words)


def matvec(w: NM, x: Array, *, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns y = W x, (O,) float32.

    x : (I,) float32, finite        isa : rung, see kernels/cpu.py
    Raises ValueError for what is no NM, and another type or shape of x.
    """
    of_kind(w, NM)
    n_threads = threads(n_threads)
    x = column(x, w.shape)
    O, I = w.shape
    padded = np.zeros(w.windows * w.width + LANES, np.float32)
    padded[:I] = x
    level = cpu.resolve(isa, "sparse")
    if level == 0:
        return matvec_ref(w, padded)
    y = np.empty(O, np.float32)
    cpu.kernel_module("sparse").nm(
        w.value, w.place, w.windows, w.width, padded, y, level, n_threads
    )
    return y


def matvec_ref(w: NM, padded: Array) -> Array:
    """Returns what `matvec` returns, step by step for all groups at once.

    padded : x with zeros behind it, (windows width + 16,)
    """
    product = w.value * padded[columns(w)]
    parts = np.zeros((2, len(product), LANES), np.float32)
    for step in range(product.shape[1]):
        parts[step % 2] += product[:, step]
    return (parts[0] + parts[1]).reshape(-1)[: w.shape[0]]


def columns(w: NM) -> Array:
    """Returns the column of every lane of every step, (groups, steps, 16) int64."""
    place = (w.place[:, :, None] >> _SHIFT & np.uint64(15)).astype(np.int64)
    steps = w.place.shape[1] // max(w.windows, 1)
    return place + (np.arange(w.place.shape[1]) // max(steps, 1) * w.width)[:, None]
