"""Batch normalisation as one fused primitive (Ioffe & Szegedy 2015, arXiv 1502.03167).

N batch, C channels; x is (N, C) or (N, C, H, W). m is the number of entries a channel has in the batch.
"""

from __future__ import annotations

import numpy as np

from .. import ops
from ..tensor import Array, fused


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Returns mean and variance (divided by m) of each channel, (C,) each, in the dtype of x.

    x : (N, C) or (N, C, H, W)        Sums run in float64.
    """
    axes = _axes(x)
    mean = x.mean(axis=axes, dtype=np.float64)
    var = np.square(x - _along(mean, x).astype(x.dtype)).mean(axis=axes, dtype=np.float64)
    return mean.astype(x.dtype), var.astype(x.dtype)


def _composite(x, gamma, beta, *, eps, statistics):
    axes = _axes(x)
    d = x - ops.mean(x, axis=axes, keepdims=True)
    var = ops.mean(d * d, axis=axes, keepdims=True)
    shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
    return d / ops.sqrt(var + eps) * ops.reshape(gamma, shape=shape) + ops.reshape(beta, shape=shape)


def _backward(g, saved, wanted, x, gamma, beta, *, eps, statistics):
    # dx = gamma / (m std) (m g - sum g - xhat sum g xhat): ibid., the chain rule of Algorithm 1
    xhat, std = saved
    axes, m = _axes(x), x.size // x.shape[1]
    dgamma, dbeta = (g * xhat).sum(axis=axes), g.sum(axis=axes)
    dx = None
    if wanted[0]:
        dx = (g - _along(dbeta / float(m), x) - xhat * _along(dgamma / float(m), x)) * _along(gamma / std, x)
    return dx, dgamma, dbeta


@fused(backward=_backward, composite=_composite)
def batch_norm(x, gamma, beta, *, eps, statistics, save):
    """Returns gamma (x - mean) / sqrt(var + eps) + beta with the statistics of the batch itself.

    x : (N, C) or (N, C, H, W)        gamma, beta : (C,)        eps : added to the variance
    statistics : `batch_statistics(x)`, computed once by the caller
    """
    mean, var = statistics
    std = np.sqrt(var + x.dtype.type(eps))
    xhat = (x - _along(mean, x)) / _along(std, x)
    return xhat * _along(gamma, x) + _along(beta, x), ((xhat, std) if save else None)


def _axes(x) -> tuple[int, ...]:
    return tuple(i for i in range(x.ndim) if i != 1)


def _along(v: Array, x: Array) -> Array:
    return v.reshape([-1 if i == 1 else 1 for i in range(x.ndim)])
