"""Activations ranged at every call: DynamicQuantizeLinear, products of integers, a Mul by scales.

    codes, s, z = DynamicQuantizeLinear(x)
    sums = ConvInteger(codes, w, z)          integers
    y = float(sums) (s s_w)

which is the convolution of x on the grid of the batch at hand with the weight s_w (q - z_w). Until
the Mul comes nobody knows s_w, so that sums are kept as what they will be made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...nn.layers import ActQuant
from .forms import coded_constant, transposed
from .graph import Coded, Constant, Op
from .net import Net
from .pointwise import multiply, scaled
from .values import Integers, Value
from .weighted import convolved, product
from .wiring import cast

Array = np.ndarray
WINDOWS = {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}


@dataclass(frozen=True)
class Ranged:
    """Codes, scale or zero point of a value on the grid of the batch; a scale times `factor`."""

    value: Value
    part: str
    factor: Array | None = None


@dataclass(frozen=True)
class Sums:
    """Sums of products of the codes of a value.   made : what gives the layer, of the scale of its
    weight"""

    value: Value
    made: Callable[[Array], Value]


def dynamic_quantize(net: Net, op: Op) -> tuple[Ranged, Ranged, Ranged]:
    """DynamicQuantizeLinear: codes, scale and zero point of x."""
    v = net.value(op, 0)
    v = net.pointwise(op, ActQuant(8, "unsigned", zero_point=True, dynamic=True), v,
                      keeps_zero=True, name=f"{v.source[:80]}_q")
    return Ranged(v, "codes"), Ranged(v, "scale", np.ones((), np.float32)), Ranged(v, "zero")


def conv_integer(net: Net, op: Op) -> Integers | Sums:
    """ConvInteger: x, w, their zero points; the sums are integers."""
    return _sums(net, op, 0, lambda x, w: convolved(net, op, x, w, None, name=op.inputs[1]))


def matmul_integer(net: Net, op: Op) -> Integers | Sums:
    """MatMulInteger: A, B, their zero points; the sums are integers."""
    if net.constant(op, 1).array.ndim != 2:
        raise UserError("B must have 2 axes")
    return _sums(net, op, 1, lambda x, w: product(net, op, x, transposed(w, (1, 0)), None,
                                                  name=op.inputs[1]))


def _sums(net: Net, op: Op, axis: int, made: Callable) -> Integers | Sums:
    item = net.item(op, 0)
    if isinstance(item, Ranged) and item.part == "codes":
        zero = net.item(op, 2) if op.given(2) else None
        if not isinstance(zero, Ranged) or zero.part != "zero" or zero.value != item.value:
            raise UserError("codes must go with the zero point that they were made with")
        op.read |= WINDOWS  # when the layer is made
        return Sums(item.value, lambda scale: made(item.value, _weight(net, op, axis, scale)))
    if not isinstance(item, Integers):
        raise UserError("its input must be integers: an input of the graph, or codes")
    return Integers(made(_less(net, op, item), _weight(net, op, axis, np.ones((), np.float32))))


def _less(net: Net, op: Op, item: Integers) -> Value:
    # An input of integers less its zero point.
    zero = net.constant(op, 2, 0).array
    if zero.size != 1:
        raise UserError("its input must have one zero point")
    z = float(zero.reshape(()))
    return scaled(net, op, item.value, 1.0, -z) if z else item.value


def _weight(net: Net, op: Op, axis: int, scale: Array) -> Constant:
    q, z = net.constant(op, 1), net.constant(op, 3, np.int8(0)).array
    per = scale.size > 1 or z.size > 1
    scale, z = (np.broadcast_to(a.reshape(-1), (q.array.shape[axis],)) if per else a.reshape(())
                for a in (scale, z))
    return coded_constant(Coded(q.array, scale, z, axis if per else None, 0, q.limits or (0, 255)))


def times(net: Net, op: Op) -> Ranged | Value:
    """Mul: of a scale and a constant, of sums and such a scale; else that of `pointwise`."""
    one, other = (net.item(op, i) for i in range(2))
    if not isinstance(one, (Ranged, Sums)) and not isinstance(other, (Ranged, Sums)):
        return multiply(net, op)
    if isinstance(other, Sums) or isinstance(one, Constant):
        one, other = other, one
    if isinstance(one, Ranged) and one.part == "scale" and isinstance(other, Constant):
        return Ranged(one.value, "scale", one.factor * other.array.astype(np.float32))
    fits = isinstance(one, Sums) and isinstance(other, Ranged) and other.part == "scale"
    if not fits or one.value != other.value:
        raise UserError("sums of products must be multiplied by the scale of the codes they are of")
    return one.made(other.factor)


def to_float(net: Net, op: Op):
    """Cast: of sums, which it makes numbers; else that of `wiring`."""
    item = net.item(op, 0)
    op.get("to", int)
    return item if isinstance(item, Sums) else cast(net, op)
