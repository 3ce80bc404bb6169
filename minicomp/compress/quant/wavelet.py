"""Wavelet shrinkage of weights (Donoho & Johnstone 1994, "Ideal Spatial Adaptation by Wavelet
Shrinkage"; Donoho 1995, "De-noising by Soft-Thresholding").

Signals that are smooth but for a few jumps have few large wavelet coefficients; what is below the
size that noise of standard deviation sigma reaches is noise. n values in the order in which they
are scanned, c their coefficients:

    sigma = median |c_finest| / 0.6745        lambda = sigma sqrt(2 ln n)        (universal)
    c~ = sign(c) max(|c| - lambda, 0)         of details; the coarsest averages stay

then c~ is rounded to integers of `bits` bits on one scale, most of which are 0, and the file holds
those that are not and where they are (`nn/forms/wavelet.py`).

Weights are no smooth signal: neighbours in C order are as good as independent, the details look
like noise at every scale, and the universal threshold removes nearly all of them. `shrink` is the
fraction of it that is taken; at 0 this is transform coding, which saves nothing over rounding the
weights themselves where the transform finds no structure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid import symmetric_scale
from ...nn.forms import Affine, Wavelet
from ...nn.forms.wavelet import MAX_LEVELS, WAVELETS, dwt, padded
from ...tensor import Array
from ..technique import knob
from .tables import WholeQuantizer

MAD = 0.6745  # median of |x| of a standard Gaussian


def soft_threshold(c: Array, lam: float) -> Array:
    """Returns sign(c) max(|c| - lam, 0), in c's dtype; Donoho 1995, eq. (4)."""
    return np.sign(c) * np.maximum(np.abs(c) - c.dtype.type(lam), c.dtype.type(0))


def universal_threshold(finest: Array, n: int) -> float:
    """Returns sigma sqrt(2 ln n), sigma = median |finest| / 0.6745; 0 where there is no detail.

    finest : the details of the first level        n : values in all
    Source: Donoho & Johnstone 1994, section 4.2; Donoho 1995
    """
    if not finest.size or n < 2:
        return 0.0
    return float(np.median(np.abs(finest)) / MAD) * math.sqrt(2 * math.log(n))


def shrunk(x: Array, *, wavelet: str, levels: int, shrink: float) -> Array:
    """Returns the coefficients of x, details thresholded at `shrink` of the universal threshold.

    x : (n,) float, filled up with zeros to m, a multiple of 2^levels        result : (m,), x's
        dtype
    """
    m, half = padded(len(x), levels), -(-len(x) // 2)
    c = dwt.fn(np.pad(x, (0, m - len(x))), wavelet=wavelet, levels=levels)
    coarse = m >> levels
    if levels:
        c[coarse:] = soft_threshold(c[coarse:], shrink * universal_threshold(
            c[m // 2:m // 2 + half], len(x)))  # not of what was filled up
    return c


@dataclass(frozen=True)
class Wavelets(WholeQuantizer):
    """Stores the few large wavelet coefficients of every layer."""

    word: ClassVar[str] = "wavelet"
    title: ClassVar[str] = "Wavelet shrinkage"
    source: ClassVar[str] = ("Donoho & Johnstone 1994, Ideal Spatial Adaptation by Wavelet "
                             "Shrinkage; Donoho 1995, De-noising by Soft-Thresholding")

    wavelet: str = knob("haar", "haar, or Daubechies' with 2 or 4 vanishing moments",
                        choices=WAVELETS, per_layer=True)
    levels: int = knob(3, "times that averages are halved", lo=0, hi=MAX_LEVELS, per_layer=True)
    shrink: float = knob(0.05, "fraction of the universal threshold, below which details go", lo=0,
                         per_layer=True)
    bits: int = knob(6, "bits of a coefficient", lo=2, hi=16, per_layer=True)

    def form(self, node, form, run):
        levels, bits = self.at("levels", node), self.at("bits", node)
        c = shrunk(form.dense().data.reshape(-1), wavelet=self.at("wavelet", node), levels=levels,
                   shrink=self.at("shrink", node))
        scale = symmetric_scale(np.abs(c).max(initial=0), bits=bits)
        coefficients = Affine.of(c, scale, bits=bits, trainable=True)
        return Wavelet(coefficients, form.shape, self.at("wavelet", node), levels)
