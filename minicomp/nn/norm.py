"""Batch normalisation as one fused primitive (Ioffe & Szegedy 2015, arXiv 1502.03167).

N batch, C channels; x is (N, C) or (N, C, H, W). m is the number of entries a channel has in the
batch, xhat = (x - mean) / std the normalised x.
"""

from __future__ import annotations

import numpy as np

from .. import ops
from ..kernels.maps import norm
from ..tensor import Array, fused


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Returns mean and variance (divided by m) of each channel, (C,) each, in the dtype of x.

    x : (N, C) or (N, C, H, W)        Sums run in float64.
    """
    mean, var = norm.moments(x)
    return mean.astype(x.dtype), var.astype(x.dtype)


def _composite(x, gamma, beta, *, eps, statistics):
    axes = tuple(i for i in range(x.ndim) if i != 1)
    d = x - ops.mean(x, axis=axes, keepdims=True)
    var = ops.mean(d * d, axis=axes, keepdims=True)
    shape = [-1 if i == 1 else 1 for i in range(x.ndim)]
    return (
        d / ops.sqrt(var + eps) * ops.reshape(gamma, shape=shape) + ops.reshape(beta, shape=shape)
    )


def _backward(g, saved, wanted, x, gamma, beta, *, eps, statistics):
    # dbeta = sum g, dgamma = sum g xhat, and by the chain rule of ibid., Algorithm 1,
    # dx = gamma / std (g - dbeta / m - xhat dgamma / m), which is linear in g and x per channel.
    mean, std = statistics[0], _std(statistics[1], eps)
    dbeta, centred = norm.sums(g, x, mean)
    dgamma = centred / std
    dx = None
    if wanted[0]:
        m = x.size // x.shape[1]
        a = gamma / std
        b = -a * dgamma / (std * m)
        d = -a * dbeta / m - b * mean
        dx = norm.blend(g, x, *(v.astype(x.dtype) for v in (a, b, d)))
    return dx, dgamma.astype(x.dtype), dbeta.astype(x.dtype)


@fused(backward=_backward, composite=_composite)
def batch_norm(x, gamma, beta, *, eps, statistics, save):
    """Returns gamma (x - mean) / sqrt(var + eps) + beta with the statistics of the batch itself.

    x : (N, C) or (N, C, H, W)        gamma, beta : (C,)        eps : added to the variance
    statistics : `batch_statistics(x)`, computed once by the caller
    """
    mean, var = statistics
    gain = gamma / _std(var, eps)
    return norm.affine(x, gain.astype(x.dtype), (beta - mean * gain).astype(x.dtype)), None


def _std(var: Array, eps: float) -> Array:
    return np.sqrt(var.astype(np.float64) + eps)
