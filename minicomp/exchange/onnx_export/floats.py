"""The steps of a program as ONNX nodes on floats.

A gain (a folded batch norm) is multiplied into the weights, in float64. Dense layers are Gemm with
transB = 1, the weight (O, I), without alpha and beta: onnxruntime's tools lose these, and make
another, quantized product of other forms. Windows that hang over a map's end are padded there:
tools do not agree on ceil_mode. Means over cells or windows of unequal size are two products with
matrices: ONNX has no pooling of cells, and of such windows another one.

N batch, C channels, O out, I in, H W size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ...conv import cell_means
from ...deploy.program import Program
from ...deploy.steps import Step, numbers_of
from ...errors import UserError
from ...nn.forms import Affine, Form
from ...nn.graph import INPUT
from ...tensor import raw
from .graph import Graph

Array = np.ndarray


class Around(NamedTuple):
    """Of a step: the shapes of the first input and of the output, N left out; whether weights that
    lie on an affine grid stay codes, behind DequantizeLinear; the shape of the last input."""

    x: tuple[int, ...]
    y: tuple[int, ...]
    codes: bool
    last: tuple[int, ...]


def add_steps(graph: Graph, program: Program, *, codes: bool = False) -> str:
    """Adds every step of a program on floats and returns the name of its output.

    codes : whether weights that `held_codes` knows stay int8 or uint8
    Raises UserError, by name, for a step that keeps values on a grid.
    """
    shapes, names = program.shapes(), {INPUT: INPUT}
    for step in program.steps:
        xs = [names[name] for name in step.inputs]
        around = Around(shapes[step.inputs[0]], shapes[step.name], codes, shapes[step.inputs[-1]])
        y = _ADD[step.kind](graph, step, xs, around)
        names[step.name] = activated(graph, step.then, y)
    return names[program.steps[-1].name] if program.steps else INPUT


def activated(graph: Graph, then: str | None, x: str) -> str:
    """Adds an activation of deploy/steps.py behind a value, or nothing, and returns its name."""
    if then is None:
        return x
    limits = [graph.constant(f"{x}.{end}", np.float32(v))
              for end, v in (("least", 0), ("most", 6))] if then == "relu6" else []
    if then == "sign":  # ONNX's own gives 0 for 0
        ends = [graph.constant(f"{x}.{end}", np.float32(v))
                for end, v in (("zero", 0), ("minus", -1), ("plus", 1))]
        below = graph.add("Less", x, ends[0], name=f"{x}.below")
        return graph.add("Where", below, *ends[1:], name=f"{x}.{then}")
    op = {"relu": "Relu", "relu6": "Clip", "sigmoid": "Sigmoid", "tanh": "Tanh"}[then]
    return graph.add(op, x, *limits, name=f"{x}.{then}")


def conv_attributes(args: dict) -> dict:
    """Returns the attributes of a convolution: kernel, strides, pads on all sides, groups."""
    return {"kernel_shape": args["kernel_size"], "strides": args["stride"],
            "pads": [*args["padding"]] * 2, "group": args["groups"]}


def pool_attributes(args: dict, size: Sequence[int], count: Sequence[int]) -> dict:
    """Returns the attributes of pooling: kernel, strides, pads (begin of each axis, then end).

    size : (H, W)        count : (Ho, Wo); the pad at the end holds windows that hang over
    """
    axes = list(zip(size, count, args["kernel_size"], args["stride"], args["padding"]))
    ends = [max((m - 1) * s + k - n - p, p) for n, m, k, s, p in axes]
    return {"kernel_shape": args["kernel_size"], "strides": args["stride"],
            "pads": [*args["padding"], *ends]}


def shuffled(graph: Graph, name: str, x: str, groups: int, shape: tuple[int, ...]) -> str:
    """Adds a channel shuffle, (g, n) -> (n, g), and returns its name.   shape : (C, H, W)"""
    c, h, w = shape
    for part, to in (("split", (0, groups, c // groups, h, w)), ("join", (0, c, h, w))):
        target = graph.constant(f"{name}.{part}.shape", np.array(to, np.int64))  # 0: N stays
        x = graph.add("Reshape", x, target, name=name if part == "join" else f"{name}.{part}")
        if part == "split":
            x = graph.add("Transpose", x, name=f"{name}.swap", perm=(0, 2, 1, 3, 4))
    return x


def held_codes(form: Form) -> bool:
    """Whether a weight is int8 or uint8 as it is: affine, a scale each row or one for all."""
    return (isinstance(form, Affine) and form.grid != "midrise" and not form.group
            and form.codes("q").start >= -128 and form.codes("q").stop <= 256)


def _weights(graph: Graph, step: Step, around: Around) -> list[str]:
    # The names of the weight, in which the gain is, and of the bias, if any.
    form, numbers = step.weights["weight"], numbers_of(step.weights)
    if around.codes and held_codes(form):
        names = [_coded(graph, f"{step.name}.weight", form, numbers.get("gain"))]
    else:
        w = _times(numbers["weight"], numbers.get("gain"))
        names = [graph.constant(f"{step.name}.weight", w)]
    bias = numbers.get("bias")
    return names if bias is None else [*names, graph.constant(f"{step.name}.bias", bias)]


def _times(a: Array, gain: Array | None) -> Array:
    # Rows times a gain each, in float64, as float32.
    if gain is None:
        return a
    return (a.astype(np.float64) * gain.reshape(-1, *[1] * (a.ndim - 1))).astype(np.float32)


def _coded(graph: Graph, name: str, form: Affine, gain: Array | None) -> str:
    # DequantizeLinear of codes, along axis 0.
    kind, rows = np.uint8 if form.grid == "unsigned" else np.int8, len(form.q)
    scale = np.broadcast_to(raw(form.scale).astype(np.float32), rows)
    zero_point = 0 if form.zero_point is None else form.zero_point
    parts = {"codes": form.q.astype(kind), "scale": _times(scale, gain),
             "zero_point": np.broadcast_to(zero_point, rows).astype(kind)}
    constants = [graph.constant(f"{name}.{part}", a) for part, a in parts.items()]
    return graph.add("DequantizeLinear", *constants, name=name, axis=0)


def _linear(graph, step, xs, around):
    return graph.add("Gemm", *xs, *_weights(graph, step, around), name=step.name,
                     transB=1)


def _conv(graph, step, xs, around):
    return graph.add("Conv", *xs, *_weights(graph, step, around), name=step.name,
                     **conv_attributes(step.args))


def _scale(graph, step, xs, around):
    numbers = numbers_of(step.weights)
    gain, bias = (graph.constant(f"{step.name}.{part}", over_maps(numbers[part], around.x))
                  for part in ("gain", "bias"))
    y = graph.add("Mul", *xs, gain, name=f"{step.name}.times")
    return graph.add("Add", y, bias, name=step.name)


def _input_scale(graph, step, xs, around):
    # Both means of K at once: over channels and windows, or over all that a linear layer reads.
    name, kernel, numbers = step.name, step.args["kernel_size"], numbers_of(step.weights)
    size = graph.add("Abs", xs[1], name=f"{name}.size")
    entries = math.prod(around.last if kernel is None else (around.last[0], *kernel))
    shape = (entries, 1) if kernel is None else (1, around.last[0], *kernel)
    box = graph.constant(f"{name}.box", np.full(shape, 1 / entries, np.float32))
    if kernel is None:
        K = graph.add("MatMul", graph.add("Flatten", size, name=f"{name}.flat"), box,
                      name=f"{name}.scales")
    else:
        K = graph.add("Conv", size, box, name=f"{name}.scales",
                      **conv_attributes(step.args | {"groups": 1}))
    y = graph.add("Mul", xs[0], K, name=f"{name}.scaled")
    for part, op in (("gain", "Mul"), ("bias", "Add")):
        if part in numbers:
            a = graph.constant(f"{name}.{part}", over_maps(numbers[part], around.x))
            y = graph.add(op, y, a, name=f"{name}.with_{part}")
    return y


def _clip(graph, step, xs, around):
    ceiling = over_maps(numbers_of(step.weights)["ceiling"], around.x)
    y = graph.add("Relu", *xs, name=f"{step.name}.relu")
    return graph.add("Min", y, graph.constant(f"{step.name}.ceiling", ceiling), name=step.name)


def _binary_sum(graph, step, xs, around):
    numbers, (x,), total = numbers_of(step.weights), xs, None
    half = graph.constant(f"{step.name}.half", np.float32(0.5))
    for i, (beta, shift) in enumerate(zip(numbers["beta"], numbers["shift"])):
        name = f"{step.name}.{i}"
        v, minus, plus = (graph.constant(f"{name}.{what}", np.float32(a)) for what, a in
                          (("shift", shift), ("minus", -beta), ("plus", beta)))
        moved = graph.add("Add", x, v, name=f"{name}.moved")
        above = graph.add("GreaterOrEqual", moved, half, name=f"{name}.above")
        term = graph.add("Where", above, plus, minus, name=f"{name}.term")
        total = term if total is None else graph.add("Add", total, term, name=f"{name}.sum")
    return total


def over_maps(a: Array, shape: tuple[int, ...]) -> Array:
    """Returns a number a channel, so that it broadcasts to (N, C, H, W) or (N, C).

    shape : (C, H, W) or (C,)
    """
    return a.reshape(-1, *[1] * (len(shape) - 1))


def _max_pool(graph, step, xs, around):
    return graph.add("MaxPool", *xs, name=step.name,
                     **pool_attributes(step.args, around.x[1:], around.y[1:]))


def _avg_pool(graph, step, xs, around):
    args, size, count = step.args, around.x[1:], around.y[1:]
    axes = list(zip(size, count, *(args[a] for a in ("kernel_size", "stride", "padding"))))
    if any((m - 1) * s + k > n + 2 * p for n, m, k, s, p in axes):
        return _means(graph, step.name, *xs, *(_window_means(*axis) for axis in axes))
    return graph.add("AveragePool", *xs, name=step.name, count_include_pad=1,
                     **pool_attributes(args, size, count))


def _window_means(n: int, count: int, kernel: int, stride: int, padding: int) -> Array:
    # (count, n): row i takes the mean of window i, in which padding counts as 0, but not what hangs
    # over the padding's end.
    begin = np.arange(count)[:, None] * stride - padding
    end, j = np.minimum(begin + kernel, n + padding), np.arange(n)
    return (((begin <= j) & (j < end)) / (end - begin)).astype(np.float32)


def _adaptive_avg_pool(graph, step, xs, around):
    size, cells = around.x[1:], step.args["output_size"]
    if cells == (1, 1):
        return graph.add("GlobalAveragePool", *xs, name=step.name)
    if all(n % m == 0 for n, m in zip(size, cells)):
        window = [n // m for n, m in zip(size, cells)]
        return graph.add("AveragePool", *xs, name=step.name, kernel_shape=window, strides=window)
    return _means(graph, step.name, *xs, *(cell_means(n, m, np.float32)
                                           for n, m in zip(size, cells)))


def _means(graph: Graph, name: str, x: str, rows: Array, columns: Array) -> str:
    # rows (Ho, H) times x (N, C, H, W) times columns' (W, Wo)
    y = graph.add("MatMul", graph.constant(f"{name}.rows", rows), x, name=f"{name}.means")
    return graph.add("MatMul", y, graph.constant(f"{name}.columns", columns.T), name=name)


def _flatten(graph, step, xs, around):
    return graph.add("Flatten", *xs, name=step.name)


def _shuffle(graph, step, xs, around):
    return shuffled(graph, step.name, *xs, step.args["groups"], around.x)


def _add(graph, step, xs, around):
    total = xs[0] if len(xs) > 1 else graph.add("Identity", *xs, name=step.name)
    for x in xs[1:]:
        total = graph.add("Add", total, x, name=step.name)
    return total


def _concat(graph, step, xs, around):
    return graph.add("Concat", *xs, name=step.name, axis=1)


def _crelu(graph, step, xs, around):
    negative = graph.add("Neg", *xs, name=f"{step.name}.negative")
    both = graph.add("Concat", *xs, negative, name=f"{step.name}.both", axis=1)
    return graph.add("Relu", both, name=step.name)


def _threshold(graph, step, xs, around):
    least = graph.constant(f"{step.name}.least", np.float32(step.args["threshold"]))
    size = graph.add("Abs", *xs, name=f"{step.name}.abs")
    kept = graph.add("GreaterOrEqual", size, least, name=f"{step.name}.kept")
    zero = graph.constant(f"{step.name}.zero", np.float32(0))
    return graph.add("Where", kept, *xs, zero, name=step.name)


def _topk(graph, step, xs, around):
    entries, k = math.prod(around.x), step.args["k"]
    if k >= entries:
        return graph.add("Identity", *xs, name=step.name)
    flat = graph.add("Flatten", *xs, name=f"{step.name}.flat")
    size = graph.add("Abs", flat, name=f"{step.name}.abs")
    k = graph.constant(f"{step.name}.k", np.array([k], np.int64))
    index = graph.add("TopK", size, k, name=f"{step.name}.index", outputs=2)  # lowest index first
    kept = graph.add("GatherElements", flat, index, name=f"{step.name}.kept", axis=1)
    zeros = graph.add("Sub", flat, flat, name=f"{step.name}.zeros")
    y = graph.add("ScatterElements", zeros, index, kept, name=f"{step.name}.spread", axis=1)
    shape = graph.constant(f"{step.name}.shape", np.array((0, *around.x), np.int64))
    return graph.add("Reshape", y, shape, name=step.name)


def _quantize(graph, step, xs, around):
    raise UserError(f"{step.name}: a graph of floats has no values on grids; "
                    "format must be qdq or qoperator")


def _pointwise(graph, step, xs, around):
    return activated(graph, step.kind, *xs)


# What adds a step, by its kind: called with the graph, the step, the names of its inputs and what
# is around; returns the name of its output, before the step's activation.
_ADD: dict[str, Callable[[Graph, Step, list[str], Around], str]] = {
    "linear": _linear,
    "conv": _conv,
    "scale": _scale,
    "input_scale": _input_scale,
    **dict.fromkeys(("relu", "relu6", "sigmoid", "tanh", "sign"), _pointwise),
    "threshold": _threshold,
    "topk": _topk,
    "quantize": _quantize,
    "clip": _clip,
    "binary_sum": _binary_sum,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": _adaptive_avg_pool,
    "flatten": _flatten,
    "shuffle": _shuffle,
    "add": _add,
    "concat": _concat,
    "crelu": _crelu,
}
