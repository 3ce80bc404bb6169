"""The reference functions of numbers of one bit, and their cases: small ones first."""

from __future__ import annotations

import numpy as np

from ..kernels.bits.conv import conv_ref
from ..kernels.bits.pack import Thresholds, pack_signs_ref, pack_sums_ref
from ..kernels.bits.xnor import xnor_dot
from .draw import Draw
from .entry import Case, Cases, Entry

Array = np.ndarray
SIZES = (1, 7, 63, 64, 65, 130)


def threshold_bits(acc: Array, at: Array, below: Array) -> Array:
    """Returns the bits of sums, words of 64: sum >= at, or sum <= at where `below`.

    acc : (M, O) int32        at : (O,) int32        below : (O,) bool
    """
    return pack_sums_ref(acc, Thresholds(at, below))


def binary_conv(x: Array, w: Array, stride: int, padding: int, pad: int) -> Array:
    """Returns the convolution of signs, (N, Ho, Wo, O) int32.

    x : (N, H, W, C), w : (O, KH, KW, C), +1 and -1        pad : what padding holds, -1, 0 or 1
    """
    return conv_ref(x, w, stride=(stride, stride), padding=(padding, padding), pad=pad)


# ---------------------------------------------------------------------------------------- the cases


def _signs(draw: Draw, *shape: int) -> Array:
    return (2 * draw.integers(0, 2, *shape) - 1).astype(np.int8)


def _numbers(draw: Draw) -> list[Case]:
    # Zeros of both signs among them.
    return [{"x": (draw.integers(-2, 3, 2, n) * np.where(draw.uniform(2, n) < 0.5, -1.0, 1.0))
             .astype(np.float32)} for n in SIZES]


NUMBERS = Cases(
    tiny=[{"x": np.float32([[0.5, -0.5, 0.0, -0.0, -3.0]])}],
    property=_numbers)


def _vectors(draw: Draw) -> list[Case]:
    cases = []
    for n in SIZES:
        a, b = (pack_signs_ref(_signs(draw, n)) for _ in "ab")
        cases += [{"a": a, "b": b, "n": n}, {"a": a, "b": a, "n": n}]
    return cases


VECTORS = Cases(
    tiny=[{"a": np.uint64([0b101]), "b": np.uint64([0b100]), "n": 3},
          {"a": np.uint64([0]), "b": np.uint64([2**64 - 1]), "n": 64}],
    property=_vectors)


def _sums(draw: Draw) -> list[Case]:
    return [{"acc": draw.integers(-3, 4, 2, n).astype(np.int32),
             "at": draw.integers(-3, 4, n).astype(np.int32), "below": draw.uniform(n) < 0.5}
            for n in SIZES]


SUMS = Cases(
    tiny=[{"acc": np.int32([[2, 2, 1, 3]]), "at": np.int32([2, 2, 2, 2]),
           "below": np.array([False, True, False, True])}],
    ends=[{"acc": np.int32([[-5, 5]]), "at": np.int32([-(2**31)] * 2),
           "below": np.array([False, True])}],
    property=_sums)


def _maps(draw: Draw) -> list[Case]:
    return [{"x": _signs(draw, 1, 4, 5, c), "w": _signs(draw, 2, 3, k, c), "stride": stride,
             "padding": padding, "pad": pad}
            for c, k in ((1, 1), (3, 3), (65, 2)) for stride, padding in ((1, 0), (2, 1))
            for pad in (-1, 0, 1)]


# ------------------------------------------------------------------------------------- the entries

_EQUAL, _BNN = "equal in every entry", "Courbariaux et al. 2016, arXiv:1602.02830, "

BITS: dict[str, Entry] = {
    "pack_signs": Entry(
        pack_signs_ref, NUMBERS,
        "bit k of a row is bit k mod 64 of word k // 64, 1 for x >= 0, 0 behind the last",
        _BNN + "eq. (1)"),
    "xnor_dot": Entry(xnor_dot, VECTORS, "n - 2 popcount(a xor b); " + _EQUAL,
                      _BNN + "algorithm 5"),
    "threshold_bits": Entry(threshold_bits, SUMS, _EQUAL,
                            "Umuroglu et al. 2017, arXiv:1612.07119, section 4.2.2"),
    "binary_conv": Entry(binary_conv, Cases(property=_maps), _EQUAL,
                         "Rastegari et al. 2016, arXiv:1603.05279, section 3"),
}
