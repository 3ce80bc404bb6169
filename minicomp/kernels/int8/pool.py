"""Pooling of codes. Maps (N, H, W, C) uint8; windows (KH, KW); Ho, Wo the output's size."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .. import doors
from ..doors import Geometry, Pair
from ..threads import threads
from .checks import codes, kernels, result, rung
from .requantize import DTYPES, Requantizer, numbers, requantize_ref, rule

Array = np.ndarray


def windows(x: Array, kernel: Pair, stride: Pair, padding: Pair, count: Pair, fill: int) -> Array:
    """Returns (N, Ho, Wo, C, KH, KW) of x, with `fill` around it, as far as windows reach."""
    sides = [(p, max((m - 1) * s + k - n - p, 0))
             for n, k, s, p, m in zip(x.shape[1:3], kernel, stride, padding, count)]
    framed = np.pad(x, ((0, 0), *sides, (0, 0)), constant_values=fill)
    seen = sliding_window_view(framed, kernel, axis=(1, 2))
    return seen[:, ::stride[0], ::stride[1]][:, :count[0], :count[1]]


def max_pool_ref(x: Array, *, kernel: Pair, stride: Pair, padding: Pair, count: Pair) -> Array:
    """Returns the largest code of each window, (N, Ho, Wo, C) uint8, on the grid of x.

    count : (Ho, Wo); padding is the least code, so never larger than one of the map
    """
    return windows(x, kernel, stride, padding, count, 0).max(axis=(4, 5))


def avg_pool_ref(x: Array, r: Requantizer, *, kernel: Pair, stride: Pair, padding: Pair,
                 count: Pair, zero_point: int) -> Array:
    """Returns the codes of means, (N, Ho, Wo, C) uint8, rounded once.

    r : of one channel, that takes the sum over a window of q - zero_point (M has the 1 / (KH KW))
    zero_point : of x; padding is 0 as a number, and counts
    """
    acc = sum_pool_ref(x, kernel=kernel, stride=stride, padding=padding, count=count,
                       zero_point=zero_point)
    return requantize_ref(acc[..., None], r)[..., 0]


def sum_pool_ref(x: Array, *, kernel: Pair, stride: Pair, padding: Pair, count: Pair,
                 zero_point: int) -> Array:
    """Returns the sums of q - zero_point over windows, (N, Ho, Wo, C) int32; arguments of
    `avg_pool_ref`."""
    seen = windows(x, kernel, stride, padding, count, zero_point).astype(np.int32)
    return (seen - zero_point).sum(axis=(4, 5), dtype=np.int32)


def max_pool(x: Array, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0),
             count: Pair | None = None, isa: str = "auto", n_threads: int = 1,
             out: Array | None = None, calls=None) -> Array:
    """Returns the largest code of each window, (N, Ho, Wo, C) uint8.

    x : (N, H, W, C) uint8        count : (Ho, Wo), windows may hang over the end; None counts
        those that fit        out : where to write, or None        calls : where to keep it for
        later, see checks.py
    Raises ValueError for another array, and where no window fits.
    """
    given, n_threads, x = x, threads(n_threads), codes("x", x, 4)
    where = windowed(x, kernel, stride, padding, count)
    level, out = rung(isa, calls, given), result(out, (len(x), *where.count, x.shape[3]), x)
    if level == 0:
        out[...] = max_pool_ref(x, kernel=where.kernel, stride=where.stride, padding=where.padding,
                                count=where.count)
    elif out.size:
        kernels(calls).max_pool(x, sizes_of(where, x.shape[3]), out, level, n_threads)
    return out


def avg_pool(x: Array, r: Requantizer, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0),
             count: Pair | None = None, zero_point: int, isa: str = "auto", n_threads: int = 1,
             out: Array | None = None, calls=None) -> Array:
    """Returns the codes of means, (N, Ho, Wo, C) uint8; of all pixels where the window is the map.

    r : of one channel, see `avg_pool_ref`; the other arguments are those of `max_pool`
    Raises ValueError as `max_pool` does, and for windows whose sum could leave int32.
    """
    given, n_threads, x = x, threads(n_threads), codes("x", x, 4)
    zero_point, r = doors.whole("zero_point", zero_point, 0, 255), rule(r, 1)
    where = windowed(x, kernel, stride, padding, count)
    if where.kernel[0] * where.kernel[1] > doors.MOST // 255:
        raise ValueError(f"kernel must have at most {doors.MOST // 255} entries, "
                         f"got {where.kernel}")
    level, out = rung(isa, calls, given), result(out, (len(x), *where.count, x.shape[3]), x)
    if level == 0:
        out[...] = avg_pool_ref(x, r, kernel=where.kernel, stride=where.stride,
                                padding=where.padding, count=where.count, zero_point=zero_point)
    elif out.size:
        alike = SimpleNamespace(**{name: np.repeat(getattr(r, name), 64) for name in DTYPES})
        kernels(calls).avg_pool(x, alike, numbers(r), sizes_of(where, x.shape[3]), zero_point, out,
                                level, n_threads)
    return out


def windowed(x: Array, kernel: Pair, stride: Pair, padding: Pair, count: Pair | None) -> Geometry:
    """Returns the geometry of windows, of which each begins in the map or the padding before it.

    count : (Ho, Wo), windows may hang over the end; None counts those that fit
    Raises ValueError for other numbers.
    """
    # one that hangs over the end may be larger than the map
    where = doors.geometry(x.shape[1:3], kernel, stride, padding, ceil_mode=count is not None)
    if count is None:
        return where
    count = doors.pair("count", count, 1)
    if count[0] > where.count[0] or count[1] > where.count[1]:
        raise ValueError(f"count must be at most {where.count}, got {count}")
    return where._replace(count=count)


def sizes_of(where: Geometry, channels: int) -> tuple[int, ...]:
    """Returns the numbers of a geometry as a kernel takes them: H, W, C, KH, KW, ..."""
    return (*where.size, channels, *where.kernel, *where.stride, *where.padding, *where.count)
