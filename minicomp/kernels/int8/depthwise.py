"""Depthwise convolution of codes: one filter for each channel, u8 x s8 -> int32 -> u8.

The reference is `conv.conv2d_ref` with as many groups as channels. What a rung wants of the
weights is done once, by `pack_depthwise`; see kernels_pyx/simd/int8/depthwise.h for the order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .. import cpu, doors
from ..doors import Pair
from ..memory import aligned
from ..sparse.packed import Packed, of_kind
from ..threads import threads
from .checks import I32, U8, codes, kernels, result, rung, sums
from .conv import conv2d_ref, conv_ref
from .pool import sizes_of
from .requantize import DTYPES, Requantizer, numbers, rule

Array = np.ndarray
# By rung: channels in a block, rows in a lane.
BLOCKS = {"portable": (16, 1), "popcnt": (16, 1), "avx2": (32, 2), "avx512": (64, 2),
          "vnni": (64, 4), "vpopcntdq": (64, 4)}


@dataclass(frozen=True, init=False)
class Depthwise(Packed):
    """Depthwise filters and what follows them, packed for one rung by `pack_depthwise`.

    level : of the rung        shape : (C, KH, KW, 1)
    data : int8, (blocks, KW, G, V, Q) of 8 or 16 bits, G = ceil(KH / Q); at level 0 as it was given
    offset, r : of blocks V channels, in the order of a block; r None: what comes are sums
    """

    packer = "pack_depthwise"
    level: int
    shape: tuple[int, ...]
    data: Array
    offset: Array
    r: Requantizer | None


def pack_depthwise(w: Array, offset: Array, r: Requantizer | None, *,
                   isa: str = "auto") -> Depthwise:
    """Returns the filters packed for a rung.

    w : (C, KH, KW, 1) int8, none of which is 0        offset : (C,) int32        r : of C channels,
    or None: sums are wanted
    Raises ValueError for other arrays, and filters whose sums may not fit int32.
    """
    doors.integers("w", w, 4)
    if w.dtype != np.int8 or w.shape[3] != 1 or 0 in w.shape:
        raise ValueError(f"w must be int8 of shape (C, KH, KW, 1), got {w.dtype} {w.shape}")
    r = None if r is None else rule(r, len(w))
    offset, level = sums("offset", offset, 1), cpu.resolve(isa, "int8")
    if len(offset) != len(w):
        raise ValueError(f"offset must be of {len(w)} channels, got {len(offset)}")
    if 255 * np.abs(w.astype(np.int16)).sum(axis=(1, 2, 3), dtype=np.int64).max() >= 2**31:
        raise ValueError("w must have filters whose 255 sum |w| is below 2^31")
    if level == 0:
        return Depthwise._made(level=0, shape=w.shape, data=w.copy(), offset=offset.copy(), r=r)
    v, q = BLOCKS[cpu.RUNGS[level]]
    return Depthwise._made(
        level=level, shape=w.shape, data=_interleaved(w[..., 0], v, q), offset=_ordered(offset, v),
        r=r and replace(r, **{name: _ordered(getattr(r, name), v) for name in DTYPES}))


def _ordered(a: Array, v: int) -> Array:
    # (..., C) -> (..., blocks V): channel 16 l + 4 k + i of a block goes to place 4 (L k + l) + i,
    # L = V / 16. A last block of 64 that has at most 16 channels keeps their order, one of at most
    # 32 has groups of four of them in the order 0 4 2 6 1 5 3 7. What is missing repeats the last
    # channel.
    c, blocks = a.shape[-1], -(-a.shape[-1] // v)
    places = np.arange(blocks * v).reshape(blocks, v // 16, 4, 4).swapaxes(1, 2).reshape(-1, v)
    left = c - (blocks - 1) * v
    if v == 64 and left <= 32:
        places[-1] = np.arange((blocks - 1) * v, blocks * v)
        if left > 16:
            fours = places[-1, :32].reshape(8, 4)[[0, 4, 2, 6, 1, 5, 3, 7]]
            places[-1, :32] = fours.reshape(-1)
    return np.ascontiguousarray(a[..., np.minimum(places.reshape(-1), c - 1)])


def _interleaved(w: Array, v: int, q: int) -> Array:
    # (C, KH, KW) -> (blocks, KW, G, V, Q), bytes
    c, kh, kw = w.shape
    rows = np.zeros((-(-kh // q) * q, kw, c), np.int16 if q == 2 else np.int8)
    rows[:kh] = w.transpose(1, 2, 0)
    rows = _ordered(rows, v).reshape(len(rows) // q, q, kw, -1, v)
    data = aligned(rows.nbytes // 4).view(rows.dtype)
    data[:] = rows.transpose(3, 2, 0, 4, 1).reshape(-1)
    return data.view(np.int8)


def depthwise(x: Array, w: Depthwise, *, stride: Pair = (1, 1), padding: Pair = (0, 0),
              zero_point: int = 0, offset: Array | None = None, out: Array | None = None,
              n_threads: int = 1, calls=None) -> Array:
    """Returns the codes of x convolved channel by channel, (N, Ho, Wo, C) uint8, or where w has no
    requantizer the sums, int32.

    x : (N, H, W, C) uint8        w : of `pack_depthwise`, whose rung runs
    zero_point : of x, what padding holds        offset : (C,) int32, in place of w's, or None
    out : uint8 or int32, C-contiguous, or None
    calls : where to keep it for later, see checks.py
    Raises ValueError for other arrays, and where channels or windows do not fit.
    """
    of_kind(w, Depthwise)
    given, x, channels = x, codes("x", x, 4), w.shape[0]
    zero_point, n_threads = doors.whole("zero_point", zero_point, 0, 255), threads(n_threads)
    if x.shape[3] != channels:
        raise ValueError(f"x must have {channels} channels, got {x.shape[3]}")
    where = doors.geometry(x.shape[1:3], w.shape[1:3], stride, padding)
    out = result(out, (len(x), *where.count, channels), x, dtype=I32 if w.r is None else U8)
    level = rung(cpu.RUNGS[w.level], calls, given)
    if offset is None:
        offset = w.offset
    else:
        offset = sums("offset", offset, 1)
        if len(offset) != channels:
            raise ValueError(f"offset must be of {channels} channels, got {len(offset)}")
        offset = offset if level == 0 else _ordered(offset, BLOCKS[cpu.RUNGS[level]][0])
    if level == 0:
        how = {"stride": where.stride, "padding": where.padding, "groups": channels,
               "zero_point": zero_point}
        out[...] = (conv_ref(x, w.data, offset, **how) if w.r is None
                    else conv2d_ref(x, w.data, offset, w.r, **how))
    elif len(x):
        blocks = len(w.offset) // BLOCKS[cpu.RUNGS[level]][0]
        each = cpu.kernel_module("int8").depthwise_room(*where.kernel)
        room = aligned(n_threads, each // 4).view(np.uint8)
        where = sizes_of(where, channels), zero_point, blocks, room, out, level, n_threads
        if w.r is None:
            kernels(calls).depthwise_sums(x, w.data, offset, *where)
        else:
            kernels(calls).depthwise(x, w.data, offset, w.r, numbers(w.r), *where)
    return out
