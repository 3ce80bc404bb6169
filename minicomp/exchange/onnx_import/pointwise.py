"""Activations, batch norm, and what is added to or multiplied with constants.

A row of additions and multiplications by constants, each a number a channel, is one
`x gain + bias`: the bias of the layer before it where that is all; at the net's input its
normalisation; else a batch norm whose running statistics are 0 and 1.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...errors import UserError
from ...nn.forms import Dense
from ...nn.graph import INPUT
from ...nn.layers import (BatchNorm1d, BatchNorm2d, ClipChannels, Conv2d, Dropout, Layer, Linear,
                          Normalize, ReLU, ReLU6, Sigmoid, Tanh)
from ...nn.layers.normalize import LIMIT
from .forms import finite, grid_named
from .graph import Constant, Op
from .net import Net, Rearranged, padded
from .values import Codes, Value, batch
from .weighted import biased
from .wiring import summed

Array = np.ndarray
UNBOUNDED = 3.0e38  # a bound beyond it, as exporters write one, is none


def relu(net: Net, op: Op) -> Value:
    """Relu: max(x, 0)."""
    return net.pointwise(op, ReLU(), net.value(op, 0), keeps_zero=True)


def sigmoid(net: Net, op: Op) -> Value:
    """Sigmoid."""
    return net.pointwise(op, Sigmoid(), net.value(op, 0), keeps_zero=False)


def tanh(net: Net, op: Op) -> Value:
    """Tanh."""
    return net.pointwise(op, Tanh(), net.value(op, 0), keeps_zero=True)


def clip(net: Net, op: Op) -> Value | Codes:
    """Clip: min(max(x, lo), hi); of codes, their grid has fewer."""
    lo, hi = bounds(net, op)
    item = net.item(op, 0)
    if isinstance(item, Codes):
        return _clipped_codes(net, op, item, lo, hi)
    return _clipped(net, op, net.value(op, 0), lo, hi)


def _clipped(net: Net, op: Op, v: Value, lo: float, hi) -> Value:
    # hi : a number, or an array that broadcasts to what the graph sees
    low, high = lo > -UNBOUNDED, np.min(hi) < UNBOUNDED
    above = low and lo == 0 or not low and _at_least_0(net, v)
    if not low and not high:
        return v
    if not above or np.min(hi) < 0:
        raise UserError("a Clip must begin at 0 and end at or above it, got "
                        f"{lo:g}..{np.min(hi):g}")
    if not high:
        return net.pointwise(op, ReLU(), v, keeps_zero=True)
    ceiling = along_channels(net, v, np.asarray(hi, np.float32))
    layer = ReLU6() if (ceiling == 6).all() else ClipChannels.of(ceiling)
    before = next((net.alone(op, i) for i in range(len(op.inputs)) if net.alone(op, i)), None)
    if before and isinstance(net.nodes[before].layer, ReLU):  # of which it takes the upper end
        net.change(before, layer)
        return v
    return net.pointwise(op, layer, v, keeps_zero=True)


def _clipped_codes(net: Net, op: Op, codes: Codes, lo: float, hi: float) -> Codes:
    # A grid of fewer codes; or, from the zero point on, numbers clipped at 0 and above.
    grid = codes.grid
    least, most = max(grid.lo, math.ceil(max(lo, grid.lo))), min(
        grid.hi, math.floor(min(hi, grid.hi)))
    if not codes.there and grid_named(least, most):
        return replace(codes, grid=replace(grid, lo=least, hi=most))
    if least == grid.lo < grid.zero_point or least not in (grid.lo, grid.zero_point):
        raise UserError(f"codes must be clipped from {grid.lo} or the zero point "
                        f"{grid.zero_point} on, got {least}..{most}")
    ceiling = np.float32(grid.scale) * np.float32(most - grid.zero_point)
    return replace(codes, value=_clipped(net, op, codes.value, 0.0,
                                         math.inf if most == grid.hi else ceiling))


def minimum(net: Net, op: Op) -> Value:
    """Min: of what is nowhere below 0 and a constant, a number a channel."""
    return _either(net, op, lambda v, c: _clipped(net, op, v, -math.inf, _wide(c)))


def bounds(net: Net, op: Op) -> tuple[float, float]:
    """Returns (lo, hi) of a Clip, by attributes or inputs; infinite where left out."""
    found = []
    for i, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), start=1):
        a = net.constant(op, i, op.get(name, float, default)).array
        if a.size != 1 or a.dtype.kind not in "fiu" or np.isnan(a).any():
            raise UserError(f"{name} must be one number")
        found.append(float(a.reshape(())))
    return found[0], found[1]


def _at_least_0(net: Net, v: Value) -> bool:
    node = net.nodes.get(v.source)
    return node is not None and node.layer.rectifies


def identity(net: Net, op: Op):
    """Identity: whatever it reads."""
    return net.item(op, 0)


def dropout(net: Net, op: Op) -> Value:
    """Dropout, which a graph of trained weights leaves out: its rate is kept for a training."""
    v, rate = net.value(op, 0), op.get("ratio", float, 0.5)
    for name in ("seed", "is_test", "consumed_inputs"):
        op.get(name, object, None)
    rate = float(net.constant(op, 1, rate).array.reshape(()))
    if op.given(2) and bool(net.constant(op, 2).array.any()) and rate:
        raise UserError("it must not be training")
    if any(op.outputs[1:]) and any(net.reads[name] for name in op.outputs[1:]):
        raise UserError("its mask is read, which no layer gives")
    if not 0 < rate < 1:
        return v
    return net.pointwise(op, Dropout(round(rate, 6)), v, keeps_zero=True)


def batch_norm(net: Net, op: Op) -> Value:
    """BatchNormalization of running statistics: X, scale, B, mean, var."""
    v = net.value(op, 0)
    if op.get("training_mode", int, 0) or any(net.reads[name] for name in op.outputs[1:]):
        raise UserError("it must not be training: batch statistics are not those of the file")
    if not op.get("spatial", int, 1):
        raise UserError("spatial must be 1: a mean for each channel")
    op.get("is_test", int, 1)
    parts = [_per_channel(net, v, net.constant(op, i).array) for i in range(1, 5)]
    eps = float(str(np.float32(op.get("epsilon", float, 1e-5))))  # 1e-05, not 9.99999974e-06
    momentum = 1 - op.get("momentum", float, 0.9)  # PyTorch's is that of what comes in
    layer = _norm(v.at, min(max(round(momentum, 6), 0.0), 1.0), eps)
    fill(layer, *parts)
    return net.pointwise(op, layer, v, keeps_zero=False)


def _per_channel(net: Net, v: Value, a: Array) -> Array:
    # Of batch norm: an entry for each of the graph's axis 1.
    if a.shape != v.shape[:1]:
        raise UserError(f"its scale, B, mean and var must have {v.shape[0]} entries, got shape "
                        f"{a.shape}")
    return along_channels(net, v, a.reshape(1, -1, *[1] * (len(v.shape) - 1)))


def _norm(at: tuple[int, ...], momentum: float, eps: float) -> BatchNorm1d | BatchNorm2d:
    if len(at) not in (1, 3):
        raise UserError(f"it must read features or maps, got shape {batch(at)}")
    return (BatchNorm1d if len(at) == 1 else BatchNorm2d)(at[0], eps, momentum)


def fill(layer: BatchNorm1d | BatchNorm2d, weight, bias, mean, var) -> None:
    """Puts parameters and running statistics into a batch norm, in place; UserError."""
    for name, a in (("scale", weight), ("B", bias), ("mean", mean), ("var", var)):
        finite(a, name)
    if (var < 0).any():
        raise UserError("var must be at least 0")
    layer.forms = {"weight": Dense(weight.astype(np.float32)),
                   "bias": Dense(bias.astype(np.float32))}
    layer.buffers["running_mean"][...], layer.buffers["running_var"][...] = mean, var


# ------------------------------------------------------------------- arithmetic with constants


def add(net: Net, op: Op) -> Value:
    """Add and Sum: of activations, or of one and a constant."""
    if not any(isinstance(net.item(op, i), Constant) for i in range(len(op.inputs))):
        op.get("broadcast", int, 0)
        return summed(net, op, *(net.value(op, i) for i in range(len(op.inputs))))
    return _either(net, op, lambda v, c: scaled(net, op, v, 1.0, c))


def subtract(net: Net, op: Op) -> Value:
    """Sub: an activation and a constant, either way round."""
    if isinstance(net.item(op, 0), Constant):
        return scaled(net, op, net.value(op, 1), -1.0, net.constant(op, 0).array)
    return scaled(net, op, net.value(op, 0), 1.0, -_wide(net.constant(op, 1).array))


def multiply(net: Net, op: Op) -> Value:
    """Mul: an activation and a constant."""
    return _either(net, op, lambda v, c: scaled(net, op, v, c, 0.0))


def divide(net: Net, op: Op) -> Value:
    """Div: an activation by a constant."""
    divisor = _wide(net.constant(op, 1).array)
    if not divisor.all():
        raise UserError("it divides by 0")
    return scaled(net, op, net.value(op, 0), 1 / divisor, 0.0)


def negate(net: Net, op: Op) -> Value:
    """Neg."""
    return scaled(net, op, net.value(op, 0), -1.0, 0.0)


def _either(net: Net, op: Op, made) -> Value:
    op.get("axis", int, 0), op.get("broadcast", int, 0)
    if "axis" in op.attributes:
        raise UserError("axis, of opset 6, is not read; write the constant's shape in full")
    if len(op.inputs) != 2:
        raise UserError("a constant must be one of two inputs")
    constant = 0 if isinstance(net.item(op, 0), Constant) else 1
    return made(net.value(op, 1 - constant), net.constant(op, constant).array)


def scaled(net: Net, op: Op, v: Value, gain, bias) -> Value:
    """Returns v gain + bias; numbers, or arrays that broadcast to what the graph sees."""
    gain, bias = (along_channels(net, v, _wide(np.asarray(a))) for a in (gain, bias))
    if not (np.isfinite(gain).all() and np.isfinite(bias).all()):
        raise UserError("its constant must be finite numbers")
    before = next((net.alone(op, i) for i in range(len(op.inputs)) if net.alone(op, i)), None)
    if before in net.affine:
        g, b = net.affine[before]
        gain, bias = g * gain, b * gain + bias
        net.change(before, _scale(net, net.nodes[before].inputs[0], v.at, gain, bias))
    elif before and (gain == 1).all() and isinstance(net.nodes[before].layer, (Linear, Conv2d)):
        net.change(before, biased(net.nodes[before].layer, bias))
        return v
    else:
        made = net.pointwise(op, _scale(net, v.source, v.at, gain, bias), v,
                             keeps_zero=not bias.any())
        v, before = made, made.source
    net.affine[before] = gain, bias
    return v


def _scale(net: Net, source: str, at, gain: Array, bias: Array) -> Layer:
    # x gain + bias as a layer, at the input (x - mean) / std where it can be that.
    with np.errstate(divide="ignore", invalid="ignore"):
        std, mean = 1 / gain, -bias / gain
    if source == INPUT and (gain > 0).all() and (np.abs(mean) <= LIMIT).all() and (
            (1 / LIMIT <= std) & (std <= LIMIT)).all():
        return Normalize(mean + 0.0, std)
    layer = _norm(at, 0.1, 0.0)
    fill(layer, gain, bias, np.zeros(len(gain)), np.ones(len(gain)))
    return layer


def along_channels(net: Net, v: Value, a: Array) -> Array:
    """Returns an array that broadcasts to what the graph sees, (N, ...), as a number for each of
    the node's channels, (C,); UserError where it is none such."""
    channels = v.at[0]
    net.moves.charge(channels, 64)  # also as the lists of a layer's arguments
    if a.size == 1:
        return np.full(channels, a.reshape(()))
    shape = (1,) * (len(v.shape) + 1 - a.ndim) + a.shape
    if len(shape) != len(v.shape) + 1 or any(n not in (1, m) for n, m in
                                             zip(shape, (1, *v.shape))):
        raise UserError(f"a constant of shape {a.shape} does not go with {batch(v.shape)}")
    a = a.reshape(shape)[0]
    if v.places is None and v.shape == v.at:
        if math.prod(a.shape) == a.shape[0]:
            return a.ravel()
        net.moves.charge(math.prod(v.at))
        full = np.broadcast_to(a, v.shape)
    else:
        net.moves.charge(math.prod(v.at), 16)
        if padded(v):
            raise UserError("its input is padded, which only a convolution or pooling takes in")
        full = np.empty(math.prod(v.at), a.dtype)
        full[... if v.places is None else v.places.ravel()] = np.broadcast_to(a, v.shape).ravel()
    rows = full.reshape(channels, -1)
    if (rows != rows[:, :1]).any():
        last = full.reshape(-1, v.at[-1])
        if v.source in net.front and v.shape == v.at and len(v.at) == 3 and (last == last[0]).all():
            raise Rearranged(net.moves.moved(v, lambda places: places.transpose(2, 0, 1)))
        raise UserError("its constant must be a number a channel, it differs from place to place")
    return rows[:, 0]


def _wide(a: Array) -> Array:
    if a.dtype.kind not in "fiu":
        raise UserError(f"its constant must be numbers, got {a.dtype}")
    return a.astype(np.float64)
