"""Convolution and the max pooling after it, in one pass: contract, NumPy reference, entry.

N batch, C in, O out, H W size, K kernel of the convolution, P window of the pooling; Ho, Wo the
pooled size. The maps between both are the largest arrays of a small net's training step. Here an
image's are pooled while they lie in the nearest caches, and never written as a whole; nor are, in
the backward pass of a first layer, their cotangents. Every number is that of conv.py and pool.py,
which are the reference, and run where no rung convolves without im2col.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import cpu, doors
from ..doors import F32, Geometry, Pair
from ..layout import nchw, nhwc
from ..memory import aligned
from ..threads import threads
from . import conv, pool

Array = np.ndarray


class Steps(NamedTuple):
    """How both windows move: kernel P, stride and padding of the pooling are `pool_*`."""

    stride: Pair
    padding: Pair
    pool_kernel: Pair
    pool_stride: Pair
    pool_padding: Pair
    ceil_mode: bool


def conv2d_max_pool_ref(x: Array, w: Array, bias: Array, steps: Steps, **kw) -> tuple[Array, Array]:
    """Returns max_pool2d(conv2d(x, w, bias)) and the positions of the largest entries."""
    maps = conv.conv2d(x, w, bias, stride=steps.stride, padding=steps.padding, **kw)
    return pool.max_pool2d(maps, **_pooling(steps), ceil_mode=steps.ceil_mode, **kw)


def conv2d_max_pool_grad_ref(
    g: Array, index: Array, x: Array, w: Array, steps: Steps, want_dx: bool = True, **kw
) -> tuple[Array | None, Array, Array]:
    """Returns (dx, dw, db) for the cotangent g of what was pooled; dx None where not wanted."""
    moves = {"stride": steps.stride, "padding": steps.padding, **kw}
    between = doors.geometry(x.shape[2:], w.shape[2:], steps.stride, steps.padding).count
    g = pool.max_pool2d_grad(g, index, size=between, **_pooling(steps), **kw)
    dx = conv.conv2d_input_grad(g, w, size=x.shape[2:], **moves) if want_dx else None
    return dx, *conv.conv2d_weight_grad(x, g, kernel=w.shape[2:], bias=True, **moves)


def conv2d_max_pool(
    x: Array, w: Array, bias: Array, steps: Steps, *, isa: str = "auto", n_threads: int = 1
) -> tuple[Array, Array]:
    """Returns the pooled maps of x * w + bias, (N, O, Ho, Wo), and where in its window each lay.

    x : (N, C, H, W)        w : (O, C, KH, KW)        bias : (O,)
    Raises ValueError for other arrays, and where channels, sizes or windows do not fit.
    """
    n_threads = threads(n_threads)
    doors.floats("bias", bias, 1)
    conv.check(x, w, bias, 1)
    where, pooled = _windows(x, w, steps)
    if not _direct(isa, steps, x, w, bias):
        return conv2d_max_pool_ref(x, w, bias, steps, isa=isa, n_threads=n_threads)
    sizes, pool_sizes = _sizes(where, pooled, x, w)
    x, w = nhwc(x).reshape(len(x), sizes.H, sizes.W, sizes.C), np.ascontiguousarray(w)
    y = aligned(len(x), *pooled.count, sizes.O)
    index = np.empty(y.shape, np.uint8)
    cpu.kernel_module("maps").conv_pool(
        x, w, np.ascontiguousarray(bias), aligned(w[0].size * conv.lanes(sizes.O)),
        conv.padded(sizes, n_threads), aligned(n_threads, sizes.Ho * sizes.Wo * sizes.O), y, index,
        sizes, pool_sizes, cpu.resolve(isa, "maps"), n_threads)
    return nchw(y), nchw(index)


def conv2d_max_pool_grad(
    g: Array, index: Array, x: Array, w: Array, steps: Steps, *, want_dx: bool = True,
    isa: str = "auto", n_threads: int = 1
) -> tuple[Array | None, Array, Array]:
    """Returns (dx, dw, db) for the cotangent g of what `conv2d_max_pool` returned first.

    g, index : (N, O, Ho, Wo)        dx : (N, C, H, W), None where it is not wanted
    Raises ValueError for other arrays, and where g and index have not the shape of the output.
    """
    n_threads, want_dx = threads(n_threads), doors.switch("want_dx", want_dx)
    conv.check(x, w, None, 1)
    doors.floats("g", g, 4)
    doors.integers("index", index, 4)
    where, pooled = _windows(x, w, steps)
    shape = (len(x), len(w), *pooled.count)
    if g.shape != shape or index.shape != shape:
        raise ValueError(f"g and index must have shape {shape}, got {g.shape} and {index.shape}")
    direct = _direct(isa, steps, g, x, w) and index.dtype == np.uint8
    if want_dx or not direct:  # dx reads the cotangents once more: they are written after all
        return conv2d_max_pool_grad_ref(g, index, x, w, steps, want_dx, isa=isa,
                                        n_threads=n_threads)
    sizes, pool_sizes = _sizes(where, pooled, x, w)
    module = cpu.kernel_module("maps")
    x = nhwc(x).reshape(len(x), sizes.H, sizes.W, sizes.C)
    dw, db = np.empty(w.shape, np.float32), np.zeros((module.SLABS, sizes.O), np.float32)
    module.conv_pool_dw(
        x, nhwc(g), nhwc(index), conv.padded(sizes, n_threads),
        aligned(n_threads, sizes.Ho * sizes.Wo * sizes.O),
        np.zeros((module.SLABS, dw.size), np.float32), dw, db, sizes, pool_sizes,
        cpu.resolve(isa, "maps"), n_threads)
    return None, dw, db.sum(axis=0)


def _direct(isa: str, steps: Steps, *arrays: Array) -> bool:
    # Whether the tile convolves without im2col, image by image.
    return (cpu.resolve(isa, "maps") >= cpu.RUNGS.index("avx2")
            and all(a.dtype == F32 and a.size for a in arrays)
            and steps.pool_kernel[0] * steps.pool_kernel[1] <= 256)


def _pooling(steps: Steps) -> dict:
    return {"kernel": steps.pool_kernel, "stride": steps.pool_stride,
            "padding": steps.pool_padding}


def _windows(x: Array, w: Array, steps: Steps) -> tuple[Geometry, Geometry]:
    # Those of the convolution, and of the pooling of its output.
    if not isinstance(steps, Steps):
        raise ValueError(f"steps must be Steps, got {type(steps).__name__}")
    where = doors.geometry(x.shape[2:], w.shape[2:], steps.stride, steps.padding)
    return where, pool.pooling(where.count, **_pooling(steps), ceil_mode=steps.ceil_mode)


def _sizes(where: Geometry, pooled: Geometry, x: Array,
           w: Array) -> tuple[conv.Sizes, tuple[int, ...]]:
    # The numbers of both structs: Conv and Pool.
    return conv.sizes_of(where, x.shape[1], len(w)), pool.sizes_of(pooled, len(w))
