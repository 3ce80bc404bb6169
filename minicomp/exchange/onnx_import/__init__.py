"""ONNX in: a graph of operators becomes a model's list of nodes.

The graph is read once, from the first operator to the last. Each name in it stands for something
(`values`): what a node of the net gives, in a shape and order of the graph's own; a constant, with
the codes it was made of; codes, of which the net has the real numbers. One rule an operator
(`rules`) says what its output stands for, and makes a node where a layer comes of it:

    what only moves entries (Reshape, Transpose, Squeeze, Pad, Concat) makes none until a layer
    reads the result, which then has cancelled or is refused by name;
    what constants and shapes give is computed at once;
    additions and multiplications by constants are one normalisation, bias or batch norm;
    pairs of QuantizeLinear and DequantizeLinear are grids of activations and codes of weights;
    what a classifier does behind its logits is cut off.

The net takes images channels first, whatever the graph takes. A file is a stranger's: see `graph`
and `wire` for the bounds. Whatever is not read is refused with its node's name.

Source: the operators as onnx.ai/onnx/operators states them
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import FormatError, UserError, printable
from ...nn.graph import INPUT, Model
from .folding import FOLDS, folded
from .graph import RANGES, Constant, Graph, Input, Op, read_graph
from .grids import on_grid
from .net import Net, Rearranged
from .rules import RULES
from .values import Codes, Integers, Item, Shape, Tail, Value, batch, value_of
from .wiring import behind

Array = np.ndarray
FLOATS = ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")


@dataclass(frozen=True)
class Imported:
    """A model, and what its reader left out or took for granted, a sentence each.

    metadata : the file's texts by name
    """

    model: Model
    notes: tuple[str, ...]
    metadata: dict[str, str]


def load_onnx(path: str | Path, *, max_bytes: int = 2**30, input_shape: Shape | None = None
              ) -> Imported:
    """Returns the model of an ONNX file: its outputs are the graph's up to rounding.

    max_bytes : of the file, and again of the arrays and views that come of it
    input_shape : (C, H, W) in which examples come, where the graph takes as many numbers in a row
    Raises UserError for an operator that is not read, with its node; for a library that is not
    installed; FormatError where the file is damaged or takes more; OSError where it cannot be read.
    """
    with _errors_of(path):
        return _imported(read_graph(Path(path), max_bytes), max_bytes, input_shape)


def onnx_arrays(path: str | Path, *, max_bytes: int = 2**30) -> dict[str, Array]:
    """Returns the arrays of an ONNX file by name; errors of `load_onnx`."""
    with _errors_of(path):
        arrays = read_graph(Path(path), max_bytes).arrays
        return {name: made().array for name, made in arrays.items()}


@contextlib.contextmanager
def _errors_of(path: str | Path) -> Iterator[None]:
    # What is wrong is said with the file's name; an error that no check foresaw is the file's.
    try:
        yield
    except UserError as e:
        raise type(e)(f"{printable(path)}: {e}") from e.__cause__
    except OSError:
        raise
    except Exception as e:
        raise FormatError(f"{printable(path)}: the file is damaged ({type(e).__name__}: "
                          f"{printable(e, 200)})") from e


def _imported(graph: Graph, max_bytes: int, input_shape: Shape | None) -> Imported:
    item = _input(graph, input_shape)
    try:
        model, notes = _read(graph, item, max_bytes)
    except Rearranged as e:  # once more, the input in the order that its reader wants
        item = _turned(item, e.view)
        try:
            model, notes = _read(graph, item, max_bytes)
        except Rearranged:
            raise UserError("the input is read in two orders, of which neither is that of maps "
                            "(N, C, H, W)") from None
    v = value_of(item)
    if v.shape != v.at:
        notes.insert(0, f"the net takes its input as {batch(v.at)}, the graph as {batch(v.shape)}")
    return Imported(model, tuple(notes), graph.metadata)


def _input(graph: Graph, input_shape: Shape | None) -> Item:
    if len(graph.inputs) != 1:
        names = ", ".join(printable(i.name, 40) for i in graph.inputs[:8])
        raise UserError(f"a net has one input, the graph has {len(graph.inputs)}: {names or '-'}")
    (given,) = graph.inputs
    shape = _sizes(given)
    at = shape if len(shape) != 2 else (1, *shape)  # maps of one channel
    if input_shape is not None:
        if math.prod(input_shape) != math.prod(shape):
            raise UserError(f"the input of a graph that takes {batch(shape)} cannot have the "
                            f"shape {batch(input_shape)}")
        at = tuple(input_shape)
    value = Value(INPUT, at, shape)
    if given.dtype in FLOATS:
        return value
    if given.dtype not in ("UINT8", "INT8"):
        raise UserError(f"input {printable(given.name, 100)}: it must be of floats or bytes, got "
                        f"{given.dtype}")
    return Integers(value, RANGES[given.dtype])


def _sizes(given: Input) -> Shape:
    _, *sizes = given.sizes or (None,)
    if len(sizes) not in (1, 2, 3) or not all(n is not None and n > 0 for n in sizes):
        shown = ", ".join("?" if n is None else str(n) for n in given.sizes)
        raise UserError(f"input {printable(given.name, 100)}: it must have shape (N, D), (N, H, W) "
                        f"or (N, C, H, W), all sizes but N fixed, got ({shown})")
    return tuple(sizes)


def _turned(item: Item, view: Value) -> Item:
    # The input, of the shape of `view`, seen by the graph as before.
    was = value_of(item)
    places = None if view.places is None else np.argsort(view.places, axis=None).reshape(was.shape)
    value = Value(INPUT, view.shape, was.shape, places)
    return value if isinstance(item, Value) else Integers(value, item.limits)


def _read(graph: Graph, item: Item, max_bytes: int) -> tuple[Model, list[str]]:
    net = Net(graph, item, max_bytes)
    for op in _needed(graph):
        op.read.clear()
        before = len(net.nodes)
        try:
            found = _run(net, op)
        except UserError as e:
            raise type(e)(f"{op}: {e}") from e.__cause__
        except (ValueError, IndexError, OverflowError) as e:
            raise FormatError(f"{op}: {printable(e)}") from e
        for name, item in zip(op.outputs, found if isinstance(found, tuple) else (found,)):
            if name in net.items:
                raise FormatError(f"{op}: there is a {printable(name, 100)} already")
            net.items[name] = item
        net.own(op, found, len(net.nodes) > before)
    try:
        return net.model(_output(net, graph)), net.notes
    except UserError as e:
        raise type(e)(f"the output: {e}") from e.__cause__


def _needed(graph: Graph) -> list[Op]:
    # The operators on which the outputs depend, in order.
    needed, found = set(graph.outputs), []
    for op in reversed(graph.ops):
        if needed & set(op.outputs):
            needed |= set(op.inputs)
            found.append(op)
    return found[::-1]


def _run(net: Net, op: Op) -> Item:
    if not op.outputs or not op.outputs[0]:
        raise FormatError("its first output must have a name")
    items = [net.item(op, i) for i in range(len(op.inputs)) if op.given(i)]
    tails = [item for item in items if isinstance(item, Tail)]
    constant = all(isinstance(item, Constant) for item in items) and op.kind in FOLDS
    if tails:
        return behind(net, op, tails[0])
    if op.kind not in RULES and op.kind not in FOLDS:
        raise UserError("the operator is not among those that are read")
    if constant or op.kind not in RULES:
        found = _folded(net, op, items)
    else:
        found = RULES[op.kind](net, op)
    unread = sorted(set(op.attributes) - op.read)
    if unread:
        raise UserError(f"the attribute {printable(unread[0], 60)} is not read")
    return found


def _folded(net: Net, op: Op, items: list[Item]) -> Constant:
    if not all(isinstance(item, Constant) for item in items):
        raise UserError("this operator is read of constants alone")
    return folded(net, op, *(net.item(op, i) if op.given(i) else None
                             for i in range(len(op.inputs))))


def _output(net: Net, graph: Graph) -> Value:
    end = Op("the output", "output", graph.outputs, (), {})
    if not graph.outputs:
        raise UserError("the graph has none")
    items = [net.item(end, i) for i in range(len(graph.outputs))]
    if any(isinstance(item, Constant) for item in items):
        raise UserError("it is a constant")
    values = [on_grid(net, end, i) if isinstance(i, Codes) else i.value if isinstance(
        i, (Tail, Integers)) else i for i in items]
    cut = [item.of for item in items if isinstance(item, Tail)]
    if cut:
        net.notes.append(f"cut off behind the logits: {'; '.join(dict.fromkeys(cut))}")
    if any(isinstance(item, Codes) for item in items):
        net.notes.append("the graph gives codes, the net the numbers that they stand for")
    if len({(v.source, v.shape) for v in values}) > 1:
        raise UserError("a net has one output, the graph has "
                        + ", ".join(printable(name, 40) for name in graph.outputs[:8]))
    return values[0]


__all__ = ["Imported", "load_onnx", "onnx_arrays"]
