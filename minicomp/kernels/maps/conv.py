"""Convolution of maps: contract, NumPy reference, entry.

N batch, C in, O out, H W size, K kernel (KH, KW), G groups; Ho, Wo the output's size. Arrays mean
NCHW and OIHW; results of maps lie channels-last (`layout.py`). The compiled twin is
kernels_pyx/maps.pyx, for float32; any other dtype runs the reference. What each rung gains is said
in simd/maps/conv.h.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .. import cpu
from ..doors import F32, Geometry, Pair, floats, geometry, switch, whole, window_count
from ..layout import nchw, nhwc
from ..memory import aligned
from ..threads import threads

Array = np.ndarray
AVX2 = cpu.RUNGS.index("avx2")  # below it convolutions are NumPy's products of columns
L2_FLOATS = 100_000  # of columns at a time: 400 KB of the 0.5 to 2 MB of L2 that a core has
BLOCK_FLOATS = 65_536  # of maps in and out that a block of a 1 x 1 convolution has: 256 KB of them


class Sizes(NamedTuple):
    """The numbers that describe a convolution, in the order of the struct Conv in conv.h."""

    H: int
    W: int
    C: int
    O: int  # noqa: E741
    KH: int
    KW: int
    sh: int
    sw: int
    ph: int
    pw: int
    Ho: int
    Wo: int


def sizes_of(where: Geometry, c: int, o: int) -> Sizes:
    """Returns the numbers of a convolution of maps of c channels to maps of o."""
    size, kernel, stride, padding, out = where
    # A 1 x 1 kernel sees no neighbours: the map is as good as one row.
    if kernel == stride == (1, 1) and padding == (0, 0):
        size, out = (1, size[0] * size[1]), (1, out[0] * out[1])
    return Sizes(*size, c, o, *kernel, *stride, *padding, *out)


def blocked(s: Sizes, n: int) -> tuple[int, Sizes]:
    """Returns n images of a 1 x 1 convolution cut, or joined, into blocks of pixels: how many, and
    their numbers. Those of another convolution stay.

    Blocks of 64 pixels and more, so that a block's part of a weight gradient is more work than to
    add it, and not more than fit L2 beside the filters. They do not depend on n_threads.
    """
    pixels = s.W
    if s.H != 1 or (s.KH, s.KW, s.sh, s.sw, s.ph, s.pw) != (1, 1, 1, 1, 0, 0):
        return n, s
    while pixels % 2 == 0 and pixels > 64 and pixels * (s.C + s.O) > BLOCK_FLOATS:
        pixels, n = pixels // 2, 2 * n
    while n % 2 == 0 and pixels < 64:
        pixels, n = 2 * pixels, n // 2
    return n, s._replace(W=pixels, Wo=pixels)


# ---------------------------------------------------------------------------------------- reference


def window_view(x: Array, kernel: Pair, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Array:
    """Returns the window that each output pixel sees, (N, C, Ho, Wo, KH, KW), a read-only view.

    x : (N, C, H, W), padded by zeros (then the view is of the padded copy)
    """
    (ph, pw), (sh, sw) = padding, stride
    if ph or pw:
        x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    return sliding_window_view(x, kernel, axis=(2, 3))[:, :, ::sh, ::sw]


def im2col(x: Array, kernel: Pair, stride: Pair = (1, 1), padding: Pair = (0, 0), groups: int = 1,
           ones: bool = False) -> Array:
    """Returns the window of every output pixel as a row, (G, N Ho Wo, C/G KH KW).

    x : (N, C, H, W)        ones : each row ends in one more entry, 1: what a bias sees
    A row's entries are ordered as those of a row of the weight, w.reshape(O, -1).
    """
    windows = window_view(x, kernel, stride, padding)
    n, c, ho, wo = windows.shape[:4]
    windows = windows.reshape(n, groups, c // groups, ho, wo, *kernel) if groups > 1 else (
        windows[:, None])
    windows = windows.transpose(1, 0, 3, 4, 2, 5, 6)  # (G, N, Ho, Wo, C/G, KH, KW)
    width = c // groups * kernel[0] * kernel[1]
    if not ones:
        return windows.reshape(groups, n * ho * wo, width)
    columns = np.empty((groups, n * ho * wo, width + 1), x.dtype)
    columns[..., :-1].reshape(windows.shape)[...] = windows
    columns[..., -1] = 1
    return columns


def _by_group(g: Array, groups: int) -> Array:
    # (N, O, Ho, Wo) -> (G, N Ho Wo, O/G)
    n, o, ho, wo = g.shape
    return nhwc(g).reshape(n * ho * wo, groups, o // groups).transpose(1, 0, 2)


def conv2d_ref(x: Array, w: Array, stride: Pair, padding: Pair, groups: int) -> Array:
    """Returns the cross-correlation y, (N, O, Ho, Wo).   x : (N, C, H, W)   w : (O, C/G, KH, KW)

    y[n, o, i, j] = sum_{c, a, b} x[n, c, i s + a - p, j s + b - p] w[o, c, a, b]
    """
    o, kernel = w.shape[0], w.shape[2:]
    ho, wo = (window_count(*each) for each in zip(x.shape[2:], kernel, stride, padding))
    columns = im2col(x, kernel, stride, padding, groups)
    y = columns @ w.reshape(groups, o // groups, -1).transpose(0, 2, 1)  # (G, N Ho Wo, O/G)
    return nchw(y.transpose(1, 0, 2).reshape(x.shape[0], ho, wo, o))


def conv2d_input_grad_ref(g: Array, w: Array, size: Pair, stride: Pair, padding: Pair,
                          groups: int) -> Array:
    """Returns dx, (N, C, H, W), for the cotangent g of y.   g : (N, O, Ho, Wo)   size : (H, W)"""
    n, o, ho, wo = g.shape
    (kh, kw), (ph, pw), (sh, sw) = w.shape[2:], padding, stride
    c = w.shape[1] * groups
    columns = _by_group(g, groups) @ w.reshape(groups, o // groups, -1)  # (G, N Ho Wo, C/G KH KW)
    columns = columns.reshape(groups, n, ho, wo, w.shape[1], kh, kw).transpose(1, 2, 3, 0, 4, 5, 6)
    columns = columns.reshape(n, ho, wo, c, kh, kw)
    dx = np.zeros((n, size[0] + 2 * ph, size[1] + 2 * pw, c), g.dtype)
    for a in range(kh):  # col2im: each column entry back to the pixel it was copied from
        for b in range(kw):
            dx[:, a: a + sh * ho: sh, b: b + sw * wo: sw] += columns[..., a, b]
    return nchw(np.ascontiguousarray(dx[:, ph: ph + size[0], pw: pw + size[1]]))


def conv2d_weight_grad_ref(x: Array, g: Array, kernel: Pair, stride: Pair, padding: Pair,
                           groups: int) -> Array:
    """Returns dw, (O, C/G, KH, KW), for the cotangent g of y.   x, g : as x and y of conv2d_ref"""
    columns = im2col(x, kernel, stride, padding, groups)
    dw = _by_group(g, groups).transpose(0, 2, 1) @ columns  # (G, O/G, C/G KH KW)
    return dw.reshape(g.shape[1], x.shape[1] // groups, *kernel)


# -------------------------------------------------------------------------------------------- entry


def conv2d(x: Array, w: Array, bias: Array | None = None, *, stride: Pair = (1, 1),
           padding: Pair = (0, 0), groups: int = 1, isa: str = "auto", n_threads: int = 1) -> Array:
    """Returns x * w (+ bias), (N, O, Ho, Wo).

    x : (N, C, H, W)        w : (O, C/G, KH, KW)        bias : (O,) or None
    Raises ValueError for other arrays, and where channels, groups or sizes do not fit.
    """
    groups, n_threads = check(x, w, bias, groups), threads(n_threads)
    where = geometry(x.shape[2:], w.shape[2:], stride, padding)
    stride, padding, n, o = where.stride, where.padding, len(x), len(w)
    level = _level(isa, x, w, *([] if bias is None else [bias]))
    if level == 0:
        y = conv2d_ref(x, w, stride, padding, groups)
        return y if bias is None else y + bias[:, None, None]
    if groups == x.shape[1] == o:
        return _depthwise(x, w, bias, where, level, n_threads)
    if groups > 1:
        parts = [conv2d(x[:, c], w[k], None if bias is None else bias[k], stride=stride,
                        padding=padding, isa=isa, n_threads=n_threads)
                 for c, k in _groups(groups, x.shape[1], o)]
        return nchw(np.concatenate([nhwc(p) for p in parts], axis=3))
    m, sizes = blocked(sizes_of(where, x.shape[1], o), n)
    x, w = nhwc(x).reshape(m, sizes.H, sizes.W, sizes.C), np.ascontiguousarray(w)
    y = aligned(m, sizes.Ho, sizes.Wo, o)
    if level < AVX2:
        _forward_blocks(x, w, y, sizes)
        if bias is not None:
            y += bias
    else:
        packed = aligned(w[0].size * lanes(o))
        bias = None if bias is None else np.ascontiguousarray(bias)
        cpu.kernel_module("maps").conv(x, w, bias, packed, padded(sizes, n_threads), y, sizes,
                                       level, n_threads)
    return nchw(y.reshape(n, *where.count, o))


def conv2d_input_grad(g: Array, w: Array, *, size: Pair, stride: Pair = (1, 1),
                      padding: Pair = (0, 0), groups: int = 1, isa: str = "auto",
                      n_threads: int = 1) -> Array:
    """Returns dx, (N, C, H, W), for the cotangent g of y.   g : (N, O, Ho, Wo)   size : (H, W)

    Raises ValueError for other arrays, groups that do not fit, and where g has not the shape of the
        output.
    """
    n_threads = threads(n_threads)
    floats("g", g, 4)
    floats("w", w, 4)
    groups = _dividing(groups, len(w))
    where = geometry(size, w.shape[2:], stride, padding)
    size, _, stride, padding, _ = where
    n, o = g.shape[:2]
    _check_cotangent(g, (n, len(w), *where.count))
    level = _level(isa, g, w)
    if level == 0:
        return conv2d_input_grad_ref(g, w, size, stride, padding, groups)
    if groups == o and w.shape[1] == 1:
        return _depthwise_input_grad(g, w, where, level, n_threads)
    if groups > 1:
        parts = [conv2d_input_grad(g[:, k], w[k], size=size, stride=stride, padding=padding,
                                   isa=isa, n_threads=n_threads)
                 for _, k in _groups(groups, w.shape[1] * groups, o)]
        return nchw(np.concatenate([nhwc(p) for p in parts], axis=3))
    m, sizes = blocked(sizes_of(where, w.shape[1], o), n)
    g, w = nhwc(g).reshape(m, sizes.Ho, sizes.Wo, o), np.ascontiguousarray(w)
    dx = aligned(m, sizes.H, sizes.W, sizes.C)
    if level < AVX2:
        _input_grad_blocks(g, w, dx, sizes)
    else:
        packed = aligned(sizes.KH * o * lanes(sizes.KW * sizes.C))
        row = aligned(n_threads, (sizes.W + 2 * sizes.pw) * sizes.C)
        cpu.kernel_module("maps").conv_dx(g, w, packed, row, dx, sizes, level, n_threads)
    return nchw(dx.reshape(n, *size, sizes.C))


def conv2d_weight_grad(x: Array, g: Array, *, kernel: Pair, stride: Pair = (1, 1),
                       padding: Pair = (0, 0), groups: int = 1, bias: bool = False,
                       isa: str = "auto", n_threads: int = 1) -> Array | tuple[Array, Array]:
    """Returns dw, (O, C/G, KH, KW), for the cotangent g of y; with `bias` the pair dw, db (O,).

    x : (N, C, H, W)        g : (N, O, Ho, Wo)        kernel : (KH, KW)
    Raises ValueError for other arrays, groups that do not fit, and where g has not the shape of the
        output.
    """
    n_threads, bias = threads(n_threads), switch("bias", bias)
    floats("x", x, 4)
    floats("g", g, 4)
    (n, c), o = x.shape[:2], g.shape[1]
    groups = _dividing(groups, c, o)
    where = geometry(x.shape[2:], kernel, stride, padding)
    _, kernel, stride, padding, _ = where
    _check_cotangent(g, (n, o, *where.count))
    level = _level(isa, x, g)
    if level == 0:
        dw = conv2d_weight_grad_ref(x, g, kernel, stride, padding, groups)
        return (dw, g.sum(axis=(0, 2, 3))) if bias else dw
    if groups == c == o:
        dw = _depthwise_weight_grad(x, g, where, level, n_threads)
        return (dw, g.sum(axis=(0, 2, 3))) if bias else dw
    if groups > 1:
        parts = [conv2d_weight_grad(x[:, c], g[:, k], kernel=kernel, stride=stride, padding=padding,
                                    bias=bias, isa=isa, n_threads=n_threads)
                 for c, k in _groups(groups, c, o)]
        if bias:
            return tuple(np.concatenate(each) for each in zip(*parts))
        return np.concatenate(parts)
    n, sizes = blocked(sizes_of(where, c, o), n)
    x = nhwc(x).reshape(n, sizes.H, sizes.W, c)
    g = nhwc(g).reshape(n, sizes.Ho, sizes.Wo, o)
    dw = np.empty((o, c, *kernel), np.float32)
    if level < AVX2:
        _weight_grad_blocks(x, g, dw, sizes)
        return (dw, g.reshape(-1, o).sum(axis=0)) if bias else dw
    module = cpu.kernel_module("maps")
    sums = np.zeros((module.SLABS, dw.size), np.float32)
    db = np.zeros((module.SLABS, o), np.float32) if bias else None
    module.conv_dw(x, g, sums, padded(sizes, n_threads), dw, db, sizes, level, n_threads)
    return (dw, db.sum(axis=0)) if bias else dw


def check(x: Array, w: Array, bias: Array | None, groups: int) -> int:
    """Returns groups; ValueError where arrays, channels, groups and bias do not fit each other."""
    floats("x", x)
    floats("w", w)
    groups = whole("groups", groups, 1)
    if x.ndim != 4 or w.ndim != 4 or x.shape[1] != w.shape[1] * groups or not len(w) or (
            len(w) % groups):
        raise ValueError(f"conv2d in {groups} groups needs x (N, C, H, W) and "
                         f"w (O, C / groups, KH, KW), O at least 1, got {x.shape} and {w.shape}")
    if bias is not None:
        floats("bias", bias, 1)
        if bias.shape != w.shape[:1]:
            raise ValueError(f"bias must have shape {w.shape[:1]}, got {bias.shape}")
    return groups


def _dividing(groups, *channels: int) -> int:
    groups = whole("groups", groups, 1)
    if any(c % groups for c in channels):
        raise ValueError(f"groups must divide {' and '.join(map(str, channels))} channels, "
                         f"got {groups}")
    return groups


def _check_cotangent(g: Array, shape: tuple[int, ...]) -> None:
    if g.shape != shape:
        raise ValueError(f"g must have the shape of the output, {shape}, got {g.shape}")


def _level(isa: str, *arrays: Array) -> int:
    level = cpu.resolve(isa, "maps")
    return level if all(a.dtype == F32 for a in arrays) else 0


def _groups(groups: int, c: int, o: int):
    # The channels in and out of each group.
    for i in range(groups):
        yield (slice(i * c // groups, (i + 1) * c // groups),
               slice(i * o // groups, (i + 1) * o // groups))


def lanes(n: int) -> int:
    """Returns n rounded up to whole vectors of 16."""
    return -(-n // 16) * 16


def padded(s: Sizes, n_threads: int, turned: bool = False) -> Array:
    """Returns room for a padded image per thread, where there is padding.

    turned : also for one of the cotangent, over which depthwise filters pass turned around
    """
    room = (s.H + 2 * s.ph) * (s.W + 2 * s.pw) * s.C if s.ph or s.pw else 1
    if turned:
        ph, pw = max(s.KH - 1 - s.ph, 0), max(s.KW - 1 - s.pw, 0)
        room = max(room, (s.Ho + 2 * ph) * (s.Wo + 2 * pw) * s.C)
    return aligned(n_threads, room)


# ------------------------------------------------------------- portable rung: L2-sized im2col, BLAS


def _blocks(n: int, s: Sizes):
    # Ranges of images whose columns fit L2.
    step = max(1, L2_FLOATS // max(1, s.Ho * s.Wo * s.KH * s.KW * s.C))
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _room(block: slice, s: Sizes) -> Array:
    return np.empty(((block.stop - block.start) * s.Ho * s.Wo, s.KH * s.KW * s.C), np.float32)


def _forward_blocks(x: Array, w: Array, y: Array, s: Sizes) -> None:
    im2col, matrix = cpu.kernel_module("maps").im2col, w.transpose(2, 3, 1, 0).reshape(-1, s.O)
    for block in _blocks(len(x), s):
        columns = _room(block, s)
        im2col(x[block], columns, padded(s, 1), s)
        np.matmul(columns, matrix, out=y[block].reshape(-1, s.O))


def _input_grad_blocks(g: Array, w: Array, dx: Array, s: Sizes) -> None:
    matrix = w.transpose(0, 2, 3, 1).reshape(s.O, -1)
    padded = np.empty((1, (s.H + 2 * s.ph) * (s.W + 2 * s.pw) * s.C), np.float32)
    for block in _blocks(len(g), s):
        columns = np.matmul(g[block].reshape(-1, s.O), matrix)
        cpu.kernel_module("maps").col2im(columns, dx[block], padded, s)


def _weight_grad_blocks(x: Array, g: Array, dw: Array, s: Sizes) -> None:
    total = np.zeros((s.O, s.KH * s.KW * s.C), np.float32)
    for block in _blocks(len(x), s):
        columns = _room(block, s)
        cpu.kernel_module("maps").im2col(x[block], columns, padded(s, 1), s)
        total += g[block].reshape(-1, s.O).T @ columns
    dw[...] = total.reshape(s.O, s.KH, s.KW, s.C).transpose(0, 3, 1, 2)


# ------------------------------------------------------------------------------------ depthwise


def depthwise_sizes(where: Geometry, c: int) -> Sizes:
    """Returns the numbers of a convolution of c channels, each with a filter of its own."""
    return Sizes(*where.size, c, c, *where.kernel, *where.stride, *where.padding, *where.count)


def taps(w: Array) -> Array:
    """Returns the filters of a depthwise convolution, (C, 1, KH, KW), as (KH KW, C)."""
    return np.ascontiguousarray(w.reshape(len(w), -1).T)


def _depthwise(x: Array, w: Array, bias: Array | None, where: Geometry, level: int,
               n_threads: int) -> Array:
    s = depthwise_sizes(where, len(w))
    y = aligned(len(x), s.Ho, s.Wo, s.C)
    bias = None if bias is None else np.ascontiguousarray(bias)
    cpu.kernel_module("maps").depthwise(nhwc(x), taps(w), bias, padded(s, n_threads), y, s, level,
                                        n_threads)
    return nchw(y)


def _depthwise_input_grad(g: Array, w: Array, where: Geometry, level: int,
                          n_threads: int) -> Array:
    s = depthwise_sizes(where, len(w))
    dx = aligned(len(g), s.H, s.W, s.C)
    cpu.kernel_module("maps").depthwise_dx(nhwc(g), taps(w), padded(s, n_threads, turned=True), dx,
                                           s, level, n_threads)
    return nchw(dx)


def _depthwise_weight_grad(x: Array, g: Array, where: Geometry, level: int,
                           n_threads: int) -> Array:
    s = depthwise_sizes(where, x.shape[1])
    module = cpu.kernel_module("maps")
    sums = np.zeros((module.SLABS, s.KH * s.KW * s.C), np.float32)
    module.depthwise_dw(nhwc(x), nhwc(g), padded(s, n_threads), sums, s, level, n_threads)
    return np.ascontiguousarray(sums.sum(axis=0).reshape(-1, s.C).T).reshape(s.C, 1, s.KH, s.KW)
