"""The net as it grows while the graph is read: nodes, names, and what each name stands for."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np

from ...errors import FormatError, UserError, printable
from ...nn.graph import INPUT, Model, Node
from ...nn.layers import ChannelShuffle, Flatten, Layer
from ...nn.layers.base import bounded
from .graph import Constant, Graph, Op
from .values import (Codes, Integers, Item, Moves, Shape, Tail, Value, batch, box, channel_order,
                     channels_first, value_of)

Array = np.ndarray
_KINDS = {Value: "an activation", Codes: "codes of an activation", Integers: "integers",
          Constant: "a constant", Tail: "what a classifier makes of its logits"}


class Rearranged(Exception):
    """The net would take its input better in another order, that of channels first.

    view : what the graph made of the input before a layer read it
    """

    def __init__(self, view: Value):
        super().__init__()
        self.view = view


class Net:
    """Nodes that were made so far, and items by the graph's names.

    moves : also what is left of the bytes that may be taken        notes : what the reader left out
    or took for granted, a sentence each
    """

    def __init__(self, graph: Graph, given: Item, max_bytes: int):
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {INPUT: value_of(given).at}
        self.notes: list[str] = []
        self.moves = Moves(max_bytes - graph.taken)
        self.input = graph.inputs[0].name
        self.batch = graph.inputs[0].sizes[0]  # None where it is open
        self.items: dict[str, Item] = {self.input: given}
        self.arrays = graph.arrays
        self.reads = Counter(name for op in graph.ops for name in op.inputs) + Counter(
            graph.outputs)
        self.owners: dict[str, str] = {}  # by name of the graph, the node made for it
        self.front = {INPUT}  # the input, and what pointwise layers alone made of it
        self.affine: dict[str, tuple[Array, Array]] = {}  # by node, the gain and bias that it is
        self._taken = {INPUT}
        self._flat: dict[str, str] = {}
        self.on_grid: dict[tuple, str] = {}  # by (node, grid), the node that puts it there
        self.grids: set[tuple] = set()  # (node, grid) of those

    # ---------------------------------------------------------------- what the graph's names mean

    def item(self, op: Op, i: int) -> Item:
        """Returns what the i-th input stands for; FormatError where nothing gives it."""
        if not op.given(i):
            raise FormatError(f"input {i} must be given")
        name = op.inputs[i]
        if name not in self.items and name in self.arrays:
            self.items[name] = self.arrays[name]()
        if name not in self.items:
            raise FormatError(f"nothing before it gives {printable(name, 100)}, which it reads")
        return self.items[name]

    def value(self, op: Op, i: int) -> Value:
        """Returns an input that is an activation; UserError where it is something else."""
        return self._of(op, i, Value)

    def constant(self, op: Op, i: int, default: object = None) -> Constant:
        """Returns an input that is a constant, the default where it is left out; UserError."""
        if not op.given(i) and default is not None:
            return Constant(np.asarray(default))
        return self._of(op, i, Constant)

    def _of(self, op: Op, i: int, kind: type):
        found = self.item(op, i)
        if not isinstance(found, kind):
            got = _KINDS.get(type(found), "codes, a scale or sums")
            raise UserError(f"its input {i}, {printable(op.inputs[i], 100)}, must be "
                            f"{_KINDS[kind]}, got {got}")
        return found

    def alone(self, op: Op, i: int) -> str | None:
        """Returns the node that was made for the i-th input and that nothing else reads, or None.
        """
        name = op.inputs[i]
        return self.owners.get(name) if self.reads[name] == 1 else None

    def own(self, op: Op, found: Item, made: bool) -> None:
        """Notes whose node an operator's output is: made for it, or moved on from an only reader.
        """
        if isinstance(found, Value) and (made or found.source in (
                self.alone(op, i) for i in range(len(op.inputs)))):
            self.owners[op.outputs[0]] = found.source

    # ------------------------------------------------------------------------------------ its nodes

    def emit(self, op: Op, layer: Layer, *sources: str, name: str | None = None) -> Value:
        """Returns what a node of this layer gives, which reads other nodes or the input.

        name : better than that of the operator
        """
        shape = bounded(layer.out_shape(*(self.shapes[s] for s in sources)))
        name = self._named(name or sane(op))
        self.nodes[name], self.shapes[name] = Node(name, layer, sources), shape
        if layer.pointwise and all(s in self.front for s in sources):
            self.front.add(name)
        return Value(name, shape, shape)

    def change(self, name: str, layer: Layer) -> None:
        """Puts another layer in the place of a node's."""
        self.nodes[name] = replace(self.nodes[name], layer=layer)

    def _named(self, wanted: str) -> str:
        name, i = wanted, 1
        while name in self._taken:
            i += 1
            name = f"{wanted[:90]}_{i}"
        self._taken.add(name)
        return name

    def pointwise(self, op: Op, layer: Layer, v: Value, *, keeps_zero: bool,
                  name: str | None = None) -> Value:
        """Returns a value after a layer that works on each entry, seen as it was before.

        keeps_zero : whether 0 becomes 0, so that a padding stays one
        """
        if not keeps_zero and padded(v):
            raise UserError("its input is padded, and what 0 becomes here is not 0; a Pad must "
                            "stand right before a convolution or pooling")
        return replace(v, source=self.emit(op, layer, v.source, name=name).source)

    # -------------------------------------------------------------------------- how layers read it

    def features(self, op: Op, v: Value) -> tuple[str, Array | None]:
        """Returns the node that gives a value as features, (D,), and the place of each in it, None
        where they are in order; UserError."""
        if len(v.shape) != 1:
            raise UserError(f"its input must be features (N, D), got {batch(v.shape)}")
        if len(v.at) == 1:
            return v.source, v.places
        if len(v.at) != 3:
            raise self._unreadable(v)
        if v.source not in self._flat:
            self._flat[v.source] = self.emit(op, Flatten(), v.source,
                                             name=f"{sane(op)[:80]}_flatten").source
        return self._flat[v.source], v.places

    def maps(self, op: Op, v: Value) -> tuple[str, tuple[int, int, int, int]]:
        """Returns the node that gives a value as maps, (C, H, W), and the zeros around them, (top,
        left, bottom, right); UserError."""
        if len(v.shape) != 3:
            raise UserError(f"its input must be maps (N, C, H, W), got {batch(v.shape)}")
        if v.places is None and v.shape == v.at:
            return v.source, (0, 0, 0, 0)
        around = None if v.places is None else box(v.places)
        if around is not None and len(v.at) == 3:
            inner = v.places[:, around[0] : v.shape[1] - around[2],
                             around[1] : v.shape[2] - around[3]]
            order = channel_order(inner, v.at)
            if order is not None:
                return self._ordered(op, v, order), around
        raise self._unreadable(v)

    def _ordered(self, op: Op, v: Value, order: Array) -> str:
        channels = len(order)
        if (order == np.arange(channels)).all():
            return v.source
        # of (g, n) to (n, g): the second channel comes from the second group
        n = int(order[1]) if channels > 1 else 0
        shuffle = ChannelShuffle(channels // n) if n > 0 and channels % n == 0 else None
        if shuffle is None or (order != shuffle.permutation(channels)).any():
            raise self._unreadable(v)
        return self.emit(op, shuffle, v.source, name=f"{sane(op)[:80]}_shuffle").source

    def _unreadable(self, v: Value) -> Exception:
        if v.source in self.front and len(v.shape) in (1, 3) and (
                v.places is None or channels_first(v.places, v.at)):
            return Rearranged(v)
        return UserError(f"it reads {printable(v.source, 100)}, of shape {batch(v.at)}, "
                         f"rearranged to {batch(v.shape)}: a Transpose, Reshape, Concat or "
                         "Pad before it does not cancel, and no layer does it")

    # ----------------------------------------------------------------------------------- the model

    def model(self, output: Value) -> Model:
        """Returns the model that ends with a value.   Raises UserError, FormatError."""
        source = self._last(output)
        needed, kept = {source}, []
        for node in reversed(self.nodes.values()):
            if node.name in needed:
                needed |= set(node.inputs)
                kept.append(node)
        try:
            model = Model(reversed(kept), input_shape=self.shapes[INPUT])
            model.shapes()
        except ValueError as e:
            raise FormatError(printable(e)) from None
        return model

    def _last(self, v: Value) -> str:
        end = Op("the output", "output", (), (), {})
        if len(v.shape) == 1:
            source, places = self.features(end, v)
            if places is None:
                return source
        elif len(v.shape) == 3:
            source, around = self.maps(end, v)
            if not any(around):
                return source
        elif v.places is None:
            self.notes.append(f"the output has shape {batch(self.shapes[v.source])}, the "
                              f"graph's {batch(v.shape)}")
            return v.source
        raise UserError(f"it is rearranged behind the last layer, to {batch(v.shape)}: a "
                        "Transpose, Concat or Pad does not cancel")


def padded(v: Value) -> bool:
    """Returns whether the graph sees zeros around or among what the node gives."""
    return v.places is not None and bool((v.places < 0).any())


_STEPS = re.compile(r"[^A-Za-z0-9_.-]+")
_WEIGHT = re.compile(r"(.+?)[./_]?(weight|kernel)(_?(quantized|q|int8))*\Z", re.IGNORECASE)


def sane(op: Op) -> str:
    """Returns a name for what an operator becomes: its own, without its kind where it says more.

    >>> sane(Op("Conv", "/features/0/Conv", (), (), {})), sane(Op("Relu", "Relu_3", (), (), {}))
    ('features.0', 'relu_3')
    """
    kind = op.kind.rpartition(".")[2].removeprefix("QLinear")
    steps = [s for s in op.name.removesuffix("_quant").split("/") if s]
    if len(steps) > 1 and re.fullmatch(rf"{re.escape(kind)}(_\d+)?", steps[-1]):
        steps.pop()
    steps = [s for s, after in zip(steps, [*steps[1:], ""]) if not after.startswith(f"{s}.")]
    name = _STEPS.sub("_", ".".join(steps)).strip("._-").removeprefix("node_")[:90]
    return (name.lower() if name.startswith(kind) else name) or kind.lower()[:90]


def stem(name: str) -> str | None:
    """Returns the layer of which an array of the graph is the weight, None where it does not say.

    >>> stem("features.0.weight"), stem("conv1.weight_quantized"), stem("onnx::MatMul_12")
    ('features.0', 'conv1', None)
    """
    found = _WEIGHT.match(name.rpartition(":")[0] if name.endswith(":0") else name)
    plain = _STEPS.sub("_", found[1].replace("/", ".")).strip("._-") if found else ""
    return plain[:90] or None
