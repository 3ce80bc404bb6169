"""The graph of an ONNX file as plain data: operators, arrays, names; read within bounds.

The library `onnx` does the wire format, and nothing else: no shape inference, no checker. What a
file says is measured before anything of its size is made: its fields (`wire`), then the declared
sizes of all arrays together. An array becomes one where it is first read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import FormatError, UserError, printable
from ..library import onnx_library
from .wire import weigh

Array = np.ndarray
MAX_OPS = 2**14  # of a graph: a constant is one too
MAX_RANK = 8
ONE_FILE = ("its arrays lie in other files; one file holds all after "
            "onnx.save(onnx.load('F.onnx'), 'G.onnx'), or torch.onnx.export(external_data=False)")
# Bits of an element on the wire, by the name of its type. What is not here has no use in a net.
BITS = {"FLOAT": 32, "DOUBLE": 64, "FLOAT16": 16, "BFLOAT16": 16, "INT8": 8, "UINT8": 8,
        "INT16": 16, "UINT16": 16, "INT32": 32, "UINT32": 32, "INT64": 64, "UINT64": 64,
        "BOOL": 8, "INT4": 4, "UINT4": 4}
RANGES = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767), "UINT16": (0, 65535),
          "INT4": (-8, 7), "UINT4": (0, 15)}  # of the types of codes
WIDENED = {"BFLOAT16": np.float32, "INT4": np.int8, "UINT4": np.uint8}  # NumPy has none of them
_ATTRIBUTES = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}
_DEFAULT = object()


@dataclass(frozen=True)
class Constant:
    """An array of the graph. What else is known of it:

    limits : (least, largest) that integers may be: their type's, or those of a Clip
    coded : the codes that `array` was made of, or None
    """

    array: Array
    limits: tuple[int, int] | None = None
    coded: Coded | None = None


@dataclass(frozen=True)
class Coded:
    """scale (q - zero_point): what an array of numbers was made of.

    q : integers        scale, zero_point : a number, or an entry for each of `axis`, or for each
        block of `block` entries along it        limits : (least, largest) code
    """

    q: Array
    scale: Array
    zero_point: Array
    axis: int | None
    block: int
    limits: tuple[int, int]


@dataclass
class Op:
    """A node of the graph: what it does, of which names, with which attributes.

    kind : the operator, with its domain in front where that is not ONNX's own
    read : names of attributes that a rule has looked at
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict
    read: set[str] = field(default_factory=set)

    def get(self, name: str, kind, default=_DEFAULT):
        """Returns an attribute; FormatError where it has another type, or must be given.

        kind : int, float, str or Constant, or list for several numbers
        """
        self.read.add(name)
        value = self.attributes.get(name, default)
        if value is _DEFAULT:
            raise FormatError(f"the attribute {name} must be given")
        if name in self.attributes and not isinstance(value, kind):
            raise FormatError(f"the attribute {name} must be of type {kind.__name__}")
        return value

    def ints(self, name: str, count: int, default: list[int] | None = None) -> list[int] | None:
        """Returns a list of `count` integers; FormatError where it is another."""
        value = self.get(name, list, default)
        if value is not None and (len(value) != count or any(type(n) is not int for n in value)):
            raise FormatError(f"the attribute {name} must be {count} integers, "
                              f"got {printable(value, 60)}")
        return value

    def given(self, i: int) -> bool:
        """Returns whether there is an i-th input."""
        return i < len(self.inputs) and self.inputs[i] != ""

    def __str__(self) -> str:
        return f"node {printable(self.name, 100)} ({printable(self.kind, 60)})"


@dataclass(frozen=True)
class Input:
    """An input of the graph.   sizes : of its axes, None where one is open"""

    name: str
    dtype: str
    sizes: tuple[int | None, ...]


@dataclass(frozen=True)
class Graph:
    """A file's graph.   arrays : what gives each array that the file holds, by name"""

    ops: tuple[Op, ...]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    arrays: dict[str, Callable[[], Constant]]
    metadata: dict[str, str]
    taken: int  # bytes of all its arrays


def read_graph(path: Path, max_bytes: int) -> Graph:
    """Returns the graph of a file; UserError, FormatError.   max_bytes : of the file, of what it
    becomes, and of its arrays"""
    onnx = onnx_library()
    size = path.stat().st_size
    if size > max_bytes:
        raise FormatError(f"a file must take at most {max_bytes} bytes, got {size}")
    data = path.read_bytes()
    weigh(data, onnx.ModelProto.DESCRIPTOR, max_bytes)
    try:
        proto = onnx.ModelProto.FromString(data)
    except Exception as e:  # DecodeError, of whatever implementation of protobuf is there
        raise FormatError(f"this is no ONNX file ({printable(e, 100)})") from None
    del data
    if not proto.HasField("graph"):
        raise FormatError("this is no ONNX file: it has no graph")
    return _graph(proto, onnx, max_bytes)


def _graph(proto, onnx, max_bytes: int) -> Graph:
    graph = proto.graph
    if len(graph.node) > MAX_OPS:
        raise FormatError(f"a graph has at most {MAX_OPS} nodes, got {len(graph.node)}")
    count = _Counter(onnx, max_bytes)
    arrays = {}
    for tensor in graph.initializer:
        if tensor.name in arrays:
            raise FormatError(f"there are two arrays {printable(tensor.name, 100)}")
        arrays[tensor.name] = count.lazily(tensor)
    ops = tuple(_op(node, i, count) for i, node in enumerate(graph.node))
    inputs = tuple(_input(value, onnx) for value in graph.input if value.name not in arrays)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    return Graph(ops, inputs, tuple(o.name for o in graph.output), arrays, metadata, count.taken)


def _input(value, onnx) -> Input:
    kind = value.type.tensor_type
    dims = kind.shape.dim
    if not value.type.HasField("tensor_type") or not kind.HasField("shape") or len(dims) > MAX_RANK:
        raise FormatError(f"input {printable(value.name, 100)}: it must be an array of at most "
                          f"{MAX_RANK} axes")
    sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    return Input(value.name, _type_name(kind.elem_type, onnx), sizes)


def _op(node, i: int, count: _Counter) -> Op:
    domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
    name = node.name or (node.output[0] if node.output else f"number {i}")
    op = Op(f"{domain}{node.op_type}", name, tuple(node.input), tuple(node.output), {})
    try:
        for a in node.attribute:
            if a.name in op.attributes or a.ref_attr_name:
                raise FormatError(f"the attribute {printable(a.name, 60)} stands twice, or is that "
                                  "of a function")
            op.attributes[a.name] = _attribute(a, count)
    except FormatError as e:
        raise FormatError(f"{op}: {e}") from None
    return op


def _attribute(a, count: _Counter):
    # Plain Python; of a graph and other types, which no rule takes, the attribute itself.
    kind = _ATTRIBUTES.get(a.type)
    if kind is None:
        return a
    value = getattr(a, kind)
    if kind == "t":
        return count.lazily(value)()
    if kind == "s":
        return value.decode("utf-8", "replace")
    return list(value) if kind in ("floats", "ints", "strings") else value


def _type_name(number: int, onnx) -> str:
    try:
        return onnx.TensorProto.DataType.Name(number)
    except ValueError:
        return f"number {number}"


class _Counter:
    # Sums what the arrays of a file declare, before any of them is made.

    def __init__(self, onnx, max_bytes: int):
        self.onnx, self.max_bytes, self.taken = onnx, max_bytes, 0

    def lazily(self, tensor) -> Callable[[], Constant]:
        """Returns what gives the array; FormatError where its size is not what it declares."""
        name, kind = printable(tensor.name or "a constant", 100), _type_name(tensor.data_type,
                                                                              self.onnx)
        if tensor.data_location == self.onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise UserError(f"array {name}: {ONE_FILE}")
        if any(n < 0 for n in tensor.dims) or len(tensor.dims) > MAX_RANK:
            raise FormatError(f"array {name}: its shape must be at most {MAX_RANK} sizes of at "
                              f"least 0, got {printable(list(tensor.dims), 80)}")
        entries, bits = math.prod(tensor.dims), BITS.get(kind)
        self.taken += entries * max(bits or 8, 8) // 8
        if self.taken > self.max_bytes:
            raise FormatError(f"the arrays must take at most {self.max_bytes} bytes, {name} "
                              "declares more")
        if bits and tensor.HasField("raw_data") and len(tensor.raw_data) != -(-entries * bits // 8):
            raise FormatError(f"array {name}: {entries} entries of {kind} take "
                              f"{-(-entries * bits // 8)} bytes, got {len(tensor.raw_data)}")
        return lambda: self._made(tensor, name, kind)

    def _made(self, tensor, name: str, kind: str) -> Constant:
        if kind not in BITS:
            raise FormatError(f"array {name}: types are {', '.join(BITS)}, got {kind}")
        try:
            a = self.onnx.numpy_helper.to_array(tensor)
        except Exception as e:  # numbers that are too few or too many, or beyond their type
            raise FormatError(f"array {name}: {printable(e, 100)}") from None
        if kind in WIDENED:
            a = a.astype(WIDENED[kind])
        return Constant(np.asarray(a), RANGES.get(kind))
