"""Gradual magnitude pruning (Zhu, Gupta 2017, "To prune, or not to prune", arXiv 1710.01878).

Pruning a trained net at once costs more than pruning it while it trains. Between steps t0 and
t0 + n dt the sparsity follows a cubic, fast at first where redundant weights abound,

    s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3                                       (eq. 1)

and every dt steps the mask is set anew by magnitude. Masked weights receive no gradient, so they
stay pruned; the weights that remain go on learning through and after the ramp.

Where we leave the paper: t0 is 0, the net comes trained. The best epoch, where one is kept, is one
after the ramp: before it the net is denser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...train import Hook
from ..finetune import Trained
from ..schedule import agp_sparsity
from ..scores import scoped_masks
from ..technique import check_movable, floor_knob, knob, least_kept, one_for_all, weights


@dataclass(frozen=True)
class Gradual(Trained):
    """Trains while the sparsity of every layer rises along the cubic, then at the final mask."""

    word: ClassVar[str] = "gradual"
    masks: ClassVar[bool] = True
    title: ClassVar[str] = "Automated gradual pruning"
    source: ClassVar[str] = (
        "Zhu & Gupta 2017, To prune, or not to prune: exploring the efficacy of pruning for "
        "model compression, arXiv:1710.01878"
    )

    sparsity: float = knob(0.9, "final fraction of zeros of a layer",
                           lo=0, hi=1, below=True, per_layer=True)
    scope: str = knob("local", "what is ranked together", choices=("local", "global"))
    floor: float = floor_knob()
    initial: float = knob(
        0.0, "sparsity at the start of the ramp, where the final one is not lower",
        lo=0, hi=1, below=True)
    ramp: float = knob(0.6, "part of the training over which sparsity rises, 0..1", lo=0.01, hi=1.0)
    prunings: int = knob(50, "number of times the mask is set along the ramp, at most one a step",
                         lo=1)

    def __post_init__(self):
        super().__post_init__()
        one_for_all(self.word, self.scope, self.sparsity, self.floor)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_movable(self.word, model)

    def hooks(self, model, data, run):
        for name in weights(model).values():
            form = model.forms()[name]
            model.set_form(name, form.masked(np.ones(form.shape, bool)))
        return [Ramp(self)]

    def ramp_steps(self, steps: int) -> tuple[int, int]:
        """Returns n and dt: at most `prunings`, dt steps apart, the last at the end of the ramp."""
        length = max(1, int(steps * self.ramp))
        dt = -(-length // self.prunings)
        return length // dt, dt

    def remask(self, model, t: int, n: int, dt: int) -> None:
        """Sets every mask to its sparsity at step t, in place; what is pruned stays pruned, 0."""
        forms = {node: model.forms()[name] for node, name in weights(model).items()}
        w = {node: form.dense().data for node, form in forms.items()}
        least = least_kept(model, self.floor)

        def s_t(s_f: float) -> float:
            return agp_sparsity(t, s_i=min(self.initial, s_f), s_f=s_f, t0=0, n=n, dt=dt)

        masks = scoped_masks(self.word, {node: np.abs(a) for node, a in w.items()},
                             {node: form.mask for node, form in forms.items()},
                             lambda node: s_t(self.at("sparsity", node)), self.scope,
                             least={node: least[f"{node}.weight"] for node in w})
        for node, form in forms.items():
            form.remask(masks[node] & form.mask)


class Ramp(Hook):
    """Sets the masks anew every dt steps of the ramp."""

    name = Gradual.word

    def __init__(self, technique: Gradual):
        super().__init__()
        self.technique = technique

    def settled(self, steps):
        n, dt = self.technique.ramp_steps(steps)
        return n * dt

    def before_batch(self, state):
        if state.step == 0:
            self.technique.remask(state.model, 0, *self.technique.ramp_steps(state.steps))

    def after_step(self, state):
        t, (n, dt) = state.step + 1, self.technique.ramp_steps(state.steps)
        if t % dt == 0 and t <= n * dt:
            self.technique.remask(state.model, t, n, dt)

    def skip(self, model):
        self.technique.remask(model, 1, 1, 1)
