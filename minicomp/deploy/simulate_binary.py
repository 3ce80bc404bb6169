"""What a binary program should give, from the model: sums in float64, then the float32 expression.

The layers of the model compute on signs and on differences of codes and zero points, whole numbers
in float64, so that every sum is exact. From a sum on it is float32, each operation rounded: times
the scale of the weights and of what the layer reads, times the gain of the batch norm, plus its
bias; then the maximum, the batch norm behind it, the sign. No threshold, bit, kernel, layout or
buffer of the program is used: the two are equal to the bit, or one is wrong. Shared are how codes,
grids and the numbers of a batch norm are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..nn.forms import Binary
from ..nn.graph import INPUT, Model, Node
from ..tensor import Array, Tensor, no_grad, raw
from .folded import codes_of
from .grids import grid_of
from .lower import step_of
from .steps import numbers_of


@dataclass(frozen=True)
class _Whole:
    # Whole numbers, of which one is `scale` real units: signs, or codes less their zero point.
    steps: Array  # (N, ...) float64
    scale: np.float32


@dataclass(frozen=True)
class _Sums:
    # What a layer gives: whole sums, (N, O, ...) float64; scale, gain, bias (O,) float32.
    sums: Array
    scale: Array
    gain: Array
    bias: Array

    def normalised(self, gain: Array, bias: Array) -> _Sums:
        # A batch norm behind it: rounded to float32 once, as a program keeps it.
        b = self.bias.astype(np.float64) * gain + bias
        return replace(self, gain=(self.gain.astype(np.float64) * gain).astype(np.float32),
                       bias=b.astype(np.float32))

    def numbers(self) -> Array:
        at = (-1, *[1] * (self.sums.ndim - 2))
        scale, gain, bias = (a.reshape(at) for a in (self.scale, self.gain, self.bias))
        return (self.sums.astype(np.float32) * scale) * gain + bias


def simulated_binary(model: Model, x: Array) -> tuple[Array, Array, dict[str, Array]]:
    """Returns what the binary program of a model should give: logits, (N, classes) float32, the
    sums that they are made of, int32, and by the names of nodes Sign +1 and -1, int8.

    model : binarized, that `lower` takes at precision binary        x : (N, *input_shape)
    Raises ValueError where a layer reads what is neither codes nor signs.
    """
    values, found = {INPUT: np.asarray(x, np.float32)}, {}
    with no_grad():
        for node in model.nodes:
            y = _simulated(node, values[node.inputs[0]])
            values[node.name] = y
            if node.layer.step == "sign":
                found[node.name] = y.steps.astype(np.int8)
    if not isinstance(y, _Sums):
        raise ValueError(f"{node.name}: a binary program must end in a layer")
    return y.numbers(), y.sums.astype(np.int32), found


def _simulated(node: Node, x):
    layer = node.layer
    if layer.step == "":
        return x
    if layer.step == "quantize":
        grid = grid_of(step_of(node, node.inputs))
        return _Whole(grid.codes(x).astype(np.float64) - grid.zero_point, grid.scale)
    if layer.step in ("conv", "linear"):
        return _product(node, x)
    if layer.step == "scale" and isinstance(x, _Sums):
        return x.normalised(**numbers_of(layer.lowered()))
    if isinstance(x, _Whole):
        return replace(x, steps=layer(Tensor(x.steps)).data)
    y = x.numbers() if isinstance(x, _Sums) else x
    if layer.step == "sign":
        return _Whole(np.where(y >= 0, 1.0, -1.0), np.float32(1))
    if layer.step == "scale":
        at = (-1, *[1] * (y.ndim - 2))
        numbers = numbers_of(layer.lowered())
        return y * numbers["gain"].reshape(at) + numbers["bias"].reshape(at)
    return layer(Tensor(y)).data


def _product(node: Node, x) -> _Sums:
    if not isinstance(x, _Whole):
        raise ValueError(f"{node.name}: what it reads is on no grid, and no signs")
    step = step_of(node, node.inputs)
    form = step.weights["weight"].freeze()
    if isinstance(form, Binary):
        q, scale = form.signs()[0].astype(np.float64), raw(form.alpha)[:, 0]
        q = q if form.mask is None else q * raw(form.mask)
    else:
        q, scale = codes_of(step)
    sums = node.layer(Tensor(x.steps), weights={"weight": Tensor(q.astype(np.float64))}).data
    ones = np.ones(sums.shape[1], np.float32)
    bias = numbers_of({p: f for p, f in step.weights.items() if p == "bias"})
    return _Sums(sums, x.scale * scale.astype(np.float32) * ones, ones, bias.get("bias", 0 * ones))
