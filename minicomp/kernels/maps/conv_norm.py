"""Convolution, and the sums of the batch normalisation behind it: contract, reference, entry.

    u = x * w        y = act(u a + b), a and b from mean and variance of u over the batch

Forward, the moments of an image's u are summed while it lies in the nearest caches. Backward, the
cotangent of u,

    v = g' a + u b + d,        g' = g where act lets it through        (see nn/norm.py)

is computed for an image at a time and goes into the gradients of x and w from the nearest caches:
it is never whole. Nor is the y that the next convolution takes, where that one is told a and b: an
image of it is made of u, both ways, and the sums that its normalisation needs backward are taken of
an image's dx as soon as it is there. So of each map u is written and read, and the cotangent.

The reference is these operations one after the other; each vector rung from AVX2 on gives the bits
of that order, but for the last ones of double sums, which run image by image.
"""

from __future__ import annotations

import math

import numpy as np

from .. import cpu
from ..doors import F32, Pair, geometry, switch
from ..layout import nchw, nhwc
from ..memory import aligned
from ..threads import threads
from . import norm
from .conv import (AVX2, blocked, check, conv2d, conv2d_input_grad, conv2d_weight_grad,
                   depthwise_sizes, lanes, padded, sizes_of, taps)
from .norm import Gate

Array = np.ndarray
Blend = tuple[Array, Array, Array]
Sums = tuple[Array, Array]


def conv2d_moments(x: Array, w: Array, *, before: Gate | None = None, stride: Pair = (1, 1),
                   padding: Pair = (0, 0), groups: int = 1, isa: str = "auto",
                   n_threads: int = 1) -> tuple[Array, Array, Array]:
    """Returns u = x * w, (N, O, Ho, Wo), and mean and variance of its channels, (O,) float64.

    x : (N, C, H, W)        w : (O, C/G, KH, KW)
    before : what makes of x the maps that w meets, norm.affine(x, *before); None: x is these
    Raises ValueError for other arrays, and where channels, groups or sizes do not fit.
    """
    groups, n_threads = check(x, w, None, groups), threads(n_threads)
    _check_before(before, x)
    level = cpu.resolve(isa, "maps")
    if not _in_one_pass(level, groups, x, w, before):
        if before is not None:
            x = norm.affine(x, *before, isa=isa, n_threads=n_threads)
        u = conv2d(x, w, stride=stride, padding=padding, groups=groups, isa=isa,
                   n_threads=n_threads)
        return u, *norm.moments(u, isa=isa)
    where = geometry(x.shape[2:], w.shape[2:], stride, padding)
    n, sizes, depthwise, filters = _described(where, x, w, groups)
    u = aligned(n, sizes.Ho, sizes.Wo, sizes.O)
    sums, moments = np.zeros((2, n, sizes.O)), np.zeros((2, sizes.O))
    packed = aligned(1 if depthwise else w[0].size * lanes(sizes.O))
    cpu.kernel_module("maps").conv_moments(
        nhwc(x).reshape(n, sizes.H, sizes.W, sizes.C), norm.contiguous(before), filters, depthwise,
        packed, _images(sizes, before, n_threads), padded(sizes, n_threads), u, *sums, *moments,
        sizes, level, n_threads)
    return nchw(u.reshape(len(x), *where.count, sizes.O)), *moments


def conv2d_norm_grads(g: Array, u: Array, x: Array, w: Array, blend: Blend, gate: Gate | None, *,
                      before: Gate | None = None, mean: Array | None = None, want_dx: bool = True,
                      stride: Pair = (1, 1), padding: Pair = (0, 0), groups: int = 1,
                      isa: str = "auto",
                      n_threads: int = 1) -> tuple[Array | None, Array, Sums | None]:
    """Returns dx, (N, C, H, W), or None, and dw for the cotangent v = norm.blend(g, u, ...) of u;
    with `mean` also norm.sums(dx, x, mean, before), else None.

    g, u : (N, O, Ho, Wo)
    x, w, before : as in `conv2d_moments`; dx is the cotangent of the maps that w meets
    blend : a, b, d, (O,) each        gate : what of g counts; None: all
    mean : (C,), of x, where there is `before`
    Raises ValueError for other arrays, and where shapes do not fit.
    """
    groups, n_threads = check(x, w, None, groups), threads(n_threads)
    where = geometry(x.shape[2:], w.shape[2:], stride, padding)
    want_dx = switch("want_dx", want_dx)
    if not isinstance(blend, tuple) or len(blend) != 3:
        raise ValueError(f"blend must be three arrays, a, b and d, got {type(blend).__name__}")
    norm.check({"g": g, "u": u}, {**dict(zip("abd", blend)), **norm.vectors(gate)})
    if u.shape != (len(x), len(w), *where.count):
        raise ValueError(f"u must have shape {(len(x), len(w), *where.count)}, got {u.shape}")
    _check_before(before, x, mean)
    if mean is not None and not (want_dx and before):
        raise ValueError("mean needs want_dx and before: the sums are of dx where these let it "
                         "through")
    level = cpu.resolve(isa, "maps")
    if not _in_one_pass(level, groups, x, w, before, g, u, *blend,
                        *(() if mean is None else (mean,))):
        kw = dict(stride=stride, padding=padding, groups=groups, isa=isa, n_threads=n_threads)
        y = x if before is None else norm.affine(x, *before, isa=isa, n_threads=n_threads)
        v = norm.blend(g, u, *blend, gate, isa=isa)
        dx = conv2d_input_grad(v, w, size=x.shape[2:], **kw) if want_dx else None
        dw = conv2d_weight_grad(y, v, kernel=w.shape[2:], **kw)
        if mean is None:
            return dx, dw, None
        return dx, dw, norm.sums(dx, x, mean, before, isa=isa, n_threads=n_threads)
    n, sizes, depthwise, filters = _described(where, x, w, groups)
    module, out = cpu.kernel_module("maps"), (sizes.Ho, sizes.Wo, sizes.O)
    dx = aligned(n, sizes.H, sizes.W, sizes.C) if want_dx else None
    of_w = np.zeros((module.SLABS, w.size), np.float32)
    of_dx = np.zeros((2, module.SLABS, sizes.C))
    packed = aligned(1 if depthwise else sizes.KH * sizes.O * lanes(sizes.KW * sizes.C))
    module.conv_norm_grads(
        nhwc(g).reshape(n, *out), nhwc(u).reshape(n, *out),
        nhwc(x).reshape(n, sizes.H, sizes.W, sizes.C), norm.contiguous(before),
        None if mean is None else np.ascontiguousarray(mean), filters,
        tuple(map(np.ascontiguousarray, blend)), norm.contiguous(gate), depthwise, packed,
        _images(sizes, before, n_threads), padded(sizes, n_threads, turned=depthwise),
        aligned(n_threads, math.prod(out)), of_w, *of_dx, dx, sizes, level, n_threads)
    if want_dx:
        dx = nchw(dx.reshape(len(x), *where.size, sizes.C))
    if depthwise:
        dw = np.ascontiguousarray(of_w.sum(axis=0).reshape(-1, sizes.C).T).reshape(w.shape)
    else:
        dw = np.empty(w.shape, np.float32)
        module.unpacked(of_w, dw, sizes)
    return dx, dw, None if mean is None else tuple(of_dx.sum(axis=1))


def _check_before(before: Gate | None, x: Array, mean: Array | None = None) -> None:
    each = norm.vectors(before, "before") | ({} if mean is None else {"mean": mean})
    norm.check({"x": x}, each)


def _images(sizes, before: Gate | None, n_threads: int) -> Array:
    # Room for an image per thread of what `before` makes of x.
    return aligned(n_threads, sizes.H * sizes.W * sizes.C if before else 1)


def _in_one_pass(level: int, groups: int, x: Array, w: Array, before: Gate | None,
                 *others: Array) -> bool:
    # What the kernels know: vector rungs, one group or a filter per channel, no empty map; and
    # where there is something before them, more than the single channel that NumPy takes.
    known = groups == 1 or groups == x.shape[1] == len(w)
    if before is not None:
        known, others = known and x.shape[1] > 1, (*others, *before[:2])
    return level >= AVX2 and known and all(a.dtype == F32 and a.size for a in (x, w, *others))


def _described(where, x: Array, w: Array, groups: int):
    # The images, or blocks of them, the numbers of the convolution, whether it is depthwise, its
    # filters in a row.
    if groups == x.shape[1] == len(w):
        return len(x), depthwise_sizes(where, len(w)), True, taps(w).reshape(-1)
    n, sizes = blocked(sizes_of(where, x.shape[1], len(w)), len(x))
    return n, sizes, False, np.ascontiguousarray(w).reshape(-1)
