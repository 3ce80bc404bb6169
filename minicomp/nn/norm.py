"""Batch normalisation, with what stands around it, as fused primitives (Ioffe & Szegedy 2015, arXiv
1502.03167): the rectifier behind it, the convolution before it, and a row of such blocks.

N batch, C channels; x is (N, C) or (N, C, H, W). m is the number of entries a channel has in the
batch, xhat = (x - mean) / std the normalised x. `n_threads`, of the kernels, changes no bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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


def _cotangent(g, x, line, gamma, *, eps, statistics, after, n_threads, sums=None):
    # The cotangent of x as g a + x b + d for the g that the rectifier's gate lets through, and
    # those of gamma and beta. dbeta = sum g, dgamma = sum g xhat, and by the chain rule of ibid.,
    # Algorithm 1, dx = gamma / std (g - dbeta / m - xhat dgamma / m), linear in g and x per channel
    # line : gain and offset of y, as forward found them        sums : those of g, or None
    mean, std = statistics[0], _std(statistics[1], eps)
    gate = gate_of(line, after)
    dbeta, centred = norm.sums(g, x, mean, gate, n_threads=n_threads) if sums is None else sums
    dgamma, m = centred / std, x.size // x.shape[1]
    a = gamma / std
    b = -a * dgamma / (std * m)
    d = -a * dbeta / m - b * mean
    blend = tuple(v.astype(x.dtype) for v in (a, b, d))
    return blend, gate, dgamma.astype(x.dtype), dbeta.astype(x.dtype)


def _backward(g, saved, wanted, x, gamma, beta, *, eps, statistics, after=None, n_threads=1):
    blend, gate, *dweights = _cotangent(g, x, saved, gamma, eps=eps, statistics=statistics,
                                        after=after, n_threads=n_threads)
    return (norm.blend(g, x, *blend, gate) if wanted[0] else None), *dweights


@fused(backward=_backward, composite=_composite)
def batch_norm(x, gamma, beta, *, eps, statistics, after=None, n_threads=1, save):
    """Returns gamma (x - mean) / sqrt(var + eps) + beta with the statistics of the batch itself.

    x : (N, C) or (N, C, H, W)        gamma, beta : (C,)        eps : added to the variance
    statistics : `batch_statistics(x)`, computed once by the caller
    after : ops.relu or ops.relu6, behind it in the same pass; or None
    """
    line = line_of(gamma, beta, statistics, eps, x.dtype)
    return norm.affine(x, *line, TOPS[after], n_threads=n_threads), line


class Block(NamedTuple):
    """A convolution without bias, the batch norm behind it and a rectifier, as forward found them.

    window : stride, padding and groups        eps : added to the variance
    after : ops.relu or ops.relu6; of the last block of a row also None
    u, statistics : the convolution's output and its `batch_statistics`
    line : `line_of` these
    """

    window: dict
    eps: float
    after: object
    u: Array
    statistics: Statistics
    line: tuple[Array, Array]


def _row_composite(x, *parameters, blocks, n_threads):
    for i, block in enumerate(blocks):
        w, gamma, beta = parameters[3 * i: 3 * i + 3]
        x = _composite(conv2d(x, w, **block.window), gamma, beta, eps=block.eps, statistics=None,
                       after=block.after)
    return x


def _row_backward(g, saved, wanted, x, *parameters, blocks, n_threads):
    grads, sums = [], None
    for i in reversed(range(len(blocks))):
        block, (w, gamma, _) = blocks[i], parameters[3 * i: 3 * i + 3]
        blend, gate, *dweights = _cotangent(
            g, block.u, block.line, gamma, eps=block.eps, statistics=block.statistics,
            after=block.after, n_threads=n_threads, sums=sums)
        taken, before, mean = x, None, None
        if i:  # what the block before gave is made of its u once more
            last = blocks[i - 1]
            taken, before, mean = last.u, gate_of(last.line, last.after), last.statistics[0]
        further = any(wanted[:1 + 3 * i])
        g, dw, sums = conv_norm.conv2d_norm_grads(
            g, block.u, taken, w, blend, gate, before=before, mean=mean if further else None,
            want_dx=further, n_threads=n_threads, **block.window)
        grads = [dw, *dweights, *grads]
        if not further:
            return [None] * (len(wanted) - len(grads)) + grads
    return [g, *grads]


@fused(backward=_row_backward, composite=_row_composite)
def conv2d_batch_norm(x, *parameters, blocks, n_threads, save):
    """Returns the output of blocks in a row, each act(batch_norm(conv2d(x, w), gamma, beta)).

    Of the maps between them only u is ever whole; the cotangent of u never is.

    x : (N, C, H, W)
    parameters : of each block w (O, C / groups, KH, KW), gamma and beta (O,)
    blocks : what each is, and its convolution's output, computed once by the caller
    """
    last = blocks[-1]
    return norm.affine(last.u, *last.line, TOPS[last.after], n_threads=n_threads), None


def line_of(gamma: Array, beta: Array, statistics: Statistics, eps: float,
            dtype) -> tuple[Array, Array]:
    """Returns gain and offset of y = x gain + offset, what batch normalisation is, (C,) each."""
    mean, var = statistics
    gain = gamma / _std(var, eps)
    return gain.astype(dtype), (beta - mean * gain).astype(dtype)


def gate_of(line: tuple[Array, Array], after) -> norm.Gate | None:
    """Returns the rectifier `after` behind x gain + offset; None where there is none."""
    return None if after is None else norm.Gate(*line, TOPS[after])


def _std(var: Array, eps: float) -> Array:
    return np.sqrt(var.astype(np.float64) + eps)
