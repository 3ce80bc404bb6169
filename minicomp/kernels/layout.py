"""Where an array of maps lies in memory: the only place that asks.

Maps mean (N, C, H, W). In memory the kernels want the channels last: the C values of a pixel side
by side, so that one vector instruction works on 8 or 16 channels of one pixel, and a row of a
window is one run of memory.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def nhwc(x: Array) -> Array:
    """Returns x as a C-contiguous (N, H, W, C) array, x's own memory where it lies channels-last.

    x : (N, C, H, W), any strides
    """
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def nchw(x: Array) -> Array:
    """Returns the (N, C, H, W) view of an (N, H, W, C) array."""
    return x.transpose(0, 3, 1, 2)


def as_nhwc(x: Array) -> Array:
    """Returns x, (N, C, H, W), channels-last in memory; x itself where it lies so already."""
    return nchw(nhwc(x))
