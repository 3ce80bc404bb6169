"""FPGM: filter pruning via geometric median (He, Liu, Wang, Hu, Yang 2019, arXiv 1811.00250).

Small filters may matter; *replaceable* ones do not. The filters nearest to the geometric median of
their layer are represented by the others,

    g(x) = sum_j ||x - F_j||_2,        pruned: the filters of least g                    (eq. 4, 5)

The filters, or units, are taken out of the net, as `filters` does: layers joined by an addition
lose the same ones, those of least sum of their g, and with `fold` the constant f(b_j) that a
removed filter would still give stays in the next layer's bias. With `remove` off they are masked
and the net keeps its size, so that criteria can be compared; what it computes then is what removal
with `fold` leaves.

A filter that is 0 already, by an earlier mask, goes first. The paper prunes softly after every
epoch of a training and lets masked filters learn on; here the filters go at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.graph import Model
from ...tensor import Array, no_grad
from ..channels.groups import Group, groups
from ..channels.choosing import (
    at_group, check_groups, emptied, local, removed_row, unscored, without_units,
)
from ..technique import Technique, check_maskable, knob, masked


def fpgm_score(w: Array) -> Array:
    """Returns the sum of Euclidean distances of each filter to all others, (O,) float64.

    w : (O, ...)        Source: He et al. 2019, eq. (5)
    """
    f = w.reshape(len(w), -1).astype(np.float64)
    small = f.size * len(f) <= 2**24
    square = np.square(f[:, None] - f[None]).sum(axis=2) if small else _distances(f)
    return np.sqrt(square).sum(axis=1)


def group_distances(model: Model, group: Group) -> Array:
    """Returns g of a group's units, (U,) float64, over the layers tied together; -1: all are 0."""
    with no_grad():
        filters = {n: model.node(n).layer.forms["weight"].dense().data for n in group.nodes}
    total = sum(group.add(n, fpgm_score(w)) for n, w in filters.items())
    used = sum(group.add(n, np.abs(w).reshape(len(w), -1).max(axis=1)) for n, w in filters.items())
    return np.where(used > 0, total, -1.0)


@dataclass(frozen=True)
class FPGM(Technique):
    """Removes the filters, or units, that the others of their layer can best stand in for."""

    word: ClassVar[str] = "fpgm"
    title: ClassVar[str] = "Filter pruning via geometric median"
    source: ClassVar[str] = (
        "He, Liu, Wang, Hu & Yang 2019, Filter Pruning via Geometric Median for Deep Convolutional "
        "Neural Networks Acceleration, arXiv:1811.00250"
    )

    sparsity: float = knob(
        0.3, "fraction of a layer's filters that goes", lo=0, hi=1, below=True, per_layer=True
    )
    remove: bool = knob(True, "take the filters out; false masks them")
    fold: bool = knob(
        False, "keep the removed filters' biases as a constant in the next layer's bias"
    )

    def check(self, model):
        check_groups(self, groups(model))
        if not self.remove:
            check_maskable(self.word, model)

    def check_shapes(self, model):
        local(self.word, unscored(groups(model)), self.asked)

    def asked(self, group: Group) -> float:
        """Returns the sparsity asked of a group."""
        return at_group(self, "sparsity", group)

    def change(self, model, data, run):
        chosen = self.chosen(model)
        if not self.remove:
            return masked(model, _rows(model, chosen))
        start = emptied(model, chosen) if self.fold else model
        made = without_units(start, chosen, fold=self.fold)
        run.log(removed_row(self.word, model, made, chosen))
        return made

    def chosen(self, model: Model) -> list[tuple[Group, Array]]:
        """Returns which units stay, (U,) bool, of every group."""
        scored = [(g, group_distances(model, g)) for g in groups(model)]
        return local(self.word, scored, self.asked)


def _rows(model: Model, chosen: list[tuple[Group, Array]]) -> dict[str, Array]:
    # The masks of the layers that compute the units: whole filters.
    masks = {}
    for group, kept in chosen:
        for node, stays in group.keep(kept).items():
            name = f"{node}.weight"
            masks[name] = _by_row(stays, model.forms()[name].shape)
    return masks


def _by_row(values: Array, shape: tuple[int, ...]) -> Array:
    # A number for each filter, at every weight of it.
    return np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - 1)), shape).copy()


def _distances(f: Array) -> Array:
    # Squared distances by the Gram matrix, for layers too large for the direct difference.
    norm = np.square(f).sum(axis=1)
    return np.maximum(norm[:, None] + norm[None] - 2 * f @ f.T, 0)
