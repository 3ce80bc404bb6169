"""From numbers to bits and back: signs of floats and integers, and int32 sums by a threshold.

M rows, K numbers a row, O channels. sign(0) = +1 (also of -0); NaN has no sign.

A binary layer ends in a batch norm and a sign, which is a comparison of its int32 sum with a number
of the channel: bit = sum >= t, or, where the batch norm's factor is negative, bit = sum <= t. A
channel that is always +1 has t = -2^31, one that is always -1 has t = -2^31 and `below`: no sum is
so small.

Source: Courbariaux et al. 2016, arXiv 1602.02830, sections 1.1 and 2; Umuroglu et al. 2017, arXiv
1612.07119, section 4.2.2, for thresholds. Their sign(0) is +1 as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .. import cpu, doors
from ..int8.checks import kernels, result, rung, settle, sums
from ..threads import threads
from .checks import U64, WORD, clean, word_count, words

Array = np.ndarray
LEAST, LARGEST = -(2**31), 2**31 - 1


def packed(bits: Array) -> Array:
    """Returns bits, (..., K) bool, as words, (..., ceil(K / 64)) uint64."""
    *rows, K = bits.shape
    full = np.zeros((*rows, word_count(K) * WORD), bool)
    full[..., :K] = bits
    return np.packbits(full, axis=-1, bitorder="little").view("<u8").astype(U64)


def pack_signs_ref(x: Array) -> Array:
    """Returns the signs of x, (..., K) -> (..., ceil(K / 64)) uint64."""
    return packed(x >= 0)


def unpack_signs(x: Array, n: int) -> Array:
    """Returns the n numbers +1 and -1 of each row, (..., n) int8.   x : (..., words) uint64

    Raises ValueError for another array, and bits set behind the last.
    """
    n, x = doors.whole("n", n, 0), words("x", x)
    if x.ndim == 0:
        raise ValueError("x must have an axis of words, got a number")
    clean("x", x, n)
    bits = np.unpackbits(x.astype("<u8").view(np.uint8), axis=-1, bitorder="little")
    return np.where(bits[..., :n] == 1, 1, -1).astype(np.int8)


@dataclass(frozen=True)
class Thresholds:
    """How int32 sums become bits: bit = sum >= at, or sum <= at where `below`; O channels.

    at : (O,) int32        below : (O,) bool
    Raises ValueError for other arrays. Both become read-only.
    """

    at: Array
    below: Array
    # What a kernel compares with: sum > above, turned over where flip is set; whole words of them.
    above: Array = field(init=False, repr=False, compare=False)
    flip: Array = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        settle(self, "t", "O", {"at": np.int32, "below": np.bool_})
        # sum >= at is sum > at - 1, but of the least at always: not sum > the largest.
        always = ~self.below & (self.at == LEAST)
        above = np.full(WORD * word_count(len(self.at)), LARGEST, np.int32)
        above[: len(self.at)] = np.where(
            always, LARGEST, self.at.astype(np.int64) - ~self.below).astype(np.int32)
        for name, a in (("above", above), ("flip", packed(self.below | always))):
            a.setflags(write=False)
            object.__setattr__(self, name, a)


def limits(t: Thresholds, channels: int) -> Thresholds:
    """Returns t; ValueError unless it is Thresholds of so many channels."""
    if not isinstance(t, Thresholds):
        raise ValueError(f"t must be Thresholds, got a {type(t).__name__}")
    if len(t.at) != channels:
        raise ValueError(f"t must be of {channels} channels, got {len(t.at)}")
    return t


def pack_sums_ref(acc: Array, t: Thresholds) -> Array:
    """Returns the bits of sums, (..., O) int32 -> (..., ceil(O / 64)) uint64."""
    return packed(np.where(t.below, acc <= t.at, acc >= t.at))


# ------------------------------------------------------------------------------------------ entries


def pack_signs(x: Array, *, out: Array | None = None, isa: str = "auto",
               n_threads: int = 1) -> Array:
    """Returns the signs of numbers, (..., ceil(K / 64)) uint64, in `out` where that is given.

    x : (..., K), floats or integers; the kernel takes float32, NumPy packs others
    Raises ValueError for another array, and for NaN.
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiu" or not x.ndim:
        raise ValueError("x must be an array of floats or integers with an axis, got "
                         f"{getattr(x, 'dtype', type(x).__name__)} {getattr(x, 'shape', '')}")
    level, n_threads = cpu.resolve(isa, "bits"), threads(n_threads)
    out = result(out, (*x.shape[:-1], word_count(x.shape[-1])), x, dtype=U64)
    if level == 0 or not x.size or x.dtype != np.float32:
        nan = bool(np.isnan(x).any())
        out[...] = pack_signs_ref(x)
    else:
        rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
        nan = cpu.kernel_module("bits").pack_signs(rows, out.reshape(len(rows), -1), level,
                                                   n_threads)
    if nan:
        raise ValueError("x must have no NaN, which has no sign")
    return out


def pack_sums(acc: Array, t: Thresholds, *, out: Array | None = None, isa: str = "auto",
              n_threads: int = 1, calls=None) -> Array:
    """Returns the bits of sums, (..., ceil(O / 64)) uint64, in `out` where that is given.

    acc : (..., O) int32        t : of O channels        calls : where to keep it for later, see
    checks.py of room int8
    Raises ValueError for other arrays.
    """
    given, acc = acc, sums("acc", acc)
    if not acc.ndim:
        raise ValueError("acc must have an axis of channels, got a number")
    O, t = acc.shape[-1], limits(t, acc.shape[-1])
    level, n_threads = rung(isa, calls, given, room="bits"), threads(n_threads)
    out = result(out, (*acc.shape[:-1], word_count(O)), acc, dtype=U64)
    if level == 0:
        out[...] = pack_sums_ref(acc, t)
    elif acc.size:
        rows = acc.reshape(-1, O)
        kernels(calls, "bits").limits(rows, t, out.reshape(len(rows), -1), level, n_threads)
    return out
