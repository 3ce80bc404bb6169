"""LCNN (Bagherinezhad, Rastegari & Farhadi 2017, "LCNN: Lookup-based Convolutional Neural Network",
arXiv 1611.06473).

A layer has a dictionary D of k vectors along its channels; every vector of every filter is a sum of
a few of them, s look-ups I with coefficients C:

    W[:, r, c] = sum_{t <= s} C[t, r, c] D[I[t, r, c], :]                                section 3

So a convolution is one of 1 x 1 with D, S = X * D, and then a sum of s shifted, scaled maps for
each place of the kernel, which takes (k m + s kw kh n) in place of (m kw kh n) multiplications of m
channels and n filters:

    Y = sum_{t, r, c} C[t, r, c] shift_{r, c}(S[I[t, r, c]])

Trained are D and P, the coefficients of all atoms at all places, kept sparse: P is 0 where it is
not above eps, and the loss grows by lambda sum |P|_1. Indices and coefficients are read off P.

Where we leave the paper: training begins with the dictionary and the P of orthogonal matching
pursuit (Pati et al. 1993), atoms refitted by least squares (MOD, Engan et al. 1999), of the weights
that are there; what is not kept of P goes on training behind the threshold, straight through; with
eps = 0 the `lookups` largest of each vector are kept in place of those above a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...kernels.doors import window_count
from ...nn.forms import Dictionary
from ...nn.forms.base import Form
from ...nn.forms.dictionary import MOST_ATOMS, MOST_LOOKUPS, as_weight
from ...nn.forms.parts import Part, hide
from ...ops import absolute, matmul
from ...tensor import Array, no_grad
from ...train import Hook
from ..technique import knob
from .in_form import Reformed

ROUNDS = 8  # of pursuit and refit
NEGLIGIBLE = 1e-12  # of a squared norm, below which nothing is left to look up


def lookup_conv(x: Array, atoms: Array, counts: Array, index: Array, coefficient: Array,
                shape: tuple[int, int, int, int], stride: int = 1, padding: int = 0) -> Array:
    """Returns x * W, (N, O, Ho, Wo) in x's dtype, by look-ups: shift, scale and add.

    x : (N, C, H, W)        atoms : (k, C)        counts, index, coefficient : of the look-ups, see
        nn/forms/dictionary.py        shape : (O, C, KH, KW)
    """
    O, _, KH, KW = shape
    S = np.einsum("kc,nchw->nkhw", atoms, x)  # 1 x 1, of every atom
    S = np.pad(S, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    Ho, Wo = (window_count(n, k, stride, padding) for n, k in zip(x.shape[2:], (KH, KW)))
    y = np.zeros((len(x), O, Ho, Wo), x.dtype)
    for place, atom, c in zip(np.repeat(np.arange(O * KH * KW), counts), index, coefficient):
        o, r, column = place // (KH * KW), place // KW % KH, place % KW
        y[:, o] += c * S[:, atom, r : r + stride * Ho : stride, column : column + stride * Wo
                         : stride][:, :Ho, :Wo]
    return y


def pursuit(X: Array, D: Array, s: int) -> Array:
    """Returns P, (n, k) float64, at most s entries of a row not 0, so that P D is near X.

    X : (n, C)        D : (k, C), rows that are not 0        s : at least 1
    Orthogonal matching pursuit: the atom nearest in direction to what is left, ties by lowest
    index; coefficients of all chosen ones by least squares. A row of which nothing is left looks up
    no more.   Source: Pati, Rezaiifar & Krishnaprasad 1993
    """
    X, D = X.astype(np.float64), D.astype(np.float64)
    rows, size, gram, seen = np.arange(len(X))[:, None], np.square(X).sum(axis=1), D @ D.T, X @ D.T
    norms = np.sqrt(np.diag(gram))
    P, chosen, left = np.zeros(seen.shape), np.zeros((len(X), 0), np.int64), X
    for _ in range(min(s, len(D))):
        score = np.abs(left @ D.T) / norms
        score[rows, chosen] = -1
        chosen = np.append(chosen, score.argmax(axis=1)[:, None], axis=1)
        sub = gram[chosen[:, :, None], chosen[:, None, :]]  # (n, t, t)
        c = np.linalg.pinv(sub, hermitian=True) @ seen[rows, chosen][:, :, None]
        open_ = np.square(left).sum(axis=1) > NEGLIGIBLE * size
        P[rows[open_], chosen[open_]] = c[open_, :, 0]
        left = X - P @ D
    return P


def first_dictionary(X: Array, k: int, s: int, *, rng: np.random.Generator) -> tuple[Array, Array]:
    """Returns (D (k, C), P (n, k)), float64, s look-ups a row: rounds of pursuit and refit.

    X : (n, C)        k : at most n
    Begins with k of the vectors, drawn; atoms have norm 1 between rounds. An atom that nobody looks
    up becomes the vector of which most is left.
    """
    X = X.astype(np.float64)
    D = _directions(X[rng.permutation(len(X))[:k]], rng)
    for _ in range(ROUNDS):
        P = pursuit(X, D, s)
        left = np.square(X - P @ D).sum(axis=1)
        D = np.linalg.pinv(P) @ X  # MOD: least squares of X - P D
        for atom in np.flatnonzero(~P.any(axis=0)):
            worst = left.argmax()
            D[atom], left[worst] = X[worst], 0
        D = _directions(D, rng)
    return D, pursuit(X, D, s)


def _directions(D: Array, rng: np.random.Generator) -> Array:
    # Rows of norm 1, drawn where a row is 0.
    zero = ~D.any(axis=1)
    D = np.where(zero[:, None], rng.standard_normal(D.shape), D)
    return D / np.linalg.norm(D, axis=1, keepdims=True)


def kept_of(P: Array, s: int, eps: float) -> Array:
    """Returns which entries of P, (n, k), are look-ups, bool: those with |P| > eps, where eps is
    above 0; else the s largest of each row that are not 0. Never more than 255 of a row, the
    largest; ties by lowest index.
    """
    size = np.abs(P)
    most = MOST_LOOKUPS if eps > 0 else s
    kept = size > eps
    if P.shape[1] > most:
        order = np.argsort(-size, axis=1, kind="stable")[:, :most]
        top = np.zeros(P.shape, bool)
        np.put_along_axis(top, order, True, axis=1)
        kept &= top
    return kept


def vectors(w: Array) -> Array:
    """Returns the vectors of a weight along its channels, (O KH KW, C).   w : (O, C, ...)"""
    return np.moveaxis(w, 1, -1).reshape(-1, w.shape[1])


class SparseP(Form):
    """The form while it trains: D, and a P behind its threshold. Frozen it is a `Dictionary`.

    atoms : (k, C)        P : (O KH KW, k)        shape : of the weight        s, eps : of `kept_of`
    """

    kind = "sparse P"
    parts = {"atoms": Part("value", moves=True, axes=()), "P": Part("value", moves=True, axes=())}

    def __init__(self, atoms: Array, P: Array, shape: tuple[int, ...], s: int, eps: float):
        self.shape, self.s, self.eps = shape, s, eps
        self._hold({"atoms": atoms.astype(np.float32), "P": P.astype(np.float32)}, True)

    def kept(self) -> Array:
        """Returns which entries of P are look-ups now, bool."""
        return kept_of(self.P.data, self.s, self.eps)

    def decode(self, *, training=False, rng=None):
        return as_weight(matmul(hide(self.P, self.kept()), self.atoms), self.shape)

    def freeze(self):
        with no_grad():
            P = self.P.data * self.kept()
            return Dictionary.of(self.atoms.data, P, self.shape, trainable=False)


class Sparsity(Hook):
    """Adds lambda sum |P|_1 to the loss.

    lams : lambda by name of the parameter        moves : whether the number of look-ups changes
    """

    name = "lcnn"

    def __init__(self, lams: dict[str, float], moves: bool):
        super().__init__()
        self.lams, self.moves = lams, moves

    def settled(self, steps):
        return steps if self.moves else 0

    def penalty(self, parts, weights):
        terms = [absolute(parts[name]).sum() * lam for name, lam in self.lams.items() if lam]
        return sum(terms[1:], terms[0]) if terms else None


@dataclass(frozen=True)
class LCNN(Reformed):
    """Trains filters as sums of a few atoms of a dictionary."""

    word: ClassVar[str] = "lcnn"
    title: ClassVar[str] = "Lookup-based convolutional network"
    source: ClassVar[str] = (
        "Bagherinezhad, Rastegari & Farhadi 2017, LCNN: Lookup-based Convolutional Neural Network, "
        "arXiv:1611.06473"
    )

    atoms: int = knob(32, "vectors of a layer's dictionary, at most as many as its filters have",
                      lo=1, hi=MOST_ATOMS, per_layer=True)
    lookups: int = knob(3, "look-ups of a vector: all the time, or with eps at the beginning",
                        lo=1, hi=MOST_LOOKUPS, per_layer=True)
    eps: float = knob(0.0, "keep coefficients above it, whatever their number; 0: the `lookups` "
                           "largest of each vector", lo=0, per_layer=True)
    lam: float = knob(1e-5, "weight of sum |P| in the loss", lo=0, per_layer=True)

    def placed(self, node, number, form, rng):
        X, s = vectors(form.dense().data), self.at("lookups", node)
        D, P = first_dictionary(X, min(self.at("atoms", node), len(X)), s, rng=rng)
        return SparseP(D, P, form.shape, s, self.at("eps", node))

    def more_hooks(self, model):
        chosen = self.chosen(model)
        lams = {f"{name}.P": self.at("lam", node) for node, name in chosen.items()}
        return [Sparsity(lams, any(self.at("eps", node) for node in chosen))]
