"""Network slimming (Liu, Li, Shen, Huang, Yan, Zhang 2017, "Learning Efficient Convolutional
Networks through Network Slimming", arXiv 1708.06519).

Each channel already has a number that can switch it off: the scale gamma of its batch norm.
Training adds

    L = sum l(f(x, W), y) + lam sum |gamma|,        d|gamma| = sign(gamma), 0 at 0           (eq. 1)

which drives the scales of channels that matter little to 0; then the channels of least |gamma| over
all layers go at once, a global percentile (section 3.2), and what is left is fine-tuned.

A channel with gamma near 0 outputs f(beta), not 0. The paper drops it and lets fine-tuning make up
for it; here (`fold`, on by default) f(beta) goes into the next layer's bias first, wherever that
has no padding. Channels joined by an addition are worth the sum of their scales; the paper selects
channels ahead of each block instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.graph import Model
from ...tensor import Array, no_grad
from ...train import Hook
from ..channels.groups import Group, groups
from ..channels.choosing import (
    at_group, check_groups, local, overall, without_units, zeroed,
)
from ..finetune import Trained
from ..technique import knob, one_for_all


def l1_subgradient(gamma: Array, lam: float) -> Array:
    """Returns the subgradient of lam sum |gamma|: lam sign(gamma), 0 at 0.

    Source: Liu et al. 2017, eq. (1)
    """
    return np.asarray(lam, gamma.dtype) * np.sign(gamma)


def scales(model: Model, group: Group) -> Array:
    """Returns the sum of |gamma| of each unit of a group, (U,), NaN where it has no batch norm."""
    total, count = np.zeros(group.size), np.zeros(group.size)
    for name in group.members:
        layer = model.node(name).layer
        if layer.normalises:
            with no_grad():
                gamma = np.abs(layer.forms["weight"].dense().data)
            total, count = total + group.add(name, gamma), count + group.add(
                name, np.ones(len(gamma))
            )
    return np.where(count > 0, total, np.nan)


@dataclass(frozen=True)
class Slimming(Trained):
    """Trains with an L1 penalty on batch norm's scales, then removes channels of least scale."""

    word: ClassVar[str] = "slimming"
    title: ClassVar[str] = "Network slimming"
    source: ClassVar[str] = (
        "Liu, Li, Shen, Huang, Yan & Zhang 2017, Learning Efficient Convolutional Networks through "
        "Network Slimming, arXiv:1708.06519"
    )

    sparsity: float = knob(
        0.7, "fraction of channels removed", lo=0, hi=1, below=True, per_layer=True
    )
    lam: float = knob(1e-4, "weight of sum |gamma| in the loss", lo=0.0)
    scope: str = knob(
        "global", "what is ranked together: all layers, or local", choices=("global", "local")
    )
    fold: bool = knob(True, "keep f(beta) of removed channels in the next layer's bias")

    def __post_init__(self):
        super().__post_init__()
        one_for_all(self.word, self.scope, self.sparsity)

    def resizes(self):
        return self.scope == "global"

    def check_shapes(self, model):
        if not self.resizes():
            local(self.word, self.scored(model), self.asked)

    def asked(self, group: Group) -> float:
        """Returns the sparsity asked of a group."""
        return at_group(self, "sparsity", group)

    def check(self, model):
        super().check(model)
        scored = self.scored(model)
        if self.fold:  # a scale that cannot be set to 0 is refused before anything is trained
            switched_off(model, [(g, np.zeros(g.size, bool)) for g, _ in scored])

    def hooks(self, model, data, run):
        return [ScalePenalty(self.lam)]

    def finish(self, model, run):
        made = self.slimmed(model)
        run.log({"event": "removed", "name": self.word, "weights": model.count() - made.count()})
        return made

    def scored(self, model: Model) -> list[tuple[Group, Array]]:
        """Returns the groups that batch norm scales, with their units' scales."""
        found = [(g, scales(model, g)) for g in groups(model)]
        found = [(g, worth) for g, worth in found if not np.isnan(worth).all()]
        check_groups(self, [g for g, _ in found], "whose channels a batch norm scales")
        return found

    def slimmed(self, model: Model) -> Model:
        """Returns the model without the channels of least scale."""
        scored = self.scored(model)
        chosen = (
            overall(self.word, scored, self.sparsity)
            if self.scope == "global"
            else local(self.word, scored, self.asked)
        )
        start = switched_off(model, chosen) if self.fold else model
        return without_units(start, chosen, fold=self.fold)


class ScalePenalty(Hook):
    """Adds the subgradient of lam sum |gamma| to that of every batch norm's scale."""

    name = Slimming.word

    def __init__(self, lam: float):
        super().__init__()
        self.lam = lam

    def after_backward(self, state):
        for node in state.model.nodes:
            name = f"{node.name}.weight"
            if node.layer.normalises and name in state.weight_grads:
                gamma = state.weights[name].data
                state.weight_grads[name] = (
                    state.weight_grads[name] + l1_subgradient(gamma, self.lam)
                )


def switched_off(model: Model, chosen: list[tuple[Group, Array]]) -> Model:
    """Returns the model with gamma = 0 for the units that go, so that they output f(beta).

    Raises UserError, by name, for a gamma that can neither move nor carry a mask.
    """
    return zeroed(model, {
        f"{name}.weight": (of < 0) | kept[of]
        for group, kept in chosen
        for name, of in group.members.items()
        if model.node(name).layer.normalises
    })
