"""A layer's matrix, factored: from it the two layers of any rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...nn.forms import Dense
from ...nn.layers import Layer
from ...tensor import Array, no_grad
from .factors import balanced, unwhitened
from .ways import LinearWay


@dataclass(frozen=True)
class Cut:
    """The SVD of a layer's matrix.

    layer : as it was        way : how it is read as a matrix
    factors : U (G, R, n), s (G, n), V' (G, n, S)
    total : sum of all squared singular values, where n are not all
    """

    layer: Layer
    way: LinearWay
    factors: Sequence[Array]
    total: float | None = None

    @property
    def spectrum(self) -> Array:
        """The root of the sum over groups of squared singular values, (n,) falling."""
        return np.sqrt(np.square(self.factors[1]).sum(axis=0))

    def error(self, rank: int) -> float:
        """Returns what a rank drops, |M - M_t| / |M| of the matrix that was factored."""
        squares = np.square(self.factors[1])
        whole = squares.sum() if self.total is None else self.total
        left = whole - squares[:, :rank].sum()
        return float(np.sqrt(max(left, 0.0) / max(whole, np.finfo(float).tiny)))

    def layers(self, rank: int) -> tuple[Layer, Layer]:
        """Returns the two layers of a rank; the second has the layer's bias."""
        made = self.way.filled(self.layer, *balanced(self.factors, rank))
        if "bias" in self.layer.forms:
            made[1].forms["bias"] = self.layer.forms["bias"].copy()
        return made


@dataclass(frozen=True)
class WhitenedCut(Cut):
    """The SVD of a matrix times L, (G, S, S): the factors of the matrix are those over L.

    mean : (G, S), of the inputs whose covariance is L L'; None where L L' is their second moment
    """

    L: Array | None = None
    mean: Array | None = None

    def layers(self, rank):
        a, b = balanced(self.factors, rank)
        b = np.stack([unwhitened(part, L) for part, L in zip(b, self.L)])
        made = self.way.filled(self.layer, a, b)
        if "bias" in self.layer.forms:
            made[1].forms["bias"] = self._bias(self.way.matrix(self.layer) - a @ b)
        return made

    def _bias(self, lost: Array):
        # b' = b + (W - W') mean; lost (G, R, S), R the outputs of a group
        bias = self.layer.forms["bias"]
        if self.mean is None:
            return bias.copy()
        moved = np.einsum("grs,gs->gr", lost, self.mean).ravel()
        with no_grad():
            return Dense((bias.dense().data + moved).astype(np.float32))
