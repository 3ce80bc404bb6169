"""Where in two nets features are compared: nodes of the student, and the teacher's beside them.

`to` names them, {student's node: teacher's node}. Where it is left out they are found: activations
on the way to the output, or any maps where a size has no activation.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import UserError
from ...nn.graph import Model
from ..technique import feeding

Shape = tuple[int, ...]


def leading(model: Model) -> list[str]:
    """Returns the nodes on which the output depends, in order, the output itself left out."""
    needed = {model.nodes[-1].name}
    for node in reversed(model.nodes):
        if node.name in needed:
            needed |= set(node.inputs)
    return [node.name for node in model.nodes[:-1] if node.name in needed]


def by_size(model: Model) -> dict[Shape, list[str]]:
    """Returns the maps of each size (H, W) above 1 x 1 that depend on weights, in order:
    activations where there are any."""
    shapes, learnt, found = model.shapes(), feeding(model), {}
    for name in leading(model):
        if learnt[name] and len(shapes[name]) == 3 and shapes[name][1:] != (1, 1):
            found.setdefault(shapes[name][1:], []).append(name)
    for size, names in found.items():
        bending = [name for name in names if model.node(name).layer.activation]
        found[size] = bending or names
    return found


def middle(model: Model) -> str | None:
    """Returns the activation in the middle of those that lead to the output, the earlier of two."""
    found = [name for name in leading(model) if model.node(name).layer.activation]
    return found[(len(found) - 1) // 2] if found else None


def last_maps(student: Model, teacher: Model) -> dict[str, str]:
    """Returns the last maps of each size that both nets have, {student's: teacher's}."""
    theirs = by_size(teacher)
    return {names[-1]: theirs[size][-1] for size, names in by_size(student).items()
            if size in theirs}


def check_nodes(where: str, named: Mapping[str, str], student: Model, teacher: Model) -> None:
    """Raises UserError unless {student's node: teacher's node} are nodes of these nets."""
    for net, whose, names in ((student, "the student", named), (teacher, "the teacher",
                                                                named.values())):
        there = [node.name for node in net.nodes]
        for name in names:
            if name not in there:
                raise UserError(f"{where} must be nodes, {whose} has no {name}; there are "
                                f"{', '.join(there)}")
