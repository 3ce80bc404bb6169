"""Balanced quantization (Zhou, Wang, Wen, He & Zou 2017, "Balanced Quantization: An Effective and
Efficient Approach to Quantized Neural Networks", arXiv 1706.07145).

With evenly spaced levels from the least to the largest weight most codes are rare, so that b bits
carry far less than b bits. The weights' histogram is equalised first: cells hold equally many
weights, so that all codes occur equally often,

    edges t_i = quantile(w, i / k), k = 2^b        code i for t_i <= w < t_{i+1}

and then the codes are evenly spaced levels, scale (i - (k - 1) / 2). With levels="mean" a code is
the mean of its cell instead: of all values for it that of least squared error.

The paper finds the edges by halving b times at the median, or at the mean, which is cheaper; here
they are quantiles. It trains; here is only the quantizer, with the scale of least squared error
(the paper's, from memory, follows max |w|). Codes that are equally frequent leave an entropy coder
nothing to save.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...grid.affine import TINY
from ...nn.forms import Affine, Dense
from ...tensor import Array
from ..technique import knob
from .tables import FormQuantizer, coded, kept_values


def balanced_codes(x: Array, k: int) -> Array:
    """Returns the cell of each x among k of equally many values, int64 of x's shape.

    x : float, any shape, at least one value        k : at least 1
    Equal values share a cell, for which others then have fewer. Raises ValueError for k < 1, no
    values, NaN, infinity.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    x = np.asarray(x, np.float64)
    if not x.size or not np.isfinite(x).all():
        raise ValueError("x must hold at least one number and no NaN or infinity")
    edges = np.quantile(x, np.arange(1, k) / k)
    return np.searchsorted(edges, x, side="right")


def even_scale(x: Array, codes: Array, k: int) -> np.float32:
    """Returns the scale at which scale (code - (k - 1) / 2) is nearest to x in squared error.

    x, codes : of one shape
    Below 0 where codes and values have opposite signs, as of a constant below 0; at least 2^-126 in
    size.
    """
    u = codes - (k - 1) / 2
    scale = (u * x).sum(dtype=np.float64) / max((u * u).sum(), 0.25)
    return np.float32(scale if abs(scale) >= TINY else TINY)


def cell_means(x: Array, codes: Array, k: int) -> Array:
    """Returns the mean of each cell that has members, and 0 of the others, float64 (k,)."""
    total = np.bincount(codes.ravel(), weights=np.asarray(x, np.float64).ravel(), minlength=k)
    return total / np.maximum(np.bincount(codes.ravel(), minlength=k), 1)


@dataclass(frozen=True)
class Balanced(FormQuantizer):
    """Gives every layer codes that are equally frequent."""

    word: ClassVar[str] = "balanced"
    title: ClassVar[str] = "Balanced quantization"
    source: ClassVar[str] = ("Zhou, Wang, Wen, He & Zou 2017, Balanced Quantization: An Effective "
                             "and Efficient Approach to Quantized Neural Networks, "
                             "arXiv:1706.07145")

    bits: int = knob(4, "bits of a weight", lo=1, hi=8, per_layer=True)
    levels: str = knob("even", "a code is one of evenly spaced levels, or the mean of its cell",
                       choices=("even", "mean"), per_layer=True)

    def form(self, node, form, run):
        x, bits = kept_values(form), self.at("bits", node)
        if not x.size:
            return Dense(form.dense().data, form.mask)
        if self.at("levels", node) == "mean":  # a pruned layer's 0 is one of the codes
            k = 2**bits - (form.mask is not None)
            codes = balanced_codes(x, k)
            return coded(form, cell_means(x, codes, k).astype(np.float32), codes)
        k = 2**bits
        if (x.min() > 0 or x.max() < 0) and x.min() < x.max():
            raise UserError(f"{self.word}: levels@{node} must be mean for weights of one sign, "
                            f"which evenly spaced levels around 0 do not reach, got even and "
                            f"weights in [{x.min():g}, {x.max():g}]")
        codes = balanced_codes(x, k)
        q = np.zeros(form.shape, np.int64)
        q[... if form.mask is None else form.mask] = (codes - k // 2).reshape(
            form.shape if form.mask is None else -1)
        return Affine(q, even_scale(x, codes, k), bits=bits, grid="midrise", mask=form.mask,
                      trainable=True)
