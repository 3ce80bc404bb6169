"""Which channels can go together, and which of them to choose.

A *group* is a set of layers whose output channels are tied by additions, or demanded in equal
numbers, so that they are removed together; for most layers that is the layer alone. A score per
unit of a group says what its removal costs; `choose_units` lets those of least go. Convolutions in
groups and shuffles demand that equally many go from each of their parts, so there the set that goes
is the solution of a small integer program.

C channels of a node's output, U units of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...nn.graph import INPUT, Model
from ...tensor import Array
from .couplings import Keep, couplings
from .units import units


@dataclass(frozen=True)
class Group:
    """Layers whose channels are removed together.

    nodes : the layers that compute the units, first to last
    members : every node whose output carries units of the group -> (C,) which unit, -1 for another
        group's
    ids : (U,) the units as `units` numbers them
    splits : for each part that a grouped convolution or a shuffle demands, (parts, U): how often
        each part holds each unit; all parts of one split must lose equally many
    """

    nodes: tuple[str, ...]
    members: dict[str, Array]
    ids: Array
    splits: tuple[Array, ...] = ()

    @property
    def size(self) -> int:
        """U, the number of units."""
        return len(self.ids)

    @property
    def name(self) -> str:
        """The names of its layers joined by "+", of more than three the first and how many more."""
        if len(self.nodes) > 3:
            return f"{self.nodes[0]}+{len(self.nodes) - 1} more"
        return "+".join(self.nodes)

    def keep(self, kept: Array) -> dict[str, Array]:
        """Returns what `removal` takes: layer -> its kept channels, for kept units, (U,) bool."""
        return {
            node: (of < 0) | kept[of] for node, of in ((n, self.members[n]) for n in self.nodes)
        }

    def add(self, node: str, scores: Array) -> Array:
        """Returns the sum over the node's channels of their scores for each unit, (U,) float64.

        scores : (C,), one per channel of the node's output
        """
        of = self.members[node]
        return np.bincount(
            of[of >= 0], weights=np.asarray(scores, np.float64)[of >= 0], minlength=self.size
        )


def groups(model: Model) -> list[Group]:
    """Returns the groups of units that can be removed: neither input nor output of the model."""
    found, ways = units(model), couplings(model)
    free = set(np.concatenate(list(found.of.values())).tolist()) - set(found.pinned)
    splits = _splits(ways, found.of)
    makers = [name for name, way in ways.items() if way.ends]
    linked = [([name], found.of[name]) for name in makers] + [([], of) for of, _ in splits]
    parts: list[tuple[list[str], set[int]]] = []
    for names, of in linked:  # parts that share a unit become one
        ids = free & set(of.tolist())
        joined = [p for p in parts if p[1] & ids]
        parts = [p for p in parts if p not in joined]
        if ids:
            parts.append((sum((p[0] for p in joined), names), ids.union(*(p[1] for p in joined))))
    found_groups = [
        _group(sorted(names, key=makers.index), np.array(sorted(ids)), found, splits)
        for names, ids in parts
    ]
    return sorted(found_groups, key=lambda g: makers.index(g.nodes[0]))


def _group(names: list[str], ids: Array, found, splits) -> Group:
    def place(of: Array) -> Array:
        at = np.searchsorted(ids, of).clip(max=len(ids) - 1)
        return np.where(ids[at] == of, at, -1)

    members = {node: place(of) for node, of in found.of.items() if node != INPUT}
    members = {node: of for node, of in members.items() if (of >= 0).any()}
    mine = []
    for of, part in splits:
        at = place(of)
        if (at >= 0).any():
            counts = np.zeros((part.max() + 1, len(ids)), int)
            np.add.at(counts, (part[at >= 0], at[at >= 0]), 1)
            mine.append(counts)
    return Group(tuple(names), members, ids, tuple(mine))


def _splits(ways: dict[str, Keep], of: dict[str, Array]) -> list[tuple[Array, Array]]:
    # What must lose equally many, as (units, part of each), with labels of channels handed on.
    splits, label = [], {INPUT: np.zeros(len(of[INPUT]), int)}
    for name, way in ways.items():
        label[name], demands = way.parts([label[i] for i in way.inputs])
        splits += [(of[way.inputs[0] if side == "in" else name], part) for side, part in demands]
    return splits


def choose_units(group: Group, scores: Array, count: int, free: Array | None = None) -> Array:
    """Returns which units stay, (U,) bool, when those of least score go, ties by lowest index.

    scores : (U,), what each unit's removal costs        count : how many are to go
    free : (U,) bool, which may go; None: all
    No layer loses its last channel. Where groups or shuffles demand equal parts, as many as
    possible up to `count` go; the set is then the optimum of an integer program.
    """
    scores = np.asarray(scores, np.float64)
    free = np.ones(group.size, bool) if free is None else free
    order = np.argsort(np.where(free, scores, np.inf), kind="stable")
    kept = np.ones(group.size, bool)
    kept[order[: min(count, int(free.sum()))]] = False
    if not group.splits and all(
        kept[group.members[n]][group.members[n] >= 0].any() or (group.members[n] < 0).any()
        for n in group.nodes
    ):
        return kept
    return ~_balanced(group, scores, count, free)


def _balanced(group: Group, scores: Array, count: int, free: Array) -> Array:
    # max sum z, then min scores . z, over z in {0, 1}: every part of a split loses as many as its
    # neighbour.
    from scipy.optimize import Bounds, LinearConstraint, milp

    equal = [row for split in group.splits for row in np.diff(split, axis=0)]
    least = [
        np.bincount(of[of >= 0], minlength=group.size)
        for of in (group.members[n] for n in group.nodes)
    ]
    spare = [len(group.members[n]) - 1 for n in group.nodes]
    rules = [
        LinearConstraint(np.array(least), ub=spare),
        LinearConstraint(np.ones(group.size), ub=count),
    ]
    if equal:
        rules.append(LinearConstraint(np.array(equal), 0, 0))
    ask = {
        "integrality": np.ones(group.size),
        "bounds": Bounds(0, free.astype(float)),
        "options": {"mip_rel_gap": 0},
    }
    most = milp(-np.ones(group.size), constraints=rules, **ask)
    if most.x is None:
        raise UserError(f"{group.name}: no set of channels to remove was found: {most.message}")
    n = round(most.x.sum())
    rules[1] = LinearConstraint(np.ones(group.size), n, n)
    span = np.abs(scores[free]).max(initial=0.0) or 1.0
    return milp(np.where(free, scores / span, 0.0), constraints=rules, **ask).x > 0.5
