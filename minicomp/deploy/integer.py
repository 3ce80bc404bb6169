"""OFFLINE: from the steps of a program to its instructions, in which nothing is float.

The steps are those of the float program of a quantized model: between them stand steps `quantize`.
An instruction is what lies between two of these, as far as one kernel computes it:

| instruction          | is                                                                        |
|----------------------|---------------------------------------------------------------------------|
| input                | [scale] quantize: from floats to codes                                    |
| conv, linear         | the product, its gain and bias, [relu, relu6, clip], quantize             |
| avg_pool             | windows or equal cells, [clamp], quantize: rounded once                   |
| add                  | the sum, [clamp], quantize: rounded once                                  |
| table, concat        | code to code, by 256 entries for each input                               |
| max_pool, flatten, shuffle | codes as they are, on the grid that they are on                     |

Rounding to a grid keeps the order of numbers, and moves do not change them: quantize may stand
behind a maximum, a flatten, a shuffle, and is taken to the step before. An output that is on no
grid stays what the last kernel accumulates: int32, of which a step is `scale` real units.

All of it is derived in float64 from the steps, the same on every machine, when a program is made:
what has no integer form is refused then, by the name of its step.
Source: Jacob et al. 2018, arXiv 1712.05877, section 2.4
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from ..kernels.bits.pack import Thresholds
from ..kernels.int8.requantize import Requantizer, requantizer
from ..kernels.int8.wiring import MOST_ADDED, Adder, adder
from ..nn.graph import INPUT
from ..tensor import Array
from .folded import folded
from .grids import CEILINGS, Grid, Signs, clamped, grid_of, images, table
from .steps import ACTIVATIONS, Shape, Step, numbers_of

MOVES = ("max_pool", "flatten", "shuffle")
AVERAGES = ("avg_pool", "adaptive_avg_pool")


@dataclass(frozen=True)
class Instruction:
    """One step of an integer program, all of it integers; `input` alone reads floats.

    name : of the value that it gives, that of the last step that became part of it
    kind : input, linear, conv, max_pool, avg_pool, add, concat, table, flatten, shuffle
    inputs : names of values, "x" the input        shape : of the output, (C, H, W) or (D,)
    grid : of the output; None for int32, the logits, of which each channel's step is scale[o];
        SIGNS for bits, in a binary program (binary.py has its kinds)
    args : kernel_size, stride, padding, groups, count (windows a side); zero_point, of the input
    arrays : input         gain, bias (C,) float32, where it is scaled first
             conv, linear  weight (O, ...) int8, OIHW or (O, I); scale (O,) float32, of the weight;
                           bias, offset (O,) int32; requantizer where there is a grid
             avg_pool      requantizer where there is a grid        add  adder
             table         table (256,) uint8        concat  tables (I, 256) uint8
    scale : (O,) float32, real units a step of int32 outputs, else None
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: Shape
    grid: Grid | Signs | None
    args: dict = field(default_factory=dict)
    arrays: dict[str, Array | Requantizer | Adder | Thresholds] = field(default_factory=dict)
    scale: Array | None = None


@dataclass(frozen=True)
class _Open:
    # A value that is on no grid yet: what makes it, what is done to it, how it is moved.
    step: Step | None  # None: the value of a table
    sources: tuple[str, ...]
    functions: tuple = ()  # activations, and steps clip
    moves: tuple[Step, ...] = ()


def instructions(steps: Iterable[Step], shapes: dict[str, Shape], *, rounding: str = "single",
                 zero_first: bool = False) -> tuple[Instruction, ...]:
    """Returns what an integer program executes, in order; the last gives its output.

    steps : of a program of a quantized model        shapes : of `steps.shapes_of`
    rounding, zero_first : the rule of requantization, see kernels/int8/requantize.py
    Raises ValueError, which names the step, for whatever has no integer form.
    """
    made = _Derivation(tuple(steps), shapes, rounding, zero_first)
    for step in made.steps:
        made.take(step)
    return made.finished()


def codes_of_steps(steps: Iterable[Step], made: Iterable[Instruction]) -> dict[str, str]:
    """Returns by step `quantize` the instruction whose codes are its: that of its name or, where it
    was taken to the step before, the move that it stood behind.   made : of `instructions`"""
    found, by_name = {}, {i.name: i for i in made}
    for step in steps:
        if step.kind == "quantize":
            source = by_name.get(step.inputs[0])
            moved = source is not None and source.kind in MOVES and source.grid == grid_of(step)
            found[step.name] = source.name if moved else step.name
    return found


class _Derivation:
    # values : by step, its codes (the name of the instruction that gives them), or an _Open

    def __init__(self, steps: tuple[Step, ...], shapes: dict[str, Shape], rounding: str,
                 zero_first: bool):
        self.steps, self.shapes = steps, shapes
        self.rule = {"rounding": rounding, "zero_first": zero_first}
        self.readers = Counter(name for step in steps for name in step.inputs)
        self.values: dict[str, str | _Open] = {INPUT: _Open(None, (INPUT,))}
        self.made: dict[str, Instruction] = {}

    def take(self, step: Step) -> None:
        kind, source = step.kind, step.inputs[0]
        if isinstance(self.values[source], _Open) and source != INPUT and self.readers[source] > 1:
            self.kept(source)  # who reads it gets codes
        before = self.values[source]
        if kind == "quantize":
            self.values[step.name] = self.closed(before, step)
        elif kind in MOVES:
            if isinstance(before, _Open):
                moved = replace(before, moves=(*before.moves, step))
            else:
                moved = self.moved(step, before)
            self.values[step.name] = moved
        elif kind in ACTIVATIONS or kind == "clip":
            self.values[step.name] = self.applied(step, before)
        elif kind == "scale" and step.inputs == (INPUT,) and step.then is None:
            self.values[step.name] = _Open(step, (INPUT,))
        elif kind in _MADE:
            then = () if step.then is None else (step.then,)
            self.values[step.name] = _Open(step, self.codes_of(step), then)
        else:
            raise ValueError(f"{step.name}: a {kind} has no integer form here")

    def codes_of(self, step: Step) -> tuple[str, ...]:
        # The instructions that give its inputs; ValueError where one is on no grid.
        return tuple(self.kept(name) if isinstance(self.values[name], _Open) else self.values[name]
                     for name in step.inputs)

    def kept(self, name: str) -> str:
        # The codes of activations that map a grid into itself, as a rectifier does.
        value = self.values[name]
        source = value.sources[0]
        if value.step is None and source != INPUT and not value.moves:
            grid, functions = self.made[source].grid, _uniform(value.functions, name)
            if grid.holds(images(grid, functions)):
                made = self.table_of(value, name, self.shapes[name], grid)
                self.values[name] = self.add(made)
                return name
        what = "the input" if name == INPUT else name
        raise ValueError(f"{what} is on no grid: an integer program needs a quantize step behind "
                         "every value that a layer reads (ptq, qat)")

    def applied(self, step: Step, before: str | _Open) -> _Open:
        function = step.kind if step.kind != "clip" else step
        if not isinstance(before, _Open):
            return _Open(None, (before,), (function,))
        if before.sources == (INPUT,):
            raise ValueError(f"{step.name}: the input of an integer program needs its grid before "
                             f"a {step.kind}")
        if step.kind == "clip" and any(m.kind != "max_pool" for m in before.moves):
            raise ValueError(f"{step.name}: a clip of each channel needs a grid before it, where "
                             "a flatten or a shuffle is")
        return replace(before, functions=(*before.functions, function))

    def closed(self, value: str | _Open, quantize: Step) -> str:
        # The codes of a value on a grid: an instruction, and those of its moves.
        grid = grid_of(quantize)
        if isinstance(value, str):
            value = _Open(None, (value,))
        shape = self.shapes[value.moves[0].inputs[0] if value.moves else quantize.inputs[0]]
        if value.sources == (INPUT,):
            made = self.input_of(value, quantize.name, shape, grid)
        elif value.step is None:
            made = self.table_of(value, quantize.name, shape, grid)
        else:
            made = _MADE[value.step.kind](self, value, quantize.name, shape, grid)
        name = self.add(made)
        for move in value.moves:
            name = self.moved(move, name)
        return name

    def add(self, instruction: Instruction) -> str:
        self.made[instruction.name] = instruction
        return instruction.name

    def moved(self, step: Step, source: str) -> str:
        args = windows(step, self.shapes) if step.kind == "max_pool" else dict(step.args)
        return self.add(Instruction(step.name, step.kind, (source,), self.shapes[step.name],
                                    self.made[source].grid, args, scale=self.made[source].scale))

    def input_of(self, value: _Open, name: str, shape: Shape, grid: Grid) -> Instruction:
        arrays = {} if value.step is None else numbers_of(value.step.weights)
        return Instruction(name, "input", (INPUT,), shape, grid, arrays=arrays)

    def table_of(self, value: _Open, name: str, shape: Shape, grid: Grid) -> Instruction:
        functions = _uniform(value.functions, name)
        new = table(self.made[value.sources[0]].grid, grid, functions)
        return Instruction(name, "table", value.sources, shape, grid, arrays={"table": new})

    def product(self, value: _Open, name: str, shape: Shape, grid: Grid | None) -> Instruction:
        step, before = value.step, self.made[value.sources[0]].grid
        numbers = folded(step, before)
        args = {k: v for k, v in step.args.items()
                if k in ("kernel_size", "stride", "padding", "groups")}
        arrays = {"weight": numbers.weight, "scale": numbers.scale, "bias": numbers.bias,
                  "offset": numbers.offset}
        made = Instruction(name, step.kind, value.sources, shape, grid,
                           args | {"zero_point": before.zero_point}, arrays)
        if grid is None:
            return replace(made, scale=numbers.step.astype(np.float32))
        lo, hi = clamped(grid, _ceilings(value.functions, step.name))
        with np.errstate(over="ignore", under="ignore"):  # as onnxruntime has it
            factor = before.scale * numbers.scale / grid.scale
        rule = _named(step, lambda: requantizer(
            numbers.step / np.float64(grid.scale), zero_point=grid.zero_point, lo=lo, hi=hi,
            factor=factor, **self.rule))
        return replace(made, arrays=arrays | {"requantizer": rule})

    def average(self, value: _Open, name: str, shape: Shape, grid: Grid | None) -> Instruction:
        step, before = value.step, self.made[value.sources[0]].grid
        args = windows(step, self.shapes)
        share = np.float64(before.scale) / np.prod(args["kernel_size"])
        made = Instruction(name, "avg_pool", value.sources, shape, grid,
                           args | {"zero_point": before.zero_point})
        if grid is None:
            return replace(made, scale=np.full(shape[0], share, np.float32))
        lo, hi = clamped(grid, _ceilings(_uniform(value.functions, step.name), step.name))
        rule = _named(step, lambda: requantizer(
            [share / np.float64(grid.scale)], zero_point=grid.zero_point, lo=lo, hi=hi,
            **self.rule))
        return replace(made, arrays={"requantizer": rule})

    def sum(self, value: _Open, name: str, shape: Shape, grid: Grid | None) -> Instruction:
        step, before = value.step, [self.made[source].grid for source in value.sources]
        if grid is None:
            raise ValueError(f"{step.name}: an add that ends an integer program needs a grid "
                             "behind it")
        if len(before) > MOST_ADDED:
            raise ValueError(f"{step.name}: an add has at most {MOST_ADDED} inputs in an integer "
                             f"program, got {len(before)}")
        lo, hi = clamped(grid, _ceilings(_uniform(value.functions, step.name), step.name))
        factors = [np.float64(g.scale) / np.float64(grid.scale) for g in before]
        rule = _named(step, lambda: adder(
            factors, [g.zero_point for g in before], zero_point=grid.zero_point, lo=int(lo),
            hi=int(hi), rounding=self.rule["rounding"]))
        return Instruction(name, "add", value.sources, shape, grid, arrays={"adder": rule})

    def joined(self, value: _Open, name: str, shape: Shape, grid: Grid | None) -> Instruction:
        if grid is None:
            raise ValueError(f"{value.step.name}: a concat that ends an integer program needs a "
                             "grid behind it")
        functions = _uniform(value.functions, value.step.name)
        tables = np.stack([table(self.made[source].grid, grid, functions)
                           for source in value.sources])
        return Instruction(name, "concat", value.sources, shape, grid, arrays={"tables": tables})

    def finished(self) -> tuple[Instruction, ...]:
        # The instructions, those of the output at the end.
        name = self.steps[-1].name if self.steps else INPUT
        value = self.values[name]
        if isinstance(value, _Open):
            if value.step is None or value.step.kind == "scale":
                self.kept(name)
            else:
                self.output(value)
        return tuple(self.made.values())

    def output(self, value: _Open) -> None:
        # A value on no grid that ends the program: int32.
        step, behind = value.step, [m for m in value.moves if m.kind != "flatten"]
        if value.functions or behind:
            what = (behind[0] if behind else step).name
            raise ValueError(f"{what}: what ends an integer program on no grid is int32 sums, to "
                             "which no activation or pooling is applied; quantize it")
        made = _MADE[step.kind](self, value, step.name, self.shapes[step.name], None)
        name = self.add(made)
        for move in value.moves:
            each = np.prod(made.shape[1:], dtype=np.int64)
            name = self.moved(move, name)
            flat = np.repeat(made.scale, each) if made.scale is not None else None
            made = self.made[name] = replace(self.made[name], scale=flat)


_MADE = {"conv": _Derivation.product, "linear": _Derivation.product,
         "avg_pool": _Derivation.average, "adaptive_avg_pool": _Derivation.average,
         "add": _Derivation.sum, "concat": _Derivation.joined}


def _ceilings(functions: tuple, name: str) -> list:
    # The ends of clamps; ValueError for what is none.
    found = []
    for function in functions:
        if isinstance(function, Step):
            found.append(numbers_of(function.weights)["ceiling"])
        elif not isinstance(function, str):
            found.append(function)
        elif function in CEILINGS:
            found.append(CEILINGS[function])
        else:
            raise ValueError(f"{name}: an integer program needs a grid between a step and its "
                             f"{function}")
    return found


def _uniform(functions: tuple, name: str) -> list:
    # The functions, a clip as the number at which it ends; ValueError where that is no one number.
    found = []
    for function in functions:
        if isinstance(function, Step):
            ceiling = numbers_of(function.weights)["ceiling"]
            if (ceiling != ceiling[:1]).any():
                raise ValueError(f"{name}: a clip of each channel goes with a convolution or a "
                                 "linear layer alone in an integer program")
            function = ceiling[0]
        found.append(function)
    return found


def windows(step: Step, shapes: dict[str, Shape]) -> dict:
    """Returns how the windows of a pooling lie: kernel_size, stride, padding, count; ValueError,
    which names the step, where they differ in size."""
    size, count = shapes[step.inputs[0]][1:], shapes[step.name][1:]
    if step.kind == "adaptive_avg_pool":
        if any(n % m for n, m in zip(size, count)):
            raise ValueError(f"{step.name}: an integer program needs cells of one size, got "
                             f"{count} of a map {size}")
        cell = tuple(n // m for n, m in zip(size, count))
        return {"kernel_size": cell, "stride": cell, "padding": (0, 0), "count": count}
    args = {k: step.args[k] for k in ("kernel_size", "stride", "padding")} | {"count": count}
    each = zip(size, *args.values())
    if step.kind == "avg_pool" and any((m - 1) * s + k > n + 2 * p for n, k, s, p, m in each):
        raise ValueError(f"{step.name}: an integer program needs windows of one size, got some "
                         "that hang over the end of the map (ceil_mode)")
    return args


def _named(step: Step, make):
    try:
        return make()
    except ValueError as e:
        raise ValueError(f"{step.name}: {e}") from None
