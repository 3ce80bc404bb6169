"""SVD that looks at the inputs (Wang, Zheng, Wan & Zhang 2024, SVD-LLM, arXiv 2403.07378).

A layer's output should change little, not its weight. With C = X X' / N = L L' the second moment of
its inputs,

    |(W - W') X|_F^2 / N = |(W - W') L|_F^2          W' = (W L)_t L^-1                (section 3.1)

is the least there is at rank t, and the squares of the singular values of W L that are dropped are
that error: budgets and energies count them instead of the weight's own.

A layer with a bias need not keep the mean of what is dropped in its weight: with `bias`, C is the
covariance, and b' = b + (W - W') mean takes the rest. That is exact too: of all weights of rank t
and all biases, this pair is the best.

Linear layers are cut as `svd` does, convolutions as `weight-svd` does, with the inputs each filter
sees. Inputs are those of the net as it is, over `samples` training examples. `damping` times the
mean of C's diagonal is added to it: pixels that are always 0 leave C singular.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array
from ..curvature.hessian import check_layers, damped_inverse, float64
from ..curvature.layerwise import layer_moments, samples_knob
from ..examples import calibration
from ..technique import knob
from .chains import is_conv, is_linear
from .cuts import Cut, WhitenedCut
from .factors import cholesky, svd
from .truncation import Truncation
from .ways import LINEAR, WEIGHT


def output_error(w: Array, other: Array, moment: Array) -> float:
    """Returns |(W - W') X|_F^2 / N.   w, other : (m, k)   moment : (k, k), X X' / N"""
    d = w - other
    return float(np.einsum("mk,mk->", d @ moment, d))


@dataclass(frozen=True)
class ActivationSVD(Truncation):
    """Replaces layers by two of lower rank whose outputs differ least over training examples."""

    word: ClassVar[str] = "activation-svd"
    title: ClassVar[str] = "Low rank by the inputs' second moment"
    source: ClassVar[str] = ("Wang, Zheng, Wan & Zhang 2024, SVD-LLM: Truncation-aware Singular "
                             "Value Decomposition for Large Language Model Compression, "
                             "arXiv:2403.07378")

    bias: bool = knob(True, "let the bias take the mean of what is dropped")
    samples: int = samples_knob()
    damping: float = knob(1e-4, "added to the diagonal of the second moment, times its mean", lo=0,
                          hi=1)

    def way(self, node):
        return LINEAR if is_linear(node) else WEIGHT if is_conv(node) else None

    def reads(self):
        return ("train",)

    def check(self, model):
        super().check(model)
        check_layers(self.word, model)

    def cuts(self, model, data, run):
        x, wanted = calibration(self, data, run).x, {n.name for n in self.wanted(model)}
        found, work = {}, float64(model)
        try:
            for node, H, _ in layer_moments(work, work, x):
                if node.name in wanted:
                    found[node.name] = self.whitened(model, node.name, H)
        except ValueError as e:
            raise UserError(f"{self.word}: {e}") from None
        return found

    def whitened(self, model: Model, name: str, H: Array) -> Cut:
        """Returns a layer's matrix times L, factored.   H : (G, S [+ 1], S [+ 1]), as
        `layer_moments` gives it, of a layer with bias a 1 last"""
        layer = model.node(name).layer
        way = self.way(model.node(name))
        w, mean = way.matrix(layer), None
        moment = H[:, :w.shape[2], :w.shape[2]]
        if self.bias and "bias" in layer.forms:
            mean = H[:, :-1, -1] / H[:, -1:, -1]
            moment = moment - mean[:, :, None] * mean[:, None] * H[:, -1:, -1:]
        damping = [damped_inverse(C, self.damping)[1] for C in moment]
        L = np.stack([cholesky(C + d * np.eye(len(C))) for C, d in zip(moment, damping)])
        return WhitenedCut(layer, way, svd(w @ L), L=L, mean=mean)
