"""Batch normalisation, with what stands around it, as fused primitives (Ioffe & Szegedy 2015, arXiv
1502.03167): the rectifier behind it, and the convolution before it.

N batch, C channels; x is (N, C) or (N, C, H, W). m is the number of entries a channel has in the
batch, xhat = (x - mean) / std the normalised x. `n_threads`, of the kernels, changes no bit.
"""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..conv import conv2d
from ..kernels.maps import conv_norm, norm
from ..tensor import Array, fused

# The rectifiers that run in the pass of the normalisation, and where each ends.
TOPS = {None: None, ops.relu: math.inf, ops.relu6: 6.0}
Statistics = tuple[Array, Array]  # mean and variance (divided by m) of each channel


def batch_statistics(x: Array) -> Statistics:
    """Returns mean and variance (divided by m) of each channel, (C,) each, in the dtype of x.

    x : (N, C) or (N, C, H, W)        Sums run in float64.
    """
    mean, var = norm.moments(x)
    return mean.astype(x.dtype), var.astype(x.dtype)


def _composite(x, gamma, beta, *, eps, statistics, after=None, n_threads=1):
    axes = tuple(i for i in range(x.ndim) if i != 1)
    d = x - ops.mean(x, axis=axes, keepdims=True)
    var = ops.mean(d * d, axis=axes, keepdims=True)
    shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
    y = d / ops.sqrt(var + eps) * ops.reshape(gamma, shape=shape) + ops.reshape(beta, shape=shape)
    return y if after is None else after(y)


def _cotangent(g, x, line, gamma, beta, *, eps, statistics, after, n_threads):
    # The cotangent of x as g a + x b + d for the g that the rectifier's gate lets through, and
    # those of gamma and beta. dbeta = sum g, dgamma = sum g xhat, and by the chain rule of ibid.,
    # Algorithm 1, dx = gamma / std (g - dbeta / m - xhat dgamma / m), linear in g and x per channel
    # line : gain and offset of y, as forward found them
    mean, std = statistics[0], _std(statistics[1], eps)
    top = TOPS[after]
    gate = None if top is None else norm.Gate(*line, top)
    dbeta, centred = norm.sums(g, x, mean, gate, n_threads=n_threads)
    dgamma, m = centred / std, x.size // x.shape[1]
    a = gamma / std
    b = -a * dgamma / (std * m)
    d = -a * dbeta / m - b * mean
    blend = tuple(v.astype(x.dtype) for v in (a, b, d))
    return blend, gate, dgamma.astype(x.dtype), dbeta.astype(x.dtype)


def _backward(g, saved, wanted, x, gamma, beta, *, eps, statistics, after=None, n_threads=1):
    blend, gate, *dweights = _cotangent(g, x, saved, gamma, beta, eps=eps, statistics=statistics,
                                        after=after, n_threads=n_threads)
    return (norm.blend(g, x, *blend, gate) if wanted[0] else None), *dweights


@fused(backward=_backward, composite=_composite)
def batch_norm(x, gamma, beta, *, eps, statistics, after=None, n_threads=1, save):
    """Returns gamma (x - mean) / sqrt(var + eps) + beta with the statistics of the batch itself.

    x : (N, C) or (N, C, H, W)        gamma, beta : (C,)        eps : added to the variance
    statistics : `batch_statistics(x)`, computed once by the caller
    after : ops.relu or ops.relu6, behind it in the same pass; or None
    """
    line = _affine(gamma, beta, statistics, eps, x.dtype)
    return norm.affine(x, *line, TOPS[after], n_threads=n_threads), line


def _conv_composite(x, w, gamma, beta, *, window, u, **kw):
    return _composite(conv2d(x, w, **window), gamma, beta, **kw)


def _conv_backward(g, saved, wanted, x, w, gamma, beta, *, window, u, **kw):
    blend, gate, *dweights = _cotangent(g, u, saved, gamma, beta, **kw)
    dx, dw = conv_norm.conv2d_norm_grads(g, u, x, w, blend, gate, want_dx=wanted[0],
                                         n_threads=kw["n_threads"], **window)
    return dx, dw, *dweights


@fused(backward=_conv_backward, composite=_conv_composite)
def conv2d_batch_norm(x, w, gamma, beta, *, window, u, eps, statistics, after, n_threads, save):
    """Returns batch_norm(conv2d(x, w)); backward, the cotangent of the maps between is never whole.

    x : (N, C, H, W)        w : (O, C / groups, KH, KW)        window : stride, padding and groups
    u, statistics : conv2d(x, w) and its statistics, computed once by the caller
    Other arguments as in `batch_norm`.
    """
    line = _affine(gamma, beta, statistics, eps, u.dtype)
    return norm.affine(u, *line, TOPS[after], n_threads=n_threads), line


def _affine(gamma: Array, beta: Array, statistics: Statistics, eps: float, dtype):
    # gain and offset of y = x gain + offset
    mean, var = statistics
    gain = gamma / _std(var, eps)
    return gain.astype(dtype), (beta - mean * gain).astype(dtype)


def _std(var: Array, eps: float) -> Array:
    return np.sqrt(var.astype(np.float64) + eps)
