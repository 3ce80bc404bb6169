"""Depthwise convolution of codes: one filter for each channel, u8 x s8 -> int32 -> u8.

The reference is `conv.conv2d_ref` with as many groups as channels. What a rung wants of the
weights is done once, by `pack_depthwise`; see kernels_pyx/simd/int8/depthwise.h for the order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .. import cpu, doors
from ..doors import Pair
from ..threads import threads
from .checks import codes, result, sums
from .conv import conv2d_ref
from .requantize import DTYPES, Requantizer, numbers, rule

Array = np.ndarray
# By level: channels in a block, rows in a lane.
BLOCKS = {0: (1, 1), 1: (16, 1), 2: (32, 2), 3: (64, 2), 4: (64, 4)}


@dataclass(frozen=True)
class Depthwise:
    """Depthwise filters and what follows them, packed for one rung.

    level : of the rung        kernel : (KH, KW)        channels : C
    weight : int8, (blocks, KW, G, V, Q) of 8 or 16 bits, G = ceil(KH / Q); at level 0 as it was
        given
    offset, r : of blocks V channels, in the order of a block
    """

    level: int
    kernel: Pair
    channels: int
    weight: Array
    offset: Array
    r: Requantizer


def pack_depthwise(w: Array, offset: Array, r: Requantizer, *, isa: str = "auto") -> Depthwise:
    """Returns the filters packed for a rung.

    w : (C, KH, KW, 1) int8        offset : (C,) int32        r : of C channels
    Raises ValueError for other arrays.
    """
    if not isinstance(w, np.ndarray) or w.dtype != np.int8 or w.ndim != 4 or w.shape[3] != 1 or (
            0 in w.shape):
        raise ValueError("w must be int8 of shape (C, KH, KW, 1), got "
                         f"{getattr(w, 'dtype', type(w).__name__)} {getattr(w, 'shape', '')}")
    offset, r = sums("offset", offset, 1), rule(r, len(w))
    if len(offset) != len(w):
        raise ValueError(f"offset must be of {len(w)} channels, got {len(offset)}")
    level, kernel = cpu.resolve(isa, "int8"), w.shape[1:3]
    if level == 0:
        return Depthwise(0, kernel, len(w), w, offset, r)
    v, q = BLOCKS[level]
    fields = {name: _ordered(getattr(r, name), v) for name in DTYPES}
    return Depthwise(level, kernel, len(w), _interleaved(w[..., 0], v, q), _ordered(offset, v),
                     replace(r, **fields))


def _ordered(a: Array, v: int) -> Array:
    # (..., C) -> (..., blocks V): channel 16 l + 4 k + i of a block goes to place 4 (L k + l) + i,
    # L = V / 16; what is missing in the last block repeats the last channel.
    c = a.shape[-1]
    a = a[..., np.minimum(np.arange(-(-c // v) * v), c - 1)]
    places = a.reshape(*a.shape[:-1], -1, v // 16, 4, 4).swapaxes(-3, -2)
    return np.ascontiguousarray(places.reshape(*a.shape))


def _interleaved(w: Array, v: int, q: int) -> Array:
    # (C, KH, KW) -> (blocks, KW, G, V, Q), bytes
    c, kh, kw = w.shape
    rows = np.zeros((-(-kh // q) * q, kw, c), np.int16 if q == 2 else np.int8)
    rows[:kh] = w.transpose(1, 2, 0)
    rows = _ordered(rows, v).reshape(len(rows) // q, q, kw, -1, v)
    return np.ascontiguousarray(rows.transpose(3, 2, 0, 4, 1)).reshape(-1).view(np.int8)


def depthwise(x: Array, packed: Depthwise, *, stride: Pair = (1, 1), padding: Pair = (0, 0),
              zero_point: int, n_threads: int = 1, out: Array | None = None) -> Array:
    """Returns the codes of x convolved channel by channel, (N, Ho, Wo, C) uint8.

    x : (N, H, W, C) uint8        zero_point : of x, what padding holds
    out : where to write them, or None
    Raises ValueError for other arrays, and where channels or windows do not fit.
    """
    n_threads, x = threads(n_threads), codes("x", x, 4)
    zero_point = doors.whole("zero_point", zero_point, 0, 255)
    if x.shape[3] != packed.channels:
        raise ValueError(f"x must have {packed.channels} channels, got {x.shape[3]}")
    where = doors.geometry(x.shape[1:3], packed.kernel, stride, padding)
    out = result(out, (len(x), *where.count, packed.channels), x)
    if not len(x):
        return out
    if packed.level == 0:
        out[...] = conv2d_ref(x, packed.weight, packed.offset, packed.r, stride=where.stride,
                              padding=where.padding, groups=packed.channels, zero_point=zero_point)
    else:
        kernels = cpu.kernel_module("int8")
        room = np.empty((n_threads, kernels.depthwise_room(*packed.kernel)), np.uint8)
        kernels.depthwise(
            x, packed.weight, packed.offset, packed.r, numbers(packed.r),
            (*where.size, packed.channels, *where.kernel, *where.stride, *where.padding,
             *where.count), zero_point, len(packed.offset) // BLOCKS[packed.level][0], room, out,
            packed.level, n_threads)
    return out
