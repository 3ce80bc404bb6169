"""Convolution of codes, groups and depthwise included: u8 x s8 -> int32 -> u8.

N batch, C in, O out, H W size, K kernel (KH, KW), G groups. Maps (N, H, W, C) uint8, weights
(O, KH, KW, C/G) int8: a window and a filter lie in the same order. What lies around the map is its
zero point: padding is 0 as a number. The algebra is that of gemm.py.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..doors import Pair
from .gemm import gemm_ref
from .requantize import Requantizer, requantize_ref

Array = np.ndarray


def conv_ref(x: Array, w: Array, offset: Array, *, stride: Pair, padding: Pair, groups: int,
             zero_point: int) -> Array:
    """Returns accumulators, (N, Ho, Wo, O) int32.

    x : (N, H, W, C) uint8        w : (O, KH, KW, C/G) int8        offset : (O,) int32
    zero_point : of x, what padding holds
    """
    (ph, pw), (sh, sw), (o, kh, kw, c) = padding, stride, w.shape
    framed = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)), constant_values=zero_point)
    seen = sliding_window_view(framed, (kh, kw), axis=(1, 2))[:, ::sh, ::sw]  # (N,Ho,Wo,C,KH,KW)
    n, ho, wo = seen.shape[:3]
    rows = seen.transpose(0, 1, 2, 4, 5, 3).reshape(n * ho * wo, kh * kw, groups, c)
    each = o // groups
    out = [gemm_ref(rows[:, :, g].reshape(len(rows), -1), w[g * each: (g + 1) * each].reshape(
        each, -1), offset[g * each: (g + 1) * each]) for g in range(groups)]
    return np.concatenate(out, axis=1).reshape(n, ho, wo, o)


def conv2d_ref(x: Array, w: Array, offset: Array, r: Requantizer, **how) -> Array:
    """Returns the codes of a convolution, (N, Ho, Wo, O) uint8; arguments of `conv_ref`."""
    return requantize_ref(conv_ref(x, w, offset, **how), r)
