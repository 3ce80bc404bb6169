"""The instructions of an integer program as ONNX nodes: what the two ways that tools know share.

    qdq         (qdq.py) DequantizeLinear, an operator on floats, QuantizeLinear: whoever runs the
                graph may fuse the three into one on integers
    qoperator   (qoperator.py) operators on integers, some of them onnxruntime's own

Both have the same values between instructions: uint8 codes of a program, a signed grid's shifted by
128. What only moves codes, clamps or looks them up works on these as they are, so that no pair of
QuantizeLinear and DequantizeLinear follows another: onnxruntime would merge their scales.

Weights are int8 with a scale for each channel, symmetric; a scale below 0 (of a gain below 0)
becomes one above by turning the codes, where none is -128. Biases are int32 at exactly
float32(s_x s_w): onnxruntime puts every other bias there, without a check of its range.

N batch, C channels, O out, I in, H W size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ...deploy.grids import CODES, Grid
from ...deploy.integer import Instruction
from ...kernels.int8.wiring import Adder, add_ref
from ...nn.graph import INPUT
from .floats import over_maps, pool_attributes, shuffled
from .graph import Graph

Array = np.ndarray


class Value(NamedTuple):
    """A value of the graph: uint8 codes where it has a grid, else floats.

    shape : N left out        scale, zero_point : names of constants, "" without a grid
    """

    name: str
    shape: tuple[int, ...]
    grid: Grid | None = None
    scale: str = ""
    zero_point: str = ""

    @property
    def on(self) -> tuple[str, str]:
        """Scale and zero point, as operators take them."""
        return self.scale, self.zero_point

    @property
    def coded(self) -> tuple[str, str, str]:
        """Codes, scale, zero point, as operators on integers take them."""
        return self.name, *self.on


class Product(NamedTuple):
    """The numbers of a convolution or a linear layer on codes.

    weight : (O, ...) int8, OIHW or (O, I)        scale : (O,) float32, of the weight
    bias : (O,) int32, in steps of step : (O,) float32, s_x s_w
    """

    weight: Array
    scale: Array
    bias: Array
    step: Array


class Writer:
    """Adds instructions to a graph, one after the other: a method for each kind."""

    def __init__(self, graph: Graph):
        self.graph, self.values, self._real = graph, {}, {}

    def write(self, instructions: Iterable[Instruction], input_shape: tuple[int, ...]) -> str:
        """Adds all of them and returns the name of the output, floats."""
        kinds = {"input": self.input, "conv": self.conv, "linear": self.linear,
                 "max_pool": self.max_pool, "avg_pool": self.avg_pool, "add": self.add,
                 "concat": self.concat, "table": self.table, "flatten": self.flatten,
                 "shuffle": self.shuffle}
        last = self.values[INPUT] = Value(INPUT, tuple(input_shape))
        for i in instructions:
            last = self.values[i.name] = kinds[i.kind](i, *(self.values[n] for n in i.inputs))
        return self.real(last)

    # What the formats do not share: each returns the value that the instruction gives.

    def conv(self, i: Instruction, x: Value) -> Value:
        """Adds a convolution, its bias, what clamps it."""
        raise NotImplementedError

    def linear(self, i: Instruction, x: Value) -> Value:
        """Adds x W' + b and what clamps it."""
        raise NotImplementedError

    def avg_pool(self, i: Instruction, x: Value) -> Value:
        """Adds the means of windows, padding counted, and what clamps them."""
        raise NotImplementedError

    def add(self, i: Instruction, *xs: Value) -> Value:
        """Adds the sum of values and what clamps it."""
        raise NotImplementedError

    # What they share.

    def input(self, i: Instruction, x: Value) -> Value:
        """Adds the input's normalisation, if any, and its rounding."""
        real = x.name
        for op, part in (("Mul", "gain"), ("Add", "bias")):
            if part in i.arrays:
                numbers = over_maps(i.arrays[part], i.shape)
                real = self.graph.add(op, real, self.graph.constant(f"{i.name}.{part}", numbers),
                                      name=f"{i.name}.{op.lower()}")
        return self.clamped(self.rounded(i, real), i.grid.lo, i.grid.hi)

    def max_pool(self, i: Instruction, x: Value) -> Value:
        """Adds the maximum of windows of codes."""
        attributes = pool_attributes(i.args, x.shape[1:], i.shape[1:])
        return self.same(i, x, self.graph.add("MaxPool", x.name, name=i.name, **attributes))

    def flatten(self, i: Instruction, x: Value) -> Value:
        """Adds (N, C, H, W) -> (N, C H W), of codes or of logits."""
        return self.same(i, x, self.graph.add("Flatten", x.name, name=i.name))

    def shuffle(self, i: Instruction, x: Value) -> Value:
        """Adds a channel shuffle of codes."""
        return self.same(i, x, shuffled(self.graph, i.name, x.name, i.args["groups"], x.shape))

    def table(self, i: Instruction, x: Value) -> Value:
        """Adds a table of codes."""
        return self.made(i, self.looked_up(i.name, x, i.arrays["table"]))

    def concat(self, i: Instruction, *xs: Value) -> Value:
        """Adds a table of codes for each input, where it changes one, and joins the channels."""
        names = [self.looked_up(f"{i.name}.{n}", x, table)
                 for n, (x, table) in enumerate(zip(xs, i.arrays["tables"]))]
        return self.made(i, self.graph.add("Concat", *names, name=i.name, axis=1))

    def looked_up(self, name: str, x: Value, table: Array) -> str:
        """Adds table[codes] where the table changes a code, and returns the codes' name."""
        used = slice(x.grid.lo, x.grid.hi + 1)
        if np.array_equal(table[used], CODES[used]):
            return x.name
        table = self.graph.constant(f"{name}.table", table)
        place = self.graph.add("Cast", x.name, name=f"{name}.place",
                               to=self.graph.onnx.TensorProto.INT32)
        return self.graph.add("Gather", table, place, name=name)

    # Parts of these.

    def real(self, x: Value) -> str:
        """Returns the name of the floats that a value stands for: one DequantizeLinear each."""
        if x.grid is None:
            return x.name
        if x.name not in self._real:
            self._real[x.name] = self.graph.add("DequantizeLinear", *x.coded, name=f"{x.name}.real")
        return self._real[x.name]

    def grid_of(self, i: Instruction) -> Value:
        """Returns the value that an instruction gives, with no name yet."""
        scale = self.graph.constant(f"{i.name}.scale", np.float32(i.grid.scale))
        zero_point = self.graph.constant(f"{i.name}.zero_point", np.uint8(i.grid.zero_point))
        return Value("", i.shape, i.grid, scale, zero_point)

    def made(self, i: Instruction, codes: str) -> Value:
        """Returns the value that an instruction gives.   codes : their name"""
        return self.grid_of(i)._replace(name=codes)

    def unquantized(self, i: Instruction, name: str) -> Value:
        """Returns the value that an instruction on no grid gives.   name : of floats"""
        return Value(name, i.shape)

    def same(self, i: Instruction, x: Value, name: str) -> Value:
        """Returns a value on the grid of x."""
        return x._replace(name=name, shape=i.shape)

    def rounded(self, i: Instruction, x: str) -> Value:
        """Adds QuantizeLinear.   x : the name of floats"""
        y = self.grid_of(i)
        return y._replace(name=self.graph.add("QuantizeLinear", x, *y.on, name=i.name))

    def clamped(self, y: Value, lo: Array | int, hi: Array | int) -> Value:
        """Adds what keeps codes within lo..hi, numbers or (O,), where bytes do not do so."""
        lo, hi = (np.atleast_1d(a) for a in (lo, hi))
        if (lo == 0).all() and (hi == 255).all():
            return y
        add, name = self.graph.add, y.name
        if (lo == lo[0]).all() and (hi == hi[0]).all():
            ends = (self.graph.constant(f"{name}.{end}", np.uint8(a[0]))
                    for end, a in (("lo", lo), ("hi", hi)))
            return y._replace(name=add("Clip", name, *ends, name=f"{name}.clip"))
        types = self.graph.onnx.TensorProto  # onnxruntime has no Min of bytes
        wide = add("Cast", name, name=f"{name}.wide", to=types.INT32)
        for op, a in (("Max", lo), ("Min", hi)):
            ends = over_maps(a.astype(np.int32), y.shape)
            wide = add(op, wide, self.graph.constant(f"{name}.{op.lower()}", ends),
                       name=f"{name}.wide")
        return y._replace(name=add("Cast", wide, name=f"{name}.clip", to=types.UINT8))

    def product(self, i: Instruction, x: Value) -> Product:
        """Returns the numbers of an instruction `conv` or `linear`, scales turned above 0."""
        w, scale, bias = (i.arrays[part] for part in ("weight", "scale", "bias"))
        turned = (scale < 0) & (w.reshape(len(w), -1) > -128).all(axis=1)
        sign = np.where(turned, -1, 1)
        w = (w * sign.reshape(-1, *[1] * (w.ndim - 1))).astype(np.int8)
        scale = (scale * sign).astype(np.float32)
        with np.errstate(over="ignore", under="ignore"):
            step = np.float32(x.grid.scale) * scale
        return Product(w, scale, (bias * sign).astype(np.int32), step)

    def constants(self, name: str, numbers: dict[str, Array]) -> list[str]:
        """Adds constants NAME.part and returns their names."""
        return [self.graph.constant(f"{name}.{part}", a) for part, a in numbers.items()]


def ends_of(i: Instruction) -> tuple[Array, Array]:
    """Returns the least and the largest code of what an instruction rounds, numbers or (O,)."""
    rule = i.arrays.get("adder") or i.arrays["requantizer"]
    return rule.lo, rule.hi


def covers(i: Instruction, x: Value) -> bool:
    """Whether the one window of an average is the whole map."""
    return (tuple(i.args["kernel_size"]) == tuple(x.shape[1:]) and not any(i.args["padding"])
            and tuple(i.shape[1:]) == (1, 1))


def table_of(adder: Adder) -> Array:
    """Returns what a sum of one input makes of each code, (256,) uint8."""
    return add_ref([CODES], adder)
