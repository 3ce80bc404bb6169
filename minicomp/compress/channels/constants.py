"""Channels that are constant, channels that nobody reads, and moving a constant into the next bias.

A unit all of whose incoming weights are 0, or whose batch norm has scale 0, outputs f(b), the same
for every input. It can go once f(b) times its outgoing weights is in the biases of its readers:

    b_next <- b_next + W_next[:, j] f(b_j)

A convolution with padding reads 0 instead of the constant along the border, so that there only f(b)
= 0 can be moved. A unit all of whose outgoing weights are 0, or lead only to units of that kind,
can go as it is.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...nn.forms import Dense
from ...nn.graph import INPUT, Model
from ...nn.layers import Layer
from ...tensor import Array, Tensor, no_grad
from .units import multiplier, units

_ELEMENTWISE = (
    "ReLU",
    "ReLU6",
    "Sigmoid",
    "Tanh",
    "BatchNorm1d",
    "BatchNorm2d",
    "ActThreshold",
    "ActQuant",
)
_NORMS = ("BatchNorm1d", "BatchNorm2d")
_SHAPED = (
    "MaxPool2d",
    "AdaptiveAvgPool2d",
    "Dropout",
    "Identity",
)  # of a constant they give that constant


def constants(model: Model) -> dict[str, Array]:
    """Returns for every node the value of each channel that is one number for every input and
    place, else NaN.

    result : node -> (C,) float64        A value passes through zeros: unread inputs do not matter.
    """
    shapes = model.shapes()
    value = {INPUT: np.full(model.input_shape[0], np.nan)}
    for node in model.nodes:
        layer, ins = node.layer, [value[i] for i in node.inputs]
        match layer.coupling:
            case "mix":
                out = _mixed(layer, ins[0])
            case "concat":
                out = np.concatenate(ins)
            case "add":
                out = np.sum(ins, axis=0)
            case "permute":
                out = ins[0][layer.permutation(len(ins[0]))]
            case "flatten":
                out = np.repeat(ins[0], math.prod(shapes[node.inputs[0]][1:]))
            case _:
                out = _passed(layer, ins[0], shapes[node.inputs[0]])
        value[node.name] = out
    return value


def reads(layer: Layer) -> Array:
    """Returns the weights by which a mixing layer reads its inputs, (O, C) summed over the kernel,
    float64.

    A grouped convolution's are spread out: 0 outside an output's own group.
    """
    return _spread(layer, _weight(layer).sum(axis=-1))


def read(layer: Layer) -> Array:
    """Returns whether output o of a mixing layer reads input c at all, (O, C) bool."""
    return _spread(layer, (_weight(layer) != 0).any(axis=-1))


def needed(model: Model) -> dict[str, Array]:
    """Returns for every node, and "x", which channels some output of the model depends on, (C,)
    bool.
    """
    found = units(model).of
    need = {name: np.zeros(len(of), bool) for name, of in found.items()}
    last = model.nodes[-1]
    need[last.name][:] = True
    for node in reversed(model.nodes):
        mine, layer = need[node.name], node.layer
        match layer.coupling:
            case "mix":
                parts = [(read(layer) & mine[:, None]).any(axis=0)]
            case "concat":
                parts = np.split(mine, np.cumsum([len(found[i]) for i in node.inputs])[:-1])
            case "permute":
                parts = [mine[np.argsort(layer.permutation(len(mine)))]]
            case "flatten":
                parts = [mine.reshape(len(found[node.inputs[0]]), -1).any(axis=1)]
            case _:
                parts = [mine & ~_switched_off(layer, len(mine))] * len(node.inputs)
        for name, part in zip(node.inputs, parts):
            need[name] |= part
    return need


def removable(model: Model, value: dict[str, Array] | None = None) -> Array:
    """Returns the units (as `units` numbers them) that can go without any output changing,
    ascending.

    value : `constants(model)`. Every reader must find them constant, and be able to take the
        constant into its bias, or not need them. Units of the model's input and output are never
        among them.
    """
    found, value, need = units(model), value or constants(model), needed(model)
    held = set(found.pinned)
    for node in model.nodes:
        if node.layer.coupling == "mix":
            source = node.inputs[0]
            used = (read(node.layer) & need[node.name][:, None]).any(axis=0)
            if multiplier(node.layer):  # the unit passes through: its readers decide
                continue
            held |= set(found.of[source][used & ~foldable(node.layer, value[source])].tolist())
    every = set(np.concatenate(list(found.of.values())).tolist())
    return np.array(sorted(every - held), dtype=int)


def foldable(layer: Layer, value: Array) -> Array:
    """Returns which inputs of a mixing layer have a constant that its bias can take, (C,) bool."""
    padded = any(getattr(layer, "padding", (0, 0)))
    return value == 0 if padded else ~np.isnan(value)


def folded(model: Model, gone: Array, value: dict[str, Array] | None = None) -> Model:
    """Returns the model with the constants of the units `gone` moved into the biases of their
    readers.

    gone : numbers of `units`        value : `constants(model)`
    What a reader with padding, or a unit that is not constant, would contribute is left out. The
    columns that read the units are not changed: remove them, or mask them, next. A layer without a
    bias gets one where it needs it; a bias of another form becomes a Dense.
    """
    found, value = units(model).of, value or constants(model)
    nodes = []
    for node in model.nodes:
        layer = node.layer.copy()
        if layer.coupling == "mix" and not multiplier(layer):
            v = value[node.inputs[0]]
            moved = np.isin(found[node.inputs[0]], gone) & foldable(layer, v)
            delta = reads(layer)[:, moved] @ v[moved]
            if delta.any():
                layer = _biased(layer, delta)
        nodes.append(replace(node, layer=layer))
    builtin = (
        model.builtin
        if all(set(a.layer.forms) == set(b.layer.forms) for a, b in zip(nodes, model.nodes))
        else None
    )
    return Model(
        nodes, input_shape=model.input_shape, builtin=builtin, origin_bytes=model.origin_bytes
    )


def _biased(layer: Layer, delta: Array) -> Layer:
    forms, buffers = layer.forms, layer.buffers
    if "bias" not in forms:
        layer = type(layer)(**(layer.config() | {"bias": True}))
        layer.forms, layer.buffers = forms, buffers
        layer.forms["bias"] = Dense(delta.astype(np.float32))
        return layer
    with no_grad():
        forms["bias"] = Dense(
            (forms["bias"].dense().data + delta).astype(np.float32),
            trainable=forms["bias"].trainable,
        )
    return layer


def _weight(layer: Layer) -> Array:
    with no_grad():
        w = layer.forms["weight"].dense().data.astype(np.float64)
    return w.reshape(*w.shape[:2], -1)


def _spread(layer: Layer, w: Array) -> Array:
    # (O, C / groups) -> (O, C), each output's row in the columns of its group.
    g = getattr(layer, "groups", 1)
    out = np.zeros((w.shape[0], w.shape[1] * g), w.dtype)
    for rows, columns in zip(
        np.split(np.arange(w.shape[0]), g), np.split(np.arange(out.shape[1]), g)
    ):
        out[np.ix_(rows, columns)] = w[rows]
    return out


def _mixed(layer: Layer, v: Array) -> Array:
    uses, sums = read(layer), reads(layer)
    known = ~(uses & ~foldable(layer, v)).any(axis=1)
    total = sums @ np.where(np.isnan(v), 0.0, v)
    if "bias" in layer.forms:
        with no_grad():
            total = total + layer.forms["bias"].dense().data
    return np.where(known, total, np.nan)


def _passed(layer: Layer, v: Array, shape: tuple[int, ...]) -> Array:
    # A layer of coupling "keep": an elementwise one is computed on one pixel; what is not known
    # gives no constant.
    if layer.kind in _SHAPED:
        return v
    if layer.kind == "AvgPool2d":
        whole = not any(layer.padding) and not layer.ceil_mode
        return v if whole else np.where(v == 0, 0.0, np.nan)
    if layer.kind not in _ELEMENTWISE:
        return np.full(v.shape, np.nan)
    x = np.where(np.isnan(v), 0.0, v).astype(np.float32).reshape(1, -1, *[1] * (len(shape) - 1))
    with no_grad():
        y = layer(Tensor(x), training=False).data
    return np.where(np.isnan(v) & ~_switched_off(layer, len(v)), np.nan, y.ravel())


def _switched_off(layer: Layer, channels: int) -> Array:
    # The channels of a batch norm whose scale is 0: they output its shift, whatever they get.
    if layer.kind not in _NORMS:
        return np.zeros(channels, bool)
    with no_grad():
        return layer.forms["weight"].dense().data == 0
