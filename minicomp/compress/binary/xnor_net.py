"""Binary weights with a scale a filter (Rastegari, Ordonez, Redmon, Farhadi 2016, "XNOR-Net:
ImageNet Classification Using Binary Convolutional Neural Networks", arXiv 1603.05279).

A filter W of n weights is alpha B, B of +-1. The nearest are, in closed form,

    B* = sign(W),      alpha* = W' sign(W) / n = ||W||_1 / n

This is the paper's BWN, binary weight network; its XNOR-Net makes the inputs binary too. Training
sees W~ = alpha B, the update moves W. The gradient reaches W by both factors (section 3.1):

    dC/dW_i = dC/dW~_i (1/n + alpha d sign/dW_i),     d sign/dW = 1[|W| <= 1]     "printed"
    dC/dW_i = sign(W_i)/n sum_j dC/dW~_j sign(W_j) + alpha 1[|W_i| <= 1] dC/dW~_i    "exact"

alpha depends on all weights of the filter, so that the first term is a sum over j, which the print
leaves out; the authors' code has it. `gradient` chooses.

The paper leaves the first and the last layer in floats: real@conv1=true,real@fc3=true. Means are
over what a mask keeps. The scales K of binary inputs are not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ops
from ...grid import binarize
from ...nn.forms.affine import spread
from ...nn.forms.binary import pack_bases
from ...tensor import Array
from ..technique import knob
from .training import Latents, Signed, kept_mean, latent_of

GRADIENTS = ("exact", "printed")


def bwn_scale(w: Array) -> Array:
    """Returns alpha = ||W||_1 / n of each filter, (O,) in w's dtype.

    w : (O, ...) float        Source: Rastegari et al. 2016, section 3.1
    """
    rows = np.abs(w).reshape(len(w), -1)
    return kept_mean(rows, np.ones(rows.shape, bool))


def bwn(w: Array) -> Array:
    """Returns W~ = alpha sign(W), a filter each of axis 0, in w's dtype; sign(0) = +1."""
    return spread(bwn_scale(w), w.shape) * binarize(w)


def bwn_gradient(g, w: Array, *, gradient: str = "exact", mask: Array | None = None):
    """Returns dC/dW of g = dC/dW~, of w's shape: one of GRADIENTS.

    w : (O, ...), 0 where masked        mask : True where kept, or None
    """
    kept = np.ones(w.shape, bool) if mask is None else mask
    rows = kept.reshape(len(w), -1)
    alpha = spread(kept_mean(np.abs(w).reshape(rows.shape), rows), w.shape)
    n = spread(np.maximum(rows.sum(axis=1), 1).astype(w.dtype), w.shape)
    through_sign = g * (alpha * (np.abs(w) <= 1))
    if gradient == "printed":
        return through_sign + g * (1 / n)
    B = binarize(w)
    shared = ops.sum(g * (B * kept), axis=tuple(range(1, w.ndim)), keepdims=True)
    return through_sign + shared * (B / n)


class Scaled(Signed):
    """The form while it trains: alpha and sign of its latent, filter by filter."""

    gradient = "exact"

    def found(self, w):
        alpha = kept_mean(np.abs(w).reshape(self.rows, -1), self.kept())
        return pack_bases(w[None]), alpha[:, None]

    def back(self, g, w, scale):
        return bwn_gradient(g, w, gradient=self.gradient, mask=self.mask)


@dataclass(frozen=True)
class XNORNet(Latents):
    """Trains binary weights with the nearest scale of each filter."""

    word: ClassVar[str] = "xnor-net"
    title: ClassVar[str] = "Binary weights with a scale a filter (BWN of XNOR-Net)"
    source: ClassVar[str] = (
        "Rastegari, Ordonez, Redmon & Farhadi 2016, XNOR-Net: ImageNet Classification Using Binary "
        "Convolutional Neural Networks, arXiv:1603.05279"
    )

    gradient: str = knob("exact", "of the floats behind: the derivative, or as the paper prints it",
                         choices=GRADIENTS)

    def placed(self, node, form):
        made = Scaled(latent_of(form), by_row=True)
        made.gradient = self.gradient
        return made
