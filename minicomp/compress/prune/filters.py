"""Filter pruning by norm (Li, Kadav, Durdanovic, Samet, Graf 2017, arXiv 1608.08710).

Removing single weights leaves a matrix with holes, which a dense library multiplies no faster.
Removing whole filters leaves a smaller dense net. A filter's worth is the sum of its absolute
weights,

    s_j = sum |F_j|,   or the Euclidean norm                                        (section 3.1)

and the filters of least worth go: `sparsity` of each layer (or of all layers together), or all with
s_j <= T, the rule for a fully connected unit. Layers joined by an addition lose the same filters,
those of least sum of their norms; the paper lets the shortcut of a residual block decide for the
block.

Between layers norms are compared as multiples of their layer's mean: a filter of more inputs has a
larger sum, and the paper ranks within layers only.

With `fold` the removed filter's constant f(b_j) stays in the next layer's bias: removal then
changes what the unit's weights did, not what its bias did. Off, as in the paper, the bias is lost
too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array, no_grad
from ..channels.groups import Group, groups
from ..channels.choosing import (
    at_group, check_groups, emptied, local, overall, removed_row, unscored, without_units,
)
from ..technique import Technique, knob, one_for_all


def filter_norms(w: Array, order: int = 1) -> Array:
    """Returns the norm of each filter, (O,) float64.

    w : (O, ...)        order : 1, sum of |w|, or 2, root of the sum of w^2
    Source: Li et al. 2017, section 3.1
    """
    flat = np.abs(w.reshape(len(w), -1).astype(np.float64))
    return flat.sum(axis=1) if order == 1 else np.sqrt((flat * flat).sum(axis=1))


def group_norms(model: Model, group: Group, order: int = 1) -> Array:
    """Returns the norms of a group's units, (U,), summed over the layers that are tied together."""
    with no_grad():
        return sum(
            group.add(n, filter_norms(model.node(n).layer.forms["weight"].dense().data, order))
            for n in group.nodes
        )


@dataclass(frozen=True)
class Filters(Technique):
    """Removes the filters, or units, of least norm; one of sparsity and threshold sets how many."""

    word: ClassVar[str] = "filters"
    title: ClassVar[str] = "Filter pruning by norm"
    source: ClassVar[str] = (
        "Li, Kadav, Durdanovic, Samet & Graf 2017, Pruning Filters for Efficient ConvNets, "
        "arXiv:1608.08710"
    )

    sparsity: float | None = knob(
        None,
        "fraction of filters removed, exactly round(s n)",
        type=float,
        lo=0,
        hi=1,
        below=True,
        optional=True,
        per_layer=True,
    )
    threshold: float | None = knob(
        None, "filters of a norm up to this go", type=float, lo=0, optional=True, per_layer=True
    )
    norm: int = knob(1, "1, sum of |w|, or 2, Euclidean", lo=1, hi=2)
    scope: str = knob(
        "local", "what is ranked together: each layer, or global", choices=("local", "global")
    )
    fold: bool = knob(
        False, "keep the removed filters' biases as a constant in the next layer's bias"
    )

    def __post_init__(self):
        super().__post_init__()
        given = [n for n in ("sparsity", "threshold") if getattr(self, n) is not None]
        if len(given) != 1:
            raise UserError(
                f"filters: exactly one of sparsity and threshold must be given, got "
                f"{' and '.join(given) or 'none'}"
            )
        one_for_all(self.word, self.scope, self.sparsity)

    def resizes(self):
        return self.threshold is not None or self.scope == "global"

    def check(self, model):
        check_groups(self, groups(model))

    def check_shapes(self, model):
        if not self.resizes():
            local(self.word, unscored(groups(model)), self.asked)

    def asked(self, group: Group) -> float:
        """Returns the sparsity asked of a group."""
        return at_group(self, "sparsity", group) or 0.0

    def change(self, model, data, run):
        scored = [(g, group_norms(model, g, self.norm)) for g in groups(model)]
        if self.threshold is not None:
            chosen = [(g, self.above(g, norms)) for g, norms in scored]
        elif self.scope == "global":
            relative = [(g, norms / (norms.mean() or 1.0)) for g, norms in scored]
            chosen = overall(self.word, relative, self.sparsity)
        else:
            chosen = local(self.word, scored, self.asked)
        start = emptied(model, chosen) if self.fold else model
        made = without_units(start, chosen, fold=self.fold)
        run.log(removed_row(self.word, model, made, chosen))
        return made

    def above(self, group: Group, norms: Array) -> Array:
        """Returns which units have a norm above the threshold; UserError where none has."""
        threshold = at_group(self, "threshold", group)
        kept = np.ones(group.size, bool) if threshold is None else norms > threshold
        if not kept.any():
            raise UserError(
                f"filters: threshold {threshold:g} would remove all {group.size} channels of "
                f"{group.name}; their norms reach {norms.max():g}"
            )
        return kept
