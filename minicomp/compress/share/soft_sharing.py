"""Soft weight sharing (Ullrich, Meeds, Welling 2017, "Soft Weight-Sharing for Neural Network
Compression", arXiv 1702.04008; after Nowlan & Hinton 1992).

Pruning and sharing are one thing when the prior over weights is a mixture of Gaussians that learns
along: weights move to its components, and components to where weights are. Training minimises

    L = -log p(T | X, w) - tau log p(w),     p(w) = prod_i sum_j pi_j N(w_i | mu_j, sigma_j^2) (1)

Component 0 stands at 0 with a share pi_0 that is fixed, close to 1: it is what prunes. The others
learn mean, variance and share. Precisions have hyper-priors, Gamma(alpha, beta) each, without which
a component may shrink onto one weight:

    -log p(lam) = (1 - alpha) log lam + beta lam + const                                       (2)

After training, components that have become one (small KL) are merged, and every weight becomes the
mean of the component that is most likely its own: component 0 is a pruned weight, the others are
codes. Means, log precisions and log shares move at rates of their own beside the weights' (0.2, 6,
6 times), which is what the authors' code has: 1e-4, 3e-3, 3e-3 beside 5e-4, with Adam.

Where we leave the paper: tau weighs the prior's nats in the mean over examples as tau / N, as in
the authors' code; biases are not shared; each layer stores the means that occur in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ops
from ...nn.forms import Codebook, Form
from ...nn.graph import Model, Node
from ...tensor import Array, Tensor, no_grad
from ...train import Hook
from ..finetune import Trained
from ..moving import FREE, Moving
from ..quant.tables import kept_values
from ..technique import check_movable, knob, weights
from .mixture import assigned, merged, mixture_nll

SPEED = {"means": 0.2, "precisions": 6.0, "shares": 6.0}  # beside the weights' rate
ZERO, OTHER = (5e3, 2.0), (2.5e2, 0.1)  # alpha, beta of eq. (2): of component 0, of the others
LEAST, MOST = -10.0, 20.0  # of log lam
NODE = "soft-sharing"  # of the mixture, in a net that trains
WIDTH = 0.25 / 1.2  # standard deviations at the start, of the range of the means


class Prior(Moving):
    """What goes in, unchanged; its `grids` are the mixture, over their SPEED, while a net trains.

    means, precisions (logs), shares (logs, up to a constant) : (J - 1,), (J,), (J - 1,)
    """

    kind, coupling, pointwise, passes, homogeneous = "Prior", "keep", True, True, True
    buffer_parts = {name: FREE for name in SPEED}

    def __init__(self, means: Array, precisions: Array, pi0: float):
        super().__init__()
        self.pi0 = pi0
        held = {"means": means, "precisions": precisions, "shares": np.zeros(len(means))}
        self.buffers = {name: (a / SPEED[name]).astype(np.float32) for name, a in held.items()}

    def project(self):
        a = self.buffers["precisions"]
        np.clip(a, LEAST / SPEED["precisions"], MOST / SPEED["precisions"], out=a)

    def forward(self, x, **_):
        return x

    def mixture(self, parts: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns (mu, log lam, log pi), (J,) each, of Tensors as `grids` are."""
        means, precisions, shares = (parts[name] * SPEED[name] for name in SPEED)
        rest = ops.log_softmax(shares) + math.log1p(-self.pi0)
        zero, first = (np.full(1, v, np.float32) for v in (0.0, math.log(self.pi0)))
        return ops.concat(Tensor(zero), means), precisions, ops.concat(Tensor(first), rest)


def neg_log_hyper(log_lam):
    """Returns the sum of -log Gamma(lam_j | alpha, beta) up to a constant: eq. (2).

    log_lam : Tensor (J,), of component 0 first
    """
    alpha, beta = (np.full(log_lam.shape, v, np.float32) for v in OTHER)
    alpha[0], beta[0] = ZERO
    return ((1 - alpha) * log_lam + beta * ops.exp(log_lam)).sum()


@dataclass(frozen=True)
class SoftSharing(Trained):
    """Trains weights under a mixture prior that learns along, then gives each its component's mean.
    """

    word: ClassVar[str] = "soft-sharing"
    plain: ClassVar[bool] = True
    title: ClassVar[str] = "Soft weight sharing"
    source: ClassVar[str] = (
        "Ullrich, Meeds & Welling 2017, Soft Weight-Sharing for Neural Network Compression, "
        "arXiv:1702.04008"
    )

    components: int = knob(17, "components of the mixture, that at 0 included", lo=2, hi=256)
    pi0: float = knob(0.99, "share of the component at 0, which does not move", lo=0.01, hi=0.99999)
    tau: float = knob(0.003, "weight of the prior", lo=0.0)
    merge: float = knob(0.01, "nats of KL below which two components become one", lo=0.0)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_movable(self.word, model)

    def prepared(self, model, data, run):
        kept = [kept_values(model.forms()[name]) for name in weights(model).values()]
        w = np.concatenate([np.zeros(1, np.float32), *kept])
        lo, hi = float(w.min()), float(w.max())
        sigma = max((hi - lo) * WIDTH, 1e-3)
        prior = Prior(np.linspace(lo, hi, self.components - 1),
                      np.full(self.components, -2 * math.log(sigma)), self.pi0)
        node = Node(NODE, prior, (model.nodes[-1].name,))
        return model.rebuilt([*model.nodes, node], builtin=model.builtin)

    def hooks(self, model, data, run):
        return [MixtureLoss(self, model, 1 if data is None else len(data.train.y))]

    def finish(self, model, run):
        layer = model.node(NODE).layer
        with no_grad():
            mu, log_lam, log_pi = (t.data.astype(np.float64) for t in layer.mixture(layer.grids))
        mu, log_lam, pi = merged(mu, log_lam, np.exp(log_pi), self.merge)
        run.log({"event": "say", "text": f"{self.word}: {len(mu)} of {self.components} components "
                                         "are left"})
        made = {name: shared(model.forms()[name], mu, log_lam, pi)
                for name in weights(model).values()}
        model.set_forms(made)
        return model.rebuilt([n for n in model.nodes if n.name != NODE], builtin=model.builtin)

    def sketch(self, model, *, rng):
        # Of nearly any weight component 0 is the likeliest before a training; after it, of pi0.
        model = model.copy()
        model.set_forms({name: sketched(model.forms()[name], self.components, self.pi0)
                         for name in weights(model).values()})
        return model


class MixtureLoss(Hook):
    """Adds tau / N (-log p(w) - log p(lam)) to the loss."""

    name = SoftSharing.word

    def __init__(self, technique: SoftSharing, model: Model, n: int):
        super().__init__()
        self.weight, self.names = technique.tau / n, list(weights(model).values())
        self.layer, self.model = model.node(NODE).layer, model

    def penalty(self, parts, weights):
        mu, log_lam, log_pi = self.layer.mixture(
            {name: parts[f"{NODE}.{name}"] for name in SPEED})
        total, forms = neg_log_hyper(log_lam), self.model.forms()
        for name in self.names:
            w, mask = parts[name], forms[name].mask
            w = w.reshape(-1) if mask is None else w[mask]
            total = total + mixture_nll(w, mu, log_lam, log_pi)
        return total * self.weight


def sketched(form: Form, components: int, pi0: float) -> Codebook:
    """Returns a codebook of which the share pi0 of the weights, the smallest, are zeros."""
    w = form.dense().data
    means = np.linspace(w.min(), w.max(), components - 1)
    index = 1 + np.abs(w[..., None] - means).argmin(axis=-1)
    zero = np.abs(w) <= np.quantile(np.abs(w), pi0)
    if form.mask is not None:
        zero |= ~form.mask
    return Codebook(np.where(zero, 0, index), np.concatenate([[0.0], means]).astype(np.float32),
                    pinned_zero=True)


def shared(form: Form, mu: Array, log_lam: Array, pi: Array) -> Codebook:
    """Returns the codebook of a form's weights, each the mean of its component; only means that
    occur are stored, 0 is pinned.

    mu, log_lam, pi : (J,), component 0 first
    """
    w = form.dense().data
    found = assigned(w, mu.astype(w.dtype), log_lam, pi)
    if form.mask is not None:
        found[~form.mask] = 0
    used = np.unique(found[found > 0])
    used = used[np.argsort(mu[used], kind="stable")]
    index = np.zeros(len(mu), np.int64)
    index[used] = np.arange(1, len(used) + 1)
    means = np.concatenate([np.zeros(1), mu[used]]).astype(np.float32)
    return Codebook(index[found], means, pinned_zero=True)
