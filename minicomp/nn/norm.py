"""Batch normalisation, with what stands around it, as fused primitives (Ioffe & Szegedy 2015, arXiv
1502.03167): the rectifier behind it, and the convolution before it.

N batch, C channels; x is (N, C) or (N, C, H, W). m is the number of entries a channel has in the
batch, xhat = (x - mean) / std the normalised x. Where threads share a batch, `shard` is this one's
seat at their meeting, x its part of the batch, and statistics are those of all parts.
"""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..conv import conv2d
from ..kernels.maps import conv_norm, norm
from ..tensor import Array, fused
from .shards import Shard

# The rectifiers that run in the pass of the normalisation, and where each ends.
TOPS = {None: None, ops.relu: math.inf, ops.relu6: 6.0}
Statistics = tuple[Array, Array]  # mean and variance (divided by m) of each channel


def batch_statistics(x: Array) -> Statistics:
    """Returns mean and variance (divided by m) of each channel, (C,) each, in the dtype of x.

    x : (N, C) or (N, C, H, W)        Sums run in float64.
    """
    mean, var = norm.moments(x)
    return mean.astype(x.dtype), var.astype(x.dtype)


def joined(mean: Array, var: Array, m: int, shard: Shard | None) -> tuple[Array, Array, int]:
    """Returns mean, variance and entries of each channel in the whole batch, from those of a part.

    The variance is that within the parts and that of their means.
    """
    if shard is None:
        return mean, var, m
    parts = shard.gather((mean, var, m))
    total = sum(n for *_, n in parts)
    whole = sum(n / total * mu for mu, _, n in parts)
    return whole, sum(n / total * (v + np.square(mu - whole)) for mu, v, n in parts), total


def _composite(x, gamma, beta, *, eps, statistics, after=None, shard=None):
    if shard is not None:
        raise ValueError("shard must be None where a gradient is differentiated again: the "
                         "statistics are of the whole batch")
    axes = tuple(i for i in range(x.ndim) if i != 1)
    d = x - ops.mean(x, axis=axes, keepdims=True)
    var = ops.mean(d * d, axis=axes, keepdims=True)
    shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
    y = d / ops.sqrt(var + eps) * ops.reshape(gamma, shape=shape) + ops.reshape(beta, shape=shape)
    return y if after is None else after(y)


def _cotangent(g, x, gamma, beta, *, eps, statistics, after, shard):
    # The cotangent of x as g a + x b + d for the g that the rectifier's gate lets through, and
    # those of gamma and beta. dbeta = sum g, dgamma = sum g xhat, and by the chain rule of ibid.,
    # Algorithm 1, dx = gamma / std (g - dbeta / m - xhat dgamma / m), linear in g and x per channel
    mean, std = statistics[0], _std(statistics[1], eps)
    top = TOPS[after]
    gate = None if top is None else norm.Gate(*_affine(gamma, beta, statistics, eps, x.dtype), top)
    dbeta, centred = norm.sums(g, x, mean, gate)
    sum_g, sum_gx, m = dbeta, centred, x.size // x.shape[1]
    if shard is not None:  # of gamma and beta a part is wanted: parts are summed with the weights'
        sum_g, sum_gx, m = (sum(each) for each in zip(*shard.gather((dbeta, centred, m))))
    a = gamma / std
    b = -a * sum_gx / (std * std * m)
    d = -a * sum_g / m - b * mean
    blend = tuple(v.astype(x.dtype) for v in (a, b, d))
    return blend, gate, (centred / std).astype(x.dtype), dbeta.astype(x.dtype)


def _backward(g, saved, wanted, x, gamma, beta, *, eps, statistics, after=None, shard=None):
    blend, gate, *dweights = _cotangent(g, x, gamma, beta, eps=eps, statistics=statistics,
                                        after=after, shard=shard)
    return (norm.blend(g, x, *blend, gate) if wanted[0] else None), *dweights


@fused(backward=_backward, composite=_composite)
def batch_norm(x, gamma, beta, *, eps, statistics, after=None, shard=None, save):
    """Returns gamma (x - mean) / sqrt(var + eps) + beta with the statistics of the batch itself.

    x : (N, C) or (N, C, H, W)        gamma, beta : (C,)        eps : added to the variance
    statistics : `batch_statistics(x)`, computed once by the caller
    after : ops.relu or ops.relu6, behind it in the same pass; or None
    """
    return norm.affine(x, *_affine(gamma, beta, statistics, eps, x.dtype), TOPS[after]), None


def _conv_composite(x, w, gamma, beta, *, window, u, **kw):
    return _composite(conv2d(x, w, **window), gamma, beta, **kw)


def _conv_backward(g, saved, wanted, x, w, gamma, beta, *, window, u, **kw):
    blend, gate, *dweights = _cotangent(g, u, gamma, beta, **kw)
    dx, dw = conv_norm.conv2d_norm_grads(g, u, x, w, blend, gate, want_dx=wanted[0], **window)
    return dx, dw, *dweights


@fused(backward=_conv_backward, composite=_conv_composite)
def conv2d_batch_norm(x, w, gamma, beta, *, window, u, eps, statistics, after, shard, save):
    """Returns batch_norm(conv2d(x, w)); backward, the cotangent of the maps between is never whole.

    x : (N, C, H, W)        w : (O, C / groups, KH, KW)        window : stride, padding and groups
    u, statistics : conv2d(x, w) and its statistics, computed once by the caller
    Other arguments as in `batch_norm`.
    """
    return norm.affine(u, *_affine(gamma, beta, statistics, eps, u.dtype), TOPS[after]), None


def _affine(gamma: Array, beta: Array, statistics: Statistics, eps: float, dtype):
    # gain and offset of y = x gain + offset
    mean, var = statistics
    gain = gamma / _std(var, eps)
    return gain.astype(dtype), (beta - mean * gain).astype(dtype)


def _std(var: Array, eps: float) -> Array:
    return np.sqrt(var.astype(np.float64) + eps)
