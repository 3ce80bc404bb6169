"""Where the activations of a net lie on grids: nodes `ActQuant` behind the values that are kept.

An integer program keeps a value after a layer with weights, an average, an addition or a
concatenation; the batch norm and the activation that alone read it become part of it. Pooling by
maximum, flattening and the like hand on what they read, grid included. So a grid stands behind the
input (behind its normalisation), and behind each such group; what the net gives at its end, the
logits, stays as it is. So do signs, which need no grid, and what becomes signs before a layer reads
it.
Source: Jacob et al. 2018, arXiv 1712.05877, section 2.4, figure C.4 for the fusion
"""

from __future__ import annotations

from collections.abc import Mapping

from ...nn.graph import INPUT, Model, Node
from ...nn.layers import ActQuant
from ..technique import weights


def places(model: Model) -> list[str]:
    """Returns the names of the values that get a grid, in order; "x" is the input.

    A value that an ActQuant reads already is not among them.
    """
    readers: dict[str, list[Node]] = {INPUT: []} | {node.name: [] for node in model.nodes}
    for node in model.nodes:
        for name in node.inputs:
            readers[name].append(node)
    read, signs = _read(model), _signs(model, readers)
    found = []
    for name in readers:
        layer = None if name == INPUT else model.node(name).layer
        kept = layer is None or not layer.passes and not isinstance(layer, ActQuant)
        if kept and name not in signs and name in read and not _joined(layer, readers[name]):
            found.append(name)
    return found


def _joined(layer, readers: list[Node]) -> bool:
    # Whether the value becomes part of the one layer that reads it, or lies on a grid already.
    after = readers[0].layer if len(readers) == 1 else None
    if after is None:
        return False
    if layer is None:  # the input, in front of its normalisation
        return after.step == "scale" or isinstance(after, ActQuant)
    return after.normalises or after.activation or isinstance(after, ActQuant)


def _signs(model: Model, readers: dict[str, list[Node]]) -> set[str]:
    # The values that are signs, or become signs before a layer with weights or an average reads.
    found: set[str] = set()
    for node in reversed(model.nodes):
        after = readers[node.name]
        if node.layer.step == "sign" or after and all(
                n.layer.step == "sign" or n.name in found and (n.layer.passes or n.layer.normalises
                                                               or n.layer.step == "scale")
                for n in after):
            found.add(node.name)
    return found


def _read(model: Model) -> set[str]:
    # The values that anything but a layer that hands them on to the end reads.
    needed: set[str] = set()
    for node in reversed(model.nodes):
        if node.name in needed or not node.layer.passes:
            needed |= set(node.inputs)
    return needed


def with_grids(model: Model, layers: Mapping[str, ActQuant]) -> Model:
    """Returns the model with an ActQuant behind each named value; whoever read it reads that.

    layers : by name of a node, or "x"; the node is called "NAME_q"
    Raises ValueError for a name that is no value, or where "NAME_q" is taken.
    """
    names = {INPUT} | {node.name for node in model.nodes}
    for name in layers:
        if name not in names or f"{name}_q" in names:
            raise ValueError(f"a grid needs a node to stand behind and the name {name}_q, got "
                             f"{', '.join(names)}")
    renamed: dict[str, str] = {}
    nodes: list[Node] = []

    def add(name):
        if name in layers:
            nodes.append(Node(f"{name}_q", layers[name], (name,)))
            renamed[name] = f"{name}_q"

    add(INPUT)
    for node in model.nodes:
        nodes.append(Node(node.name, node.layer, tuple(renamed.get(i, i) for i in node.inputs)))
        add(node.name)
    return model.rebuilt(nodes)


def readers(model: Model) -> dict[str, frozenset[str]]:
    """Returns by value, and "x", the layers with `weights` that read it, through whatever lies
    between: those whose `act_bits` it has, the most of several."""
    names, found = weights(model), {name: frozenset() for name in (INPUT, *_names(model))}
    for node in reversed(model.nodes):
        mine = frozenset([node.name]) if node.name in names else found[node.name]
        for name in node.inputs:
            found[name] |= mine
    return found


def nonnegative(model: Model) -> dict[str, bool]:
    """Returns by value, and "x", whether its layers alone make sure that it is nowhere below 0."""
    found = {INPUT: False}
    for node in model.nodes:
        layer = node.layer
        keeps = layer.passes or layer.coupling in ("add", "concat") or "pool" in (layer.step or "")
        found[node.name] = layer.rectifies or layer.step == "sigmoid" or (
            keeps and all(found[name] for name in node.inputs))
    return found


def _names(model: Model) -> list[str]:
    return [node.name for node in model.nodes]


def without_grids(model: Model) -> Model:
    """Returns the model without its ActQuant nodes: activations are floats again."""
    return model.edit({name: () for name in grids(model)})


def grids(model: Model) -> dict[str, ActQuant]:
    """Returns the ActQuant layers by the names of their nodes, in order."""
    return {n.name: n.layer for n in model.nodes if isinstance(n.layer, ActQuant)}
