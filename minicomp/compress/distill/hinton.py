"""Knowledge distillation (Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural
Network", arXiv 1503.02531).

A label says which class an example is; a trained net also says what it resembles: that this 2 is
rather like a 3 and not like a 7. At a temperature T > 1 these small probabilities count. A student
is trained on both,

    L = (1 - alpha) CE(y, softmax(z)) + alpha T^2 KL(p || softmax(z / T))

with p = softmax(v / T) of the teacher's logits v (soft.py, eq. (1)). T^2 keeps the weight of the
soft term whatever T is, eq. (4) there. Several teachers speak with the arithmetic or geometric
mean of their probabilities (section 1): so an ensemble is distilled into one net.

It takes part in any training: a student with masks, or on a grid, learns from its dense teacher in
floats, `--with distill:teacher=t.mcz+qat:bits=4,epochs=3`. Label smoothing and a loss that another
technique brings stand in the place of CE.

Where we leave the paper: it writes a weighted mean of both losses without saying the weights, and
cross-entropy where KL stands here, which has the same gradient. Where augmentation moves the
inputs, the teacher sees what the student sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..technique import knob
from .soft import MEANS
from .teaching import SoftTargets, Taught, alpha_knob, t_knob


@dataclass(frozen=True)
class Distill(Taught):
    """Trains on labels and on a teacher's soft targets."""

    word: ClassVar[str] = "distill"
    title: ClassVar[str] = "Knowledge distillation"
    source: ClassVar[str] = ("Hinton, Vinyals & Dean 2015, Distilling the Knowledge in a Neural "
                             "Network, arXiv:1503.02531")

    T: float = t_knob()
    alpha: float = alpha_knob()
    mean: str = knob("arithmetic", "of the probabilities of several teachers", choices=MEANS)

    def hooks(self, model, data, run):
        return [SoftTargets(self.word, self.nets(), data, T=self.T, alpha=self.alpha,
                            mean=self.mean)]
