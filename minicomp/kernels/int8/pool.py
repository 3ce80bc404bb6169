"""Pooling of codes. Maps (N, H, W, C) uint8; windows (KH, KW); Ho, Wo the output's size."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..doors import Pair
from .requantize import Requantizer, requantize_ref

Array = np.ndarray


def _windows(x: Array, kernel: Pair, stride: Pair, padding: Pair, count: Pair, fill: int) -> Array:
    # (N, Ho, Wo, C, KH, KW), `fill` around the map, as far as windows reach.
    sides = [(p, max((m - 1) * s + k - n - p, 0))
             for n, k, s, p, m in zip(x.shape[1:3], kernel, stride, padding, count)]
    framed = np.pad(x, ((0, 0), *sides, (0, 0)), constant_values=fill)
    seen = sliding_window_view(framed, kernel, axis=(1, 2))
    return seen[:, ::stride[0], ::stride[1]][:, :count[0], :count[1]]


def max_pool_ref(x: Array, *, kernel: Pair, stride: Pair, padding: Pair, count: Pair) -> Array:
    """Returns the largest code of each window, (N, Ho, Wo, C) uint8, on the grid of x.

    count : (Ho, Wo); padding is the least code, so never larger than one of the map
    """
    return _windows(x, kernel, stride, padding, count, 0).max(axis=(4, 5))


def avg_pool_ref(x: Array, r: Requantizer, *, kernel: Pair, stride: Pair, padding: Pair,
                 count: Pair, zero_point: int) -> Array:
    """Returns the codes of means, (N, Ho, Wo, C) uint8, rounded once.

    r : of one channel, that takes the sum over a window of q - zero_point (M has the 1 / (KH KW))
    zero_point : of x; padding is 0 as a number, and counts
    """
    acc = sum_pool_ref(x, kernel=kernel, stride=stride, padding=padding, count=count,
                       zero_point=zero_point)
    return requantize_ref(acc[..., None], r)[..., 0]


def sum_pool_ref(x: Array, *, kernel: Pair, stride: Pair, padding: Pair, count: Pair,
                 zero_point: int) -> Array:
    """Returns the sums of q - zero_point over windows, (N, Ho, Wo, C) int32; arguments of
    `avg_pool_ref`."""
    seen = _windows(x, kernel, stride, padding, count, zero_point).astype(np.int32)
    return (seen - zero_point).sum(axis=(4, 5), dtype=np.int32)
