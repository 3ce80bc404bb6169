"""Minimal random code learning (Havasi, Peharz, Hernandez-Lobato 2019, "Minimal Random Code
Learning: Getting Bits Back from Compressed Model Parameters", arXiv 1810.00440).

Weights need not be written if the reader can draw them. A posterior q = N(mu, sigma^2) is trained;
writer and reader share a seed and a prior p = N(0, sigma_p^2), and draw the same K samples from it,
for each block of weights. What is sent is which one: k* drawn with probabilities

    ~ q(w_k) / p(w_k),        K = exp(KL(q || p))                                   (algorithm 1)

Such a sample is as good as one from q, for the bits that q and p differ by. A block's divergence is
held to C = bits ln 2 nats, with K = 2^bits, by a weight of its own in the loss,

    L = mean cross-entropy + 1 / N sum_b beta_b KL_b,
    beta_b grows by a factor 1 + pace where KL_b > C, else falls by it           (algorithm 2)

Over the last part of the training blocks are sent one after the other: the weights of a block
become its sample and stay, while those of other blocks learn to live with them.

Where we leave the paper: samples are sums of eight bytes of a hash, which every machine computes
alike, their density is taken for the normal one; sigma_p of a layer is the one that suits the
posterior best, the root mean of mu^2 + sigma^2, until the first block is sent; no hashing trick;
biases are not drawn but rounded to a grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...grid import symmetric_scale
from ...grid.shared_random import shared_normals, shared_order
from ...nn.forms import Affine, Seeded
from ...nn.forms.seeded import MAX_BITS, block_size
from ...nn.graph import Model
from ...tensor import Array
from ...train import Hook
from ..finetune import Rounds
from ..technique import knob, weights
from .noisy import LOW, check_mixing, noisy, quiet


def gaussian_kl_of(mu: Array, log_var: Array, prior: float) -> Array:
    """Returns KL(N(mu, sigma^2) || N(0, prior^2)) of each weight, nats, in mu's dtype."""
    var = np.exp(log_var)
    return 0.5 * ((var + mu * mu) / prior**2 - 1 - log_var + 2 * math.log(prior))


def sample_logits(z: Array, mu: Array, log_var: Array, prior: float) -> Array:
    """Returns log q(w_k) / p(w_k) of samples w = prior z, up to a constant, (K,).

    z : (K, n), of the prior        mu, log_var : (n,) of the posterior
    """
    a = 0.5 - 0.5 * prior**2 * np.exp(-log_var)       # of z^2
    b = prior * mu * np.exp(-log_var)                 # of z
    return np.square(z) @ a + z @ b


@dataclass(frozen=True)
class Miracle(Rounds):
    """Trains a posterior whose divergence fits the bits, and sends a sample of it by its number."""

    word: ClassVar[str] = "miracle"
    title: ClassVar[str] = "Minimal random code learning"
    source: ClassVar[str] = (
        "Havasi, Peharz & Hernández-Lobato 2019, Minimal Random Code Learning: Getting Bits Back "
        "from Compressed Model Parameters, arXiv:1810.00440"
    )

    rate: float = knob(0.05, "bits of the file for each weight of a layer", lo=1e-6, hi=20.0,
                       per_layer=True)
    bits: int = knob(12, "bits of a block: 2^bits samples are tried", lo=1, hi=MAX_BITS)
    send: float = knob(0.5, "part of the training after which blocks are sent, 0..1", lo=0.0,
                       hi=1.0)
    beta: float = knob(1e-3, "weight of a block's divergence at the start", lo=1e-12)
    pace: float = knob(0.02, "by which the weights of divergences grow or fall in a step", lo=0.0,
                       hi=1.0)
    log_var: float = knob(-8.0, "log sigma^2 at the start", lo=-20.0, hi=6.0)
    bias_bits: int = knob(5, "bits of a bias, one scale a layer", lo=2, hi=16)
    seed: int = knob(0, "of the samples", lo=0, hi=2**30)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_mixing(self.word, model)
        for name in weights(model).values():
            if model.forms()[name].mask is not None:
                raise UserError(f"{self.word}: {name} must not be pruned: {self.word} cannot keep "
                                "what was pruned at 0")

    def blocks(self, node: str, n: int) -> int:
        """Returns the number of blocks of a layer of n weights, none of them empty."""
        asked = min(max(1, math.ceil(self.at("rate", node) * n / self.bits)), n)
        return -(-n // block_size(n, asked)) if n else 0

    def change(self, model, data, run):
        model = noisy(model, self.log_var).thawed()
        hook = Sending(self, model, len(data.train.y))
        if self.train.epochs:
            self.train.fit(model, data, run, [hook])
        hook.send_until(1.0)
        return self.sent(quiet(model), hook.index(), hook.priors()).frozen()

    def sent(self, model: Model, index: dict[str, Array], priors: dict[str, float]) -> Model:
        """Returns the model of drawn weights and rounded biases, in place.

        index : number of the sample of each block, by form name        priors : sigma_p
        """
        made = {name: Seeded(index[name], priors[name], model.forms()[name].shape,
                             seed=self.seed + i, bits=self.bits)
                for i, name in enumerate(index)}
        for name, form in model.forms().items():
            if name.endswith(".bias"):
                b = form.dense().data
                scale = symmetric_scale(np.abs(b).max(initial=0.0), bits=self.bias_bits)
                made[name] = Affine.of(b, scale, bits=self.bias_bits, mask=form.mask)
        model.set_forms(made)
        return model

    def sketch(self, model, *, rng):
        forms = model.forms()
        index = {name: np.zeros(self.blocks(node, math.prod(forms[name].shape)), np.int64)
                 for node, name in weights(model).items()}
        return self.sent(model.copy(), index, dict.fromkeys(index, 0.1)).frozen()


class Sending(Hook):
    """Holds divergences to their budget, and sends blocks.

    Slots, by form name: "index.NAME" (B,) int64, -1 where a block is not sent; "beta.NAME" (B,);
    "prior.NAME" (1,); "value.NAME", the weights that are sent
    """

    name = Miracle.word

    def __init__(self, technique: Miracle, model: Model, n: int):
        super().__init__()
        self.technique, self.model, self.n = technique, model, n
        self.layers, self.place = {}, {}
        for i, (node, name) in enumerate(weights(model).items()):
            w = model.forms()[name].dense().data
            count = technique.blocks(node, w.size)
            place = np.empty(w.size, np.int64)
            order = shared_order(w.size, technique.seed + i)
            place[order] = np.arange(w.size) // max(block_size(w.size, max(count, 1)), 1)
            self.layers[name], self.place[name] = (node, i, order), place
            self.slots[f"index.{name}"] = np.full(count, -1, np.int64)
            self.slots[f"beta.{name}"] = np.full(count, technique.beta)
            self.slots[f"prior.{name}"] = np.ones(1)
            self.slots[f"value.{name}"] = np.zeros(w.size, np.float32)
            self.fit_prior(name)

    def settled(self, steps):
        return steps

    def posterior(self, name: str) -> tuple[Array, Array]:
        """Returns mean and log variance of a layer's weights, flat, views."""
        layer = self.model.node(self.layers[name][0]).layer
        return layer.forms["weight"].values().reshape(-1), layer.buffers["log_var"].reshape(-1)

    def fit_prior(self, name: str) -> None:
        """Sets sigma_p to the root mean of mu^2 + sigma^2, where the divergence is least."""
        mu, log_var = self.posterior(name)
        square = np.square(mu, dtype=np.float64) + np.exp(log_var, dtype=np.float64)
        self.slots[f"prior.{name}"][0] = math.sqrt(square.mean()) if mu.size else 1.0

    def divergence(self, name: str) -> Array:
        """Returns the KL of each block, nats, (B,)."""
        kl = gaussian_kl_of(*self.posterior(name), self.priors()[name])
        return np.bincount(self.place[name], kl, len(self.slots[f"index.{name}"]))

    def priors(self) -> dict[str, float]:
        """Returns sigma_p by form name, as a file holds it."""
        return {name: float(np.float32(self.slots[f"prior.{name}"][0])) for name in self.layers}

    def index(self) -> dict[str, Array]:
        """Returns the number of each block's sample by form name; all must be sent."""
        return {name: self.slots[f"index.{name}"] for name in self.layers}

    def before_batch(self, state):
        done, send = state.step / state.steps, self.technique.send
        if done >= send:
            self.send_until((done - send) / (1 - send) if send < 1 else 1.0)
        else:
            for name in self.layers:
                self.fit_prior(name)

    def send_until(self, part: float) -> None:
        """Sends blocks until this part of each layer's is sent, the first first."""
        for name in self.layers:
            index = self.slots[f"index.{name}"]
            for b in range(int(np.count_nonzero(index >= 0)), math.ceil(part * len(index))):
                self.send(name, b)

    def send(self, name: str, b: int) -> None:
        """Chooses a block's sample: its weights are from now on what the reader will draw."""
        (_, i, order), prior = self.layers[name], self.priors()[name]
        mu, log_var = self.posterior(name)
        size = block_size(mu.size, len(self.slots[f"index.{name}"]))
        at, seed = order[b * size:(b + 1) * size], self.technique.seed + i
        z = shared_normals(seed, np.int64(b), np.arange(2**self.technique.bits), size)
        z = z[:, :len(at)]
        logits = sample_logits(z, mu[at], log_var[at], prior).astype(np.float64)
        # Gumbel's draw from the softmax, of the place alone: a resumed training draws the same.
        u = np.random.default_rng([seed, b]).random(len(logits))
        k = int((logits - np.log(-np.log(u))).argmax())
        self.slots[f"index.{name}"][b] = k
        self.slots[f"value.{name}"][at] = z[k] * np.float32(prior)
        mu[at], log_var[at] = self.slots[f"value.{name}"][at], LOW

    def after_backward(self, state):
        for name, (node, _, _) in self.layers.items():
            mu, log_var = self.posterior(name)
            square, place = self.priors()[name] ** 2, self.place[name]
            free = (self.slots[f"index.{name}"] < 0)[place]
            beta = (self.slots[f"beta.{name}"] / self.n)[place].astype(np.float32)
            slopes = {"weight": beta * mu / square,
                      "log_var": beta * 0.5 * (np.exp(log_var) / square - 1)}
            for part, slope in slopes.items():
                g = state.weight_grads[f"{node}.{part}"]
                found = (g.reshape(-1) + slope.astype(np.float32)) * free
                state.weight_grads[f"{node}.{part}"] = found.reshape(g.shape)

    def after_step(self, state):
        pace, most = 1 + self.technique.pace, self.technique.bits * math.log(2)
        for name in self.layers:
            index, beta = self.slots[f"index.{name}"], self.slots[f"beta.{name}"]
            beta *= np.where(self.divergence(name) > most, pace, 1 / pace)
            np.clip(beta, 1e-12, 1e6, out=beta)
            fixed = (index >= 0)[self.place[name]]  # momentum moves on without a slope
            mu, log_var = self.posterior(name)
            mu[fixed], log_var[fixed] = self.slots[f"value.{name}"][fixed], LOW
