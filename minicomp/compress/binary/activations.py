"""Nets whose activations become binary: which nodes do, and what stands in front of them.

A sign must see numbers around 0, so that a batch norm stands in front of each; a pooling by maximum
stands in front of both, for the largest of several signs is +1 nearly everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ...errors import UserError
from ...nn.graph import Model, Node
from ...nn.layers import (ActQuant, BatchNorm1d, BatchNorm2d, Layer, MaxPool2d, ReLU, ReLU6,
                          ShiftBatchNorm1d, ShiftBatchNorm2d, Sigmoid, Sign, Tanh)
from ..technique import weights

ORDINARY = {1: BatchNorm1d, 3: BatchNorm2d}  # by the axes of what is normalised
SHIFT = {1: ShiftBatchNorm1d, 3: ShiftBatchNorm2d}
NORMS = (*ORDINARY.values(), *SHIFT.values())
RISING = (ReLU, ReLU6, Sigmoid, Tanh, Sign)  # of a maximum they are the maximum


def activations(model: Model) -> list[str]:
    """Returns the names of the activations between layers with weights: behind one, in front of
    one."""
    layers = set(weights(model))
    behind, before = set(layers), {name for layer in layers for name in model.node(layer).inputs}
    for node in model.nodes:
        if behind & set(node.inputs):
            behind.add(node.name)
    for node in reversed(model.nodes):
        if node.name in before:
            before |= set(node.inputs)
    return [node.name for node in model.nodes
            if node.layer.activation and node.name in behind & before]


def read_by(model: Model, layers: Iterable[str]) -> dict[str, str]:
    """Returns {layer: the activation that it reads}, itself or by way of layers that only hand on
    what they read, for those of the layers that read one."""
    found = {}
    for layer in layers:
        (name,) = model.node(layer).inputs
        for node in _upward(model, name):
            if node.layer.activation:
                found[layer] = node.name
                break
            if not (node.layer.passes or isinstance(node.layer, ActQuant)):
                break
    return found


def check_read(where: str, model: Model, layers: Iterable[str]) -> None:
    """Raises UserError where none of the layers reads an activation.

    where : what messages begin with, the technique and its knob
    """
    if not read_by(model, layers):
        raise UserError(f"{where} needs a binary layer that reads an activation, got none")


def norm_before(model: Model, name: str) -> str | None:
    """Returns the batch norm whose output the node is, or reads by way of layers that only hand on
    what they read; None where there is none."""
    for node in _upward(model, name):
        if isinstance(node.layer, NORMS):
            return node.name
        if not (node.layer.passes or node.name == name and node.layer.activation):
            return None
    return None


def _upward(model: Model, name: str) -> Iterator[Node]:
    # The node, what it reads, and so on, as long as there is one.
    nodes = {node.name: node for node in model.nodes}
    while name in nodes:
        yield nodes[name]
        if len(nodes[name].inputs) != 1:
            return
        (name,) = nodes[name].inputs


def with_binary(model: Model, names: Iterable[str], *, make: Callable[[], Layer] = Sign,
                shift: bool = False) -> Model:
    """Returns the model in which each of the activations is another layer, with a batch norm in
    front, and in front of that the pooling by maximum that alone read it.

    make : gives that layer        shift : whether batch norms in front are by shifts
    Grids of 8 bits and the like that read such an activation go. A pooling stays where it is if a
    channel's batch norm falls. Further norms are called "NAME_bn"; ValueError where that is taken.
    """
    names = list(names)
    model = model.edit({node.name: () for node in model.nodes
                        if isinstance(node.layer, ActQuant) and node.inputs[0] in names})
    for name in names:
        model = _pooled_first(model, name)
    shapes = model.shapes()
    kinds, swap = SHIFT if shift else ORDINARY, {}
    for name in names:
        node, norm = model.node(name), norm_before(model, name)
        if norm is None:
            made = _norm(kinds, shapes[name], f"{name}_bn", node.inputs)
            swap[name] = (made, Node(name, make(), (made.name,)))
            continue
        swap[name] = (replace(node, layer=make()),)
        old = model.node(norm)
        if shift and isinstance(old.layer, tuple(ORDINARY.values())):
            swap[norm] = (replace(old, layer=SHIFT[len(shapes[norm])].of(old.layer)),)
    return model.edit(swap)


def with_signs(model: Model, *, shift: bool = False) -> Model:
    """Returns the model whose activations are signs, with batch norms in front of each and at the
    end; arguments and errors of `with_binary`."""
    made = with_binary(model, activations(model), shift=shift)
    last = made.nodes[-1]
    if norm_before(made, last.name) is not None:
        return made
    norm = _norm(ORDINARY, made.shapes()[last.name], f"{last.name}_bn", (last.name,))
    return made.edit({last.name: (last, norm)})


def _pooled_first(model: Model, name: str) -> Model:
    # With the pooling by maximum that alone reads an activation in front of it and of its norm.
    node, readers = model.node(name), _readers(model, name)
    if len(readers) != 1 or not (isinstance(readers[0].layer, MaxPool2d)
                                 and isinstance(node.layer, RISING)):
        return model
    (pool,), front = readers, [node]
    norm = next((n for n in model.nodes if n.name == node.inputs[0]), None)
    if norm is not None and isinstance(norm.layer, NORMS) and len(_readers(model, norm.name)) == 1:
        if (norm.layer.gain_and_bias()[0] < 0).any():
            return model
        front = [norm, node]
    moved = [replace(n, inputs=(before.name,)) for n, before in zip(front, [pool, *front])]
    model = model.edit({n.name: () for n in front})
    return model.edit({pool.name: (model.node(pool.name), *moved)})


def _readers(model: Model, name: str) -> list[Node]:
    return [node for node in model.nodes if name in node.inputs]


def _norm(kinds: dict, shape: tuple[int, ...], name: str, inputs: tuple[str, ...]) -> Node:
    return Node(name, kinds[len(shape)](shape[0]), inputs)


def behind_pools(model: Model) -> Model:
    """Returns the model in which no sign stands in front of a pooling by maximum that alone reads
    it, but behind it: it gives the same, for signs rise."""
    readers = [name for node in model.nodes for name in node.inputs]
    for pool in model.nodes:
        if isinstance(pool.layer, MaxPool2d) and readers.count(pool.inputs[0]) == 1:
            sign = next((n for n in model.nodes if n.name == pool.inputs[0]), None)
            if sign is not None and isinstance(sign.layer, Sign):
                moved = replace(sign, inputs=(pool.name,))
                return behind_pools(model.edit({sign.name: (), pool.name: (pool, moved)}))
    return model
