"""Dead units (Han, Pool, Tran, Dally 2015, arXiv 1506.02626, section 3.5 "Pruning neurons").

After weights are pruned a neuron may be left without inputs, or without outputs. Either way it can
go, and with it the other side's connections, which may leave further neurons so: the state is
followed in both directions until nothing changes, also what a smaller net has that the larger had
not: two filters of one channel are a unit together, but two units where that channel is the only
one.

    dead forwards    a_j depends on no input: it is the constant f(b_j), and
                     b_next <- b_next + W_next[:, j] f(b_j)                             (1)
    dead backwards   no output depends on a_j

Where we leave the paper: it lets retraining with L2 decay bring dead neurons' biases to 0, and
drops them. Here the constant is folded into the next bias by (1) before the unit goes, so outputs
do not change. A convolution with padding reads 0 beyond the border instead of the constant, so a
unit that it reads goes only if f(b_j) = 0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.graph import Model
from ...tensor import Array
from ..channels.constants import removable
from ..channels.groups import Group, choose_units, groups
from ..channels.choosing import removed_row, without_units
from ..technique import Technique


def dead_units(masks: list[Array]) -> list[Array]:
    """Returns which of each layer's inputs, and of the last outputs, a chain without biases uses.

    masks : (O, I) bool of each layer, first to last, True where a weight is kept
    result : (I,) of the first layer, (O,) of each; alive: reached from a living input and reaching
        an output. Inputs are alive that reach an output; outputs that an input reaches.
    Source: Han et al. 2015, section 3.5, as reachability: forwards once, backwards once
    """
    forwards = [np.ones(masks[0].shape[1], bool)]
    for mask in masks:
        forwards.append((mask & forwards[-1]).any(axis=1))
    backwards = [np.ones(masks[-1].shape[0], bool)]
    for mask in reversed(masks):
        backwards.insert(0, (mask & backwards[0][:, None]).any(axis=0))
    return [f & b for f, b in zip(forwards, backwards)]


def dead_of(model: Model) -> list[tuple[Group, Array]]:
    """Returns which units of each group stay, (U,) bool, when all go that change no output.

    A layer keeps its first unit even if all are dead; groups of a convolution lose equally many.
    """
    gone, chosen = removable(model), []
    for group in groups(model):
        dead = np.isin(group.ids, gone)
        chosen.append(
            (group, choose_units(group, np.arange(group.size)[::-1], int(dead.sum()), dead))
        )
    return chosen


@dataclass(frozen=True)
class DeadUnits(Technique):
    """Removes neurons and channels that pruning left constant or unread; outputs stay the same."""

    word: ClassVar[str] = "dead-units"
    title: ClassVar[str] = "Removal of dead units"
    source: ClassVar[str] = (
        "Han, Pool, Tran & Dally 2015, Learning both Weights and Connections for Efficient Neural "
        "Networks, arXiv:1506.02626"
    )

    def resizes(self):
        return True

    def check(self, model):
        super().check(model)
        groups(model)

    def change(self, model, data, run):
        made, gone, done = model, Counter(), False
        while not done:
            chosen = dead_of(made)
            gone.update({group.name: int((~kept).sum()) for group, kept in chosen})
            made = without_units(made, chosen, fold=True)
            done = all(kept.all() for _, kept in chosen)
        run.log(removed_row(self.word, model, made, []) | {"units": dict(gone)})
        return made
