"""Gradual magnitude pruning (Zhu, Gupta 2017, "To prune, or not to prune", arXiv 1710.01878).

Pruning a trained net at once costs more than pruning it while it trains. Between steps t0 and t0 + n dt the
sparsity follows a cubic, fast at first where redundant weights abound,

    s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3                                       (eq. 1)

and every dt steps the mask is set anew by magnitude. Masked weights receive no gradient, so they stay pruned;
the weights that remain go on learning through and after the ramp.

Where we leave the paper: t0 is 0, the net comes trained. The best epoch, where one is kept, is one after the
ramp: before it the net is denser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.forms import Dense
from ..schedule import agp_sparsity
from ..technique import FineTune, knob, masked, thawed, weights
from ..scores import global_masks, magnitude_mask, magnitudes


@dataclass(frozen=True)
class Gradual(FineTune):
    """Trains while the sparsity of every layer rises along the cubic, then goes on at the final mask."""

    word: ClassVar[str] = "gradual"
    title: ClassVar[str] = "Automated gradual pruning"
    source: ClassVar[str] = ("Zhu & Gupta 2017, To prune, or not to prune: exploring the efficacy of pruning for "
                             "model compression, arXiv:1710.01878")

    sparsity: float = knob(0.9, "final fraction of zeros of a layer", lo=0, hi=1, below=True, per_layer=True)
    scope: str = knob("local", "what is ranked together", choices=("local", "global"))
    initial: float = knob(0.0, "sparsity at the start of the ramp, where the final one is not lower", lo=0, hi=1,
                          below=True)
    ramp: float = knob(0.6, "part of the training over which sparsity rises, 0..1", lo=0.01, hi=1.0)
    prunings: int = knob(50, "number of times the mask is set along the ramp, at most one a step", lo=1)

    def __post_init__(self):
        super().__post_init__()
        if self.scope == "global" and not isinstance(self.sparsity, float):
            raise UserError("gradual: scope global needs one sparsity for all layers, got one by pattern")

    def targets(self, model):
        return list(weights(model))

    def apply(self, model, data, *, rng, log=None, checkpoint=None, n_threads=1):
        model = self.prepared(model)
        per_epoch = max(1, -(-len(data.train.y) // self.batch_size))
        n, dt = self.ramp_steps(self.epochs * per_epoch)

        def prune(state):
            t = state.step + 1
            if t % dt == 0 and t <= n * dt:
                self.remask(state.model, t, n, dt)

        self.remask(model, 0 if self.epochs else n * dt, n, dt)
        self.fit(model, data, rng=rng, log=log, checkpoint=checkpoint, n_threads=n_threads,
                 events={"after_step": prune}, best_from=-(-n * dt // per_epoch) - 1)  # epochs at the final sparsity
        return model

    def ramp_steps(self, steps: int) -> tuple[int, int]:
        """Returns n and dt: at most `prunings` prunings, dt steps apart, the last at the end of the ramp."""
        length = max(1, int(steps * self.ramp))
        dt = -(-length // self.prunings)
        return length // dt, dt

    def prepared(self, model):
        """Returns a trainable copy whose weights all have masks; UserError where one cannot be pruned."""
        self.check_patterns(model)
        for node, name in weights(model).items():
            if not isinstance(model.forms()[name], Dense):
                raise UserError(f"gradual: {node} must hold plain values to be pruned while it trains, got a "
                                f"{model.forms()[name].kind}; prune before sharing")
        return masked(thawed(model), {name: np.ones(model.forms()[name].shape, bool)
                                      for name in weights(model).values()})

    def remask(self, model, t: int, n: int, dt: int) -> None:
        """Sets every mask to its sparsity at step t, in place; a pruned weight is 0 and stays pruned."""
        forms = {node: model.forms()[name] for node, name in weights(model).items()}

        def s_t(s_f: float) -> float:
            return agp_sparsity(t, s_i=min(self.initial, s_f), s_f=s_f, t0=0, n=n, dt=dt)

        if self.scope == "global":
            masks = global_masks([magnitudes(f.value.data, f.mask) for f in forms.values()], s_t(self.sparsity))
        else:
            masks = [magnitude_mask(f.value.data, s_t(self.at("sparsity", node)), mask=f.mask)
                     for node, f in forms.items()]
        for form, mask in zip(forms.values(), masks):
            form.remask(mask & form.mask)

    def sketch(self, model, *, rng):
        model = self.prepared(model)
        self.remask(model, 1, 1, 1)
        return model
