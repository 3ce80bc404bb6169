"""Constants that the graph computes: of other constants, and of the sizes of activations.

The number of examples is no number while a graph is read: `BATCH` stands for it. It may be taken
out of a shape, joined into another, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...errors import UserError
from .graph import RANGES, Constant, Op
from .net import Net
from .values import Seen, value_of

Array = np.ndarray
DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32,
          7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64,
          16: np.float32}  # by their numbers in ONNX; bfloat16 as float32


class Batch:
    """The number of examples."""

    def __repr__(self) -> str:
        return "N"


BATCH = Batch()


def numbers(a: Array) -> list:
    """Returns the entries of a list of sizes: ints, and BATCH; UserError where it is none."""
    if a.ndim > 1 or a.dtype.kind not in "iuO" or a.size > 64:
        raise UserError(f"sizes and axes must be a list of integers, got {a.dtype}, {a.shape}")
    return [n if n is BATCH else int(n) for n in a.ravel().tolist()]


def axes_of(net: Net, op: Op, rank: int) -> tuple[int, ...] | None:
    """Returns the axes that an operator names by its attribute or its input 1, each in 0..rank-1;
    None where it names none. UserError for others."""
    given = op.get("axes", list, None)
    if given is None and op.given(1):
        given = numbers(net.constant(op, 1).array)
    if given is None:
        return None
    axes = tuple(axis_in(n, rank) for n in given)
    if len(set(axes)) != len(axes):
        raise UserError(f"axes must differ, got {axes}")
    return axes


def axis_in(axis: int, rank: int) -> int:
    """Returns an axis counted from the front; UserError where there is none such."""
    if type(axis) is not int or not -rank <= axis < rank:
        raise UserError(f"an axis must be in [{-rank}, {rank - 1}], got {axis}")
    return axis % rank


def shape_of(net: Net, op: Op) -> Constant:
    """Shape: the sizes of an array, from axis `start` to `end`."""
    item = net.item(op, 0)
    if isinstance(item, Constant):
        sizes = list(item.array.shape)
    elif isinstance(item, Seen):
        sizes = [BATCH, *value_of(item).shape]
    else:
        raise UserError("it reads what is behind the logits of a classifier")
    chosen = sizes[op.get("start", int, 0) : op.get("end", int, len(sizes))]
    return Constant(np.array(chosen, object if BATCH in chosen else np.int64))


def folded(net: Net, op: Op, *given: Constant | None) -> Constant:
    """Returns the constant that an operator of FOLDS makes of constants; UserError, ValueError.

    given : its inputs, None for one that is left out
    """
    arrays = [None if c is None else c.array for c in given]
    with np.errstate(all="ignore"):
        try:
            a = np.asarray(FOLDS[op.kind](net, op, *arrays))
        except TypeError:
            raise UserError("it computes with the number of examples, which may be any") from None
    if a.dtype == object and BATCH not in a.ravel().tolist():
        a = a.astype(np.int64)
    return Constant(a, _limits(op, a, *given))


def _limits(op: Op, a: Array, *given: Constant | None) -> tuple[int, int] | None:
    # What codes may be: their type's range, unless a Clip or a type of 4 bits says less.
    first = op.attributes.get("value") if op.kind == "Constant" else given[0] if given else None
    if not isinstance(first, Constant) or first.limits is None or first.array.dtype != a.dtype:
        return RANGES.get(a.dtype.name.upper())
    if op.kind == "Clip" and a.size:
        lo, hi = (None if c is None else int(c.array.reshape(())) for c in (*given[1:], None,
                                                                             None)[:2])
        least, most = first.limits
        return (least if lo is None else max(lo, least), most if hi is None else min(hi, most))
    return first.limits


def _elementwise(function: Callable) -> Callable:
    def fold(net: Net, op: Op, *arrays: Array) -> Array:
        net.moves.charge(math.prod(np.broadcast_shapes(*(a.shape for a in arrays))))
        return function(*arrays)
    return fold


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    if (b == 0).any():
        raise UserError("it divides by 0")
    return np.trunc(a / b).astype(a.dtype) if a.dtype != object else a // b


def _constant(net: Net, op: Op) -> Array:
    wanted = {"value": Constant, "value_float": float, "value_int": int, "value_floats": list,
              "value_ints": list}
    for name, kind in wanted.items():
        if name in op.attributes:
            value = op.get(name, kind)
            if kind is Constant:
                return value.array
            return np.array(value, np.float32 if "float" in name else np.int64)
    raise UserError(f"it must have one of {', '.join(wanted)}")


def _constant_of_shape(net: Net, op: Op, shape: Array) -> Array:
    value = op.get("value", Constant, Constant(np.zeros(1, np.float32))).array
    return _full(net, value.reshape(-1)[:1].reshape(()), numbers(shape))


def _full(net: Net, value: Array, shape: list) -> Array:
    if BATCH in shape or min(shape, default=0) < 0:
        raise UserError(f"its shape must be sizes of at least 0, got {shape}")
    net.moves.charge(math.prod(shape), value.dtype.itemsize)
    return np.full(shape, value)


def _expand(net: Net, op: Op, a: Array, shape: Array) -> Array:
    wide = np.broadcast_shapes(a.shape, tuple(numbers(shape)))
    net.moves.charge(math.prod(wide))
    return np.broadcast_to(a, wide).copy()


def _gather(net: Net, op: Op, a: Array, index: Array) -> Array:
    axis = axis_in(op.get("axis", int, 0), a.ndim)
    net.moves.charge(a.size // max(a.shape[axis], 1) * index.size)
    return np.take(a, index.astype(np.int64), axis=axis)


def _concat(net: Net, op: Op, *arrays: Array) -> Array:
    net.moves.charge(sum(a.size for a in arrays))
    return np.concatenate(arrays, axis=axis_in(op.get("axis", int, 1), arrays[0].ndim))


def _slice(net: Net, op: Op, a: Array, *given: Array) -> Array:
    parts = [op.get(name, list, None) for name in ("starts", "ends", "axes")]
    if parts[0] is None:
        parts = [g if g is None else numbers(g) for g in given]
    starts, ends, axes, steps = (parts + [None] * 4)[:4]
    starts, ends = list(starts), list(ends)
    axes = range(len(starts)) if axes is None else [axis_in(i, a.ndim) for i in axes]
    cut = [slice(None)] * a.ndim
    for i, begin, end, step in zip(axes, starts, ends, steps or [1] * len(starts)):
        cut[i] = slice(begin, None if step < 0 and end < -a.shape[i] else end, step)
    return a[tuple(cut)]


def _squeeze(net: Net, op: Op, a: Array, *_: Array) -> Array:
    return np.squeeze(a, axes_of(net, op, a.ndim))


def _unsqueeze(net: Net, op: Op, a: Array, *_: Array) -> Array:
    count = len(op.get("axes", list, None) or net.constant(op, 1).array.reshape(-1))
    return np.expand_dims(a, axes_of(net, op, a.ndim + count))


def _reshape(net: Net, op: Op, a: Array, *shape: Array) -> Array:
    wanted = numbers(shape[0]) if shape else op.get("shape", list)
    if not op.get("allowzero", int, 0):
        wanted = [a.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return a.reshape(wanted)


def _cast(net: Net, op: Op, a: Array, *like: Array) -> Array:
    for name in ("saturate", "round_mode"):
        op.get(name, object, None)
    dtype = like[0].dtype if like else DTYPES.get(op.get("to", int))
    if dtype is None:
        names = dict.fromkeys(np.dtype(d).name for d in DTYPES.values())
        raise UserError(f"it must cast to one of {', '.join(names)}")
    net.moves.charge(a.size)
    return a if a.dtype == object else a.astype(dtype)


def _clip(net: Net, op: Op, a: Array, *bounds: Array) -> Array:
    lo, hi = (bounds + (None,) * 2)[:2] if bounds else (op.get("min", float, None),
                                                        op.get("max", float, None))
    net.moves.charge(a.size)
    return a if lo is None and hi is None else np.clip(a, lo, hi).astype(a.dtype)


FOLDS: dict[str, Callable] = {
    "Constant": _constant, "ConstantOfShape": _constant_of_shape, "Expand": _expand,
    "Gather": _gather, "Concat": _concat, "Slice": _slice, "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "Reshape": _reshape, "Cast": _cast, "CastLike": _cast, "Clip": _clip,
    "Add": _elementwise(np.add), "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply), "Div": _elementwise(_divide),
    "Neg": _elementwise(np.negative),
    "Sqrt": _elementwise(np.sqrt), "Reciprocal": _elementwise(np.reciprocal),
    "Pow": _elementwise(np.power), "Abs": _elementwise(np.abs), "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Max": _elementwise(lambda *a: np.maximum.reduce(np.broadcast_arrays(*a))),
    "Min": _elementwise(lambda *a: np.minimum.reduce(np.broadcast_arrays(*a))),
    "ReduceProd": lambda net, op, a, *axes: np.prod(
        a, axis=axes_of(net, op, a.ndim), keepdims=bool(op.get("keepdims", int, 1))),
}
