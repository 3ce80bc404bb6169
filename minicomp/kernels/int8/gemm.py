"""The product of codes: acc = sum over k of a w + offset, u8 x s8 -> int32.

M rows, K inner, O out. With codes q_x = x / s_x + z_x and symmetric weights q_w = w / s_w,

    x W' + b = s_x s_w (sum (q_x - z_x) q_w + b / (s_x s_w))
             = s_x s_w (sum q_x q_w + offset),        offset = rint(b / (s_x s_w)) - z_x sum q_w

so that the zero point costs nothing at run time. An accumulator must fit int32:
255 sum |q_w| + |offset| < 2^31, which whoever lowers a net makes sure of.

A kernel takes four k of 16 channels in one instruction, and a tile of it up to 64 channels. So
weights are packed beforehand, once: 16 channels are a vector, up to four vectors a panel, vectors
in panels of about equal size; a step of four k is 64 bytes of each vector of the panel:

    (panel, K / 4, vector, 16, 4) int8        zeros behind the last channel and the last k

Source: Jacob et al. 2018, arXiv 1712.05877, eqs. (7)-(9)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import doors
from ..memory import aligned
from ..sparse.packed import Packed, of_kind
from ..threads import threads
from . import checks
from .requantize import Requantizer, numbers, requantize_ref, rule

Array = np.ndarray
LANES, STEP, WIDEST = 16, 4, 4  # channels of a vector, k of a step, vectors of a panel


def gemm_ref(a: Array, w: Array, offset: Array) -> Array:
    """Returns accumulators, (M, O) int32.   a : (M, K) uint8   w : (O, K) int8   offset : (O,)
    int32

    In float64, which is exact: K 255 128 < 2^53.
    """
    return (a.astype(np.float64) @ w.T.astype(np.float64) + offset).astype(np.int32)


def linear_ref(a: Array, w: Array, offset: Array, r: Requantizer) -> Array:
    """Returns the codes of the product, (M, O) uint8; arguments of `gemm_ref`."""
    return requantize_ref(gemm_ref(a, w, offset), r)


# ---------------------------------------------------------------------------------- packed weights


@dataclass(frozen=True, init=False)
class Panels(Packed):
    """Weights in panels, made by `pack`.

    shape : (O, K), or (O, KH, KW, C/G) of a convolution        groups : G
    data : (bytes,) int8, the panels of one group after those of another, at a cache line
    """

    packer = "pack"
    shape: tuple[int, ...]
    groups: int
    data: Array


def pack(w: Array, *, groups: int = 1) -> Panels:
    """Returns weights in panels.   w : (O, K) int8, or (O, KH, KW, C/G) in `groups` G

    Raises ValueError for other arrays, groups that do not divide O, and rows whose sums may not fit
    int32: 255 sum |w| >= 2^31.
    """
    doors.integers("w", w, 2, 4)
    groups = doors.whole("groups", groups, 1)
    if w.dtype != np.int8:
        raise ValueError(f"w must be an array of int8, got {w.dtype}")
    if len(w) % groups or groups > 1 and w.ndim == 2:
        raise ValueError(f"groups must divide the {len(w)} channels of a convolution, got {groups}")
    rows = w.reshape(groups, len(w) // groups, math.prod(w.shape[1:]))
    sums = np.abs(rows.astype(np.int16)).sum(axis=2, dtype=np.int64)
    if 255 * sums.max(initial=0) >= 2**31:
        raise ValueError("w must have rows whose 255 sum |w| is below 2^31")
    vectors, steps = -(-rows.shape[1] // LANES), -(-rows.shape[2] // STEP)
    full = np.zeros((groups, vectors * LANES, steps * STEP), np.int8)
    full[:, : rows.shape[1], : rows.shape[2]] = rows
    full = full.reshape(groups, vectors, LANES, steps, STEP)
    data = aligned(full.size // 4).view(np.int8)
    end = 0
    for each in full:
        for first, last in _panels(vectors):
            start, end = end, end + (last - first) * LANES * steps * STEP
            data[start:end] = each[first:last].transpose(2, 0, 1, 3).reshape(-1)
    return Panels._made(shape=w.shape, groups=groups, data=data)


def unpacked(w: Panels) -> Array:
    """Returns the weights that `pack` took."""
    of_kind(w, Panels)
    each = w.shape[0] // w.groups
    K = math.prod(w.shape[1:])
    vectors, steps = -(-each // LANES), -(-K // STEP)
    full = np.empty((w.groups, vectors, LANES, steps, STEP), np.int8)
    end = 0
    for group in full:
        for first, last in _panels(vectors):
            start, end = end, end + (last - first) * LANES * steps * STEP
            panel = w.data[start:end].reshape(steps, last - first, LANES, STEP)
            group[first:last] = panel.transpose(1, 2, 0, 3)
    full = full.reshape(w.groups, vectors * LANES, steps * STEP)
    return np.ascontiguousarray(full[:, :each, :K]).reshape(w.shape)


def _panels(vectors: int) -> list[tuple[int, int]]:
    # The first vector of each panel and the one behind its last.
    n = -(-vectors // WIDEST)
    edges = [-(-j * vectors // n) for j in range(n + 1)] if n else []
    return list(zip(edges, edges[1:]))


# ------------------------------------------------------------------------------------------ entries


def gemm(a: Array, w: Panels, offset: Array, *, out: Array | None = None, isa: str = "auto",
         n_threads: int = 1, calls=None) -> Array:
    """Returns accumulators, (M, O) int32, in `out` where that is given.

    a : (M, K) uint8        w : of `pack`, (O, K)        offset : (O,) int32
    out : (M, O) int32, C-contiguous        calls : where to keep it for later, see checks.py
    Any number of rows has the same bits a row; one row is as many bytes of weights read.
    Raises ValueError for other arrays.
    """
    given, (a, offset) = (a, offset), _checked(a, w, offset)
    out = checks.result(out, (len(a), w.shape[0]), a, dtype=checks.I32)
    level, n_threads = checks.rung(isa, calls, *given), threads(n_threads)
    if level == 0 or not out.size:
        out[...] = gemm_ref(a, unpacked(w), offset)
    else:
        checks.kernels(calls).product(a, w.data, offset, out, level, n_threads)
    return out


def linear(a: Array, w: Panels, offset: Array, r: Requantizer, *, out: Array | None = None,
           isa: str = "auto", n_threads: int = 1, calls=None) -> Array:
    """Returns the codes of the product, (M, O) uint8, in `out` where that is given.

    r : of O channels        out : (M, O) uint8, C-contiguous        others as of `gemm`
    A sum becomes a code while it lies in the nearest cache.
    Raises ValueError for other arrays and requantizers.
    """
    given, (a, offset) = (a, offset), _checked(a, w, offset)
    r, out = rule(r, len(offset)), checks.result(out, (len(a), len(offset)), a)
    level, n_threads = checks.rung(isa, calls, *given), threads(n_threads)
    if level == 0 or not out.size:
        out[...] = linear_ref(a, unpacked(w), offset, r)
    else:
        checks.kernels(calls).product_codes(a, w.data, offset, r, numbers(r), out, level,
                                            n_threads)
    return out


def _checked(a: Array, w: Panels, offset: Array) -> tuple[Array, Array]:
    of_kind(w, Panels)
    a, offset = checks.codes("a", a, 2), checks.sums("offset", offset, 1)
    if len(w.shape) != 2 or a.shape[1] != w.shape[1] or offset.shape != w.shape[:1]:
        raise ValueError(f"the shapes do not fit each other: a {a.shape}, w {w.shape}, "
                         f"offset {offset.shape}")
    return a, offset
