"""Convolutions by filters along one axis, then the other (Jaderberg, Vedaldi & Zisserman 2014,
arXiv 1405.3866, scheme 2).

    W[o, c, i, j] = sum_t a[o, j, t] b[t, c, i]        a matrix, rows (o, j), columns (c, i)

    conv (O, C, h, w)        becomes        conv (t, C, h, 1), then conv (O, t, 1, w) with the bias

The SVD of that matrix is their filter reconstruction at its optimum. The stride and padding of an
axis go with the filter along it, so that between the two the maps have the height of the result
and the width of the input. A convolution in groups is factored group by group: a depthwise filter
into its separable parts. Ranks are chosen as `truncation.py` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .chains import is_conv
from .truncation import Truncation
from .ways import SPATIAL


@dataclass(frozen=True)
class SpatialSVD(Truncation):
    """Replaces convolutions by vertical filters and then horizontal ones."""

    word: ClassVar[str] = "spatial-svd"
    title: ClassVar[str] = "Low rank of filters along one axis"
    source: ClassVar[str] = ("Jaderberg, Vedaldi & Zisserman 2014, Speeding up Convolutional "
                             "Neural Networks with Low Rank Expansions, arXiv:1405.3866")

    def way(self, node):
        return SPATIAL if is_conv(node) and max(node.layer.kernel_size) > 1 else None
