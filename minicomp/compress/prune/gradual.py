"""Gradual magnitude pruning (Zhu, Gupta 2017, "To prune, or not to prune", arXiv 1710.01878).

Pruning a trained net at once costs more than pruning it while it trains. Between steps t0 and t0 + n dt the
sparsity follows a cubic, fast at first where redundant weights abound,

    s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3                                       (eq. 1)

and every dt steps the mask is set anew by magnitude. Masked weights receive no gradient, so they stay pruned;
the weights that remain go on learning through and after the ramp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ..technique import FineTune, knob, masked, thawed, weights
from .scores import global_masks, magnitude_mask


def agp_sparsity(t: float, *, s_i: float, s_f: float, t0: float, n: int, dt: float) -> float:
    """Returns the sparsity at step t, in 0..1: s_i up to t0, s_f from t0 + n dt on.

    s_i, s_f : first and final sparsity        t0 : first step of the ramp        n, dt : prunings, steps between
    Source: Zhu & Gupta 2017, eq. (1)
    """
    part = min(max((t - t0) / (n * dt), 0.0), 1.0)
    return s_f + (s_i - s_f) * (1 - part) ** 3


@dataclass(frozen=True)
class Gradual(FineTune):
    """Trains while the sparsity of every layer rises along the cubic, then goes on at the final mask."""

    word: ClassVar[str] = "gradual"
    title: ClassVar[str] = "Automated gradual pruning"
    source: ClassVar[str] = ("Zhu & Gupta 2017, To prune, or not to prune: exploring the efficacy of pruning for "
                             "model compression, arXiv:1710.01878")

    sparsity: float = knob(0.9, "final fraction of zeros of a layer", lo=0, hi=1, below=True, per_layer=True)
    scope: str = knob("local", "what is ranked together", choices=("local", "global"))
    initial: float = knob(0.0, "sparsity at the start of the ramp", lo=0, hi=1, below=True)
    ramp: float = knob(0.6, "part of the training over which sparsity rises, 0..1", lo=0.01, hi=1.0)
    prunings: int = knob(50, "number of times the mask is set along the ramp", lo=1)

    def __post_init__(self):
        super().__post_init__()
        if self.scope == "global" and not isinstance(self.sparsity, float):
            raise UserError("gradual: scope global needs one sparsity for all layers, got one by pattern")

    def apply(self, model, data, *, rng, log=None, checkpoint=None, n_threads=1):
        self.check_patterns(model)
        model = masked(thawed(model), {name: np.ones(model.forms()[name].shape, bool)
                                       for name in weights(model).values()})
        every = [None]  # steps between prunings, known once the first step tells how many there are

        def prune(state):
            if every[0] is None:
                every[0] = max(1, int(state.steps * self.ramp / self.prunings))
            done = state.step + 1
            if done % every[0] == 0 and done <= self.prunings * every[0] or done == state.steps:
                part = agp_sparsity(done, s_i=self.initial, s_f=1.0, t0=0, n=self.prunings, dt=every[0])
                self.remask(state.model, part)
        self.fit(model, data, rng=rng, log=log, checkpoint=checkpoint, n_threads=n_threads,
                 events={"after_step": prune})
        return model

    def remask(self, model, part: float) -> None:
        """Sets every mask to `part` of the final sparsity, in place; a pruned weight is 0 and stays pruned."""
        forms = {node: model.forms()[name] for node, name in weights(model).items()}
        if self.scope == "global":
            masks = global_masks([np.abs(f.value.data) for f in forms.values()], self.sparsity * part)
        else:
            masks = [magnitude_mask(f.value.data, self.at("sparsity", node) * part) for node, f in forms.items()]
        for form, mask in zip(forms.values(), masks):
            form.remask(mask & form.mask)

    def sketch(self, model, *, rng):
        model = thawed(model)
        model = masked(model, {n: np.ones(model.forms()[n].shape, bool) for n in weights(model).values()})
        self.remask(model, 1.0)
        return model
