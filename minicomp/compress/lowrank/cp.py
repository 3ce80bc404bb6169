"""Convolutions by a CP decomposition (Lebedev, Ganin, Rakhuba, Oseledets & Lempitsky 2015, arXiv
1412.6553).

    W[o, c, i, j] ~ sum_r A[o, r] B[c, r] V[i, r] H[j, r]                                   (eq. 2)

    conv (O, C, h, w)  becomes  1 x 1 (R, C), depthwise h x 1, depthwise 1 x w, 1 x 1 (O, R) with
    the bias; the stride and padding of an axis go with the depthwise filter along it

Alternating least squares: with three factors given the fourth is linear regression,

    A <- W_(0) K (K'K)^-1,   K the Khatri-Rao product of the others,   K'K = B'B * V'V * H'H

so that no round makes the error larger. It is run from several random starts, the first of which
takes leading singular vectors where there are enough; the best is kept.

A best CP of a given rank need not exist (de Silva & Lim 2008): terms may grow without bound and
cancel each other while the error goes on falling. Such a decomposition is *degenerate*; float32 and
fine-tuning then suffer, as the authors found with layers they could not fine-tune (section 4.2).
`degeneracy` is the norm of the largest term over that of W; what lies above DEGENERATE is told.
`ridge` keeps terms small: it is added to K'K, times its mean diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.layers import Conv2d, Layer
from ...tensor import Array
from ..technique import knob
from .chains import decoded, given
from .factors import svd
from .tensors import TensorTechnique, relative_error

DEGENERATE = 2.0  # times the norm of W: a term so large is one that others cancel


def cp_full(factors: Sequence[Array]) -> Array:
    """Returns sum_r of the outer products of the columns r of (n_d, R) matrices, (n_0, n_1, ...).

    >>> cp_full([np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]])]).tolist()
    [[3.0, 4.0], [6.0, 8.0]]
    """
    full = factors[0]
    for f in factors[1:]:
        full = full[..., None, :] * f
    return full.sum(axis=-1)


def khatri_rao(factors: Sequence[Array]) -> Array:
    """Returns the matrix (n_0 n_1 ..., R) of the outer products of columns, in C order."""
    K = factors[0]
    for f in factors[1:]:
        K = (K[:, None] * f).reshape(-1, K.shape[1])
    return K


def cp_als(w: Array, rank: int, *, rounds: int = 200, starts: int = 3, ridge: float = 0.0,
           rng: np.random.Generator) -> list[Array]:
    """Returns a factor (n_d, R) of each axis of w, of equal norms in each term, float64.

    w : (n_0, n_1, ...)        rank : R, at least 1        rounds : of a start, at most
    starts : at least 1, the best is kept        ridge : see the head of this file
    Source: Lebedev et al. 2015, section 3.2; Kolda & Bader 2009, figure 3.3
    """
    w, best = np.asarray(w, np.float64), None
    for i in range(starts):
        first = [_start(w, mode, rank, i == 0, rng) for mode in range(w.ndim)]
        found = _als(w, first, rounds, ridge)
        error = relative_error(w, cp_full(found))
        if best is None or error < best[0]:
            best = error, found
    return even(best[1])


def degeneracy(factors: Sequence[Array], w: Array) -> float:
    """Returns the norm of the largest rank-one term over that of w: far above 1, terms cancel."""
    sizes = np.prod([np.linalg.norm(f, axis=0) for f in factors], axis=0)
    return float(sizes.max() / max(np.linalg.norm(w), np.finfo(float).tiny))


def even(factors: Sequence[Array]) -> list[Array]:
    """Returns the factors with the columns of each term scaled to equal norms; their sum stays."""
    norms = np.array([np.linalg.norm(f, axis=0) for f in factors])
    mean = np.exp(np.log(np.maximum(norms, np.finfo(float).tiny)).mean(axis=0))
    mean = np.where((norms > 0).all(axis=0), mean, 0.0)
    return [f * (mean / np.where(n > 0, n, 1.0)) for f, n in zip(factors, norms)]


def _start(w: Array, mode: int, rank: int, leading: bool, rng: np.random.Generator) -> Array:
    drawn = rng.standard_normal((w.shape[mode], rank)) / np.sqrt(w.shape[mode])
    if leading:
        U = svd(np.moveaxis(w, mode, 0).reshape(w.shape[mode], -1))[0][:, :rank]
        drawn[:, :U.shape[1]] = U
    return drawn


def _als(w: Array, factors: list[Array], rounds: int, ridge: float) -> list[Array]:
    # Rounds until the error falls by less than 1e-8 of |W|^2.
    whole, before = float(np.square(w).sum()), np.inf
    for _ in range(rounds):
        for mode in range(w.ndim):
            K = khatri_rao(factors[:mode] + factors[mode + 1:])
            gram = np.prod([f.T @ f for i, f in enumerate(factors) if i != mode], axis=0)
            right = np.moveaxis(w, mode, 0).reshape(w.shape[mode], -1) @ K
            damped = gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
            factors[mode] = np.linalg.lstsq(damped, right.T, rcond=1e-12)[0].T
        last = factors[-1]
        # |W - W'|^2 of the factor just solved: |W|^2 - 2 <W, W'> + |W'|^2
        error = whole - 2 * float((right * last).sum()) + float(((last @ gram) * last).sum())
        if before - error <= 1e-8 * whole:
            break
        before = error
        factors = even(factors)
    return factors


@dataclass(frozen=True)
class CP(TensorTechnique):
    """Replaces convolutions by 1 x 1, two depthwise filters along the axes, 1 x 1."""

    word: ClassVar[str] = "cp"
    title: ClassVar[str] = "CP decomposition of convolutions"
    source: ClassVar[str] = ("Lebedev, Ganin, Rakhuba, Oseledets & Lempitsky 2015, Speeding-up "
                             "Convolutional Neural Networks Using Fine-tuned CP-Decomposition, "
                             "arXiv:1412.6553")

    rank: int = knob(16, "R, terms of the sum", lo=1, hi=4096, per_layer=True)
    rounds: int = knob(200, "rounds of alternating least squares, at most", lo=1)
    starts: int = knob(3, "of which the best is kept", lo=1)
    ridge: float = knob(0.0, "added to the least squares, times the mean of their diagonal: keeps "
                             "terms from cancelling", lo=0, hi=1)

    def factored(self, node, run):
        w, R = decoded(node.layer), self.at("rank", node.name)
        factors = cp_als(w, R, rounds=self.rounds, starts=self.starts, ridge=self.ridge,
                         rng=run.rng)
        far, said = degeneracy(factors, w), f"at rank {R}"
        if far > DEGENERATE:
            said += (f", degenerate (terms of {far:.3g} times the filters' norm cancel: try "
                     "another rank or a ridge)")
        layers = cp_layers(node.layer, R)
        A, B, V, H = factors
        for layer, weight in zip(layers, (B.T, V.T, H.T, A)):
            given(layer, weight)
        return layers, cp_full(factors), said


def cp_layers(layer: Conv2d, R: int) -> list[Layer]:
    """Returns 1 x 1 (R, C), depthwise h x 1 and 1 x w, and 1 x 1 (O, R), with weights 0."""
    (h, w), (sh, sw), (ph, pw) = layer.kernel_size, layer.stride, layer.padding
    return [Conv2d(layer.in_channels, R, 1, bias=False),
            Conv2d(R, R, (h, 1), (sh, 1), (ph, 0), R, bias=False),
            Conv2d(R, R, (1, w), (1, sw), (0, pw), R, bias=False),
            Conv2d(R, layer.out_channels, 1, bias="bias" in layer.forms)]
