"""Additive powers of two (Li, Dong & Wang 2020, "Additive Powers-of-Two Quantization: An Efficient
Non-uniform Discretization for Neural Networks", arXiv 1909.13144).

Powers of two spend further bits on ever smaller levels near 0 and leave the gap between the largest
two as it is. Levels that are sums of n powers of two stay dense near 0 without that, and a product
with one is n shifts and additions.

    Q(alpha, kn) = gamma {sum_{i<n} p_i},  p_i in {0, 2^-i, 2^-(i+n), .., 2^-(i+(2^k-2)n)}      (5)

with k = 2 bits a group, gamma such that the largest level is alpha, a sign, and one bit more where
the magnitude has an odd number of them (6): `grid/powers.py`. A weight goes to the nearest level.

The paper trains: weights are normalised to mean 0 and variance 1 before they are clipped at alpha,
which is learnt through the reparametrized clipping function. Here weights stay as they are and
alpha, one a layer, is the clip of least squared error, or max |w|; training afterwards
(`finetune`) moves alpha with the gradients of all weights. Only the first step of the paper is made
here, for its levels to be compared with others' at equal bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid.affine import TINY
from ...grid.powers import additive_codes, additive_levels
from ...nn.forms import AdditivePowers, Codebook
from ...tensor import Array
from ..line import Line
from ..technique import knob
from .tables import FormQuantizer, kept_values

FRACTIONS = np.arange(100, 0, -1) / 100  # of max |w|, at which a clip is tried


def apot_scale(w: Array, *, bits: int, clip: str = "mse") -> np.float32:
    """Returns alpha, float32: the largest level for weights w of any shape.

    bits : 2..8        clip : "max", max |w|; "mse", the fraction of it, of 100, whose levels have
        the least squared error, the larger of equals
    1 where all weights are 0. Raises ValueError for NaN, infinity, another clip.
    """
    if clip not in ("max", "mse"):
        raise ValueError(f"clip must be one of max, mse, got {clip!r}")
    w = np.asarray(w, np.float32)
    if not np.isfinite(w).all():
        raise ValueError("w must be finite, got NaN or infinity")
    peak, units = np.abs(w).max(initial=0), additive_levels(bits)
    if not peak:
        return np.float32(1)
    if clip == "max":
        return np.float32(max(peak, TINY))
    tried = np.maximum((FRACTIONS * peak).astype(np.float32), TINY)
    line, ordered = Line(w), np.sort(units).astype(np.float64)
    errors = [line.error_at(a * ordered) for a in tried.astype(np.float64)]
    return tried[int(np.argmin(errors))]


@dataclass(frozen=True)
class APoT(FormQuantizer):
    """Puts every weight on the nearest of the additive powers of two, without training."""

    word: ClassVar[str] = "apot"
    title: ClassVar[str] = "Additive powers of two"
    source: ClassVar[str] = ("Li, Dong & Wang 2020, Additive Powers-of-Two Quantization: An "
                             "Efficient Non-uniform Discretization for Neural Networks, "
                             "arXiv:1909.13144")

    bits: int = knob(4, "bits of a weight: 2^bits - 1 levels, one of them 0", lo=2, hi=8,
                     per_layer=True)
    clip: str = knob("mse", "alpha: the clip of least squared error, or the largest weight",
                     choices=("mse", "max"), per_layer=True)

    def form(self, node, form, run):
        bits = self.at("bits", node)
        alpha = apot_scale(kept_values(form), bits=bits, clip=self.at("clip", node))
        codes = additive_codes(form.dense().data, alpha, bits)
        return Codebook(codes, AdditivePowers(alpha, bits), pinned_zero=True)
