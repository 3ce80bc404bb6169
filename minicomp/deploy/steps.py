"""The steps of a program, as data.

A `Step` is its name, its kind, the names of what it reads, arguments, and weights as canonical
forms, the codes that a file holds. `lower` (lower.py, offline) makes the list; `plan` (runtime.py,
on the device) packs weights for a batch and a machine, of which a step knows nothing.

A kind of step declares its arguments, the shapes of its weights and of its output (N left out):

| kind                       | computes                                                     |
|---|---|
| linear                     | (x W') gain + bias;   x (N, I), W (O, I)                     |
| conv                       | (x * W) gain + bias, cross-correlation;   W (O, C/G, KH, KW) |
| scale                      | x gain + bias, a number each for a channel                   |
| input_scale                | y K gain + bias, K the sizes of x, of which y was made       |
| relu, relu6, sigmoid, tanh, sign | entry by entry; also what a step does `then` to it   |
| threshold, topk            | x where |x| >= threshold; where it is among the k largest    |
| binary_sum                 | sum_n beta_n (+1 where x + shift_n >= 1/2, else -1)          |
| clip                       | min(max(x, 0), ceiling), a ceiling for each channel          |
| quantize                   | x on an affine grid (grid/affine.py), still in floats        |
| max_pool, avg_pool, adaptive_avg_pool | the maximum, the mean of windows, of cells        |
| flatten, shuffle           | (N, C, H, W) -> (N, C H W); channels (g, n) -> (n, g)        |
| add, concat                | of one input or more                                         |
| crelu                      | max(x, 0) and max(-x, 0), one behind the other               |

N batch, C in, O out, H W size, K kernel, G groups.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..errors import printable
from ..grid import GRIDS, code_range
from ..kernels.doors import window_count
from ..nn.forms import Form
from ..nn.graph import INPUT, MAX_INPUTS, MAX_NODES
from ..nn.layers import ActQuant, BinarySum, ClipChannels
from ..nn.layers.base import bounded, flag, number, padded, pair, positive
from ..nn.layers.binary import scaled_shape
from ..tensor import no_grad

WINDOWS = ("kernel_size", "stride", "padding")
ACTIVATIONS = ("relu", "relu6", "sigmoid", "tanh", "sign")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")
_REQUIRED = object()
Shape = tuple[int, ...]


class Arg(NamedTuple):
    """An argument of a step: `check(name, value)` returns it as it is kept, or raises."""

    check: Callable[[str, object], object]
    default: object = _REQUIRED


def count(name: str, value) -> int:
    """Returns value; ValueError unless it is an integer of at least 1."""
    return positive(**{name: value})[0]


def _pair(least: int) -> Callable:
    return lambda name, value: pair(name, value, least)


def _window(name: str, value) -> tuple[int, int] | None:
    return None if value is None else pair(name, value, 1)


def _bases(name: str, value) -> int:
    return BinarySum(value).bases


def _threshold(name: str, value) -> float:
    return number(name, value, lambda v: 0 <= v < math.inf, "a finite float of at least 0")


def _bits(name: str, value) -> int:
    code_range(value, "full")
    return value


def _grid(name: str, value) -> str:
    if value not in GRIDS:
        raise ValueError(f"{name} must be one of {', '.join(GRIDS)}, "
                         f"got {printable(repr(value), 40)}")
    return value


def _then(name: str, value) -> str | None:
    if value not in (None, *ACTIVATIONS):
        raise ValueError(f"{name} must be one of {', '.join(ACTIVATIONS)}, "
                         f"got {printable(repr(value), 40)}")
    return value


class Kind:
    """What is declared of a kind of step; `shapes` are those of its inputs, N left out."""

    args: dict[str, Arg] = {}
    arity: int | None = 1  # number of inputs; None: one or more
    folds = False  # a gain and a bias of each output channel can become its own

    def out_shape(self, args: dict, *shapes: Shape) -> Shape:
        """Returns the shape of the output; ValueError where the inputs do not fit."""
        return shapes[0]

    def parts(self, args: dict, *shapes: Shape) -> dict[str, Shape]:
        """Returns the shapes of the weights by part."""
        return {}

    def check(self, args: dict, weights: dict[str, Form]) -> None:
        """Raises ValueError, which names the part, for weights that are none of such a step."""


def numbers_of(weights: dict[str, Form]) -> dict[str, np.ndarray]:
    """Returns what the forms decode to, float32, by part."""
    with no_grad():
        return {part: np.array(form.dense().data, np.float32) for part, form in weights.items()}


THEN = {"then": Arg(_then, None)}


class _Scaled(Kind):
    # A step whose output channels may each be multiplied by a gain, and have a bias added.
    folds = True
    args = {"gain": Arg(flag, False), "bias": Arg(flag, True)} | THEN

    def parts(self, args, *shapes):
        channels = self.out_shape(args, *shapes)[:1]
        return {part: channels for part in ("gain", "bias") if args[part]}


class _Linear(_Scaled):
    args = {"out_features": Arg(count)} | _Scaled.args

    def out_shape(self, args, shape):
        if len(shape) != 1:
            raise ValueError(f"linear needs an input (I,), got {shape}")
        return (args["out_features"],)

    def parts(self, args, shape):
        return {"weight": (args["out_features"], *shape)} | super().parts(args, shape)


class _Conv(_Scaled):
    args = {"out_channels": Arg(count), "kernel_size": Arg(_pair(1)),
            "stride": Arg(_pair(1), (1, 1)), "padding": Arg(_pair(0), (0, 0)),
            "groups": Arg(count, 1)} | _Scaled.args

    def out_shape(self, args, shape):
        o, groups = args["out_channels"], args["groups"]
        c, *size = _maps("conv", shape)
        if c % groups or o % groups:
            raise ValueError(f"groups must divide {c} and {o}, got {groups}")
        each = zip(size, args["kernel_size"], args["stride"], args["padding"])
        return (o, *(window_count(*one) for one in each))

    def parts(self, args, shape):
        weight = (args["out_channels"], shape[0] // args["groups"], *args["kernel_size"])
        return {"weight": weight} | super().parts(args, shape)


class _Scale(Kind):
    args, folds = THEN, True

    def parts(self, args, shape):
        return {"gain": shape[:1], "bias": shape[:1]}


class _InputScale(_Scaled):
    # Of XNOR-Net: floats that stay floats at any precision that computes it.
    arity = 2
    args = {"kernel_size": Arg(_window, None), "stride": Arg(_pair(1), (1, 1)),
            "padding": Arg(_pair(0), (0, 0))} | _Scaled.args

    def out_shape(self, args, y, x):
        return scaled_shape(y, x, **{name: args[name] for name in WINDOWS})


class _Pointwise(Kind):
    def __init__(self, **args: Arg):
        self.args = args


class _Quantize(Kind):
    args = {"bits": Arg(_bits, 8), "grid": Arg(_grid, "unsigned"), "zero_point": Arg(flag, False),
            "dynamic": Arg(flag, False)}

    def parts(self, args, shape):
        return {part: a.shape for part, a in ActQuant(**args).buffers.items()}

    def check(self, args, weights):
        ActQuant(**args).check_buffers(numbers_of(weights))


class _Clip(Kind):
    def parts(self, args, shape):
        return {"ceiling": shape[:1]}

    def check(self, args, weights):
        ClipChannels.of(**numbers_of(weights))


class _BinarySum(Kind):
    args = {"bases": Arg(_bases)}

    def parts(self, args, shape):
        return {part: (args["bases"],) for part in ("beta", "shift")}


class _Pool(Kind):
    args = {"kernel_size": Arg(_pair(1)), "stride": Arg(_pair(1)), "padding": Arg(_pair(0), (0, 0)),
            "ceil_mode": Arg(flag, False)}

    def out_shape(self, args, shape):
        c, *size = _maps("a pool", shape)
        if any(2 * p > k for p, k in zip(args["padding"], args["kernel_size"])):
            raise ValueError(f"padding must be at most half of the window {args['kernel_size']}, "
                             f"got {args['padding']}")
        each = zip(size, args["kernel_size"], args["stride"], args["padding"])
        return (c, *(window_count(*one, args["ceil_mode"]) for one in each))


class _AdaptivePool(Kind):
    args = {"output_size": Arg(_pair(1))}

    def out_shape(self, args, shape):
        return (_maps("a pool", shape)[0], *args["output_size"])


class _Flatten(Kind):
    def out_shape(self, args, shape):
        return (math.prod(shape),)


class _Shuffle(Kind):
    args = {"groups": Arg(count)}

    def out_shape(self, args, shape):
        if _maps("shuffle", shape)[0] % args["groups"]:
            raise ValueError(f"groups must divide the {shape[0]} channels, got {args['groups']}")
        return shape


class _CReLU(Kind):
    def out_shape(self, args, shape):
        return (2 * shape[0], *shape[1:])


class _Add(Kind):
    args, arity = THEN, None

    def out_shape(self, args, *shapes):
        if len(set(shapes)) != 1:
            raise ValueError(f"add needs equal shapes, got {', '.join(map(str, shapes))}")
        return shapes[0]


class _Concat(Kind):
    arity = None

    def out_shape(self, args, *shapes):
        if len({s[1:] for s in shapes}) != 1:
            raise ValueError(f"concat needs equal maps, got {', '.join(map(str, shapes))}")
        return (sum(s[0] for s in shapes), *shapes[0][1:])


def _maps(what: str, shape: Shape) -> Shape:
    if len(shape) != 3:
        raise ValueError(f"{what} needs an input (C, H, W), got {shape}")
    return shape


KINDS: dict[str, Kind] = {
    "linear": _Linear(), "conv": _Conv(), "scale": _Scale(),
    "input_scale": _InputScale(),
    **{name: _Pointwise() for name in ACTIVATIONS},
    "threshold": _Pointwise(threshold=Arg(_threshold)), "topk": _Pointwise(k=Arg(count)),
    "quantize": _Quantize(), "clip": _Clip(), "binary_sum": _BinarySum(),
    "max_pool": _Pool(), "avg_pool": _Pool(), "adaptive_avg_pool": _AdaptivePool(),
    "flatten": _Flatten(), "shuffle": _Shuffle(), "add": _Add(), "concat": _Concat(),
    "crelu": _CReLU(),
}


@dataclass(frozen=True)
class Step:
    """One step of a program, its weights by part: "weight", "gain", "bias".

    args : of its kind; those left out are their defaults
    Raises ValueError for a kind or an argument that there is not, or out of range.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = (INPUT,)
    args: dict = field(default_factory=dict)
    weights: dict[str, Form] = field(default_factory=dict)

    def __post_init__(self):
        if not (isinstance(self.name, str) and _NAME.match(self.name)) or self.name == INPUT:
            raise ValueError("names of steps must match [A-Za-z0-9_.-]{1,100} and not be x, "
                             f"got {printable(repr(self.name), 40)}")
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ValueError(f"{self.name}: no step of kind {printable(repr(self.kind), 40)}; "
                             f"there are {', '.join(KINDS)}")
        declared = KINDS[self.kind].args
        unknown = [name for name in self.args if name not in declared]
        missing = [name for name, a in declared.items()
                   if a.default is _REQUIRED and name not in self.args]
        if unknown or missing:
            takes = ", ".join(declared) or "no arguments"
            raise ValueError(f"{self.name}: a {self.kind} takes {takes}, "
                             f"got {printable(list(self.args), 80)}")
        given = {name: self.args.get(name, a.default) for name, a in declared.items()}
        try:
            checked = {name: declared[name].check(name, value) for name, value in given.items()}
        except ValueError as e:
            raise ValueError(f"{self.name}: {e}") from None
        if self.weights:
            try:
                KINDS[self.kind].check(checked, self.weights)
            except ValueError as e:
                raise ValueError(f"{self.name}: {e}") from None
        object.__setattr__(self, "args", checked)
        object.__setattr__(self, "inputs", tuple(self.inputs))

    @property
    def then(self) -> str | None:
        """The activation that the step applies to its output, or None."""
        return self.args.get("then")

    def parts(self, shapes: dict[str, Shape]) -> dict[str, Shape]:
        """Returns the shapes of its weights by part.   shapes : of the values in the program"""
        return KINDS[self.kind].parts(self.args, *(shapes[i] for i in self.inputs))

    def given(self) -> dict:
        """Returns the arguments that are not their defaults."""
        declared = KINDS[self.kind].args
        return {name: v for name, v in self.args.items() if v != declared[name].default}


def shapes_of(steps: Iterable[Step], input_shape: Shape) -> dict[str, Shape]:
    """Returns the output shape of every step without N; "x" is the input's.

    Raises ValueError for a name twice, inputs that are no earlier steps, more or fewer of them than
    the kind takes, and shapes that do not fit.
    """
    shapes, steps = {INPUT: bounded(tuple(input_shape))}, tuple(steps)
    if len(steps) > MAX_NODES:
        raise ValueError(f"a program has at most {MAX_NODES} steps, got {len(steps)}")
    for step in steps:
        kind = KINDS[step.kind]
        if step.name in shapes:
            raise ValueError(f"{step.name}: there are two steps of that name")
        wrong = [i for i in step.inputs if not isinstance(i, str) or i not in shapes]
        if wrong or not step.inputs:
            raise ValueError(f"{step.name}: inputs must be earlier steps, got "
                             f"{', '.join(printable(i, 40) for i in wrong[:10]) or 'none'}")
        if len(step.inputs) > MAX_INPUTS:
            raise ValueError(f"{step.name}: a step has at most {MAX_INPUTS} inputs, "
                             f"got {len(step.inputs)}")
        if kind.arity is not None and len(step.inputs) != kind.arity:
            raise ValueError(f"{step.name}: a {step.kind} takes {kind.arity} input, "
                             f"got {len(step.inputs)}")
        try:
            shapes[step.name] = bounded(
                kind.out_shape(step.args, *(shapes[i] for i in step.inputs)))
        except ValueError as e:
            raise ValueError(f"{step.name}: {e}") from None
    return shapes


def activation_bytes(steps: Iterable[Step], shapes: dict[str, Shape]) -> int:
    """Returns the bytes of all values of one example as float32, padded inputs counted again.

    shapes : of `shapes_of`
    """
    total = sum(map(math.prod, shapes.values()))
    for step in steps:
        if any(step.args.get("padding", ())):
            total += padded(shapes[step.inputs[0]], step.args["padding"])
    return 4 * total


def operations(steps: Iterable[Step], shapes: dict[str, Shape]) -> int:
    """Returns about how many operations an example takes: multiplications, windows of pools, and
    one for each value that a step reads or gives.   shapes : of `shapes_of`"""
    total = 0
    for step in steps:
        weight = step.parts(shapes).get("weight", ())
        out = math.prod(shapes[step.name])
        each = math.prod(weight[1:] or step.args.get("kernel_size") or ())
        total += out * each + sum(math.prod(shapes[i]) for i in step.inputs)
    return total
