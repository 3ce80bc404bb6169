"""Convolution and pooling of maps: contract, NumPy reference, entry.

N batch, C in, O out, H W size, K kernel (KH, KW), G groups; Ho, Wo the output's size. Arrays mean NCHW and
OIHW and lie channels-last where they are results (`layout.py`). Kernels are float32; any other dtype runs the
reference.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..tensor import Array
from .layout import nchw, nhwc

Pair = tuple[int, int]


def conv_size(n: int, k: int, stride: int, padding: int) -> int:
    """Returns how many windows of k entries fit n entries padded on both sides."""
    if n + 2 * padding < k:
        raise ValueError(f"a window of {k} does not fit {n} entries padded by {padding}")
    return (n + 2 * padding - k) // stride + 1


def pool_size(n: int, k: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Returns how many windows pooling has: as conv_size, or, with ceil_mode, also those that hang over the
    end, as long as they start inside the input or its left padding."""
    if not ceil_mode:
        return conv_size(n, k, stride, padding)
    conv_size(n, k, stride, padding)
    count = -(-(n + 2 * padding - k) // stride) + 1
    return count - 1 if (count - 1) * stride >= n + padding else count


# ------------------------------------------------------------------------------------------ convolution


def _columns(x: Array, kernel: Pair, stride: Pair, padding: Pair, groups: int) -> Array:
    # im2col: the window of every output pixel as a row, (G, N Ho Wo, C/G KH KW).
    (ph, pw), (sh, sw) = padding, stride
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = sliding_window_view(x, kernel, axis=(2, 3))[:, :, ::sh, ::sw]  # (N, C, Ho, Wo, KH, KW)
    n, c, ho, wo = windows.shape[:4]
    windows = windows.reshape(n, groups, c // groups, ho, wo, *kernel).transpose(1, 0, 3, 4, 2, 5, 6)
    return windows.reshape(groups, n * ho * wo, -1)


def _by_group(g: Array, groups: int) -> Array:
    # (N, O, Ho, Wo) -> (G, N Ho Wo, O/G)
    n, o, ho, wo = g.shape
    return nhwc(g).reshape(n * ho * wo, groups, o // groups).transpose(1, 0, 2)


def conv2d_ref(x: Array, w: Array, stride: Pair, padding: Pair, groups: int) -> Array:
    """Returns y = x * w (cross-correlation), (N, O, Ho, Wo).   x : (N, C, H, W)   w : (O, C/G, KH, KW)

    y[n, o, i, j] = sum_{c, a, b} x[n, c, i s + a - p, j s + b - p] w[o, c, a, b]
    """
    kernel = w.shape[2:]
    ho, wo = (conv_size(*args) for args in zip(x.shape[2:], kernel, stride, padding))
    columns = _columns(x, kernel, stride, padding, groups)
    y = columns @ w.reshape(groups, w.shape[0] // groups, -1).transpose(0, 2, 1)  # (G, N Ho Wo, O/G)
    return nchw(y.transpose(1, 0, 2).reshape(x.shape[0], ho, wo, -1))


def conv2d_input_grad_ref(g: Array, w: Array, size: Pair, stride: Pair, padding: Pair, groups: int) -> Array:
    """Returns dx, (N, C, H, W), for the cotangent g of y.   g : (N, O, Ho, Wo)   size : (H, W)"""
    n, o, ho, wo = g.shape
    (kh, kw), (ph, pw), (sh, sw) = w.shape[2:], padding, stride
    columns = _by_group(g, groups) @ w.reshape(groups, o // groups, -1)  # (G, N Ho Wo, C/G KH KW)
    columns = columns.reshape(groups, n, ho, wo, -1, kh, kw).transpose(1, 2, 3, 0, 4, 5, 6)
    columns = columns.reshape(n, ho, wo, -1, kh, kw)
    dx = np.zeros((n, size[0] + 2 * ph, size[1] + 2 * pw, columns.shape[3]), g.dtype)
    for a in range(kh):  # col2im: each column entry back to the pixel it was copied from
        for b in range(kw):
            dx[:, a: a + sh * ho: sh, b: b + sw * wo: sw] += columns[..., a, b]
    return nchw(np.ascontiguousarray(dx[:, ph: ph + size[0], pw: pw + size[1]]))


def conv2d_weight_grad_ref(x: Array, g: Array, kernel: Pair, stride: Pair, padding: Pair, groups: int) -> Array:
    """Returns dw, (O, C/G, KH, KW), for the cotangent g of y.   x : (N, C, H, W)   g : (N, O, Ho, Wo)"""
    columns = _columns(x, kernel, stride, padding, groups)
    dw = _by_group(g, groups).transpose(0, 2, 1) @ columns  # (G, O/G, C/G KH KW)
    return dw.reshape(g.shape[1], x.shape[1] // groups, *kernel)


# ----------------------------------------------------------------------------------------------- pooling


def _taps(kernel: Pair, stride: Pair, count: Pair):
    # For each position of the kernel: its number, and the rows and columns of the padded input it meets.
    for i in range(kernel[0] * kernel[1]):
        a, b = divmod(i, kernel[1])
        yield i, np.s_[:, a: a + stride[0] * count[0]: stride[0], b: b + stride[1] * count[1]: stride[1]]


def _framed(size: Pair, kernel: Pair, stride: Pair, padding: Pair, count: Pair) -> list[int]:
    # The padded size that holds every window, those that hang over the end included.
    return [max(n + 2 * p, (m - 1) * s + k) for n, k, s, p, m in zip(size, kernel, stride, padding, count)]


def _frame(x: Array, kernel: Pair, stride: Pair, padding: Pair, count: Pair, fill: float) -> Array:
    # x as (N, H', W', C) with `fill` around it
    h, w = _framed(x.shape[2:], kernel, stride, padding, count)
    out = np.full((x.shape[0], h, w, x.shape[1]), fill, x.dtype)
    out[:, padding[0]: padding[0] + x.shape[2], padding[1]: padding[1] + x.shape[3]] = x.transpose(0, 2, 3, 1)
    return out


def _count(x: Array, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> list[int]:
    return [pool_size(*args, ceil_mode) for args in zip(x.shape[2:], kernel, stride, padding)]


def max_pool2d_ref(x: Array, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> tuple[Array, Array]:
    """Returns the largest entry of each window, (N, C, Ho, Wo), and its position a KW + b in the window.

    x : (N, C, H, W); padding counts as -inf; of equal entries the first, in row order; NaN beats all
    """
    count = _count(x, kernel, stride, padding, ceil_mode)
    framed = _frame(x, kernel, stride, padding, count, -np.inf)
    windows = np.stack([framed[tap] for _, tap in _taps(kernel, stride, count)])
    index = windows.argmax(axis=0)
    y = np.take_along_axis(windows, index[None], axis=0)[0]
    return nchw(y), nchw(index.astype(np.uint8 if len(windows) <= 256 else np.int32))


def max_pool2d_grad_ref(g: Array, index: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Returns dx, (N, C, H, W): each g added where its window's largest entry lay.   g, index : (N, C, Ho, Wo)"""
    count, (ph, pw) = g.shape[2:], padding
    g, index = nhwc(g), nhwc(index)
    dx = np.zeros((g.shape[0], *_framed(size, kernel, stride, padding, count), g.shape[3]), g.dtype)
    for i, tap in _taps(kernel, stride, count):
        dx[tap] += np.where(index == i, g, g.dtype.type(0))
    return nchw(np.ascontiguousarray(dx[:, ph: ph + size[0], pw: pw + size[1]]))


def _shares(size: Pair, kernel: Pair, stride: Pair, padding: Pair, count: Pair, dtype) -> Array:
    # 1 / the entries of each window, (1, Ho, Wo, 1): padding counts, what hangs over beyond it does not.
    shares = []
    for n, k, s, p, m in zip(size, kernel, stride, padding, count):
        start = np.arange(m) * s
        shares.append(1.0 / (np.minimum(start + k, n + 2 * p) - start))
    return (shares[0][:, None] * shares[1]).astype(dtype)[None, :, :, None]


def avg_pool2d_ref(x: Array, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> Array:
    """Returns the mean of each window, (N, C, Ho, Wo), zero padding counted.   x : (N, C, H, W)"""
    count = _count(x, kernel, stride, padding, ceil_mode)
    framed = _frame(x, kernel, stride, padding, count, 0)
    y = np.zeros((x.shape[0], *count, x.shape[1]), x.dtype)
    for _, tap in _taps(kernel, stride, count):
        y += framed[tap]
    return nchw(y * _shares(x.shape[2:], kernel, stride, padding, count, x.dtype))


def avg_pool2d_grad_ref(g: Array, size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Returns dx, (N, C, H, W): each g spread evenly over its window.   g : (N, C, Ho, Wo)   size : (H, W)"""
    count, (ph, pw) = g.shape[2:], padding
    g = nhwc(g) * _shares(size, kernel, stride, padding, count, g.dtype)
    dx = np.zeros((g.shape[0], *_framed(size, kernel, stride, padding, count), g.shape[3]), g.dtype)
    for _, tap in _taps(kernel, stride, count):
        dx[tap] += g
    return nchw(np.ascontiguousarray(dx[:, ph: ph + size[0], pw: pw + size[1]]))
