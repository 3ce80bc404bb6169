"""Max pooling of signs. Maps (N, H, W, words) uint64; windows (KH, KW); Ho, Wo the output's size.

The largest sign of a window is +1 where one is: OR. A net pools before its batch norm and sign; of
a channel whose batch norm has a negative factor, where the largest sum is the one whose bit is
least, bits are pooled by AND. Padding never decides; a window of padding alone is -1 by OR, +1 by
AND. The compiled twin is in kernels_pyx/simd/bits/pool.h.
"""

from __future__ import annotations

import numpy as np

from ..doors import Pair
from ..int8.checks import kernels, result, rung
from ..int8.pool import sizes_of, windowed, windows
from ..threads import threads
from .checks import U64, clean, words
from .pack import packed

Array = np.ndarray


def max_pool_ref(x: Array, flip: Array, *, kernel: Pair, stride: Pair, padding: Pair,
                 count: Pair) -> Array:
    """Returns the largest sign of each window, or the least where flip, (N, Ho, Wo, words) uint64.

    flip : (words,) uint64        count : (Ho, Wo)
    """
    seen = windows(x ^ flip, kernel, stride, padding, count, 0)
    return np.bitwise_or.reduce(seen, axis=(4, 5)) ^ flip


def max_pool(x: Array, lowest: Array, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0),
             count: Pair | None = None, isa: str = "auto", n_threads: int = 1,
             out: Array | None = None, calls=None) -> Array:
    """Returns the largest sign of each window, (N, Ho, Wo, words) uint64.

    x : (N, H, W, words) uint64        lowest : (C,) bool, the channels whose least sign is wanted
    count : (Ho, Wo), windows may hang over the end; None counts those that fit
    out : where to write, or None        calls : where to keep it for later, see checks.py of room
        int8
    Raises ValueError for other arrays, bits set behind the last, and where no window fits.
    """
    given, n_threads, x = x, threads(n_threads), words("x", x, 4)
    if not isinstance(lowest, np.ndarray) or lowest.dtype != bool or lowest.ndim != 1:
        raise ValueError("lowest must be an array (C,) of bool, "
                         f"got {getattr(lowest, 'dtype', type(lowest).__name__)}")
    clean("x", x, len(lowest))
    flip, where = packed(lowest), windowed(x, kernel, stride, padding, count)
    level, out = rung(isa, calls, given, room="bits"), result(
        out, (len(x), *where.count, x.shape[3]), x, dtype=U64)
    if level == 0:
        out[...] = max_pool_ref(x, flip, kernel=where.kernel, stride=where.stride,
                                padding=where.padding, count=where.count)
    elif out.size:
        kernels(calls, "bits").max_pool(x, sizes_of(where, x.shape[3]), flip, out, level, n_threads)
    return out
