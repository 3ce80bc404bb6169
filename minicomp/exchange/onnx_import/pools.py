"""Pooling: windows of ONNX as windows of PyTorch, where they hold the same entries."""

from __future__ import annotations

from ...errors import UserError
from ...kernels.doors import window_count
from ...nn.layers import AdaptiveAvgPool2d, AvgPool2d, Flatten, MaxPool2d
from .folding import axes_of
from .graph import Op
from .grids import settled
from .net import Net, sane
from .values import Codes, Integers, Value, over
from .weighted import paddings


def max_pool(net: Net, op: Op):
    """MaxPool: X, of numbers or codes."""
    op.get("storage_order", int, 0)  # of the indices, which are not given
    op.get("count_include_pad", int, 0)
    _one_output(op)
    return over(_pooled(net, op), lambda v: _max_pool(net, op, v))


def _pooled(net: Net, op: Op):
    # What a pool reads: numbers, or codes that lie on their grid.
    item = net.item(op, 0)
    if isinstance(item, Codes):
        return settled(net, op, item)
    return item if isinstance(item, Integers) else net.value(op, 0)


def _max_pool(net: Net, op: Op, v: Value) -> Value:
    source, around, kernel, stride, pads, ceil = _windows(net, op, v)
    if any(around) and not _nonnegative(net, source):
        raise UserError("zeros are padded before it, which may be larger than what comes: padding "
                        "of a MaxPool must be its own")
    pads = [p + q for p, q in zip(pads, around)]
    fitted = _fitted(net, source, kernel, stride, pads, ceil)
    if fitted is None:
        raise _other_pads(pads, kernel)
    return net.emit(op, MaxPool2d(kernel, stride, *fitted), source)


def _windows(net: Net, op: Op, v: Value):
    # Source, zeros around it, kernel, stride, pads (4) and ceil_mode.
    kernel = op.ints("kernel_shape", 2, None)
    if kernel is None or min(kernel) < 1:
        raise UserError("kernel_shape must be 2 integers of at least 1")
    stride = op.ints("strides", 2, [1, 1])
    if min(stride) < 1 or op.ints("dilations", 2, [1, 1]) != [1, 1]:
        raise UserError("strides must be at least 1, dilations 1")
    source, around = net.maps(op, v)
    pads = paddings(op, v.shape[1:], kernel, stride)
    return source, around, kernel, stride, pads, bool(op.get("ceil_mode", int, 0))


def _fitted(net: Net, source: str, kernel, stride, pads, ceil: bool) -> tuple | None:
    # Padding and ceil_mode of a layer whose windows, cut off at the map's ends, are these.
    padding = tuple(pads[:2])
    if any(2 * p > k for p, k in zip(padding, kernel)):
        return None
    sizes = net.shapes[source][1:]
    wanted = [_count(n, k, s, pads[i], pads[i + 2], ceil)
              for i, (n, k, s) in enumerate(zip(sizes, kernel, stride))]
    for mode in (False, True):
        if [window_count(n, k, s, p, mode) for n, k, s, p in
                zip(sizes, kernel, stride, padding)] == wanted:
            return padding, mode
    return None


def _count(n: int, k: int, s: int, begin: int, end: int, ceil: bool) -> int:
    # Windows on n entries padded at both ends; none begins in what is padded behind.
    span = n + begin + end - k
    if span < 0:
        raise UserError(f"a window of {k} does not fit {n} entries padded by {begin} and {end}")
    count = (-(-span // s) if ceil else span // s) + 1
    return count - (ceil and (count - 1) * s >= n + begin)


def _nonnegative(net: Net, source: str) -> bool:
    # Whether a node never gives less than 0, as far as it says so itself.
    node = net.nodes.get(source)
    while node is not None and not node.layer.rectifies and node.layer.passes:
        node = net.nodes.get(node.inputs[0])
    return node is not None and node.layer.rectifies


def average_pool(net: Net, op: Op) -> Value:
    """AveragePool: X. Without count_include_pad a window at the border averages what is there."""
    return averaged(net, op, net.value(op, 0))


def averaged(net: Net, op: Op, v: Value) -> Value:
    """Returns the means of windows that an operator's attributes describe."""
    source, around, kernel, stride, pads, ceil = _windows(net, op, v)
    counted = bool(op.get("count_include_pad", int, 0)) or not any(pads)
    if any(around) and any(pads):
        raise UserError("zeros are padded before it and by it: a pool pads once")
    if any(around):
        pads, counted = list(around), True
    even = pads[:2] == pads[2:]
    # What hangs over the end is not counted: there, padding that is not counted is none.
    if not counted and any(pads[:2]) or counted and not even:
        raise UserError(f"pads {pads} must be the same on both sides and, if any is before the map,"
                        " counted (count_include_pad = 1)")
    fitted = _fitted(net, source, kernel, stride, pads, ceil)
    if fitted is None:
        raise _other_pads(pads, kernel)
    return net.emit(op, AvgPool2d(kernel, stride, *fitted), source)


def global_average_pool(net: Net, op: Op) -> Value:
    """GlobalAveragePool: X (N, C, H, W), of which (N, C, 1, 1) is left."""
    source, around = net.maps(op, net.value(op, 0))
    _no_zeros(around)
    return net.emit(op, AdaptiveAvgPool2d(1), source)


def global_max_pool(net: Net, op: Op) -> Value:
    """GlobalMaxPool: X (N, C, H, W), of which (N, C, 1, 1) is left."""
    source, around = net.maps(op, net.value(op, 0))
    _no_zeros(around)
    return net.emit(op, MaxPool2d(net.shapes[source][1:]), source)


def reduce_mean(net: Net, op: Op) -> Value:
    """ReduceMean: the mean of each channel's map, whatever order its axes are in."""
    v, keep = net.value(op, 0), op.get("keepdims", int, 1)
    axes, noop = axes_of(net, op, len(v.shape) + 1), op.get("noop_with_empty_axes", int, 0)
    if not axes and noop:
        return v
    axes = axes or tuple(range(len(v.shape) + 1))
    places = net.moves.places(v)
    rest = tuple(i for i in range(len(v.shape)) if i + 1 not in axes)
    order = (*rest, *(i - 1 for i in axes if i))
    plane = v.at[1] * v.at[2] if len(v.at) == 3 else 0
    one = plane and 0 not in axes and [v.shape[i] for i in rest] == [v.at[0]]
    rows = places.transpose(order) if one else None
    if rows is None or rows.size != v.at[0] * plane or not _planes(rows, *v.at):
        raise UserError("a mean must be taken of each channel's map: of axes 2 and 3 of maps "
                        f"(N, C, H, W), got axes {axes}")
    pooled = net.emit(op, AdaptiveAvgPool2d(1), v.source)
    if keep:
        return net.moves.reshaped(pooled, tuple(
            1 if i + 1 in axes else n for i, n in enumerate(v.shape)))
    flat = net.emit(op, Flatten(), pooled.source, name=f"{sane(op)[:80]}_flatten")
    return net.moves.reshaped(flat, v.at[:1])


def _planes(rows, channels: int, h: int, w: int) -> bool:
    # Whether each row holds all places of its channel.
    rows = rows.reshape(channels, h * w).copy()
    rows.sort(axis=1)
    return bool((rows.ravel() == range(channels * h * w)).all())


def _other_pads(pads, kernel) -> UserError:
    return UserError(f"pads must be at most half of the window {tuple(kernel)}, and the same on "
                     f"both sides unless only the last window hangs over the end, got {pads}")


def _no_zeros(around) -> None:
    if any(around):
        raise UserError("zeros are padded before it, which its mean or maximum would count")


def _one_output(op: Op) -> None:
    if any(op.outputs[1:]):
        raise UserError("it gives indices beside its values, which no layer does")
