"""Convolution of codes, groups and depthwise included: u8 x s8 -> int32 -> u8.

N batch, C in, O out, H W size, K kernel (KH, KW), G groups. Maps (N, H, W, C) uint8, weights
(O, KH, KW, C/G) int8: a window and a filter lie in the same order. What lies around the map is its
zero point: padding is 0 as a number. The algebra is that of gemm.py, and so are packed weights; the
compiled twin is in kernels_pyx/simd/int8/conv.h.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .. import cpu, doors
from ..doors import Pair
from ..sparse.packed import of_kind
from ..threads import threads
from . import checks
from .gemm import Panels, gemm_ref, unpacked
from .requantize import Requantizer, numbers, requantize_ref, rule

Array = np.ndarray


def conv_ref(x: Array, w: Array, offset: Array, *, stride: Pair, padding: Pair, groups: int,
             zero_point: int) -> Array:
    """Returns accumulators, (N, Ho, Wo, O) int32.

    x : (N, H, W, C) uint8        w : (O, KH, KW, C/G) int8        offset : (O,) int32
    zero_point : of x, what padding holds
    """
    (ph, pw), (sh, sw), (o, kh, kw, c) = padding, stride, w.shape
    framed = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)), constant_values=zero_point)
    seen = sliding_window_view(framed, (kh, kw), axis=(1, 2))[:, ::sh, ::sw]  # (N,Ho,Wo,C,KH,KW)
    n, ho, wo = seen.shape[:3]
    rows = seen.transpose(0, 1, 2, 4, 5, 3).reshape(n * ho * wo, kh * kw, groups, c)
    each = o // groups
    out = [gemm_ref(rows[:, :, g].reshape(len(rows), kh * kw * c),
                    w[g * each: (g + 1) * each].reshape(each, kh * kw * c),
                    offset[g * each: (g + 1) * each]) for g in range(groups)]
    return np.concatenate(out, axis=1).reshape(n, ho, wo, o)


def conv2d_ref(x: Array, w: Array, offset: Array, r: Requantizer, **how) -> Array:
    """Returns the codes of a convolution, (N, Ho, Wo, O) uint8; arguments of `conv_ref`."""
    return requantize_ref(conv_ref(x, w, offset, **how), r)


# ------------------------------------------------------------------------------------------ entries


class Sizes(NamedTuple):
    """A convolution as the kernel knows it; `zero_point` of the input."""

    H: int
    W: int
    C: int
    O: int
    KH: int
    KW: int
    sh: int
    sw: int
    ph: int
    pw: int
    Ho: int
    Wo: int
    groups: int
    zero_point: int


def sizes_of(shape: tuple[int, ...], w: Panels, *, stride: Pair = (1, 1), padding: Pair = (0, 0),
             zero_point: int = 0) -> Sizes:
    """Returns the sizes of a convolution of maps of `shape`, (N, H, W, C), checked.

    Raises ValueError where channels do not fit, no window does, and for other numbers.
    """
    of_kind(w, Panels)
    if len(w.shape) != 4 or len(shape) != 4 or shape[3] != w.shape[3] * w.groups or (
            not all(w.shape)):
        raise ValueError(f"a convolution in {w.groups} groups needs x (N, H, W, C) and w (O, KH, "
                         f"KW, C / groups), none of which is 0, got {shape} and {w.shape}")
    O, KH, KW, _ = w.shape
    where = doors.geometry(shape[1:3], (KH, KW), stride, padding)
    zero_point = doors.whole("zero_point", zero_point, 0, 255)
    return Sizes(*shape[1:], O, KH, KW, *where.stride, *where.padding, *where.count, w.groups,
                 zero_point)


def scratch_bytes(sizes: Sizes, *, n_threads: int = 1) -> int:
    """Returns how many bytes of scratch a convolution of these sizes takes, at least 1."""
    if not isinstance(sizes, Sizes):
        raise ValueError(f"sizes must be made by sizes_of, got a {type(sizes).__name__}")
    n_threads = threads(n_threads)
    if cpu.kernel_module("int8") is None:
        return 1
    return max(1, n_threads * cpu.kernel_module("int8").conv_room(sizes))


def conv(x: Array, w: Panels, offset: Array, *, stride: Pair = (1, 1), padding: Pair = (0, 0),
         zero_point: int = 0, out: Array | None = None, scratch: Array | None = None,
         isa: str = "auto", n_threads: int = 1, calls=None) -> Array:
    """Returns accumulators, (N, Ho, Wo, O) int32, in `out` where that is given.

    x : (N, H, W, C) uint8        w : of `pack`, (O, KH, KW, C/G) in groups        offset : (O,)
    int32
    zero_point : of x, what padding holds        out : int32, C-contiguous
    scratch : uint8, at least `scratch_bytes` many        calls : where to keep it for later, see
    checks.py
    Raises ValueError for other arrays, and where no window fits.
    """
    given, (x, offset, s) = (x, offset), _checked(x, w, offset, stride, padding, zero_point)
    out = checks.result(out, (len(x), s.Ho, s.Wo, s.O), x, dtype=checks.I32)
    level, n_threads = checks.rung(isa, calls, *given), threads(n_threads)
    scratch = _room(scratch, s, n_threads, x, out)
    if level == 0 or not out.size:
        out[...] = conv_ref(x, unpacked(w), offset, **_how(s))
        return out
    checks.kernels(calls).conv(x, w.data, offset, s, scratch, out, level, n_threads)
    return out


def conv2d(x: Array, w: Panels, offset: Array, r: Requantizer, *, stride: Pair = (1, 1),
           padding: Pair = (0, 0), zero_point: int = 0, out: Array | None = None,
           scratch: Array | None = None, isa: str = "auto", n_threads: int = 1,
           calls=None) -> Array:
    """Returns the codes of a convolution, (N, Ho, Wo, O) uint8, in `out` where that is given.

    r : of O channels        out : uint8, C-contiguous        others as of `conv`
    Raises ValueError for other arrays and requantizers, and where no window fits.
    """
    given, (x, offset, s) = (x, offset), _checked(x, w, offset, stride, padding, zero_point)
    rule(r, s.O)
    out = checks.result(out, (len(x), s.Ho, s.Wo, s.O), x)
    level, n_threads = checks.rung(isa, calls, *given), threads(n_threads)
    scratch = _room(scratch, s, n_threads, x, out)
    if level == 0 or not out.size:
        out[...] = conv2d_ref(x, unpacked(w), offset, r, **_how(s))
        return out
    checks.kernels(calls).conv_codes(x, w.data, offset, s, r, numbers(r), scratch, out, level,
                                     n_threads)
    return out


def _checked(x, w, offset, stride, padding, zero_point) -> tuple[Array, Array, Sizes]:
    x, offset = checks.codes("x", x, 4), checks.sums("offset", offset, 1)
    s = sizes_of(x.shape, w, stride=stride, padding=padding, zero_point=zero_point)
    if offset.shape != (s.O,):
        raise ValueError(f"offset must have shape ({s.O},), got {offset.shape}")
    return x, offset, s


def _how(s: Sizes) -> dict:
    return {"stride": (s.sh, s.sw), "padding": (s.ph, s.pw), "groups": s.groups,
            "zero_point": s.zero_point}


def _room(scratch: Array | None, s: Sizes, n_threads: int, *others: Array) -> Array:
    return checks.scratch(scratch, scratch_bytes(s, n_threads=n_threads), np.uint8, *others)
