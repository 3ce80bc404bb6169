"""Quantized graphs: pairs of QuantizeLinear and DequantizeLinear, and operators on codes.

An operator on codes is the float one between such pairs, and is read as that: QLinearConv is
DequantizeLinear of its input and weight, Conv, QuantizeLinear. So there is one rule for each layer.
What is between pairs becomes a node `ActQuant` with their scale and zero point; a constant behind
DequantizeLinear becomes an `Affine` form with its codes.
"""

from __future__ import annotations

import numpy as np

from ...errors import UserError
from ...nn.graph import INPUT
from ...nn.layers import AdaptiveAvgPool2d, Normalize
from .forms import coded_constant, spread, times, transposed
from .graph import RANGES, Coded, Constant, Op
from .grids import on_grid
from .net import Net
from .pointwise import scaled
from .pools import averaged
from .values import Codes, Grid, Integers, Value
from .weighted import convolved, factors, product
from .wiring import joined, summed

Array = np.ndarray


def quantize_linear(net: Net, op: Op) -> Codes | Constant:
    """QuantizeLinear: x, scale, zero point; per tensor where x is an activation."""
    for name in ("saturate", "precision"):
        op.get(name, int, 1)
    item = net.item(op, 0)
    if isinstance(item, Constant):
        return _coded_numbers(net, op, item)
    op.get("axis", int, 1), op.get("block_size", int, 0)
    v = net.value(op, 0)
    dtype = op.get("output_dtype", int, 0)
    return Codes(v, grid_of(net, op, 1, 2, {2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16",
                                            21: "UINT4", 22: "INT4"}.get(dtype)))


def grid_of(net: Net, op: Op, scale: int, zero: int, dtype: str | None = None) -> Grid:
    """Returns the grid of an activation whose scale and zero point are these inputs; UserError.

    dtype : of the codes where there is no zero point, UINT8 if None
    """
    s = net.constant(op, scale).array
    z = net.constant(op, zero) if op.given(zero) else Constant(
        np.zeros(1, np.uint8), RANGES[dtype or "UINT8"])
    if s.size != 1 or z.array.size != 1:
        raise UserError("an activation must have one scale and one zero point, got shapes "
                        f"{s.shape} and {z.array.shape}")
    if z.limits is None:
        raise UserError(f"codes must be of {', '.join(RANGES)}, got {z.array.dtype}")
    if s.dtype.kind != "f" or not np.isfinite(s).all():
        raise UserError("a scale must be a finite number")
    return Grid(float(np.float32(s.reshape(()))), int(z.array.reshape(())), *z.limits)


def dequantize_linear(net: Net, op: Op) -> Value | Constant:
    """DequantizeLinear: codes, scale, zero point; of a constant its codes are kept."""
    op.get("output_dtype", int, 0)
    item = net.item(op, 0)
    if isinstance(item, Constant):
        return coded_constant(coded(net, op, item, 1, 2, op.get("axis", int, 1),
                                    op.get("block_size", int, 0)))
    op.get("axis", int, 1), op.get("block_size", int, 0)
    return real(net, op, 0, 1, 2)


def real(net: Net, op: Op, x: int, scale: int, zero: int) -> Value:
    """Returns the numbers of codes, an activation's; inputs by their positions."""
    item = net.item(op, x)
    if isinstance(item, Integers):  # the net's own input
        limits = item.limits or RANGES["UINT8"]
        grid = grid_of(net, op, scale, zero, next(k for k, v in RANGES.items() if v == limits))
        v = _of_bytes(net, op, item, grid)
        return v if item.limits is None else on_grid(net, op, Codes(v, grid))
    if not isinstance(item, Codes):
        raise UserError(f"its input {x} must be codes")
    grid = grid_of(net, op, scale, zero)
    there = item.grid
    if (grid.scale, grid.zero_point) != (there.scale, there.zero_point):
        raise UserError("codes must be read with the scale and zero point that they were made with,"
                        f" {there.scale:g} and {there.zero_point}, got {grid.scale:g} and "
                        f"{grid.zero_point}")
    return on_grid(net, op, item)


def _of_bytes(net: Net, op: Op, item: Integers, grid: Grid) -> Value:
    # scale (x - zero_point) of integers x that the net holds as floats
    v = item.value
    if v.source == INPUT and v.places is None and grid.scale > 0:
        channels = v.at[0]
        net.moves.charge(channels, 64)
        layer = Normalize([float(grid.zero_point)] * channels,
                          [float(1 / np.float64(grid.scale))] * channels)
        return net.pointwise(op, layer, v, keeps_zero=not grid.zero_point)
    return scaled(net, op, v, grid.scale, -grid.scale * grid.zero_point)


def coded(net: Net, op: Op, q: Constant, scale: int, zero: int, axis: int, block: int = 0
          ) -> Coded:
    """Returns a constant of codes with its scale and zero point; inputs by their positions."""
    s = net.constant(op, scale).array
    z = net.constant(op, zero).array if op.given(zero) else np.zeros(s.shape, np.int8)
    a = q.array
    if a.dtype.kind not in "iu" or s.dtype.kind != "f":
        raise UserError(f"codes must be integers and scales numbers, got {a.dtype} and {s.dtype}")
    s = s.astype(np.float32)
    limits = q.limits or (int(a.min(initial=0)), int(a.max(initial=0)))
    if s.size == 1 and z.size == 1 and not (block and a.ndim > 1):
        return Coded(a, s.reshape(()), z.reshape(()), None, 0, limits)
    axis += a.ndim if axis < 0 else 0
    axis = 0 if a.ndim == 1 else axis
    z = np.broadcast_to(z, s.shape) if z.size == 1 else z
    wanted = tuple(-(-n // block) if i == axis else n for i, n in enumerate(a.shape)) if (
        block > 0) else a.shape[axis : axis + 1]
    if not 0 <= axis < a.ndim or s.shape != wanted or z.shape != s.shape or block < 0:
        raise UserError(f"scale and zero point must have shape {wanted}, got {s.shape} and "
                        f"{z.shape}")
    return Coded(a, s, z, axis, block, limits)


def _coded_numbers(net: Net, op: Op, c: Constant) -> Constant:
    # The codes of a constant: clip(rint(x / scale) + zero_point), float32, half to even
    z = net.constant(op, 2) if op.given(2) else Constant(np.zeros(1, np.uint8), RANGES["UINT8"])
    if z.limits is None:
        raise UserError(f"codes must be of {', '.join(RANGES)}, got {z.array.dtype}")
    blank = Constant(np.zeros(c.array.shape, np.int8), z.limits)
    net.moves.charge(c.array.size, 32)
    grid = coded(net, op, blank, 1, 2, op.get("axis", int, 1), op.get("block_size", int, 0))
    scale, zero = (spread(a, c.array.shape, grid.axis, grid.block) for a in (grid.scale,
                                                                            grid.zero_point))
    with np.errstate(all="ignore"):
        q = np.rint(c.array.astype(np.float32) / scale) + zero
    if np.isnan(q).any():
        raise UserError("a constant must be numbers over scales that are not 0")
    return Constant(np.clip(q, *z.limits).astype(np.int32), z.limits)


# ----------------------------------------------------------------------------- operators on codes


def qlinear_conv(net: Net, op: Op) -> Codes:
    """QLinearConv: x, w, their scales and zero points, those of y, an int32 bias in sx sw."""
    x = real(net, op, 0, 1, 2)
    w = coded_constant(coded(net, op, net.constant(op, 3), 4, 5, 0))
    bias = _bias(net, op, 8, w.coded) if op.given(8) else None
    y = convolved(net, op, x, w, bias, name=op.inputs[3])
    return Codes(y, grid_of(net, op, 6, 7))


def _bias(net: Net, op: Op, i: int, w: Coded) -> Array:
    # int32 at the scale of the input times that of the weight
    b, s = net.constant(op, i).array, net.constant(op, 1).array
    if b.dtype.kind != "i" or b.ndim != 1:
        raise UserError("the bias must be int32, a number a channel")
    return (b * (s.astype(np.float64).reshape(()) * w.scale)).astype(np.float32)


def qlinear_matmul(net: Net, op: Op) -> Codes:
    """QLinearMatMul: a, b, their scales and zero points, those of y."""
    a = real(net, op, 0, 1, 2)
    b = net.constant(op, 3)
    if b.array.ndim != 2:
        raise UserError(f"b must have 2 axes, got shape {b.array.shape}")
    w = transposed(coded_constant(coded(net, op, b, 4, 5, 1)), (1, 0))
    return Codes(product(net, op, a, w, None, name=op.inputs[3]), grid_of(net, op, 6, 7))


def qgemm(net: Net, op: Op) -> Codes | Value:
    """QGemm: A, B, their scales and zero points, an int32 C, scale and zero point of Y if any."""
    alpha = op.get("alpha", float, 1.0)
    a = real(net, op, 0, 1, 2)
    b = net.constant(op, 3)
    axis = 0 if op.get("transB", int, 0) else 1
    w = times(factors(op, coded_constant(coded(net, op, b, 4, 5, axis))), alpha)
    bias = _bias(net, op, 6, w.coded) if op.given(6) else None
    y = product(net, op, a, w, bias, name=op.inputs[3])
    return Codes(y, grid_of(net, op, 7, 8)) if op.given(7) else y


def qlinear_add(net: Net, op: Op) -> Codes:
    """QLinearAdd: A, B with their scales and zero points, those of C."""
    return Codes(summed(net, op, real(net, op, 0, 1, 2), real(net, op, 3, 4, 5)),
                 grid_of(net, op, 6, 7))


def qlinear_global_average_pool(net: Net, op: Op) -> Codes:
    """QLinearGlobalAveragePool: X, its scale and zero point, those of Y."""
    if op.get("channels_last", int, 0):
        raise UserError("channels_last must be 0")
    source, around = net.maps(op, real(net, op, 0, 1, 2))
    if any(around):
        raise UserError("zeros are padded before it, which its mean would count")
    return Codes(net.emit(op, AdaptiveAvgPool2d(1), source), grid_of(net, op, 3, 4))


def qlinear_average_pool(net: Net, op: Op) -> Codes:
    """QLinearAveragePool: X, its scale and zero point, those of Y."""
    if op.get("channels_last", int, 0):
        raise UserError("channels_last must be 0")
    return Codes(averaged(net, op, real(net, op, 0, 1, 2)), grid_of(net, op, 3, 4))


def qlinear_concat(net: Net, op: Op) -> Codes:
    """QLinearConcat: scale and zero point of Y, then each input with its own."""
    values = [real(net, op, i, i + 1, i + 2) for i in range(2, len(op.inputs), 3)]
    return Codes(joined(net, op, values, op.get("axis", int)), grid_of(net, op, 0, 1))
