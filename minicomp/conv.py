"""Convolution and pooling: the primitives and their gradient rules.

N batch, C in, O out, H W size, K kernel. Convolution is one trilinear form

    T(x, w, g) = sum g[n, o, i, j] w[o, c, a, b] x[n, c, i s + a - p, j s + b - p]

over n, o, c, i, j, a, b, and the three primitives are its three partial gradients: conv2d(x, w) =
dT/dg, conv2d_input_grad(g, w) = dT/dx, conv2d_weight_grad(x, g) = dT/dw. Each is linear in both of
its arguments, and the gradient of each is the other two, so convolution can be differentiated to
any order without a further rule. Average pooling is linear, and with its adjoint closed in the same
way. Max pooling reads its input at the largest entry of each window; where those lie is a constant
to differentiation.

Shapes and semantics are PyTorch's; kernel, stride and padding are (vertical, horizontal) pairs.
"""

from __future__ import annotations

import numpy as np

from . import ops
from .kernels.maps import conv as kernels
from .kernels.maps import conv_pool, pool
from .tensor import Array, fused, primitive, raw, rules

Pair = tuple[int, int]


@primitive
def conv2d(x, w, *, stride=(1, 1), padding=(0, 0), groups=1):
    """Returns the cross-correlation of x with w, (N, O, Ho, Wo).

    x : (N, C, H, W)        w : (O, C / groups, KH, KW)
    Raises ValueError where channels or sizes do not fit.
    """
    return kernels.conv2d(x, w, stride=stride, padding=padding, groups=groups)


@primitive
def conv2d_input_grad(g, w, *, size, stride=(1, 1), padding=(0, 0), groups=1):
    """Returns the cotangent of conv2d's x, (N, C, H, W).

    g : (N, O, Ho, Wo)        w : as in conv2d        size : (H, W)
    """
    return kernels.conv2d_input_grad(g, w, size=size, stride=stride, padding=padding, groups=groups)


@primitive
def conv2d_weight_grad(x, g, *, kernel, stride=(1, 1), padding=(0, 0), groups=1):
    """Returns the cotangent of conv2d's w, (O, C / groups, KH, KW).

    x : (N, C, H, W)        g : (N, O, Ho, Wo)        kernel : (KH, KW)
    """
    return kernels.conv2d_weight_grad(x, g, kernel=kernel, stride=stride, padding=padding,
                                      groups=groups)


rules(conv2d,
      lambda g, y, x, w, **kw: conv2d_input_grad(g, w, size=x.shape[2:], **kw),
      lambda g, y, x, w, **kw: conv2d_weight_grad(x, g, kernel=w.shape[2:], **kw))
rules(conv2d_input_grad,
      lambda v, y, g, w, size, **kw: conv2d(v, w, **kw),
      lambda v, y, g, w, size, **kw: conv2d_weight_grad(v, g, kernel=w.shape[2:], **kw))
rules(conv2d_weight_grad,
      lambda v, y, x, g, kernel, **kw: conv2d_input_grad(g, v, size=x.shape[2:], **kw),
      lambda v, y, x, g, kernel, **kw: conv2d(x, v, **kw))


def _conv2d_bias_backward(g, saved, wanted, x, w, b, **kw):
    dx = conv2d_input_grad(g, w, size=x.shape[2:], **kw) if wanted[0] else None
    if not (wanted[1] or wanted[2]):
        return dx, None, None
    return dx, *kernels.conv2d_weight_grad(x, g, kernel=w.shape[2:], bias=True, **kw)


def _conv2d_bias_composite(x, w, b, **kw):
    return conv2d(x, w, **kw) + ops.reshape(b, shape=(-1, 1, 1))


@fused(backward=_conv2d_bias_backward, composite=_conv2d_bias_composite)
def conv2d_bias(x, w, b, *, stride=(1, 1), padding=(0, 0), groups=1, save):
    """Returns conv2d(x, w) + b, (N, O, Ho, Wo), in one pass over the maps.   b : (O,)"""
    return kernels.conv2d(x, w, b, stride=stride, padding=padding, groups=groups), None


def _max_pool_backward(g, index, wanted, x, *, kernel, stride, padding=(0, 0), ceil_mode=False):
    return (pool.max_pool2d_grad(g, index, size=x.shape[2:], kernel=kernel, stride=stride,
                                 padding=padding),)


def _max_pool_composite(x, *, kernel, stride, padding=(0, 0), ceil_mode=False):
    _, index = pool.max_pool2d(raw(x), kernel=kernel, stride=stride, padding=padding,
                               ceil_mode=ceil_mode)
    return ops.getitem(x, key=_positions(index, x.shape, kernel, stride, padding))


def _positions(index: Array, shape, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, ...]:
    # The subscripts of x at which the windows' largest entries lie, broadcasting to index's shape.
    n, c, i, j = np.ogrid[tuple(slice(m) for m in index.shape)]
    a, b = np.divmod(index.astype(np.intp), kernel[1])
    row, column = i * stride[0] + a - padding[0], j * stride[1] + b - padding[1]
    return n, c, np.clip(row, 0, shape[2] - 1), np.clip(column, 0, shape[3] - 1)


@fused(backward=_max_pool_backward, composite=_max_pool_composite)
def max_pool2d(x, *, kernel, stride, padding=(0, 0), ceil_mode=False, save):
    """Returns the largest entry of each window, (N, C, Ho, Wo).

    The gradient goes to the first of equal entries, in row order.

    x : (N, C, H, W)        ceil_mode : also windows that hang over the end
    """
    return pool.max_pool2d(x, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)


def _conv2d_max_pool_backward(g, index, wanted, x, w, b, *, steps):
    return conv_pool.conv2d_max_pool_grad(g, index, x, w, steps, want_dx=wanted[0])


def _conv2d_max_pool_composite(x, w, b, *, steps):
    maps = conv2d_bias(x, w, b, stride=steps.stride, padding=steps.padding)
    return max_pool2d(maps, kernel=steps.pool_kernel, stride=steps.pool_stride,
                      padding=steps.pool_padding, ceil_mode=steps.ceil_mode)


@fused(backward=_conv2d_max_pool_backward, composite=_conv2d_max_pool_composite)
def conv2d_max_pool(x, w, b, *, steps, save):
    """Returns max_pool2d(conv2d_bias(x, w, b)), (N, O, Ho, Wo); the maps between are never whole.

    x : (N, C, H, W)        w : (O, C, KH, KW)        b : (O,)        steps : a conv_pool.Steps
    """
    return conv_pool.conv2d_max_pool(x, w, b, steps)


@primitive
def avg_pool2d(x, *, kernel, stride, padding=(0, 0), ceil_mode=False):
    """Returns the mean of each window, (N, C, Ho, Wo), zero padding counted.   x : (N, C, H, W)"""
    return pool.avg_pool2d(x, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)


@primitive
def avg_pool2d_grad(g, *, size, kernel, stride, padding=(0, 0), ceil_mode=False):
    """Returns the cotangent of avg_pool2d's x, (N, C, H, W).   g : (N, C, Ho, Wo)   size (H, W)"""
    return pool.avg_pool2d_grad(g, size=size, kernel=kernel, stride=stride, padding=padding)


rules(avg_pool2d, lambda g, y, x, **kw: avg_pool2d_grad(g, size=x.shape[2:], **kw))
rules(avg_pool2d_grad, lambda v, y, g, size, **kw: avg_pool2d(v, **kw))


def adaptive_avg_pool2d(x, *, size: Pair):
    """Returns the means of a grid of size (h, w) cells over the map x, (N, C, H, W): (N, C, h, w).

    Cell i of h over H entries is floor(i H / h) .. ceil((i + 1) H / h) - 1; cells overlap where h
    does not divide H.
    """
    (height, width), (h, w) = x.shape[2:], size
    if height % h == 0 and width % w == 0:
        cell = (height // h, width // w)
        return avg_pool2d(x, kernel=cell, stride=cell)
    rows, columns = cell_means(height, h, x.dtype), cell_means(width, w, x.dtype)
    return ops.matmul(ops.matmul(rows, x), columns.T)


def cell_means(n: int, m: int, dtype) -> Array:
    """Returns the matrix (m, n) that maps n entries to the means of m cells."""
    i, j = np.arange(m)[:, None], np.arange(n)
    inside = (j >= i * n // m) & (j < -(-(i + 1) * n // m))
    return (inside / inside.sum(axis=1, keepdims=True)).astype(dtype)
