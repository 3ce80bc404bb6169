"""Convolutions and matrix products.

A padding that differs from side to side is one that does not, with zeros in the kernel:

    p = max(top, bottom)
    windows begin at -top = -p + (p - top): p - top rows of zeros stand before the kernel's own
    at the end they leave out p - bottom rows: as many of zeros stand behind them

A dilated kernel is one with zeros in between. A mask keeps them 0 through all that follows.
"""

from __future__ import annotations

import numpy as np

from ...errors import UserError
from ...nn.layers import Conv2d, Linear
from .forms import bias_form, columns, stretched, times, transposed, weight_form
from .graph import Constant, Op
from .net import Net, stem
from .values import Value


def conv(net: Net, op: Op) -> Value:
    """Conv: X, W (O, C / group, K, K), B."""
    bias = net.constant(op, 2).array if op.given(2) else None
    return convolved(net, op, net.value(op, 0), net.constant(op, 1), bias, name=op.inputs[1])


def convolved(net: Net, op: Op, x: Value, w: Constant, bias, *, name: str = "") -> Value:
    """Returns the convolution that an operator's attributes describe.

    name : of the weight, which may say what the layer is called
    """
    if w.array.ndim != 4:
        raise UserError(f"a weight must have shape (O, C, K, K), got {w.array.shape}")
    kernel = w.array.shape[2:]
    op.ints("kernel_shape", 2)
    if op.attributes.get("kernel_shape", list(kernel)) != list(kernel):
        raise UserError(f"kernel_shape must be that of the weight, {kernel}")
    stride, apart = (tuple(op.ints(key, 2, [1, 1])) for key in ("strides", "dilations"))
    if min(kernel + stride + apart) < 1:
        raise UserError("the kernel, strides and dilations must be at least 1")
    source, around = net.maps(op, x)
    wide = [(k - 1) * d + 1 for k, d in zip(kernel, apart)]
    inner = net.shapes[source][1:]
    sizes = [inner[i] + around[i] + around[i + 2] for i in range(2)]
    pads = [p + q for p, q in zip(paddings(op, sizes, wide, stride), around)]
    padding = tuple(max(pads[i], pads[i + 2]) for i in range(2))
    before, after = (tuple(p - pads[i + j] for i, p in enumerate(padding)) for j in (0, 2))
    net.moves.charge(w.array.shape[0] * w.array.shape[1]
                     * (wide[0] + before[0] + after[0]) * (wide[1] + before[1] + after[1]), 16)
    w, mask = stretched(w, before, after, apart)
    groups = op.get("group", int, 1)
    layer = Conv2d(w.array.shape[1] * groups, len(w.array), w.array.shape[2:], stride, padding,
                   groups, bias=bias is not None)
    return finished(net, op, layer, w, bias, source, mask, name)


def paddings(op: Op, sizes, kernel, stride) -> list[int]:
    """Returns (top, left, bottom, right) of pads, or of auto_pad, which is of older graphs.

    sizes : of the map        kernel : dilated
    """
    auto = op.get("auto_pad", str, "NOTSET")
    given = op.ints("pads", 4, [0, 0, 0, 0])
    if auto in ("NOTSET", ""):
        if min(given) < 0:
            raise UserError(f"pads must be at least 0, got {given}")
        return given
    if auto == "VALID":
        return [0, 0, 0, 0]
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise UserError("auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, got another")
    # as many windows as strides, begun or whole; the odd one more at the end, or at the beginning
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, kernel, stride)]
    small, large = [t // 2 for t in total], [-(-t // 2) for t in total]
    return small + large if auto == "SAME_UPPER" else large + small


def gemm(net: Net, op: Op) -> Value:
    """Gemm: alpha A B + beta C, B transposed or not, C broadcast over the examples."""
    alpha, beta = op.get("alpha", float, 1.0), op.get("beta", float, 1.0)
    op.get("broadcast", int, 0)  # of opset 6, where C was not broadcast unless it said so
    bias = net.constant(op, 2).array * np.float32(beta) if op.given(2) else None
    b = factors(op, net.constant(op, 1))
    return product(net, op, net.value(op, 0), times(b, alpha), bias, name=op.inputs[1])


def factors(op: Op, b: Constant) -> Constant:
    """Returns B of a Gemm as (O, I); UserError where A is transposed."""
    if op.get("transA", int, 0):
        raise UserError("transA must be 0: examples are rows")
    if b.array.ndim != 2:
        raise UserError(f"its input 1 must have 2 axes, got shape {b.array.shape}")
    return b if op.get("transB", int, 0) else transposed(b, (1, 0))


def matmul(net: Net, op: Op) -> Value:
    """MatMul: A (N, I), B (I, O)."""
    b = net.constant(op, 1)
    if b.array.ndim != 2:
        raise UserError(f"its input 1 must have 2 axes, got shape {b.array.shape}")
    return product(net, op, net.value(op, 0), transposed(b, (1, 0)), None, name=op.inputs[1])


def product(net: Net, op: Op, x: Value, w: Constant, bias, *, name: str = "") -> Value:
    """Returns x w' + bias.   w : (O, I)"""
    if len(x.shape) == 1 and w.array.shape[1] != x.shape[0]:
        raise UserError(f"the weight has {w.array.shape[1]} columns, {x.shape[0]} features come")
    source, places = net.features(op, x)
    if places is not None:  # column i belongs to the feature at places[i]
        if len(places) != net.shapes[source][0] or not np.array_equal(
                np.sort(places), np.arange(len(places))):
            raise UserError("its input is padded, or only a part of what a layer gives")
        w = columns(w, np.argsort(places))
    layer = Linear(w.array.shape[1], len(w.array), bias=bias is not None)
    return finished(net, op, layer, w, bias, source, None, name)


def finished(net: Net, op: Op, layer, w: Constant, bias, source: str, mask, name: str) -> Value:
    """Returns what a layer gives once its weight and bias are in it."""
    layer.forms["weight"] = weight_form(w, net.notes, str(op), mask)
    if bias is not None:
        layer.forms["bias"] = bias_form(bias, len(w.array))
    return net.emit(op, layer, source, name=stem(name))


def biased(layer: Linear | Conv2d, bias) -> Linear | Conv2d:
    """Returns a layer that adds a bias, (O,) float64, to what the given one gives."""
    config = layer.config() | {"bias": True}
    if "bias" in layer.forms:
        bias = bias + layer.forms["bias"].dense().data
    made = type(layer)(**config)
    made.forms["weight"] = layer.forms["weight"]
    made.forms["bias"] = bias_form(bias, len(bias))
    return made
