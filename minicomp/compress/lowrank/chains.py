"""A node replaced by a chain of ordinary layers.

Names are those of the node with a suffix, "fc1.0", "fc1.1", so that patterns like "fc1*" go on
matching. What becomes of shapes, multiply-accumulates, files and programs follows from the layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ...errors import UserError, article
from ...nn.forms import Dense
from ...nn.graph import Model, Node, chain
from ...nn.layers import Conv2d, Layer, Linear
from ...tensor import Array, no_grad


def replaced(model: Model, chains: Mapping[str, Sequence[Layer]]) -> Model:
    """Returns the model with each named node replaced by layers in a row.   chains : by node"""
    taken, swap = {node.name for node in model.nodes}, {}
    for name, layers in chains.items():
        node = model.node(name)
        named = []
        for i, layer in enumerate(layers):
            named.append((_free(f"{name}.{i}", taken), layer))
            taken.add(named[-1][0])
        first, *rest = chain(*named)
        swap[name] = (replace(first, inputs=node.inputs), *rest)
    return model.edit(swap)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def given(layer: Layer, weight: Array) -> Layer:
    """Returns the layer with a weight, as float32."""
    layer.forms["weight"] = Dense(weight.astype(np.float32).reshape(layer.forms["weight"].shape))
    return layer


def decoded(layer: Layer) -> Array:
    """Returns the layer's weight, float64."""
    with no_grad():
        return layer.forms["weight"].dense().data.astype(np.float64)


def numbers(layers: Sequence[Layer]) -> int:
    """Returns how many weights the layers have, biases not counted."""
    return sum(math.prod(layer.forms["weight"].shape) for layer in layers)


def macs(layers: Sequence[Layer], shape: tuple[int, ...]) -> int:
    """Returns the multiply-accumulates of layers in a row.   shape : of the input, without N"""
    total = 0
    for layer in layers:
        total += layer.macs(shape)
        shape = layer.out_shape(shape)
    return total


def is_linear(node: Node) -> bool:
    """Returns whether the node is a plain fully connected layer."""
    return type(node.layer) is Linear


def is_conv(node: Node) -> bool:
    """Returns whether the node is a plain convolution, in groups or not."""
    return type(node.layer) is Conv2d


def is_spatial(node: Node) -> bool:
    """Returns whether the node is a plain convolution in one group that sees neighbours."""
    return is_conv(node) and node.layer.groups == 1 and max(node.layer.kernel_size) > 1


def check_plain(word: str, model: Model, names: Sequence[str]) -> None:
    """Raises UserError, by name, for a weight that is pruned or shared: factors would not keep it.

    names : of the nodes to be factored
    """
    for name in names:
        form = model.node(name).layer.forms["weight"]
        if form.mask is not None:
            raise UserError(f"{word}: {name}.weight is pruned, and factors would fill its zeros: "
                            "factor before pruning")
        if not form.movable:
            raise UserError(f"{word}: {name}.weight must hold plain values, got "
                            f"{article(form.kind)}: factor before sharing and quantizing")
