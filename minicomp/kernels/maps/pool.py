"""Pooling of maps: contract, NumPy reference, entry.

N batch, C channels, H W size, K window (KH, KW); Ho, Wo the output's size. Arrays mean NCHW;
results lie channels-last. The compiled twin is in kernels_pyx/maps.pyx, for float32; other dtypes
run the reference.
"""

from __future__ import annotations

import numpy as np

from .. import cpu
from ..doors import F32, Geometry, Pair, floats, geometry, integers, switch, window_count
from ..layout import nchw, nhwc
from ..memory import aligned
from ..threads import threads

Array = np.ndarray


# ---------------------------------------------------------------------------------------- reference


def _taps(kernel: Pair, stride: Pair, count: Pair):
    # For each position of the window: its number, and the part of the framed input that it meets.
    (sh, sw), (ho, wo) = stride, count
    for i in range(kernel[0] * kernel[1]):
        a, b = divmod(i, kernel[1])
        yield i, np.s_[:, a: a + sh * ho: sh, b: b + sw * wo: sw]


def _framed(size: Pair, kernel: Pair, stride: Pair, padding: Pair, count: Pair) -> list[int]:
    # The padded size that holds every window, those that hang over the end included.
    return [max(n + 2 * p, (m - 1) * s + k)
            for n, k, s, p, m in zip(size, kernel, stride, padding, count)]


def _frame(x: Array, kernel: Pair, stride: Pair, padding: Pair, count: Pair, fill: float) -> Array:
    # x as (N, H', W', C) with `fill` around it
    (ph, pw), (h, w) = padding, x.shape[2:]
    shape = (len(x), *_framed((h, w), kernel, stride, padding, count), x.shape[1])
    out = np.full(shape, fill, x.dtype)
    out[:, ph: ph + h, pw: pw + w] = x.transpose(0, 2, 3, 1)
    return out


def max_pool2d_ref(x: Array, kernel: Pair, stride: Pair, padding: Pair,
                   ceil_mode: bool) -> tuple[Array, Array]:
    """Returns the largest entry of each window, (N, C, Ho, Wo), and its position a KW + b in it.

    x : (N, C, H, W); padding is never the largest; of equals the first, in row order; NaN beats all
    """
    count = pooling(x.shape[2:], kernel, stride, padding, ceil_mode).count
    framed = _frame(x, kernel, stride, padding, count, -np.inf)
    windows = np.stack([framed[tap] for _, tap in _taps(kernel, stride, count)])
    index = windows.argmax(axis=0)
    if (lost := windows.max(axis=0) == -np.inf).any():  # where all are equal to the padding
        framed = _frame(np.ones(x.shape, bool), kernel, stride, padding, count, False)
        inside = np.stack([framed[tap] for _, tap in _taps(kernel, stride, count)])
        index = np.where(lost, inside.argmax(axis=0), index)
    y = np.take_along_axis(windows, index[None], axis=0)[0]
    return nchw(y), nchw(index.astype(np.uint8 if len(windows) <= 256 else np.int32))


def max_pool2d_grad_ref(g: Array, index: Array, size: Pair, kernel: Pair, stride: Pair,
                        padding: Pair) -> Array:
    """Returns dx, (N, C, H, W): each g added where its window's largest entry lay.

    g, index : (N, C, Ho, Wo), index as max_pool2d_ref returns it        size : (H, W)
    """
    count, (ph, pw) = g.shape[2:], padding
    g, index = nhwc(g), nhwc(index)
    shape = (len(g), *_framed(size, kernel, stride, padding, count), g.shape[3])
    dx = np.zeros(shape, g.dtype)
    for i, tap in _taps(kernel, stride, count):
        dx[tap] += np.where(index == i, g, g.dtype.type(0))
    return nchw(np.ascontiguousarray(dx[:, ph: ph + size[0], pw: pw + size[1]]))


def _shares(size: Pair, kernel: Pair, stride: Pair, padding: Pair, count: Pair, dtype) -> Array:
    # 1 / the entries of each window, (1, Ho, Wo, 1): padding counts, what hangs over does not.
    shares = []
    for n, k, s, p, m in zip(size, kernel, stride, padding, count):
        start = np.arange(m) * s
        shares.append(1.0 / (np.minimum(start + k, n + 2 * p) - start))
    return (shares[0][:, None] * shares[1]).astype(dtype)[None, :, :, None]


def avg_pool2d_ref(x: Array, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> Array:
    """Returns the mean of each window, (N, C, Ho, Wo), zero padding counted.   x : (N, C, H, W)"""
    count = pooling(x.shape[2:], kernel, stride, padding, ceil_mode).count
    framed = _frame(x, kernel, stride, padding, count, 0)
    y = np.zeros((len(x), *count, x.shape[1]), x.dtype)
    for _, tap in _taps(kernel, stride, count):
        y += framed[tap]
    return nchw(y * _shares(x.shape[2:], kernel, stride, padding, count, x.dtype))


def avg_pool2d_grad_ref(g: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Returns dx, (N, C, H, W): each g spread evenly over its window.   g : (N, C, Ho, Wo)"""
    count, (ph, pw) = g.shape[2:], padding
    g = nhwc(g) * _shares(size, kernel, stride, padding, count, g.dtype)
    shape = (len(g), *_framed(size, kernel, stride, padding, count), g.shape[3])
    dx = np.zeros(shape, g.dtype)
    for _, tap in _taps(kernel, stride, count):
        dx[tap] += g
    return nchw(np.ascontiguousarray(dx[:, ph: ph + size[0], pw: pw + size[1]]))


# -------------------------------------------------------------------------------------------- entry


def max_pool2d(x: Array, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0),
               ceil_mode: bool = False, isa: str = "auto",
               n_threads: int = 1) -> tuple[Array, Array]:
    """Returns the largest entry of each window and its position in it, (N, C, Ho, Wo) each.

    x : (N, C, H, W); see max_pool2d_ref
    Raises ValueError for another array, where the window does not fit, or padding is more than half
        of it.
    """
    n_threads = threads(n_threads)
    floats("x", x, 4)
    where = pooling(x.shape[2:], kernel, stride, padding, ceil_mode)
    level = cpu.resolve(isa, "maps")
    if level == 0 or x.dtype != F32 or where.kernel[0] * where.kernel[1] > 256:
        return max_pool2d_ref(x, where.kernel, where.stride, where.padding, ceil_mode)
    x = nhwc(x)
    y = aligned(len(x), *where.count, x.shape[3])
    index = np.empty(y.shape, np.uint8)
    sizes = sizes_of(where, x.shape[3])
    cpu.kernel_module("maps").max_pool(x, y, index, sizes, level, n_threads)
    return nchw(y), nchw(index)


def max_pool2d_grad(g: Array, index: Array, *, size: Pair, kernel: Pair, stride: Pair,
                    padding: Pair = (0, 0), isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns dx, (N, C, H, W): each g added where its window's largest entry lay.

    g, index : (N, C, Ho, Wo), index as max_pool2d returns it        size : (H, W)
    Raises ValueError for other arrays, and where g and index have not the shape of the output.
    """
    n_threads = threads(n_threads)
    floats("g", g, 4)
    integers("index", index, 4)
    if g.shape != index.shape:
        raise ValueError(f"g must have the shape of index, {index.shape}, got {g.shape}")
    where = _pooled_to(g, size, kernel, stride, padding)
    level = cpu.resolve(isa, "maps")
    if level == 0 or g.dtype != F32 or index.dtype != np.uint8:
        return max_pool2d_grad_ref(g, index, *where[:4])
    g, index = nhwc(g), nhwc(index)
    dx = aligned(len(g), *where.size, g.shape[3])
    sizes = sizes_of(where, g.shape[3])
    cpu.kernel_module("maps").max_pool_dx(g, index, dx, sizes, level, n_threads)
    return nchw(dx)


def avg_pool2d(x: Array, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0),
               ceil_mode: bool = False, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns the mean of each window, (N, C, Ho, Wo), zero padding counted.   x : (N, C, H, W)

    Raises ValueError for another array, where the window does not fit, or padding is more than half
        of it.
    """
    n_threads = threads(n_threads)
    floats("x", x, 4)
    where = pooling(x.shape[2:], kernel, stride, padding, ceil_mode)
    level = cpu.resolve(isa, "maps")
    if level == 0 or x.dtype != F32:
        return avg_pool2d_ref(x, where.kernel, where.stride, where.padding, ceil_mode)
    x = nhwc(x)
    y = aligned(len(x), *where.count, x.shape[3])
    sizes = sizes_of(where, x.shape[3])
    cpu.kernel_module("maps").avg_pool(x, y, sizes, level, n_threads)
    return nchw(y)


def avg_pool2d_grad(g: Array, *, size: Pair, kernel: Pair, stride: Pair, padding: Pair = (0, 0),
                    isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns dx, (N, C, H, W): each g spread evenly over its window.

    g : (N, C, Ho, Wo)        size : (H, W)
    Raises ValueError for another array, and where g has not the shape of the output.
    """
    n_threads = threads(n_threads)
    floats("g", g, 4)
    where = _pooled_to(g, size, kernel, stride, padding)
    level = cpu.resolve(isa, "maps")
    if level == 0 or g.dtype != F32:
        return avg_pool2d_grad_ref(g, *where[:4])
    g = nhwc(g)
    dx = aligned(len(g), *where.size, g.shape[3])
    sizes = sizes_of(where, g.shape[3])
    cpu.kernel_module("maps").avg_pool_dx(g, dx, sizes, level, n_threads)
    return nchw(dx)


def pooling(size: Pair, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> Geometry:
    """Returns the windows of a map of (H, W) = size, checked.

    Raises ValueError where the window does not fit, or padding is more than half of it.
    """
    where = geometry(size, kernel, stride, padding, switch("ceil_mode", ceil_mode))
    if any(2 * p > k for p, k in zip(where.padding, where.kernel)):
        raise ValueError(f"padding must be at most half of the window {kernel}, got {padding}")
    return where


def sizes_of(where: Geometry, c: int) -> tuple[int, ...]:
    """Returns the numbers of the struct Pool in pool.h, of maps of c channels."""
    return (*where.size, c, *where.kernel, *where.stride, *where.padding, *where.count)


def _pooled_to(g: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Geometry:
    # The windows whose outputs g has: with or without those that hang over the end.
    where = pooling(size, kernel, stride, padding, True)
    each = zip(g.shape[2:], where.count, where.size, where.kernel, where.stride, where.padding)
    for given, most, *axis in each:
        if given != most and (axis[0] + 2 * axis[3] < axis[1] or given != window_count(*axis)):
            raise ValueError(f"g must have the shape of the output, at most {where.count}, "
                             f"got {g.shape}")
    return where._replace(count=g.shape[2:])
