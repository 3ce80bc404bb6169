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

A teacher can be asked about any image. `inputs="cutmix"` shows both nets images with a piece of
another in each, new ones in every epoch, and the student learns to match what the teacher says of
them: function matching (Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and
consistent", arXiv 2106.05237). They blend whole images; pieces are from CutMix (`cutmix` in
data/augment.py). No label fits such an image, so that alpha must be 1. `minicomp paper hinton2015`
has it beside Hinton's.

Where we leave the paper: it writes a weighted mean of both losses without saying the weights, and
cross-entropy where KL stands here, which has the same gradient. Where augmentation moves the
inputs, the teacher sees what the student sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import UserError
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
    inputs: str = knob("images", "what both see: images; cutmix, each with a piece of another "
                       "(alpha=1)", choices=("images", "cutmix"))

    def __post_init__(self):
        super().__post_init__()
        if self.inputs == "cutmix" and self.alpha != 1:
            raise UserError(f"{self.word}: alpha must be 1 with inputs=cutmix, images that no "
                            f"label fits, got {self.alpha:g}")

    def check(self, model):
        super().check(model)
        if self.inputs == "cutmix" and len(model.input_shape) != 3:
            raise UserError(f"{self.word}: inputs=cutmix needs a net of images (channels, height, "
                            f"width), got one of examples of shape {model.input_shape}")

    def hooks(self, model, data, run):
        return [SoftTargets(self.word, self.nets(), data, T=self.T, alpha=self.alpha,
                            mean=self.mean, inputs=self.inputs)]
