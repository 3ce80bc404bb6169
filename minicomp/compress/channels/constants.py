"""Channels that are constant, channels that nobody reads, and moving a constant into the next bias.

A unit all of whose incoming weights are 0, or whose batch norm has scale 0, outputs f(b), the same
for every input. It can go once f(b) times its outgoing weights is in the biases of its readers:

    b_next <- b_next + W_next[:, j] f(b_j)

A convolution with padding reads 0 instead of the constant along the border, so that there only f(b)
= 0 can be moved. A unit all of whose outgoing weights are 0, or lead only to units of that kind,
can go as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...nn.forms import Dense
from ...nn.graph import INPUT, Model
from ...nn.layers import Layer
from ...tensor import Array, no_grad
from .couplings import couplings, foldable, sums
from .units import units


def constants(model: Model) -> dict[str, Array]:
    """Returns for every node the value of each channel that is one number for every input and
    place, else NaN.

    result : node -> (C,) float64        A value passes through zeros: unread inputs do not matter.
    """
    value = {INPUT: np.full(model.input_shape[0], np.nan)}
    for name, way in couplings(model).items():
        value[name] = way.constant([value[i] for i in way.inputs])
    return value


def needed(model: Model) -> dict[str, Array]:
    """Returns by node, and "x", which channels some output of the model depends on, (C,) bool."""
    ways = couplings(model)
    need = {INPUT: np.zeros(model.input_shape[0], bool)}
    need |= {name: np.zeros(way.channels, bool) for name, way in ways.items()}
    need[model.nodes[-1].name][:] = True
    for name, way in reversed(ways.items()):
        for source, part in zip(way.inputs, way.pull_back(need[name])):
            need[source] |= part
    return need


def removable(model: Model, value: dict[str, Array] | None = None) -> Array:
    """Returns the units, ascending, that can go without any output changing.

    The units are numbered as by `units`.
    value : `constants(model)`. Every reader must find them constant, and be able to take the
        constant into its bias, or not need them. Units of the model's input and output are never
        among them.
    """
    found, value, need = units(model), value or constants(model), needed(model)
    held = set(found.pinned)
    for name, way in couplings(model).items():
        source = way.inputs[0]
        held |= set(found.of[source][way.holds(value[source], need[name])].tolist())
    every = set(np.concatenate(list(found.of.values())).tolist())
    return np.array(sorted(every - held), dtype=int)


def folded(model: Model, gone: Array, value: dict[str, Array] | None = None) -> Model:
    """Returns the model with the constants of the units `gone` in the biases of their readers.

    gone : numbers of `units`        value : `constants(model)`
    What a reader with padding, or a unit that is not constant, would contribute is left out. The
    columns that read the units are not changed: remove them, or mask them, next. A layer without a
    bias gets one where it needs it; a bias of another form becomes a Dense.
    """
    found, value, ways = units(model).of, value or constants(model), couplings(model)
    nodes = []
    for node in model.nodes:
        layer = node.layer.copy()
        if ways[node.name].ends:
            v = value[node.inputs[0]]
            moved = np.isin(found[node.inputs[0]], gone) & foldable(layer, v)
            delta = sums(layer)[:, moved] @ v[moved]
            if delta.any():
                layer = biased(layer, delta)
        nodes.append(replace(node, layer=layer))
    same = all(set(a.layer.forms) == set(b.layer.forms) for a, b in zip(nodes, model.nodes))
    return model.rebuilt(nodes, builtin=model.builtin if same else None)


def biased(layer: Layer, delta: Array) -> Layer:
    """Returns the layer with delta (O,) added to its bias; one that has none gets one, a bias of
    another form becomes a Dense."""
    forms, buffers = layer.forms, layer.buffers
    if "bias" not in forms:
        layer = type(layer)(**(layer.config() | {"bias": True}))
        layer.forms, layer.buffers = forms, buffers
        layer.forms["bias"] = Dense(
            delta.astype(np.float32), trainable=forms["weight"].trainable
        )
        return layer
    with no_grad():
        forms["bias"] = Dense(
            (forms["bias"].dense().data + delta).astype(np.float32),
            trainable=forms["bias"].trainable,
        )
    return layer
