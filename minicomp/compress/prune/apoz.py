"""Network trimming by APoZ (Hu, Peng, Tai, Tang 2016, "Network Trimming", arXiv 1607.03250).

A unit whose activation is 0 for most inputs does little. Over N examples and the M places of its
map,

    APoZ_c = sum over n, m of 1[a_c,m(n) = 0] / (N M)                                     (eq. 1)

the average percentage of zeros, here a fraction in 0..1. Units whose APoZ is more than `deviations`
standard deviations above their layer's mean go (section 3.2), or the fraction `sparsity` of highest
APoZ. The paper then retrains and repeats.

The count is taken behind the ReLU (the first, or for layers joined by an addition the mean over
all, through which the channel passes); units that pass through none are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.graph import Model
from ...nn.taps import observe
from ...tensor import Array
from ..examples import calibration
from ..channels.groups import Group, choose_units, groups
from ..channels.choosing import (
    Scored, at_group, check_groups, local, removed_row, without_units,
)
from ..technique import Run, Technique, knob

WHAT = "whose channels pass a ReLU and can be removed"


def apoz(a: Array) -> Array:
    """Returns the fraction of zeros of each channel, (C,) float64.

    a : (N, C) or (N, C, H, W), behind a ReLU        Source: Hu et al. 2016, eq. (1)
    """
    return (a == 0).mean(axis=tuple(i for i in range(a.ndim) if i != 1), dtype=np.float64)


def trimmed(zeros: Array, deviations: float) -> Array:
    """Returns which units stay, (C,) bool: those of an APoZ up to mean + deviations x std.

    zeros : (C,)        Source: ibid., section 3.2
    """
    return ~(zeros > np.nanmean(zeros) + deviations * np.nanstd(zeros))


def measured(model: Model, x: Array) -> dict[str, Array]:
    """Returns for each ReLU node its channels' APoZ, (C,), over the examples x."""
    total = {n.name: 0.0 for n in model.nodes if n.layer.rectifies}
    for seen in observe(model, x, total):
        for name, a in seen.items():
            total[name] = total[name] + apoz(a) * len(a)
    return {name: t / len(x) for name, t in total.items()}


def of_group(group: Group, zeros: dict[str, Array]) -> Array:
    """Returns the APoZ of a group's units, (U,), NaN where no ReLU sees them."""
    seen = [n for n in group.members if n in zeros]
    if len(group.nodes) == 1:
        seen = seen[:1]
    count = sum((group.add(n, np.ones(len(zeros[n]))) for n in seen), np.zeros(group.size))
    total = sum((group.add(n, zeros[n]) for n in seen), np.zeros(group.size))
    return np.divide(total, count, out=np.full(group.size, np.nan), where=count > 0)


@dataclass(frozen=True)
class APoZ(Technique):
    """Removes the units that are 0 most often."""

    word: ClassVar[str] = "apoz"
    title: ClassVar[str] = "Network trimming by average percentage of zeros"
    source: ClassVar[str] = (
        "Hu, Peng, Tai & Tang 2016, Network Trimming: A Data-Driven Neuron Pruning Approach "
        "towards Efficient Deep Architectures, arXiv:1607.03250"
    )

    sparsity: float | None = knob(
        None, "fraction of units removed; without it the paper's rule holds", type=float, lo=0,
        hi=1, below=True, optional=True, per_layer=True,
    )
    deviations: float = knob(
        1.0, "units this many standard deviations above the mean APoZ go", lo=0.0, per_layer=True
    )
    samples: int = knob(
        2000, "training examples on which zeros are counted; all where there are fewer", lo=1
    )

    def reads(self):
        return ("train",)

    def resizes(self):
        return self.sparsity is None

    def check(self, model):
        check_groups(self, [g for g, _ in self.seen(model)], WHAT)

    def check_shapes(self, model):
        if not self.resizes():
            local(self.word, self.seen(model), self.asked)

    def seen(self, model: Model) -> Scored:
        """Returns the groups that a ReLU sees, NaN for units that none does."""
        zeros = {n.name: np.zeros(model.shapes()[n.name][0])
                 for n in model.nodes if n.layer.rectifies}
        return self.scored(model, zeros)

    def scored(self, model: Model, zeros: dict[str, Array]) -> Scored:
        """Returns the groups that a ReLU sees with 1 - APoZ of their units; zeros : of `measured`.
        """
        found = [(g, 1 - of_group(g, zeros)) for g in groups(model)]
        return [(g, worth) for g, worth in found if not np.isnan(worth).all()]

    def asked(self, group: Group) -> float:
        """Returns the sparsity asked of a group."""
        return at_group(self, "sparsity", group) or 0.0

    def change(self, model, data, run):
        x = calibration(self, data, run).x
        return self.trim(model, measured(model, x), run)

    def sketch(self, model, *, rng):
        x = rng.standard_normal((8, *model.input_shape)).astype(np.float32)
        return self.trim(model, measured(model, x), Run(rng))

    def trim(self, model: Model, zeros: dict[str, Array], run: Run) -> Model:
        """Returns the model without the units whose APoZ is too high; zeros : of `measured`."""
        scored = self.scored(model, zeros)
        if self.sparsity is None:
            chosen = [(g, self.by_rule(g, worth)) for g, worth in scored]
        else:
            chosen = local(self.word, scored, self.asked)
        made = without_units(model, chosen)
        run.log(removed_row(self.word, model, made, chosen))
        return made

    def by_rule(self, group: Group, worth: Array) -> Array:
        """Returns which units stay under the paper's rule, (U,) bool."""
        goes = ~trimmed(1 - worth, at_group(self, "deviations", group))
        return choose_units(group, np.nan_to_num(worth), int(goes.sum()), goes)
