"""Movement pruning (Sanh, Wolf, Rush 2020, "Movement Pruning: Adaptive Sparsity by Fine-Tuning",
arXiv 2005.07683).

A net that is fine-tuned on another task keeps most of its weights near where the first task left
them, so that their magnitude says what mattered *there*. Movement pruning asks where the second
task moves them: a weight that goes away from 0 matters, one that goes towards 0 does not, however
large it is. With a = (W M) x and a score S beside every weight,

    M = Top_v(S), 1 for the fraction v of highest scores                                   (eq. 1)
    dL/dS_ij = dL/da_i W_ij x_j = dL/dW_ij W_ij       the mask left out in dL/dW           (eq. 2)
    S_ij = -alpha_S sum_t (dL/dW_ij) W_ij             after so many steps                (table 1)

M has no gradient; eq. 2 goes straight through it, so that the scores of masked weights move too and
a weight can come back, at the value with which it went. dL/dW itself is masked: only kept weights
learn. v falls along the cubic of Zhu & Gupta 2017 between a warm-up, in which scores gather and
nothing is masked, and a cool-down, in which the mask goes on following the scores at the final v.

`soft` keeps M = (sigmoid(S) > tau) instead and adds lam sum sigmoid(S) to the loss (section 4),
with tau and lam rising along the same cubic: layers find their sparsity, which is then not set
exactly.

Where we leave the paper: scores move by plain gradient steps as in table 1, where the authors' code
has Adam. The paper's soft threshold is on S; on sigmoid(S) it is the authors' code's. The mask is
set `prunings` times along the ramp and as often on, not at every step. What an earlier technique
pruned stays pruned.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.forms import Dense, Part
from ...tensor import Array
from ..latent import Latent, finished
from ..schedule import agp_sparsity
from ..scoring import ScorePruning
from ..channels.choosing import check_numbers
from ..technique import FineTune, knob, thawed, weights
from ..scores import global_masks, magnitudes, smallest_mask


def movement_step(s: Array, w: Array, g: Array, lr: float) -> Array:
    """Returns the scores after one step, S - lr g w, in S's dtype.

    s, w, g : any one shape; g is dL/d(W M), of masked entries too
    Source: Sanh et al. 2020, eq. (2)

    >>> movement_step(np.zeros(3), np.array([1., -2., 3.]), np.array([-1., 1., 2.]), 0.5).tolist()
    [0.5, 1.0, -3.0]
    """
    return s - np.asarray(lr, s.dtype) * np.asarray(g * w, s.dtype)


def movement_scores(w: Array, g: Array, lr: float) -> Array:
    """Returns S = -lr sum_t g_t w_t, float64.

    w, g : (T, ...), weights and dL/dW at each of T steps
    Source: Sanh et al. 2020, table 1
    """
    return -lr * np.sum(np.asarray(g, np.float64) * w, axis=0)


def penalty_gradient(s: Array, lam: float) -> Array:
    """Returns the gradient of lam sum sigmoid(S): lam sigmoid(S) (1 - sigmoid(S)).

    Source: Sanh et al. 2020, section 4, soft movement pruning
    """
    p = sigmoid(s)
    return lam * p * (1 - p)


def sigmoid(s: Array) -> Array:
    """Returns 1 / (1 + exp(-s)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * s))


class Scored(Latent):
    """A weight behind a mask, with a score for every entry.

    score : float64, what the mask is set by        plain : the class of the form that remains
    """

    kind = "movement"
    parts = Latent.parts | {"score": Part("table", axes=())}

    def __init__(self, value, mask, trainable: bool = True, allowed=None, score=None, plain=Dense):
        super().__init__(value, mask, trainable, allowed)
        self.score = np.zeros(self.shape) if score is None else np.array(score, np.float64)
        self.plain = plain

    def finish(self) -> Dense:
        return self.plain(self.value.data, self.mask)

    def ranked(self) -> Array:
        """Returns the scores, -infinity where an earlier technique pruned."""
        return self.score if self.allowed is None else np.where(self.allowed, self.score, -np.inf)

    def set(self, mask: Array) -> None:
        """Sets the mask in place; what an earlier technique pruned stays pruned."""
        self.mask[...] = mask if self.allowed is None else mask & self.allowed


@dataclass(frozen=True)
class Movement(FineTune):
    """Fine-tunes while the weights that move towards 0 are masked, then keeps the mask."""

    word: ClassVar[str] = "movement"
    title: ClassVar[str] = "Movement pruning"
    source: ClassVar[str] = (
        "Sanh, Wolf & Rush 2020, Movement Pruning: Adaptive Sparsity by Fine-Tuning, "
        "arXiv:2005.07683"
    )

    sparsity: float = knob(
        0.9, "final fraction of zeros, 1 - v (hard)", lo=0, hi=1, below=True, per_layer=True
    )
    scope: str = knob("local", "what is ranked together", choices=("local", "global"))
    variant: str = knob(
        "hard", "hard: the top v; soft: by threshold under a penalty", choices=("hard", "soft")
    )
    lr_scores: float = knob(1000.0, "alpha_S, learning rate of the scores", lo=1e-9)
    warmup: float = knob(0.1, "part of the training before the ramp, 0..1", lo=0.0, hi=1.0)
    cooldown: float = knob(0.3, "part of the training after the ramp, 0..1", lo=0.0, hi=1.0)
    prunings: int = knob(50, "number of times the mask is set along the ramp", lo=1)
    threshold: float = knob(0.1, "tau: kept where sigmoid(S) is above (soft)", lo=0.0, hi=1.0,
                            below=True)
    penalty: float = knob(3e-5, "lam of lam sum sigmoid(S) (soft)", lo=0.0)

    def __post_init__(self):
        super().__post_init__()
        if self.scope == "global" and not isinstance(self.sparsity, float):
            raise UserError(
                "movement: scope global needs one sparsity for all layers, got one by pattern"
            )
        if self.warmup + self.cooldown >= 1:
            raise UserError(
                f"movement: warmup and cooldown must leave part of the training to the ramp, got "
                f"{self.warmup:g} + {self.cooldown:g}"
            )

    def targets(self, model):
        return list(weights(model))

    def apply(self, model, data, *, rng, log=None, checkpoint=None, n_threads=1):
        model = self.prepared(model)
        per_epoch = max(1, -(-len(data.train.y) // self.batch_size))
        t0, n, dt = self.ramp_steps(self.epochs * per_epoch)

        def score(state):
            self.score(model, state.grads, self.part(state.step, t0, n, dt))

        def prune(state):
            t = state.step + 1
            if t >= t0 and (t - t0) % dt == 0:
                self.remask(model, self.part(t, t0, n, dt))

        if not self.epochs:
            self.remask(model, 1.0)
        self.fit(model, data, rng=rng, log=log, checkpoint=checkpoint, n_threads=n_threads,
                 events={"after_backward": score, "after_step": prune},
                 best_from=-(-(t0 + n * dt) // per_epoch) - 1)     # epochs at the final sparsity
        return finished(model)

    def ramp_steps(self, steps: int) -> tuple[int, int, int]:
        """Returns t0, n and dt: `n` masks, dt steps apart, from step t0 on; n dt fits the ramp."""
        t0, end = int(self.warmup * steps), int((1 - self.cooldown) * steps)
        length = max(1, end - t0)
        dt = -(-length // self.prunings)
        return t0, length // dt, dt

    def score(self, model, grads: dict[str, Array], part: float = 1.0) -> None:
        """Moves the scores by one step, in place, and leaves the gradient to the kept weights.

        grads : dL/d(W M) of every entry by form name, masked in place        part : of the penalty
        """
        for name, form in self.forms(model).items():
            g, lr = grads[name], self.lr_scores
            if self.variant == "soft":
                form.score -= lr * penalty_gradient(form.score, part * self.penalty)
            form.score[...] = movement_step(form.score, form.value.data, g, lr)
            grads[name] = g * form.mask

    @staticmethod
    def part(t: int, t0: int, n: int, dt: int) -> float:
        """Returns how much of the final sparsity, or threshold, holds at step t, 0..1."""
        return agp_sparsity(t, s_i=0.0, s_f=1.0, t0=t0, n=n, dt=dt)

    def prepared(self, model):
        """Returns a copy whose weights are all Scored, with scores of 0; UserError for others."""
        self.check_patterns(model)
        check_numbers(self.word, model)
        model = thawed(model)
        for node, name in weights(model).items():
            form = model.forms()[name]
            if not isinstance(form, Dense):
                raise UserError(
                    f"movement: {node} must hold plain values to be pruned while it trains, got a "
                    f"{form.kind}; prune before sharing"
                )
            mask = np.ones(form.shape, bool) if form.mask is None else form.mask
            model.set_form(name, Scored(form.value.data, mask, allowed=form.mask, plain=type(form)))
        return model

    @staticmethod
    def forms(model) -> dict[str, Scored]:
        """Returns the weights that are scored, by form name."""
        return {name: f for name, f in model.forms().items() if isinstance(f, Scored)}

    def remask(self, model, part: float) -> None:
        """Sets every mask from its scores, in place, at `part` of the final sparsity, 0..1."""
        forms = self.forms(model)
        ranked = {name: form.ranked() for name, form in forms.items()}
        if self.variant == "soft":
            masks = [sigmoid(s) > part * self.threshold for s in ranked.values()]
            # the last weights of a layer are not masked: an empty layer cannot learn
            masks = [m if m.any() else f.mask.copy() for m, f in zip(masks, forms.values())]
        elif self.scope == "global":
            masks = global_masks(list(ranked.values()), part * self.sparsity)
        else:
            masks = [smallest_mask(s, part * self.at("sparsity", name.rsplit(".", 1)[0]))
                     for name, s in ranked.items()]
        for form, mask in zip(forms.values(), masks):
            form.set(mask)

    def sketch(self, model, *, rng):
        # As many zeros, of least magnitude: the scores themselves need a training.
        model = self.prepared(model)
        for form in self.forms(model).values():
            form.score[...] = magnitudes(form.value.data)
        self.remask(model, 1.0)
        return finished(model)


@dataclass(frozen=True)
class MovementScore(ScorePruning):
    """The criterion alone, to set beside others: S gathers while a copy of the net trains on a few
    examples; the weights given are pruned by it and are not trained.
    """

    word: ClassVar[str] = "movement"
    title: ClassVar[str] = "Movement of a short training"
    source: ClassVar[str] = Movement.source

    samples: int = knob(5000, "training examples that the copy trains on, at most", lo=1)
    epochs: int = knob(1, "passes over them", lo=1)
    lr: float = knob(0.01, "learning rate of the copy", lo=1e-9)
    batch_size: int = knob(50, "examples a step", lo=1)

    def scores(self, model, data, *, rng):
        split = data.calibration(min(self.samples, len(data.train.y)), rng)
        train = Movement(sparsity=0.0, epochs=self.epochs, lr=self.lr, batch_size=self.batch_size)
        model = train.prepared(model)
        few = SimpleNamespace(train=split, val=split.take(slice(0, 0)), black=0.0)
        train.fit(model, few, rng=rng,
                  events={"after_backward": lambda state: train.score(model, state.grads)})
        return {name.rsplit(".", 1)[0]: form.score for name, form in train.forms(model).items()}
