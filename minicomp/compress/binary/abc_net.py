"""Sums of binary bases (Lin, Zhao, Pan 2017, "Towards Accurate Binary Convolutional Neural
Network", arXiv 1711.11294; ABC-Net): of weights, and of activations.

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
keeps.

Activations R are sums of N binary ones (section 3.2), `activations` = N,

    R ~ beta_1 A_1 + .. + beta_N A_N,      A_n = H_v(R) of v = v_n
    H_v(R) = +1 where h_v(R) >= 0.5, else -1,      h_v(x) = clip(x + v, 0, 1)
    Conv(W, R) ~ sum_m sum_n alpha_m beta_n Conv(B_m, A_n)

so that a layer is M N products of signs. All beta_n and v_n of an activation are trained like a
scale and shift of batch norm; the gradient of H_v is taken straight through, where h_v is not
clipped:

    dC/dR = sum_n beta_n dC/dR~ 1[0 <= R + v_n <= 1],      dC/dv_n = beta_n sum of the same

They stand where an activation was that a binary layer reads, behind a batch norm: a node
`BinarySum`. A product of the sums is the sum of products, and that is how it is computed here, in
floats, by a program of precision float too; of bits a program has but one a weight and activation.
How v and beta begin is ours, see `BinarySum`; no two bases begin as one.

Equations have no numbers here, for the paper was not at hand; u_i, the regression, h_v and H_v are
those of others' code (github.com/layog/Accurate-Binary-Convolution-Network), in which beta and v do
not move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...grid import binarize
from ...nn.forms.affine import spread
from ...nn.forms.binary import MOST_BASES, pack_bases
from ...nn.graph import Model
from ...nn.layers import BinarySum
from ...nn.layers.binary import MOST_SIGNS
from ...tensor import Array
from ..technique import knob
from .activations import check_read, read_by, with_binary
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
    """Trains sums of binary bases, the nearest to the floats behind them, and sums of binary
    activations."""

    word: ClassVar[str] = "abc-net"
    title: ClassVar[str] = "Sums of binary bases (ABC-Net)"
    source: ClassVar[str] = (
        "Lin, Zhao & Pan 2017, Towards Accurate Binary Convolutional Neural Network, "
        "arXiv:1711.11294"
    )

    bases: int = knob(3, "M, bits a weight", lo=1, hi=MOST_BASES, per_layer=True)
    per: str = knob("tensor", "what shares bases' shifts and scales: the tensor, or an output "
                              "channel", choices=("tensor", "channel"), per_layer=True)

    activations: int = knob(0, "N, binary activations whose sum a layer reads; 0: inputs stay as "
                               "they are", lo=0, hi=MOST_SIGNS)

    def check(self, model):
        super().check(model)
        if self.activations:
            check_read(f"{self.word}: activations={self.activations}", model, self.chosen(model))

    def prepared(self, model, data, run):
        if not self.activations:
            return model
        names = dict.fromkeys(read_by(model, self.chosen(model)).values())
        try:
            return with_binary(model, names, make=lambda: BinarySum(self.activations))
        except ValueError as e:
            raise UserError(f"{self.word}: {e}") from None

    def hooks(self, model, data, run):
        _move(model, bool(self.activations))
        return super().hooks(model, data, run)

    def finish(self, model, run):
        _move(model, False)
        return super().finish(model, run)

    def placed(self, node, form):
        return Bases(latent_of(form), self.at("per", node) == "channel", self.at("bases", node))


def _move(model: Model, learns: bool) -> None:
    # Sets whether betas and shifts of the activations move in training.
    for node in model.nodes:
        if isinstance(node.layer, BinarySum):
            node.layer.learns = learns


def approximation(w: Array, M: int) -> Array:
    """Returns sum_i alpha_i B_i, in w's dtype.   w : float, of one layer or one filter"""
    B = abc_bases(w, M)
    return np.tensordot(abc_alphas(w, B).astype(w.dtype), B, 1)
