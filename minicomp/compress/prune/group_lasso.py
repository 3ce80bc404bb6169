"""Group lasso over filters (Wen, Wu, Wang, Chen, Li 2016, "Learning Structured Sparsity in Deep
Neural Networks", arXiv 1608.03665).

A penalty on |w| makes single weights 0; one on the norm of a whole filter makes whole filters 0,

    E(W) = E_D(W) + lam sum_g ||w_g||,      ||w_g|| = sqrt(sum of w^2 of filter g)    (eqs. 1, 2)

and what is 0 altogether leaves the net without a trace. The gradient of ||w_g|| has length 1
however small w_g is, so that descent jumps about 0. The proximal step after each step of the
optimizer reaches it: every filter shrinks by lr lam, and one that is shorter becomes exactly 0,

    w_g <- w_g max(0, 1 - lr lam / ||w_g||)

(block soft thresholding: the w that minimises ||w - w_g||^2 / 2 + lr lam ||w||). With momentum m a
gradient moves the weights by lr / (1 - m) in the long run, which is then the lr of this step too,
so that lam means the same under any m. lr is
the group's own where rates differ by layer. Adam's steps do not follow the size of the gradient;
there lam is a matter of trying.

Where we leave the paper: it descends the penalty's gradient, and small weights are set to 0. A
unit's bias belongs to its group here, so that a unit at 0 outputs f(0). Layers joined by an
addition lose the same units, so these are one group. Of the paper's shapes, filters are here; the
others (channels, columns, depth) are not. The penalty acts to the end, so that no earlier epoch is
the best one: its net has more filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array
from ...train import Hook
from ..channels.groups import Group, choose_units, groups
from ..channels.choosing import at_group, check_groups, removed_row, without_units
from ..finetune import Trained
from ..technique import check_movable, knob


def group_prox(norms: Array, t: float) -> Array:
    """Returns by what each group's weights are multiplied, max(0, 1 - t / norm), 0 where norm is 0.

    norms : (G,), Euclidean, of the groups        t : >= 0, lr lam
    Source: Yuan & Lin 2006, as the proximal operator of t ||w||

    >>> group_prox(np.array([5., 2., 0.]), 2.0).tolist()
    [0.6, 0.0, 0.0]
    """
    return np.maximum(norms - t, 0.0) / np.where(norms > 0, norms, 1.0)


def unit_norms(model: Model, group: Group) -> Array:
    """Returns the Euclidean norm of each unit of a group, (U,) float64: its weights and biases in
    all layers that are tied together.
    """
    total = np.zeros(group.size)
    for node in group.nodes:
        for form in model.node(node).layer.forms.values():
            w = form.dense().data.astype(np.float64)
            total += group.add(node, np.square(w.reshape(len(w), -1)).sum(axis=1))
    return np.sqrt(total)


@dataclass(frozen=True)
class GroupLasso(Trained):
    """Trains under a penalty on the norms of filters, or units, and removes those that became 0."""

    word: ClassVar[str] = "group-lasso"
    plain: ClassVar[bool] = True
    title: ClassVar[str] = "Group lasso over filters"
    source: ClassVar[str] = (
        "Wen, Wu, Wang, Chen & Li 2016, Learning Structured Sparsity in Deep Neural Networks, "
        "arXiv:1608.03665"
    )

    lam: float = knob(1e-3, "weight of the sum of the filters' norms", lo=0.0, per_layer=True)

    def resizes(self):
        return True

    def check(self, model):
        super().check(model)
        self.found(model)
        check_movable(self.word, model, model.forms())

    def hooks(self, model, data, run):
        return [Proximal(self, self.found(model))]

    def finish(self, model, run):
        chosen = [(g, survivors(model, g)) for g in self.found(model)]
        made = without_units(model, chosen, fold=True)
        run.log(removed_row(self.word, model, made, chosen))
        return made

    def found(self, model: Model) -> list[Group]:
        """Returns the groups under the penalty; UserError for none, or one that is not known."""
        found = groups(model)
        check_groups(self, found)
        for group in found:
            at_group(self, "lam", group)
        return found


class Proximal(Hook):
    """Takes the proximal step of every group after each step of the optimizer."""

    name = GroupLasso.word

    def __init__(self, technique: GroupLasso, found: list[Group]):
        super().__init__()
        self.technique, self.found = technique, found

    def settled(self, steps):
        return steps  # filters become 0 up to the last step

    def after_step(self, state):
        for group in self.found:
            rate = group_rate(state, group) / (1 - state.optimizer.momentum)
            lam = at_group(self.technique, "lam", group)
            factor = group_prox(unit_norms(state.model, group), rate * lam)
            if not factor.any():
                raise UserError(
                    f"group-lasso: lam {lam:g} leaves none of the {group.size} units of "
                    f"{group.name}; a smaller one must be given"
                )
            for node in group.nodes:
                of = group.members[node]
                scale = np.where(of < 0, 1.0, factor[of]).astype(np.float32)
                for form in state.model.node(node).layer.forms.values():
                    w = form.values()
                    w *= scale.reshape((-1,) + (1,) * (w.ndim - 1))


def group_rate(state, group: Group) -> float:
    """Returns the learning rate of a group at this moment; UserError where its weights and biases
    have different ones: no single step of the group belongs to them.
    """
    rates = {
        name: state.optimizer.rate(name)
        for node in group.nodes
        for name in (f"{node}.{part}" for part in state.model.node(node).layer.forms)
    }
    if len(set(rates.values())) > 1:
        raise UserError(
            f"group-lasso: {group.name} must have one learning rate, got "
            + ", ".join(f"{rate:g} for {name}" for name, rate in rates.items())
        )
    return next(iter(rates.values()))


def survivors(model: Model, group: Group) -> Array:
    """Returns which units stay, (U,) bool: those that are not 0, and of the others those that a
    convolution in groups or a shuffle holds.
    """
    norms = unit_norms(model, group)
    return choose_units(group, norms, int((norms == 0).sum()), norms == 0)
