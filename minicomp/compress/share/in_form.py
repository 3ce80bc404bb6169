"""What techniques share that train a net whose weights are in a form without places.

Each layer's weight becomes a form whose stored numbers train. Of those that spread few numbers by a
fixed map (nn/forms/shared.py) they are drawn, as the papers train from scratch, or averaged from
the weights that are there, which of all such forms are then the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...kernels.int8.rounding import key_of
from ...nn.forms import Dense, Form
from ...nn.forms.shared import Shared
from ...nn.graph import Model
from ...nn.init import gaussian
from ...tensor import Array
from ...train import Hook
from ..finetune import Trained
from ..technique import knob, unmasked, weights

PLACES = "its weights have no places of their own, to prune or to remove"
NO_PLACES = dict.fromkeys(("gradual", "dns", "movement", "slimming"), PLACES)


@dataclass(frozen=True)
class Reformed(Trained):
    """A training of weights in a form of its own; biases stay."""

    quantizes: ClassVar[bool] = True
    apart: ClassVar[dict[str, str]] = NO_PLACES

    real: bool = knob(False, "layers whose weights stay as they are, by pattern: real@fc3=true",
                      per_layer=True)

    def candidates(self, model: Model) -> dict[str, str]:
        """Returns {node: form name} of the weights that could take the form."""
        return weights(model)

    def targets(self, model):
        return list(self.candidates(model))

    def chosen(self, model: Model) -> dict[str, str]:
        """Returns {node: form name} of the weights that take the form."""
        return {node: name for node, name in self.candidates(model).items()
                if not self.at("real", node)}

    def check(self, model):
        super().check(model)
        chosen = self.chosen(model)
        if not chosen:
            raise UserError(f"{self.word}: real must leave a layer that takes the form, got none")
        unmasked(self.word, model, chosen.values())

    def hooks(self, model, data, run):
        forms, made = model.forms(), {}
        for number, (node, name) in enumerate(self.chosen(model).items()):
            made[name] = self.placed(node, number, forms[name], run.rng)
        model.set_forms(made)
        return self.more_hooks(model)

    def placed(self, node: str, number: int, form: Form, rng: np.random.Generator) -> Form:
        """Returns the trainable form of a layer's weight; `number` is the layer's place."""
        raise NotImplementedError

    def more_hooks(self, model: Model) -> Sequence[Hook]:
        """Returns what else takes part in the training of the model, whose forms are in place."""
        return []


@dataclass(frozen=True)
class InForm(Reformed):
    """A training of weights that share numbers by a map."""

    start: str = knob("drawn", "numbers that training begins with: drawn, as large as the weights "
                               "are, or averaged from the weights", choices=("drawn", "averaged"),
                      per_layer=True)

    def blank(self, node: str, number: int, shape: tuple[int, ...]) -> Shared:
        """Returns the form of a layer's weight, its numbers 0."""
        raise NotImplementedError

    def placed(self, node, number, form, rng):
        w, blank = form.dense().data, self.blank(node, number, form.shape)
        if self.at("start", node) == "averaged":
            return blank.holding(Dense(blank.averaged(w)))
        return blank.holding(Dense(gaussian(blank.places.k, std=rms(w), rng=rng)))


def seed_of(seed: int, number: int) -> int:
    """Returns the seed, 32 bits, of a layer's map, of that of the technique and the layer's place.
    """
    return key_of(seed, number) >> 32


def rms(w: Array) -> float:
    """Returns sqrt(mean w^2), 0 for none."""
    return math.sqrt(np.square(w, dtype=np.float64).mean()) if w.size else 0.0
