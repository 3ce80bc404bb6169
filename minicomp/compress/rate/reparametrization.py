"""Entropy-penalised reparametrization (Oktay, Balle, Singh, Shrivastava 2020, "Scalable Model
Compression by Entropy Penalized Reparameterization", arXiv 1906.06624).

Weights are decoded from integers of a latent space, whose density is learnt along with them:

    w = s rnd(phi),       L = mean cross-entropy + lambda ln 2 / N sum_i R(phi_i + u_i)        (1)

The loss sees rounded latents and passes gradients straight through; the rate sees noise u from
U(-1/2, 1/2) in the place of rounding, so that it has a slope. The density of phi + u is that of phi
averaged over a unit interval. With a density that is constant around each integer, P_k there, the
average is a line between integers,

    R(x) = -log2((1 - f) P_j + f P_{j+1}),      j = floor(x), f = x - j,     P = softmax(psi)  (2)

and at integers what an arithmetic coder spends with the table P. phi, s and psi train together, s
by its logarithm; lambda = 1 weighs a bit of the net like a bit of a label.

Where we leave the paper: its densities are small networks with a smooth distribution function, ours
are the tables (2), of a layer each; the latents of a convolution go through one scale, not through
a matrix over its kernel (a real Fourier transform at the start); biases stay floats, or take a
fixed point at the end (`bias_bits`). s has no gain as in learned step sizes: that would make its
share of the loss small beside its share of the rate, and s grow. What trains is s phi beside s, in
the units of weights; an optimizer of Adam's kind, whose steps do not grow with the slope, needs a
smaller rate for s, as lr = {"*": 1e-3, "*.scale": 1e-5}. The table is not stored: the file's coder
learns its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ops
from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array, Tensor, fused, raw
from ...train import Hook
from ..finetune import Trained
from ..technique import check_movable, knob, weights
from .pricing import code_counts, on_grids, with_fixed_biases

STEEPEST = 80.0  # e^80 is a slope that float32 still holds


def _composite(x, psi):
    most = len(psi.data) // 2
    at = np.clip(raw(x), -most, most)
    inside = at == raw(x)
    j = np.minimum(np.floor(at).astype(np.int64), most - 1)
    f, p = ops.where(inside, x, at) - j.astype(at.dtype), ops.softmax(psi, axis=0)
    density = (1 - f) * ops.take(p, index=j + most) + f * ops.take(p, index=j + most + 1)
    return -ops.log(density).sum() / math.log(2)


def _backward(g, saved, wanted, x, psi):
    return tuple(g * s if want else None for s, want in zip(saved, wanted))


@fused(backward=_backward, composite=_composite)
def latent_bits(x, psi, *, save):
    """Returns the bits of all latents, sum R(x): eq. (2), one number of x's dtype.

    x : (n,), cut to -m..m        psi : (2 m + 1,), logits of the integers -m..m
    """
    most, wide = len(psi) // 2, psi.astype(np.float64)
    log_p = wide - np.logaddexp.reduce(wide)
    at = np.clip(x.astype(np.float64), -most, most)
    j = np.minimum(np.floor(at).astype(np.int64), most - 1) + most
    f = at + most - j
    with np.errstate(divide="ignore"):  # on an integer one of the two has no part
        parts = np.log1p(-f) + log_p[j], np.log(f) + log_p[j + 1]
    log_density = np.logaddexp(*parts)
    total = np.asarray(-log_density.sum() / math.log(2), x.dtype)
    if not save:
        return total, None
    left, right = (np.exp(np.minimum(log_p[k] - log_density, STEEPEST)) for k in (j, j + 1))
    of_x = np.where(at == x, (left - right) / math.log(2), 0).astype(x.dtype)
    # Each x shares itself out to the two integers beside it; the softmax takes p off.
    shares = sum(np.bincount(k, np.exp(part - log_density), len(psi))
                 for k, part in zip((j, j + 1), parts))
    of_psi = ((np.exp(log_p) * len(x) - shares) / math.log(2)).astype(psi.dtype)
    return total, (of_x, of_psi)


@dataclass(frozen=True)
class Reparametrization(Trained):
    """Trains latents, their scale and their density, with their rate in the loss."""

    word: ClassVar[str] = "entropy-reparametrization"
    quantizes: ClassVar[bool] = True
    title: ClassVar[str] = "Entropy-penalised reparametrization"
    source: ClassVar[str] = (
        "Oktay, Ballé, Singh & Shrivastava 2020, Scalable Model Compression by Entropy Penalized "
        "Reparameterization, arXiv:1906.06624"
    )

    lam: float = knob(1.0, "lambda: bits of labels that a bit of the net is worth", lo=0.0)
    bits: int = knob(6, "bits of a latent, whose last code is the largest weight at the start",
                     lo=2, hi=8, per_layer=True)
    bias_bits: int = knob(0, "bits of the fixed point that biases are rounded to at the end, 0: "
                             "floats", lo=0, hi=16)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_movable(self.word, model)
        if self.bias_bits == 1:
            raise UserError(f"{self.word}: bias_bits must be 0 or in [2, 16], got 1")

    def prepared(self, model, data, run):
        model = model.copy()
        on_grids(self, model, "plain")
        return model

    def hooks(self, model, data, run):
        return [Rate(self, model, 1 if data is None else len(data.train.y), run)]

    def finish(self, model, run):
        return with_fixed_biases(model, self.bias_bits) if self.bias_bits else model


class Rate(Hook):
    """Adds lambda ln 2 / N sum R to the loss; `parameters` are the logits psi of each layer."""

    name = Reparametrization.word

    def __init__(self, technique: Reparametrization, model: Model, n: int, run):
        super().__init__()
        self.weight, self.model = technique.lam * math.log(2) / n, model
        self.seed, self.step = int(run.rng.integers(2**63)), 0
        self.psi = {name: Tensor(self.start(name), requires_grad=True)
                    for name in weights(model).values()}

    def start(self, name: str) -> Array:
        """Returns psi as the codes of a layer are at the start, half of one more of each."""
        form = self.model.forms()[name].freeze()
        counts = code_counts(form.q.astype(np.int64), form.codes("q").stop - 1)
        return np.log(counts + 0.5).astype(np.float32)

    def parameters(self):
        return self.psi

    def before_batch(self, state):
        self.step = state.step

    def penalty(self, parts, weights):
        # Noise is of the seed and the step alone, so that a resumed training draws the same.
        rng, total = np.random.default_rng([self.seed, self.step]), None
        for name in self.psi:
            form = self.model.forms()[name]
            x = parts[f"{name}.latent"] / form.spread(parts[f"{name}.scale"])
            u = rng.random(form.shape, np.float32) - np.float32(0.5)
            x = (x + u).reshape(-1)
            x = x if form.mask is None else x[form.mask.reshape(-1)]
            bits = latent_bits(x, parts[f"{self.name}.{name}"])
            total = bits if total is None else total + bits
        return total * self.weight
