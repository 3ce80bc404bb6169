"""The product of signs: sum over k of a[k] w[k] = K - 2 popcount(a ^ w).

M rows, K inner, O out. Two signs multiply to -1 where their bits differ, which XOR tells for 64 of
them at a time; what is left is to count. Bits behind the last are 0 in both and differ nowhere.

A kernel takes a word of 8 rows of the weight side by side. So weights are packed beforehand, once:
8 rows are the columns of a panel, word by word

    (panel, words, 8) uint64        zeros behind the last row

from a cache line on. The compiled twin, and what each rung gains, is in
kernels_pyx/simd/bits/gemm.h.

Source: Rastegari et al. 2016, arXiv 1603.05279, section 3.2; Courbariaux et al. 2016, arXiv
1602.02830, algorithm 5
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import doors
from ..int8.checks import I32, kernels, result, rung
from ..memory import aligned
from ..sparse.packed import Packed, of_kind
from ..threads import threads
from .checks import U64, clean, word_count, words
from .pack import Thresholds, limits, pack_sums_ref

Array = np.ndarray
COLUMNS = 8  # of a panel


def xnor_dot(a: Array, b: Array, n: int):
    """Returns the sum over n signs of a b, as words on the last axis: int64.

    >>> int(xnor_dot(np.uint64([0b101]), np.uint64([0b100]), 3))  # + - + and - - +
    1
    """
    return n - 2 * np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.int64)


def gemm_ref(a: Array, w: Array, K: int) -> Array:
    """Returns sums, (M, O) int32.   a : (M, words) uint64   w : (O, words) uint64"""
    out = np.empty((len(a), len(w)), np.int32)
    for m, row in enumerate(a):
        out[m] = xnor_dot(row, w, K)
    return out


def linear_ref(a: Array, w: Array, K: int, t: Thresholds) -> Array:
    """Returns the bits of sums, (M, ceil(O / 64)) uint64; arguments of `gemm_ref`."""
    return pack_sums_ref(gemm_ref(a, w, K), t)


# ---------------------------------------------------------------------------------- packed weights


@dataclass(frozen=True, init=False)
class Panels(Packed):
    """Weights in panels, made by `pack`.

    shape : (O, K), or (O, KH, KW, C) of a convolution, in bits
    data : (ceil(O / 8) words 8,) uint64, at a cache line
    sums : (O,), or (O, KH, KW), int32, of the signs of a row or pixel: what padding takes
    """

    packer = "pack"
    shape: tuple[int, ...]
    data: Array
    sums: Array

    @property
    def nbytes(self) -> int:
        """Bytes that one product reads of the weight."""
        return self.data.nbytes

    @property
    def K(self) -> int:
        """Signs of a row."""
        return math.prod(self.shape[1:])


def pack(w: Array, n: int) -> Panels:
    """Returns weights in panels.

    w : (O, words) uint64 of n = K bits, or (O, KH, KW, words) of n = C: the words of `pack_signs`
    Raises ValueError for other arrays, bits set behind the last, and rows of 2^31 signs.
    """
    n, w = doors.whole("n", n, 0), words("w", w, 2, 4)
    clean("w", w, n)
    shape = (*w.shape[:-1], n)
    if math.prod(shape[1:]) > doors.MOST:
        raise ValueError(f"w must have rows of at most {doors.MOST} signs, got shape {shape}")
    panels, row = -(-len(w) // COLUMNS), math.prod(w.shape[1:])
    full = np.zeros((panels * COLUMNS, row), U64)
    full[: len(w)] = w.reshape(len(w), row)
    data = aligned(2 * full.size).view(U64)
    data[:] = full.reshape(panels, COLUMNS, row).transpose(0, 2, 1).reshape(-1)
    sums = 2 * np.bitwise_count(w).sum(axis=-1, dtype=np.int32) - np.int32(n)
    return Panels._made(shape=shape, data=data, sums=sums)


def unpacked(w: Panels) -> Array:
    """Returns the words that `pack` took."""
    of_kind(w, Panels)
    O, *sides, n = w.shape
    panels, row = -(-O // COLUMNS), math.prod(sides) * word_count(n)
    rows = w.data.reshape(panels, row, COLUMNS).transpose(0, 2, 1).reshape(panels * COLUMNS, row)
    return np.ascontiguousarray(rows[:O]).reshape(O, *sides, word_count(n))


def rows_of(w: Panels) -> Array:
    """Returns the words that `pack` took as rows, (O, words)."""
    words = unpacked(w)
    return words.reshape(len(words), math.prod(words.shape[1:]))


# ------------------------------------------------------------------------------------------ entries


def gemm(a: Array, w: Panels, *, out: Array | None = None, isa: str = "auto", n_threads: int = 1,
         calls=None) -> Array:
    """Returns sums, (M, O) int32, in `out` where that is given.

    a : (M, words) uint64, as many words as a row of w; of maps, pixel after pixel, what
        `pack_signs` made of channels
    w : of `pack`        out : (M, O) int32, C-contiguous        calls : where to keep it for later,
        see checks.py of room int8
    Any number of rows has the same sums a row; one row is as many bytes of weights read.
    Raises ValueError for other arrays, and bits set behind the last.
    """
    given, a = a, _checked(a, w)
    out = result(out, (len(a), w.shape[0]), a, dtype=I32)
    level, n_threads = rung(isa, calls, given, room="bits"), threads(n_threads)
    if level == 0 or not (out.size and a.size):
        out[...] = gemm_ref(a, rows_of(w), w.K)
    else:
        kernels(calls, "bits").product(a, w.data, w.K, out, level, n_threads)
    return out


def linear(a: Array, w: Panels, t: Thresholds, *, out: Array | None = None, isa: str = "auto",
           n_threads: int = 1, calls=None) -> Array:
    """Returns the bits of sums, (M, ceil(O / 64)) uint64, in `out` where that is given.

    t : of O channels        out : uint64, C-contiguous        others as of `gemm`
    A sum becomes a bit while it lies in the nearest cache.
    Raises ValueError for other arrays and thresholds.
    """
    given, a = a, _checked(a, w)
    t, out = limits(t, w.shape[0]), result(out, (len(a), word_count(w.shape[0])), a, dtype=U64)
    level, n_threads = rung(isa, calls, given, room="bits"), threads(n_threads)
    if level == 0 or not (out.size and a.size):
        out[...] = linear_ref(a, rows_of(w), w.K, t)
    else:
        kernels(calls, "bits").product_bits(a, w.data, w.K, t, len(t.at), out, level, n_threads)
    return out


def _checked(a: Array, w: Panels) -> Array:
    of_kind(w, Panels)
    a, pixels, n = words("a", a, 2), math.prod(w.shape[1:-1]), w.shape[-1]
    if a.shape[1] != pixels * word_count(n):
        raise ValueError(f"the shapes do not fit each other: a {a.shape}, w {w.shape} in bits")
    if a.size:
        clean("a", a.reshape(len(a), pixels, -1), n)
    return a
