"""A program: a model made ready to be called.

It is data, the steps (steps.py) that `lower` made, and knows no batch, no rung and no machine. It
is called and saved, not trained. Its precision says how the steps are computed:

| precision    | between steps                     | products | of a model of           |
|--------------|-----------------------------------|----------|-------------------------|
| float        | float32, on grids where these are | float32  | any                     |
| weight-only  | float32                           | float32  | ptq, mode weight-only   |
| int8-dynamic | float32, ranged at each call      | integers | ptq, mode dynamic       |
| int8         | integers (integer.py)             | integers | ptq, mode full, and qat |
| binary       | bits (binary.py)                  | bits     | bnn, then ptq           |

float16 weights are a matter of the model's forms, not of a precision: it runs as float.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import printable
from ..kernels.doors import switch
from ..kernels.int8.requantize import ROUNDINGS
from ..nn.forms import Affine, FixedPoint, Form
from ..nn.graph import INPUT, check_label
from ..tensor import Array, raw
from .binary import binary_instructions
from .binary_runtime import BinaryPlan
from .dynamic_runtime import DynamicPlan, check_dynamic
from .integer import Instruction, instructions
from .integer_runtime import IntegerPlan
from .profile import Profile, profiled
from .runtime import Plan
from .steps import Shape, Step, activation_bytes, count, operations, shapes_of
from .trace import traced

PRECISIONS = ("float", "weight-only", "int8-dynamic", "int8", "binary")
INTEGERS = (Affine, FixedPoint)  # forms that store integers


class Program:
    """A model made ready to be called; the output of its last step is the program's.

    steps : topologically ordered        input_shape : of one example, (C, H, W) or (D,)
    precision : one of PRECISIONS        origin_bytes : of the dense float32 model that compression
        started from, None for 4 bytes a weight of this one
    trained_on : label of the data set on which the model was trained, or None
    rounding, zero_first : of precision int8, the rule of requantization, see
        kernels/int8/requantize.py
    instructions : of precision int8 and binary, what it executes (integer.py, binary.py); else
        empty
    Raises ValueError as `Step` and `shapes_of` do, for weights that do not fit, and, by the name of
    the step, for what the precision cannot compute.
    """

    def __init__(self, steps: Iterable[Step], *, input_shape: Sequence[int],
                 precision: str = "float", origin_bytes: int | None = None,
                 trained_on: str | None = None, rounding: str = "single",
                 zero_first: bool = False):
        check_precision(precision)
        check_rule(precision, rounding, zero_first)
        self.rounding, self.zero_first = rounding, zero_first
        self.trained_on = None if trained_on is None else check_label(trained_on)
        self.steps, self.precision = tuple(steps), precision
        if len(tuple(input_shape)) not in (1, 3):
            raise ValueError(f"input_shape must be (D,) or (C, H, W), got {str(input_shape)[:40]}")
        self.input_shape = tuple(count("input_shape", n) for n in input_shape)
        self._shapes = shapes_of(self.steps, self.input_shape)
        for step in self.steps:
            wanted = step.parts(self._shapes)
            found = {part: form.shape for part, form in step.weights.items()}
            if found != wanted:
                raise ValueError(f"{step.name}: weights must have shapes {wanted}, got {found}")
        self.origin_bytes = 4 * self.count() if origin_bytes is None else origin_bytes
        self.instructions: tuple[Instruction, ...] = ()
        if precision == "int8":
            self.instructions = instructions(self.steps, self._shapes, rounding=rounding,
                                             zero_first=zero_first)
        elif precision == "binary":
            self.instructions = binary_instructions(self.steps, self._shapes)
        elif precision == "int8-dynamic":
            check_dynamic(self.steps, self._shapes)
        elif precision == "weight-only":
            _check_weights_only(self.steps)
        self._plan = None

    def __repr__(self) -> str:
        takes, gives = (" x ".join(map(str, shape)) for shape in (self.input_shape, self.out_shape))
        numbers = {"int8": f"integers only, rounding {self.rounding}",
                   "binary": "bits between layers"}.get(self.precision, "float32")
        return (f"<Program: precision {self.precision} ({numbers}), {len(self.steps)} steps, "
                f"{self.count():,} weights, {takes} -> {gives}>")

    @property
    def integer(self) -> bool:
        """Whether nothing between the input and the logits is float."""
        return self.precision in ("int8", "binary")

    @property
    def out_shape(self) -> Shape:
        """The shape of the output, N left out."""
        return self._shapes[self.steps[-1].name if self.steps else INPUT]

    def shapes(self) -> dict[str, Shape]:
        """Returns the output shape of every step, N left out; "x" is the input's."""
        return dict(self._shapes)

    def forms(self) -> dict[str, Form]:
        """Returns every weight by name, as in a file: "fc1.weight", "fc1.gain", "fc1.bias"."""
        return {f"{step.name}.{part}": step.weights[part] for step in self.steps
                for part in step.parts(self._shapes)}

    def count(self) -> int:
        """Returns the number of weights, gains and biases."""
        return sum(math.prod(form.shape) for form in self.forms().values())

    def activation_bytes(self) -> int:
        """Returns the bytes of all values of one example as float32, padded inputs too."""
        return activation_bytes(self.steps, self._shapes)

    def operations(self) -> int:
        """Returns about how many operations an example takes, as `Model.operations`."""
        return operations(self.steps, self._shapes)

    def profile(self, batch: int = 1, *, isa: str = "auto", n_threads: int = 1) -> Profile:
        """Returns milliseconds, MACs and bytes of each step, and the peak memory of activations, of
        calls of `batch` examples; arguments and errors of `plan`."""
        return profiled(self, batch, isa=isa, n_threads=n_threads)

    def trace(self, x: Array) -> dict[str, Array]:
        """Returns every integer that an integer program makes of x, (N, *input_shape): codes,
        accumulators, multipliers, shifts, zero points, by names as in trace.py.

        Raises ValueError for a program of another precision, and an x of another shape.
        """
        return traced(self, x)

    def plan(self, batch: int = 1, *, isa: str = "auto", n_threads: int = 1,
             skip_zeros: bool = True) -> Plan | IntegerPlan:
        """Returns a `Plan`, to be called with `batch` examples; arguments and errors are its.

        Of an integer program an `IntegerPlan`, of a binary one a `BinaryPlan`, which skip no zeros.
        """
        if self.integer:
            made = BinaryPlan if self.precision == "binary" else IntegerPlan
            return made(self.instructions, self.input_shape, batch, isa=isa, n_threads=n_threads)
        made = DynamicPlan if self.precision == "int8-dynamic" else Plan
        return made(self.steps, self.input_shape, batch, isa=isa, n_threads=n_threads,
                    skip_zeros=skip_zeros)

    def __call__(self, x: Array) -> Array:
        """Returns the logits, (N, classes) float32.

        x : (N, *input_shape). The plan for N examples is made at the first call and kept until
        another number of them comes.
        Raises ValueError for an x of another shape, or without examples.
        """
        x, plan = np.asarray(raw(x)), self._plan
        if x.ndim != 1 + len(self.input_shape):
            raise ValueError(
                f"x must have shape (N, {', '.join(map(str, self.input_shape))}), got {x.shape}"
            )
        if plan is None or plan.batch != len(x):
            plan = self._plan = self.plan(len(x))
        return plan(x)


def check_precision(precision: str) -> None:
    """Raises ValueError for a precision that there is not."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, "
                         f"got {printable(repr(precision), 40)}")


def check_rule(precision: str, rounding: str, zero_first: bool) -> None:
    """Raises ValueError for a rule of requantization that there is not, or that the precision has
    no use for."""
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}, "
                         f"got {printable(repr(rounding), 40)}")
    switch("zero_first", zero_first)
    if precision != "int8" and (rounding != ROUNDINGS[0] or zero_first):
        raise ValueError(f"rounding and zero_first go with precision int8, got {precision}")


def _check_weights_only(steps: Sequence[Step]) -> None:
    weights = {step.name: step.weights["weight"] for step in steps if "weight" in step.weights}
    grids = [step.name for step in steps if step.kind == "quantize"]
    if grids:
        raise ValueError(f"{grids[0]}: a weight-only program has no grids of activations; lower "
                         "the model as int8 or int8-dynamic")
    if not any(isinstance(form, INTEGERS) for form in weights.values()):
        found = ", ".join(f"{name} {form.kind}" for name, form in list(weights.items())[:10])
        raise ValueError("a weight-only program needs weights that are stored as integers (ptq, "
                         f"mode weight-only), got {found or 'no weights'}")
