"""HashedNets (Chen, Wilson, Tyree, Weinberger & Chen 2015, "Compressing Neural Networks with the
Hashing Trick", arXiv 1504.04788).

A layer has K numbers for its n weights: a hash h says which of them a weight is, another one, xi,
its sign, so that only the numbers are stored, and training finds them:

    V_ij = xi(i, j) w_h(i,j)                                    section 4.3, what is multiplied with
    dL/dw_k = sum over h(i, j) = k of xi(i, j) dL/dV_ij         section 4.4

The signs keep the weights' mean at 0 whatever the numbers are. A net at a fraction of its size has
as many units as before, and this is what sets it apart from a smaller net of the same bytes.

Where we leave the paper: hashes are bits of splitmix64 (nn/forms/hashed.py); biases are not hashed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...kernels.codebook.buckets import add, decode
from ...nn.forms import Hashed
from ...nn.forms.hashed import hashed
from ...tensor import Array
from ..technique import knob
from .in_form import InForm, seed_of


def hashed_weights(w: Array, shape: tuple[int, ...], seed: int) -> Array:
    """Returns V, of `shape` in w's dtype: what the buckets w (K,) stand for."""
    return decode(w, hashed(w.size, shape, seed))


def hashed_gradient(g: Array, k: int, seed: int) -> Array:
    """Returns dL/dw, (K,) in g's dtype, of dL/dV = g."""
    return add(g, hashed(k, g.shape, seed))


@dataclass(frozen=True)
class HashedNets(InForm):
    """Trains a net whose layers have few numbers, dealt to their weights by a hash."""

    word: ClassVar[str] = "hashed"
    title: ClassVar[str] = "HashedNets"
    source: ClassVar[str] = (
        "Chen, Wilson, Tyree, Weinberger & Chen 2015, Compressing Neural Networks with the Hashing "
        "Trick, arXiv:1504.04788"
    )

    fraction: float = knob(0.125, "buckets of a weight: 0.125 stores a number for eight weights",
                           lo=1e-6, hi=1, per_layer=True)
    seed: int = knob(0, "of the hash; layers have different ones made of it", lo=0, hi=2**32 - 1)

    def blank(self, node, number, shape):
        k = max(1, round(self.at("fraction", node) * math.prod(shape)))
        return Hashed(np.zeros(k, np.float32), shape, seed_of(self.seed, number))
