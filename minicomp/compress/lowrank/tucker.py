"""Convolutions by a Tucker decomposition of two modes (Kim, Park, Yoo, Choi, Yang & Shin 2016,
arXiv 1511.06530).

    W[o, c, i, j] ~ sum_{p, q} A[o, p] G[p, q, i, j] B[c, q]        A (O, P), B (C, Q) orthonormal

    conv (O, C, h, w)  becomes  1 x 1 (Q, C), conv (P, Q, h, w), 1 x 1 (O, P) with the bias

The stride and padding are those of the core. A and B begin as the leading singular vectors of the
two unfoldings (HOSVD) and are improved in turn, each the best for the other (HOOI), which never
makes the error larger; the core is W projected on both.

The ranks: how many singular values of each unfolding stand above noise (`vbmf.py`), as the paper
has it; or an energy of their squares; or given. Convolutions in groups and of 1 x 1 are left as
they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Node
from ...nn.layers import Conv2d, Layer
from ...tensor import Array
from ..technique import knob
from .chains import decoded, given
from .factors import svd
from .ranks import energy_rank
from .tensors import TensorTechnique
from .vbmf import evbmf_rank


def tucker2(w: Array, ranks: tuple[int, int], iterations: int = 20) -> tuple[Array, Array, Array]:
    """Returns core (P, Q, h, w), A (O, P) and B (C, Q), the latter two with orthonormal columns.

    w : (O, C, h, w)        ranks : (P, Q), P at most min(O, Q h w), Q at most min(C, P h w)
    iterations : of HOOI, at most; 0 is HOSVD
    Source: Kim et al. 2016, section 3.1; De Lathauwer et al. 2000 for HOOI
    """
    w, (P, Q) = np.asarray(w, np.float64), ranks
    B = leading(unfold(w, 1), Q)
    A = leading(unfold(w, 0), P)
    before = -1.0
    for _ in range(iterations):
        A = leading(unfold(projected(w, B, 1), 0), P)
        B = leading(unfold(projected(w, A, 0), 1), Q)
        kept = float(np.square(projected(projected(w, A, 0), B, 1)).sum())
        if kept - before <= 1e-12 * kept:
            break
        before = kept
    return projected(projected(w, A, 0), B, 1), A, B


def tucker2_full(core: Array, A: Array, B: Array) -> Array:
    """Returns sum_{p, q} A[o, p] G[p, q, i, j] B[c, q], (O, C, h, w).

    core : (P, Q, h, w)        A : (O, P)        B : (C, Q)
    Source: Kim et al. 2016, eq. (3)
    """
    return np.einsum("op,pqij,cq->ocij", A, core, B, optimize=True)


def unfold(w: Array, mode: int) -> Array:
    """Returns w (n_0, n_1, ...) as a matrix whose rows are the places of axis `mode`."""
    return np.moveaxis(w, mode, 0).reshape(w.shape[mode], -1)


def projected(w: Array, A: Array, mode: int) -> Array:
    """Returns w with axis `mode`, of n, replaced by its coordinates A'w, of r.   A : (n, r)"""
    return np.moveaxis(np.tensordot(A, w, axes=(0, mode)), 0, mode)


def leading(m: Array, rank: int) -> Array:
    """Returns the first `rank` left singular vectors of a matrix, as columns."""
    return svd(m)[0][:, :rank]


@dataclass(frozen=True)
class Tucker(TensorTechnique):
    """Replaces convolutions by 1 x 1, a smaller core, 1 x 1."""

    word: ClassVar[str] = "tucker"
    title: ClassVar[str] = "Tucker-2 decomposition of convolutions"
    source: ClassVar[str] = ("Kim, Park, Yoo, Choi, Yang & Shin 2016, Compression of Deep "
                             "Convolutional Neural Networks for Fast and Low Power Mobile "
                             "Applications, arXiv:1511.06530")

    ranks: str = knob("vbmf", "by variational Bayes, by energy, or those given as rank_out and "
                              "rank_in", choices=("vbmf", "energy", "given"))
    energy: float = knob(0.9, "ranks energy: fraction of the squared singular values of each "
                              "unfolding that stays", lo=0.01, hi=1)
    rank_out: int = knob(1, "ranks given: P, channels behind the core, at most all", lo=1,
                         per_layer=True)
    rank_in: int = knob(1, "ranks given: Q, channels in front of the core, at most all", lo=1,
                        per_layer=True)
    iterations: int = knob(20, "rounds of HOOI, at most; 0 is HOSVD", lo=0)

    def resizes(self):
        return self.ranks != "given"

    def check_shapes(self, model):
        for node in self.wanted(model):
            P, Q = self.at("rank_out", node.name), self.at("rank_in", node.name)
            O, C, h, w = node.layer.forms["weight"].shape
            if self.ranks == "given" and (P > min(O, Q * h * w) or Q > min(C, P * h * w)):
                raise UserError(
                    f"{self.word}: rank_out and rank_in of {node.name} must be in 1..{O} and "
                    f"1..{C}, neither above {h * w} times the other, got {P} and {Q}")

    def pair(self, node: Node) -> tuple[int, int]:
        """Returns (P, Q) of a node."""
        if self.ranks == "given":
            return self.at("rank_out", node.name), self.at("rank_in", node.name)
        sides = [unfold(decoded(node.layer), mode) for mode in (0, 1)]
        if self.ranks == "vbmf":
            P, Q = (max(1, evbmf_rank(m)) for m in sides)
        else:
            P, Q = (energy_rank(np.linalg.svd(m, compute_uv=False), self.energy) for m in sides)
        places = int(np.prod(node.layer.kernel_size))
        return min(P, Q * places), min(Q, P * places)

    def factored(self, node, run):
        w = decoded(node.layer)
        P, Q = self.pair(node)
        core, A, B = tucker2(w, (P, Q), self.iterations)
        layers = tucker_layers(node.layer, P, Q)
        for layer, weight in zip(layers, (B.T, core, A)):
            given(layer, weight)
        return layers, tucker2_full(core, A, B), f"at ranks {P} and {Q}"


def tucker_layers(layer: Conv2d, P: int, Q: int) -> list[Layer]:
    """Returns 1 x 1 (Q, C), the core (P, Q, h, w) and 1 x 1 (O, P), with weights 0."""
    return [Conv2d(layer.in_channels, Q, 1, bias=False),
            Conv2d(Q, P, layer.kernel_size, layer.stride, layer.padding, bias=False),
            Conv2d(P, layer.out_channels, 1, bias="bias" in layer.forms)]
