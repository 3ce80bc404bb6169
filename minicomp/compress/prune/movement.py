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
a weight can come back. dL/dW itself is masked: only kept weights
learn. v falls along the cubic of Zhu & Gupta 2017 between a warm-up, in which scores gather and
nothing is masked, and a cool-down, in which the mask goes on following the scores at the final v.

`soft` keeps M = (sigmoid(S) > tau) instead and adds lam sum sigmoid(S) to the loss (section 4),
with tau and lam rising along the same cubic: layers find their sparsity, which is then not set
exactly.

Where we leave the paper: scores move by plain gradient steps as in table 1, where the authors' code
has Adam. The paper's soft threshold is on S; on sigmoid(S) it is the authors' code's. The mask is
set `prunings` times along the ramp and as often on, not at every step. A weight
that is masked does not always come back at the value with which it went: momentum carries it on
along its velocity until that has died down, and weight decay shrinks it. What an earlier technique
pruned stays pruned.

The best epoch, where one is kept, is one after the ramp; of the soft variant the last, for there
layers find their sparsity up to the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array
from ...train import Hook
from ..examples import calibration
from ..finetune import FineTune, Trained, behind
from ..schedule import agp_sparsity
from ..scores import magnitudes, scoped_masks
from ..scoring import ScorePruning
from ..technique import Run, check_movable, floor_knob, knob, least_kept, one_for_all, weights


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
    from scipy.special import expit

    p = expit(s)
    return lam * p * (1 - p)


@dataclass(frozen=True)
class Movement(Trained):
    """Fine-tunes while the weights that move towards 0 are masked, then keeps the mask."""

    word: ClassVar[str] = "movement"
    masks: ClassVar[bool] = True
    title: ClassVar[str] = "Movement pruning"
    source: ClassVar[str] = (
        "Sanh, Wolf & Rush 2020, Movement Pruning: Adaptive Sparsity by Fine-Tuning, "
        "arXiv:2005.07683"
    )

    sparsity: float = knob(
        0.9, "final fraction of zeros, 1 - v (hard)", lo=0, hi=1, below=True, per_layer=True
    )
    scope: str = knob("local", "what is ranked together", choices=("local", "global"))
    floor: float = floor_knob()
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
        one_for_all(self.word, self.scope, self.sparsity, self.floor)
        if self.warmup + self.cooldown >= 1:
            raise UserError(
                f"movement: warmup and cooldown must leave part of the training to the ramp, got "
                f"{self.warmup:g} + {self.cooldown:g}"
            )

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_movable(self.word, model)

    def hooks(self, model, data, run):
        return [Scores(self, model)]

    def ramp_steps(self, steps: int) -> tuple[int, int, int]:
        """Returns t0, n and dt: `n` masks, dt steps apart, from step t0 on; n dt fits the ramp."""
        t0, end = int(self.warmup * steps), int((1 - self.cooldown) * steps)
        length = max(1, end - t0)
        dt = -(-length // self.prunings)
        return t0, length // dt, dt


class Scores(Hook):
    """A score beside every weight, in float64 slots "score.NAME"; masks are behind and follow it.

    allowed : what an earlier technique pruned stays pruned
    """

    name = Movement.word

    def __init__(self, technique: Movement, model: Model):
        super().__init__()
        self.technique, self.allowed = technique, behind(model, weights(model).values())
        self.slots |= {f"score.{name}": np.zeros(a.shape) for name, a in self.allowed.items()}

    def settled(self, steps):
        if self.technique.variant == "soft":  # how many are masked follows the scores to the end
            return steps
        t0, n, dt = self.technique.ramp_steps(steps)
        return t0 + n * dt

    def part(self, state, t: int) -> float:
        """Returns how much of the final sparsity, or threshold, holds at step t, 0..1."""
        t0, n, dt = self.technique.ramp_steps(state.steps)
        return agp_sparsity(t, s_i=0.0, s_f=1.0, t0=t0, n=n, dt=dt)

    def after_backward(self, state):
        # Scores move by dL/d(W M) of every entry; the weights' own gradient is left to those kept.
        of, forms = self.technique, state.model.forms()
        for name in self.allowed:
            score, g = self.slots[f"score.{name}"], state.weight_grads[name]
            if of.variant == "soft":
                lam = self.part(state, state.step) * of.penalty
                score -= of.lr_scores * penalty_gradient(score, lam)
            score[...] = movement_step(score, forms[name].values(), g, of.lr_scores)
            state.weight_grads[name] = g * forms[name].mask

    def after_step(self, state):
        t, (t0, _, dt) = state.step + 1, self.technique.ramp_steps(state.steps)
        if t >= t0 and (t - t0) % dt == 0:
            self.remask(state.model, self.part(state, t))

    def remask(self, model: Model, part: float = 1.0) -> None:
        """Sets every mask from its scores, in place, at `part` of the final sparsity, 0..1."""
        from scipy.special import expit

        of, forms = self.technique, model.forms()
        scores = {name: self.slots[f"score.{name}"] for name in self.allowed}
        if of.variant == "soft":
            masks = {name: expit(s) > part * of.threshold for name, s in scores.items()}
        else:
            masks = scoped_masks(self.name, scores, self.allowed, lambda name: part * of.at(
                "sparsity", name.rsplit(".", 1)[0]), of.scope, least=least_kept(model, of.floor))
        for name, mask in masks.items():
            mask = mask & self.allowed[name]
            # the last weights of a layer are not masked by a threshold: an empty layer cannot learn
            forms[name].remask(mask if mask.any() or of.variant != "soft" else forms[name].mask)

    def skip(self, model):
        # As many zeros, of least magnitude: the scores themselves need a training.
        for name in self.allowed:
            self.slots[f"score.{name}"][...] = magnitudes(model.forms()[name].values())
        self.remask(model)


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

    def reads(self):
        return ("train",)

    def check(self, model):
        super().check(model)
        check_movable(self.word, model)

    def scores(self, model, data, run):
        split = calibration(self, data, run)
        few = SimpleNamespace(train=split, val=split.take(slice(0, 0)))
        model = model.copy()
        train = FineTune(
            epochs=self.epochs, lr=self.lr, batch_size=self.batch_size, dropout=False
        )
        scores = Scores(Movement(sparsity=0.0), model)
        train.fit(model, few, Run(run.rng, n_threads=run.n_threads), [scores])
        return {name.rsplit(".", 1)[0]: scores.slots[f"score.{name}"] for name in scores.allowed}
