"""Sums of binary bases (Lin, Zhao, Pan 2017, "Towards Accurate Binary Convolutional Neural
Network", arXiv 1711.11294; ABC-Net).

One sign a weight says little. M of them, with a scale each, come near the weights:

    W ~ alpha_1 B_1 + .. + alpha_M B_M
    B_i = sign(W - mean(W) + u_i std(W)),    u_i = -1 + (i - 1) 2 / (M - 1)
    alpha = argmin ||w - B alpha||^2, a linear regression

with w, and a basis for each column of B, flattened. Alphas may be below 0. Forward and backward see
the sum; with d B_i / d W = 1 what reaches W is

    dC/dW = sum_i alpha_i dC/dB_i

in which dC/dB_i is the gradient of what is convolved with B_i, that of the sum: dC/dW is sum_i
alpha_i times it.

M = 1 has u = 0. `per` = "tensor" is the paper's; "channel" has mean, std, bases and alphas for each
output channel, as the paper proposes too. Mean, std and regression are over what a mask
keeps. Binary activations of several bases are not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid import binarize
from ...nn.forms.affine import spread
from ...nn.forms.binary import MOST_BASES, pack_bases
from ...tensor import Array
from ..technique import knob
from .training import Latents, Signed, latent_of


def abc_shifts(M: int) -> Array:
    """Returns u_1 .. u_M, float64: -1 to 1 evenly, 0 for one."""
    return np.linspace(-1, 1, M) if M > 1 else np.zeros(1)


def abc_bases(w: Array, M: int) -> Array:
    """Returns B_i = sign(w - mean + u_i std), +-1, (M, *w.shape) in w's dtype; sign(0) = +1.

    w : float, of one layer or one filter        Source: Lin et al. 2017, section 3.1
    """
    wide = w.astype(np.float64)
    centred, std = wide - wide.mean(), wide.std()
    bases = [binarize(centred + u * std) for u in abc_shifts(M)]
    return np.stack(bases).astype(w.dtype, copy=False)


def abc_alphas(w: Array, B: Array) -> Array:
    """Returns the alphas of least ||w - sum_i alpha_i B_i||, float64 (M,); of several, those of
    least norm.

    w : float        B : (M, *w.shape) of +-1        Source: Lin et al. 2017, section 3.1
    """
    columns = B.reshape(len(B), -1)
    normal = (columns @ columns.T).astype(np.float64)  # M x M integers: exact below 2^24 weights
    return np.linalg.pinv(normal, hermitian=True) @ (columns * w.ravel()).sum(1, dtype=np.float64)


class Bases(Signed):
    """The form while it trains: bases of its latent and their regression."""

    def found(self, w):
        rows, kept = w.reshape(self.rows, -1), self.kept()
        q, alpha = np.zeros(rows.shape, np.uint8), np.ones((self.rows, self.bases), w.dtype)
        for i, (row, keep) in enumerate(zip(rows, kept)):
            if keep.any():
                at = slice(None) if keep.all() else keep
                B = abc_bases(row[at], self.bases)
                q[i, at], alpha[i] = pack_bases(B), abc_alphas(row[at], B)
        return q.reshape(w.shape), alpha

    def back(self, g, w, scale):
        return g * spread(scale.sum(axis=1), self.shape)


@dataclass(frozen=True)
class ABCNet(Latents):
    """Trains sums of binary bases, the nearest to the floats behind them."""

    word: ClassVar[str] = "abc-net"
    title: ClassVar[str] = "Sums of binary bases (ABC-Net)"
    source: ClassVar[str] = (
        "Lin, Zhao & Pan 2017, Towards Accurate Binary Convolutional Neural Network, "
        "arXiv:1711.11294"
    )

    bases: int = knob(3, "M, bits a weight", lo=1, hi=MOST_BASES, per_layer=True)
    per: str = knob("tensor", "what shares bases' shifts and scales: the tensor, or an output "
                              "channel", choices=("tensor", "channel"), per_layer=True)

    def placed(self, node, form):
        return Bases(latent_of(form), self.at("per", node) == "channel", self.at("bases", node))


def approximation(w: Array, M: int) -> Array:
    """Returns sum_i alpha_i B_i, in w's dtype.   w : float, of one layer or one filter"""
    B = abc_bases(w, M)
    return np.tensordot(abc_alphas(w, B).astype(w.dtype), B, 1)
