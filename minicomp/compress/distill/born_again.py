"""Born-again nets: self-distillation in generations (Furlanello, Lipton, Tschannen, Itti &
Anandkumar 2018, "Born-Again Neural Networks", arXiv 1805.04770).

A net teaches another one of its own architecture, which begins with drawn weights, and that one the
next. In the paper students become better than their teacher although none of them is larger: soft
targets regularise.

    generation k learns from generation k - 1,    k = 1 .. `generations`,    0: the net given

The nets of all generations may also speak together; their ensemble is distilled by `distill` with
several teachers. Masks of the net given stay on its descendants, whose weights are dense values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.graph import Model
from ...nn.init import lecun_uniform
from ...train import evaluate
from ..finetune import Rounds
from ..technique import knob, masked, masks
from .teaching import SoftTargets, alpha_knob, t_knob


def unborn(model: Model, rng: np.random.Generator) -> Model:
    """Returns a net of the same layers and masks whose weights are drawn, LeCun uniform; biases and
    running statistics as in a layer that was not trained."""
    made = model.dense()
    for name, form in made.forms().items():
        scale = 1.0 if name.endswith(".weight") else 0.0
        form.value.data[:] = lecun_uniform(form.shape, rng=rng) if len(form.shape) > 1 else scale
    for name, value in made.buffers().items():
        value[...] = 1 if name.endswith("running_var") else 0
    return masked(made, masks(model))


@dataclass(frozen=True)
class BornAgain(Rounds):
    """Trains nets like the one given, each on the soft targets of the one before it."""

    word: ClassVar[str] = "born-again"
    title: ClassVar[str] = "Born-again nets: self-distillation"
    source: ClassVar[str] = ("Furlanello, Lipton, Tschannen, Itti & Anandkumar 2018, Born-Again "
                             "Neural Networks, arXiv:1805.04770")

    generations: int = knob(1, "nets that are trained in a row", lo=1)
    T: float = t_knob(1.0)
    alpha: float = alpha_knob()

    def change(self, model, data, run):
        teacher = model.frozen()
        for k, stream in enumerate(run.rng.spawn(self.generations), start=1):
            student = unborn(model, stream)
            hook = SoftTargets("distill", [teacher], data, T=self.T, alpha=self.alpha)
            self.train.fit(student, data, run.child(f"generation-{k}", stream), [hook])
            teacher = student.frozen()
            run.log({"event": "round", "round": k, "rounds": self.generations, "errors": evaluate(
                student, data.val, n_threads=run.n_threads).errors})
        return teacher

    def sketch(self, model, *, rng):
        return masked(model.dense(), masks(model)).frozen()
