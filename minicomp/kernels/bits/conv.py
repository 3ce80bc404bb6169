"""Convolution of signs: bits -> int32 [-> bits].

N batch, C in, O out, H W size, K kernel (KH, KW). Maps (N, H, W, words) uint64, weights (O, KH, KW,
words): a window and a filter lie in the same order, words for words. No groups: of one word a
group, a channel's bits would lie in words of their own.

What lies around the map is +1, -1, or 0, which adds nothing, as float nets have it; no bit is 0, so
that a kernel takes it for -1 and gives back what the weights there took:

    sum over window of a w = (sum with -1 in the padding) + (sum of the weights in the padding)

The second depends on which rows and columns of the filter lie outside: few ways, each worked out
once. The compiled twin is in kernels_pyx/simd/bits/conv.h.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .. import cpu, doors
from ..doors import Pair
from ..int8.checks import I32, kernels, result, rung
from ..int8.checks import scratch as scratch_of
from ..maps.conv import Sizes
from ..sparse.packed import of_kind
from ..threads import threads
from .checks import U64, clean, word_count, words
from .pack import Thresholds, limits, pack_sums_ref, unpack_signs
from .xnor import Panels, unpacked

Array = np.ndarray


def conv_ref(x: Array, w: Array, *, stride: Pair = (1, 1), padding: Pair = (0, 0),
             pad: int = 0) -> Array:
    """Returns sums, (N, Ho, Wo, O) int32.   x : (N, H, W, C), w : (O, KH, KW, C), +1 and -1

    pad : what padding holds, -1, 0 or 1
    In float64, which is exact: K < 2^53.
    """
    (ph, pw), (sh, sw) = padding, stride
    framed = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)), constant_values=pad)
    seen = sliding_window_view(framed, w.shape[1:3], axis=(1, 2))[:, ::sh, ::sw]
    sums = np.tensordot(seen.astype(np.float64), w.transpose(3, 1, 2, 0).astype(np.float64), 3)
    return sums.astype(np.int32)


def conv2d_ref(x: Array, w: Array, t: Thresholds, **how) -> Array:
    """Returns the bits of a convolution, (N, Ho, Wo, words); arguments of `conv_ref`."""
    return pack_sums_ref(conv_ref(x, w, **how), t)


# ------------------------------------------------------------------------------------------ entries


def sizes_of(shape: tuple[int, ...], w: Panels, *, stride: Pair = (1, 1),
             padding: Pair = (0, 0)) -> Sizes:
    """Returns the sizes of a convolution of maps of `shape`, (N, H, W, words), checked.

    Raises ValueError where channels do not fit, no window does, and for other numbers.
    """
    of_kind(w, Panels)
    if len(w.shape) != 4 or len(shape) != 4 or shape[3] != word_count(w.shape[3]) or (
            not all(w.shape)):
        raise ValueError("a convolution needs x (N, H, W, words) and w (O, KH, KW, C), none of "
                         f"which is 0, got {shape} and {w.shape}")
    O, KH, KW, C = w.shape
    where = doors.geometry(shape[1:3], (KH, KW), stride, padding)
    return Sizes(*shape[1:3], C, O, KH, KW, *where.stride, *where.padding, *where.count)


def scratch_words(sizes: Sizes, *, n_threads: int = 1) -> int:
    """Returns how many words of scratch a convolution of these sizes takes, at least 1."""
    if not isinstance(sizes, Sizes):
        raise ValueError(f"sizes must be made by sizes_of, got a {type(sizes).__name__}")
    n_threads = threads(n_threads)
    if cpu.kernel_module("bits") is None:
        return 1
    return max(1, n_threads * cpu.kernel_module("bits").conv_room(sizes))


def conv(x: Array, w: Panels, *, stride: Pair = (1, 1), padding: Pair = (0, 0), pad: int = 0,
         out: Array | None = None, scratch: Array | None = None, isa: str = "auto",
         n_threads: int = 1, calls=None) -> Array:
    """Returns sums, (N, Ho, Wo, O) int32, in `out` where that is given.

    x : (N, H, W, words) uint64        w : of `xnor.pack`, (O, KH, KW, C)
    pad : what padding holds, -1, 0 or 1        out : int32, C-contiguous
    scratch : uint64, at least `scratch_words` many        calls : where to keep it for later, see
    checks.py of room int8
    Raises ValueError for other arrays, bits set behind the last, and where no window fits.
    """
    given, (x, s, pad) = x, _checked(x, w, stride, padding, pad)
    out = result(out, (len(x), s.Ho, s.Wo, s.O), x, dtype=I32)
    level, n_threads = rung(isa, calls, given, room="bits"), threads(n_threads)
    scratch = scratch_of(scratch, scratch_words(s, n_threads=n_threads), np.uint64, x, out)
    if level == 0 or not out.size:
        out[...] = conv_ref(*_signs(x, w), **_how(s, pad))
    else:
        kernels(calls, "bits").conv(x, w.data, s, meets(w, s, pad), scratch, out, level, n_threads)
    return out


def conv2d(x: Array, w: Panels, t: Thresholds, *, stride: Pair = (1, 1), padding: Pair = (0, 0),
           pad: int = 0, out: Array | None = None, scratch: Array | None = None, isa: str = "auto",
           n_threads: int = 1, calls=None) -> Array:
    """Returns the bits of a convolution, (N, Ho, Wo, words of O) uint64, in `out` where given.

    t : of O channels        out : uint64, C-contiguous        others as of `conv`
    Raises ValueError for other arrays and thresholds, and where no window fits.
    """
    given, (x, s, pad) = x, _checked(x, w, stride, padding, pad)
    t, out = limits(t, s.O), result(out, (len(x), s.Ho, s.Wo, word_count(s.O)), x, dtype=U64)
    level, n_threads = rung(isa, calls, given, room="bits"), threads(n_threads)
    scratch = scratch_of(scratch, scratch_words(s, n_threads=n_threads), np.uint64, x, out)
    if level == 0 or not out.size:
        out[...] = conv2d_ref(*_signs(x, w), t, **_how(s, pad))
    else:
        kernels(calls, "bits").conv_bits(x, w.data, s, meets(w, s, pad), scratch, t, out, level,
                                         n_threads)
    return out


def meets(w: Panels, s: Sizes, pad: int) -> tuple:
    """Returns what windows meet around the map: K, whether that is +1, and what is given back.

    The last is None, or, where padding is 0, fix (ways, O) int32, down (Ho,), across (Wo,) int32:
    the window in row i and column j of the output gets fix[down[i] + across[j]] more. Way 0 is to
    meet no padding.
    """
    if pad or s.ph == s.pw == 0:
        return w.K, pad > 0, None
    down, rows = _inside(s.Ho, s.KH, s.sh, s.ph, s.H)
    across, columns = _inside(s.Wo, s.KW, s.sw, s.pw, s.W)
    inside = (rows[:, None, :, None] & columns[:, None]).reshape(-1, s.KH * s.KW)
    # In float64, of which BLAS makes a product, exact below 2^53.
    fix = (~inside).astype(np.float64) @ w.sums.reshape(s.O, -1).T.astype(np.float64)
    down *= np.int32(len(columns))
    return w.K, False, (np.ascontiguousarray(fix, np.int32), down, across)


def _inside(count: int, k: int, stride: int, padding: int, n: int) -> tuple[Array, Array]:
    # The way of each of `count` windows, int32, and of each way which of the k entries lie inside
    # the map: (before, after) lie outside. Way 0 has all.
    at = np.arange(count) * stride - padding
    before, after = np.clip(-at, 0, k), np.clip(at + k - n, 0, k)
    ways = {(0, 0): 0}
    way = [ways.setdefault(pair, len(ways)) for pair in zip(before.tolist(), after.tolist())]
    first, last = np.array(list(ways)).T[..., None]
    entries = np.arange(k)
    return np.array(way, np.int32), (entries >= first) & (entries < k - last)


def _checked(x: Array, w: Panels, stride: Pair, padding: Pair,
             pad: int) -> tuple[Array, Sizes, int]:
    x = words("x", x, 4)
    s = sizes_of(x.shape, w, stride=stride, padding=padding)
    clean("x", x, s.C)
    return x, s, doors.whole("pad", pad, -1, 1)


def _signs(x: Array, w: Panels) -> tuple[Array, Array]:
    return unpack_signs(x, w.shape[3]), unpack_signs(unpacked(w), w.shape[3])


def _how(s: Sizes, pad: int) -> dict:
    return {"stride": (s.sh, s.sw), "padding": (s.ph, s.pw), "pad": pad}
