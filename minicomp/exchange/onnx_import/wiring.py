"""Operators that lead values about: what they do is done to places, a layer comes of few."""

from __future__ import annotations

import math

import numpy as np

from ...errors import UserError
from ...nn.layers import Add, Concat
from .folding import BATCH, axes_of, axis_in, numbers
from .forms import transposed
from .graph import Constant, Op
from .grids import settled
from .net import Net
from .values import ZERO, Codes, Integers, Seen, Tail, Value, batch, over, value_of

SHORT = {10: "float16", 16: "bfloat16"}
FLOATS = (1, 10, 11, 16)  # ONNX's numbers of float, float16, double, bfloat16


def seen(net: Net, op: Op):
    """Returns input 0, of which the net has numbers; UserError."""
    item = net.item(op, 0)
    return item if isinstance(item, Seen) else net.value(op, 0)


def reshape(net: Net, op: Op):
    """Reshape, which must leave the examples alone."""
    item = seen(net, op)
    target = (numbers(net.constant(op, 1).array) if op.given(1) else op.get("shape", list))
    shape = _target(net, value_of(item).shape, target, bool(op.get("allowzero", int, 0)))
    return over(item, lambda v: net.moves.reshaped(v, shape))


def _target(net: Net, shape, target: list, zeros: bool) -> tuple[int, ...]:
    # The shape without N; 0 stands for the size that was there, -1 for what is left.
    if not target or BATCH in target[1:]:
        raise UserError(f"the number of examples must stay in front, got the shape {target}")
    first, *rest = target
    if not zeros:
        rest = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(rest)]
    entries, known = math.prod(shape), math.prod(n for n in rest if n != -1)
    kept = first is BATCH or first == 0 and not zeros or first == net.batch
    if first == -1 and -1 not in rest and known == entries:
        return tuple(rest)
    if not kept or rest.count(-1) > 1 or min(rest, default=1) < -1:
        raise UserError(f"the number of examples must stay in front, got the shape {target} for "
                        f"{batch(shape)}" + (", which has a batch of 1 in it: export the net with "
                        "an open batch axis, or with a fixed one" if first == 1 else ""))
    if -1 in rest and known:
        rest[rest.index(-1)] = entries // known
    return tuple(rest)


def flatten(net: Net, op: Op):
    """Flatten: all axes from 1 on into one."""
    item = seen(net, op)
    v, axis = value_of(item), op.get("axis", int, 1)
    rank = len(v.shape) + 1
    if axis != rank and axis_in(axis, rank) != 1 or axis == rank and rank != 1:
        raise UserError(f"axis must be 1: the examples stay apart, got {axis}")
    return over(item, lambda v: net.moves.reshaped(v, (math.prod(v.shape),)))


def squeeze(net: Net, op: Op):
    """Squeeze: axes of size 1 go."""
    item = seen(net, op)
    shape = value_of(item).shape
    axes = axes_of(net, op, len(shape) + 1)
    if axes is None and net.batch == 1:
        raise UserError("axes must be named where the batch has size 1")
    gone = axes or tuple(i + 1 for i, n in enumerate(shape) if n == 1)
    if 0 in gone or any(shape[i - 1] != 1 for i in gone):
        raise UserError(f"axes must be of size 1 and not of the examples, got {gone} of "
                        f"{batch(shape)}")
    left = tuple(n for i, n in enumerate(shape, start=1) if i not in gone)
    return over(item, lambda v: net.moves.reshaped(v, left))


def unsqueeze(net: Net, op: Op):
    """Unsqueeze: axes of size 1 come."""
    item = seen(net, op)
    sizes = list(value_of(item).shape)
    given = op.get("axes", list, None) or (numbers(net.constant(op, 1).array))
    axes = axes_of(net, op, len(sizes) + 1 + len(given))
    if not axes or 0 in axes:
        raise UserError(f"the examples must stay in front, got axes {axes}")
    for i in sorted(axes):
        sizes.insert(i - 1, 1)
    return over(item, lambda v: net.moves.reshaped(v, tuple(sizes)))


def transpose(net: Net, op: Op):
    """Transpose: of an activation its places, of a constant its codes too."""
    item = net.item(op, 0)
    rank = item.array.ndim if isinstance(item, Constant) else len(value_of(seen(net, op)).shape) + 1
    axes = tuple(axis_in(i, rank) for i in op.get("perm", list, list(range(rank))[::-1]))
    if sorted(axes) != list(range(rank)):
        raise UserError(f"perm must be an order of {rank} axes, got {axes}")
    if isinstance(item, Constant):
        return transposed(item, axes)
    if axes[0] != 0:
        raise UserError(f"the examples must stay in front, got perm {axes}")
    inner = tuple(i - 1 for i in axes[1:])
    return over(item, lambda v: v if inner == tuple(range(rank - 1)) else net.moves.moved(
        v, lambda places: places.transpose(inner)))


def pad(net: Net, op: Op):
    """Pad with zeros, which the convolution or pooling behind it takes in."""
    item, mode = seen(net, op), op.get("mode", str, "constant")
    v = value_of(item)
    rank = len(v.shape) + 1
    if mode != "constant":
        raise UserError("mode must be constant: no layer continues what is at the border")
    ends = _ends(net, op, rank)
    zero = item.grid.zero_point if isinstance(item, Codes) else 0
    filled = net.constant(op, 2, op.get("value", float, 0.0)).array
    if any(n for pair in ends for n in pair) and (filled != zero).any():
        raise UserError(f"what is padded must be {zero}, got {filled}")
    if any(ends[0]) or min(n for pair in ends for n in pair) < 0:
        raise UserError(f"pads must be at least 0, and those of the examples 0, got {ends}")
    if not any(n for pair in ends for n in pair):
        return item
    net.moves.charge(math.prod(n + a + b for n, (a, b) in zip(v.shape, ends[1:])))
    return over(item, lambda v: net.moves.moved(
        v, lambda places: np.pad(places, ends[1:], constant_values=ZERO)))


def _ends(net: Net, op: Op, rank: int) -> list[tuple[int, int]]:
    # What is padded before and behind each axis.
    given = op.get("pads", list, op.get("paddings", list, None))
    if given is None:
        given = numbers(net.constant(op, 1).array)
    axes = [axis_in(i, rank) for i in numbers(net.constant(op, 3).array)] if op.given(3) else list(
        range(rank))
    if len(given) != 2 * len(axes) or BATCH in given:
        raise UserError(f"pads must be two numbers for each of {len(axes)} axes, got {given}")
    ends = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        ends[axis] = (given[i], given[i + len(axes)])
    return ends


def concat(net: Net, op: Op) -> Value | Codes:
    """Concat: of activations; or of codes on one grid."""
    items = [net.item(op, i) for i in range(len(op.inputs))]
    axis = op.get("axis", int, 1)
    if isinstance(items[0], Codes):
        if not all(isinstance(i, Codes) and i.grid == items[0].grid for i in items):
            raise UserError("codes that are joined must lie on one grid")
        values = [settled(net, op, i).value for i in items]
        return Codes(joined(net, op, values, axis), items[0].grid, there=True)
    return joined(net, op, [net.value(op, i) for i in range(len(items))], axis)


def joined(net: Net, op: Op, values: list[Value], axis: int) -> Value:
    """Returns values one behind the other along an axis of the graph, N counted."""
    axis = axis_in(axis, len(values[0].shape) + 1) - 1
    if axis < 0:
        raise UserError("examples are not joined")
    if len(values[0].shape) == 1:
        values = [_as_features(net, op, v) for v in values]
    made = net.emit(op, Concat(), *(v.source for v in values))
    if axis == 0 and all(v.places is None and v.shape == v.at for v in values):
        return made
    places, before = [], 0
    for v in values:
        mine = net.moves.places(v)
        places.append(np.where(mine == ZERO, ZERO, mine + before))
        before += math.prod(v.at)
    return net.moves.seen(made, np.concatenate(places, axis=axis))


def _as_features(net: Net, op: Op, v: Value) -> Value:
    source, places = net.features(op, v)
    return Value(source, net.shapes[source], v.shape, places)


def summed(net: Net, op: Op, *values: Value) -> Value:
    """Returns the sum of values that the graph sees alike; UserError."""
    first = values[0]
    for v in values[1:]:
        same = v.at == first.at and v.shape == first.shape
        if not same or not (v.places is first.places or np.array_equal(
                net.moves.places(v), net.moves.places(first))):
            raise UserError("what is added must have one shape and order, got "
                            f"{batch(first.shape)} and {batch(v.shape)}: nothing is broadcast but "
                            "constants")
    made = net.emit(op, Add(), *(v.source for v in values))
    return Value(made.source, first.at, first.shape, first.places)


def cast(net: Net, op: Op):
    """Cast to floats, which all are; of a classifier's end, to something else."""
    item, to = seen(net, op), op.get("to", int)
    for name in ("saturate", "round_mode"):
        op.get(name, object, None)
    if isinstance(item, Codes):
        raise UserError("codes must be read by DequantizeLinear")
    if to in SHORT:
        net.notes.append(f"{op}: numbers of {SHORT[to]} are kept as float32")
    if isinstance(item, Integers):
        return item.value if to in FLOATS else item
    return item if to in FLOATS else Tail(item, op.kind)


# ------------------------------------------------------------------- behind a classifier's logits

BEHIND = ("Softmax", "LogSoftmax", "ArgMax", "TopK", "Cast", "Identity", "Reshape", "Squeeze",
          "Flatten", "ai.onnx.ml.ZipMap", "ai.onnx.ml.ArrayFeatureExtractor",
          "ai.onnx.ml.Normalizer")


def softmax(net: Net, op: Op) -> Tail:
    """Softmax, LogSoftmax, ArgMax and the like, which only stand at the end."""
    op.read |= set(op.attributes)
    return Tail(net.value(op, 0), op.kind)


def behind(net: Net, op: Op, tail: Tail) -> Tail:
    """Returns the tail that an operator behind logits belongs to; UserError where it computes on.
    """
    op.read |= set(op.attributes)
    if op.kind not in BEHIND:
        raise UserError(f"it reads what {tail.of} gives, which is only read at the end of a net")
    return Tail(tail.value, f"{tail.of}, {op.kind}")
