"""Pooling of maps: contract, NumPy reference, entry.

N batch, C channels, H W size, K window (KH, KW); Ho, Wo the output's size. Arrays mean NCHW;
results lie channels-last. The compiled twin is in kernels_pyx/maps.pyx, for float32; other dtypes
run the reference.
"""

from __future__ import annotations

import numpy as np

from .. import cpu
from .conv import Pair, conv_size
from ..layout import nchw, nhwc
from ..memory import aligned

Array = np.ndarray


def pool_size(n: int, k: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Returns how many windows pooling has: as conv_size; with ceil_mode also those that hang over
    the end, as long as they start inside the input or its left padding."""
    floor = conv_size(n, k, stride, padding)
    if not ceil_mode:
        return floor
    count = -(-(n + 2 * padding - k) // stride) + 1
    return count - 1 if (count - 1) * stride >= n + padding else count


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

    x : (N, C, H, W); padding counts as -inf; of equals the first, in row order; NaN beats all
    """
    count = window_counts(x.shape[2:], kernel, stride, padding, ceil_mode)
    framed = _frame(x, kernel, stride, padding, count, -np.inf)
    windows = np.stack([framed[tap] for _, tap in _taps(kernel, stride, count)])
    index = windows.argmax(axis=0)
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
    count = window_counts(x.shape[2:], kernel, stride, padding, ceil_mode)
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
    Raises ValueError where the window does not fit, or padding is more than half of it.
    """
    count = window_counts(x.shape[2:], kernel, stride, padding, ceil_mode)
    level = cpu.resolve(isa, "maps")
    if level == 0 or x.dtype != np.float32 or kernel[0] * kernel[1] > 256:
        return max_pool2d_ref(x, kernel, stride, padding, ceil_mode)
    x = nhwc(x)
    y = aligned(len(x), *count, x.shape[3])
    index = np.empty(y.shape, np.uint8)
    sizes = (*x.shape[1:], *kernel, *stride, *padding, *count)
    cpu.kernel_module("maps").max_pool(x, y, index, sizes, level, n_threads)
    return nchw(y), nchw(index)


def max_pool2d_grad(g: Array, index: Array, *, size: Pair, kernel: Pair, stride: Pair,
                    padding: Pair = (0, 0), isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns dx, (N, C, H, W): each g added where its window's largest entry lay.

    g, index : (N, C, Ho, Wo), index as max_pool2d returns it        size : (H, W)
    Raises ValueError where g and index differ in shape.
    """
    if g.shape != index.shape:
        raise ValueError(f"g must have the shape of index, {index.shape}, got {g.shape}")
    level = cpu.resolve(isa, "maps")
    if level == 0 or g.dtype != np.float32 or index.dtype != np.uint8:
        return max_pool2d_grad_ref(g, index, size, kernel, stride, padding)
    g, index = nhwc(g), nhwc(index)
    dx = aligned(len(g), *size, g.shape[3])
    sizes = (*dx.shape[1:], *kernel, *stride, *padding, *g.shape[1:3])
    cpu.kernel_module("maps").max_pool_dx(g, index, dx, sizes, level, n_threads)
    return nchw(dx)


def avg_pool2d(x: Array, *, kernel: Pair, stride: Pair, padding: Pair = (0, 0),
               ceil_mode: bool = False, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns the mean of each window, (N, C, Ho, Wo), zero padding counted.   x : (N, C, H, W)

    Raises ValueError where the window does not fit, or padding is more than half of it.
    """
    count = window_counts(x.shape[2:], kernel, stride, padding, ceil_mode)
    level = cpu.resolve(isa, "maps")
    if level == 0 or x.dtype != np.float32:
        return avg_pool2d_ref(x, kernel, stride, padding, ceil_mode)
    x = nhwc(x)
    y = aligned(len(x), *count, x.shape[3])
    sizes = (*x.shape[1:], *kernel, *stride, *padding, *count)
    cpu.kernel_module("maps").avg_pool(x, y, sizes, level, n_threads)
    return nchw(y)


def avg_pool2d_grad(g: Array, *, size: Pair, kernel: Pair, stride: Pair, padding: Pair = (0, 0),
                    isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns dx, (N, C, H, W): each g spread evenly over its window.

    g : (N, C, Ho, Wo)        size : (H, W)
    """
    level = cpu.resolve(isa, "maps")
    if level == 0 or g.dtype != np.float32:
        return avg_pool2d_grad_ref(g, size, kernel, stride, padding)
    g = nhwc(g)
    dx = aligned(len(g), *size, g.shape[3])
    sizes = (*dx.shape[1:], *kernel, *stride, *padding, *g.shape[1:3])
    cpu.kernel_module("maps").avg_pool_dx(g, dx, sizes, level, n_threads)
    return nchw(dx)


def window_counts(size: Pair, kernel: Pair, stride: Pair, padding: Pair,
                  ceil_mode: bool) -> tuple[int, int]:
    """Returns how many windows there are along each axis of a map of (H, W) = size.

    Raises ValueError where the window does not fit, or padding is more than half of it.
    """
    if any(2 * p > k for p, k in zip(padding, kernel)):
        raise ValueError(f"padding must be at most half of the window {kernel}, got {padding}")
    return tuple(pool_size(*each, ceil_mode) for each in zip(size, kernel, stride, padding))
