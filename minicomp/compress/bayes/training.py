"""What trainings of Gaussian weights share: the divergence in the loss, and what becomes of weights
when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.forms import Form
from ...nn.layers import Layer
from ...train import Hook
from ..finetune import Trained
from ..technique import knob, weights
from .noisy import KINDS, Noisy, check_mixing, noisy, noisy_nodes, quiet


@dataclass(frozen=True)
class NoisyTraining(Trained):
    """A training whose weights have noise that is learnt; `known` says what is stored of them."""

    plain: ClassVar[bool] = True
    apart: ClassVar[dict[str, str]] = dict.fromkeys(
        ("slimming", "group-lasso"), "channels would go whose noise stays")
    kinds: ClassVar[dict[type[Layer], type[Noisy]]] = KINDS

    log_var: float = knob(-8.0, "log sigma^2 at the start", lo=-20.0, hi=6.0)
    warmup: float = knob(0.3, "part of the training over which the divergence rises from 0, 0..1",
                         lo=0.0, hi=1.0)
    weight: float = knob(1.0, "of the divergence; 1 is the bound itself", lo=0.0)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_mixing(self.word, model)

    def prepared(self, model, data, run):
        return noisy(model, self.log_var, self.kinds)

    def hooks(self, model, data, run):
        return [Divergence(self, 1 if data is None else len(data.train.y))]

    def finish(self, model, run):
        for node in noisy_nodes(model):
            node.layer.forms["weight"] = self.known(node.name, node.layer)
        return quiet(model)

    def known(self, node: str, layer: Noisy) -> Form:
        """Returns what is stored of a layer's weight."""
        raise NotImplementedError


class Divergence(Hook):
    """Adds the slopes of KL / N to those of weights and of what layers move beside."""

    def __init__(self, technique: NoisyTraining, n: int):
        super().__init__()
        self.name, self.technique, self.n = technique.word, technique, n

    def settled(self, steps):
        return steps  # alpha grows to the end

    def after_backward(self, state):
        rise = self.technique.warmup * state.steps
        risen = min(1.0, (state.step + 1) / rise) if rise else 1.0
        part = np.float32(self.technique.weight * risen / self.n)
        for node in noisy_nodes(state.model):
            theta = state.weights[f"{node.name}.weight"].data
            for name, slope in node.layer.slopes_of(theta).items():
                full = f"{node.name}.{name}"
                state.weight_grads[full] = state.weight_grads[full] + part * slope
