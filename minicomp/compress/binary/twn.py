"""Ternary weight networks (Li, Zhang, Liu 2016, "Ternary Weight Networks", arXiv 1605.04711).

A weight is -alpha, 0 or alpha. The nearest such weights are those of

    alpha*, W^t* = argmin ||W - alpha W^t||^2
    W^t_i = +1 where W_i > Delta, -1 where W_i < -Delta, else 0                                (1)
    alpha* = mean of |W_i| where |W_i| > Delta                                                 (2)
    Delta* = argmax (sum_{|W_i| > Delta} |W_i|)^2 / |{|W_i| > Delta}|                          (3)

(3) has no closed form. Uniform weights, in -a..a, have Delta* = a/3, which is 2/3 of mean |W_i|;
normal ones about 0.6 of their deviation, 3/4 of mean |W_i|. In between lies what the paper takes,

    Delta = 0.7 mean |W_i|                                                                     (4)

of a layer; the numbers of equations are this page's. Training is as with binary weights: forward
and backward with alpha W^t, the update on W, the gradient straight through.

`delta` = "exact" searches (3), whose best Delta lies between two weights, instead of (4).
Where we leave the paper: `per` = "channel" has Delta and alpha for each output channel. Means are
over what a mask keeps; pruned weights stay 0 and are no part of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid import ternary_codes
from ...tensor import Array
from ..technique import knob
from .training import Latents, Threefold, latent_of

FACTOR = 0.7  # (4)


def twn_delta(w: Array) -> float:
    """Returns Delta = 0.7 mean |w|; 0 for none.   Source: Li et al. 2016, section 2.2"""
    return FACTOR * float(np.abs(w).mean(dtype=np.float64)) if w.size else 0.0


def twn_exact_delta(w: Array) -> float:
    """Returns the Delta of least squared error, one of the sizes |w|, or 0: (3).

    Only which weights are above it counts, so that the candidates are the weights themselves.
    """
    sizes = np.sort(np.abs(w).ravel().astype(np.float64))[::-1]
    if not sizes.size or not sizes[0]:
        return 0.0
    gain = np.cumsum(sizes) ** 2 / np.arange(1, sizes.size + 1)
    best = int(gain.argmax())  # of equal weights all or none: in their number a gain is convex
    return float(sizes[best + 1]) if best + 1 < sizes.size else 0.0


def twn_alpha(w: Array, codes: Array) -> float:
    """Returns alpha, the mean of |w| where the code is not 0; 1 where all are 0.

    Source: Li et al. 2016, section 2.1
    """
    above = np.abs(w[codes != 0])
    return float(above.mean(dtype=np.float64)) if above.size else 1.0


def twn(w: Array, *, exact: bool = False) -> tuple[Array, float]:
    """Returns (codes -1, 0, +1, int8 of w's shape, alpha).

    w : float, of one layer        exact : whether Delta is that of (3), else of (4)
    """
    codes = ternary_codes(w, (twn_exact_delta if exact else twn_delta)(w))
    return codes, twn_alpha(w, codes)


class Nearest(Threefold):
    """The form while it trains: of its latent, (1)-(4) make codes and scale."""

    exact = False

    def found(self, w):
        rows, kept = w.reshape(self.rows, -1), self.kept()
        q, alpha = np.zeros(rows.shape, np.int8), np.ones((self.rows, 1), w.dtype)
        for i, (row, keep) in enumerate(zip(rows, kept)):
            at = slice(None) if keep.all() else keep
            q[i, at], alpha[i] = twn(row[at], exact=self.exact)
        return q.reshape(w.shape), alpha


@dataclass(frozen=True)
class TWN(Latents):
    """Trains with weights -alpha, 0, alpha, the nearest to the floats behind them."""

    word: ClassVar[str] = "twn"
    title: ClassVar[str] = "Ternary weight networks"
    source: ClassVar[str] = "Li, Zhang & Liu 2016, Ternary Weight Networks, arXiv:1605.04711"

    delta: str = knob("mean", "threshold: 0.7 of the mean |w|, or exactly that of least error",
                      choices=("mean", "exact"))
    per: str = knob("tensor", "what shares threshold and scale: the tensor, or an output channel",
                    choices=("tensor", "channel"), per_layer=True)

    def placed(self, node, form):
        made = Nearest(latent_of(form), by_row=self.at("per", node) == "channel")
        made.exact = self.delta == "exact"
        return made
