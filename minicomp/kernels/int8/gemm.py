"""The product of codes: acc = sum over k of a w + offset, u8 x s8 -> int32.

M rows, K inner, O out. With codes q_x = x / s_x + z_x and symmetric weights q_w = w / s_w,

    x W' + b = s_x s_w (sum (q_x - z_x) q_w + b / (s_x s_w))
             = s_x s_w (sum q_x q_w + offset),        offset = rint(b / (s_x s_w)) - z_x sum q_w

so that the zero point costs nothing at run time. An accumulator must fit int32:
255 sum |q_w| + |offset| < 2^31, which whoever lowers a net makes sure of.
Source: Jacob et al. 2018, arXiv 1712.05877, eqs. (7)-(9)
"""

from __future__ import annotations

import numpy as np

from .requantize import Requantizer, requantize_ref

Array = np.ndarray


def gemm_ref(a: Array, w: Array, offset: Array) -> Array:
    """Returns accumulators, (M, O) int32.   a : (M, K) uint8   w : (O, K) int8   offset : (O,)
    int32

    In float64, which is exact: K 255 128 < 2^53.
    """
    return (a.astype(np.float64) @ w.T.astype(np.float64) + offset).astype(np.int32)


def linear_ref(a: Array, w: Array, offset: Array, r: Requantizer) -> Array:
    """Returns the codes of the product, (M, O) uint8; arguments of `gemm_ref`."""
    return requantize_ref(gemm_ref(a, w, offset), r)
