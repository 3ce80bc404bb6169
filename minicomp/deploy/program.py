"""A program: a model made ready to be called.

It is data, the steps (steps.py) that `lower` made, and knows no batch, no rung and no machine. It
is called and saved, not trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import printable
from ..nn.forms import Form
from ..nn.graph import INPUT, check_label
from ..tensor import Array, raw
from .runtime import Plan
from .steps import Shape, Step, activation_bytes, count, operations, shapes_of

PRECISIONS = ("float",)


class Program:
    """A model made ready to be called; the output of its last step is the program's.

    steps : topologically ordered        input_shape : of one example, (C, H, W) or (D,)
    precision : one of PRECISIONS        origin_bytes : of the dense float32 model that compression
        started from, None for 4 bytes a weight of this one
    trained_on : label of the data set on which the model was trained, or None
    Raises ValueError as `Step` and `shapes_of` do, and for weights that do not fit.
    """

    def __init__(self, steps: Iterable[Step], *, input_shape: Sequence[int],
                 precision: str = "float", origin_bytes: int | None = None,
                 trained_on: str | None = None):
        check_precision(precision)
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
        self._plan = None

    def __repr__(self) -> str:
        takes, gives = (" x ".join(map(str, shape)) for shape in (self.input_shape, self.out_shape))
        numbers = "integers only" if self.integer else "float32"
        return (f"<Program: precision {self.precision} ({numbers}), {len(self.steps)} steps, "
                f"{self.count():,} weights, {takes} -> {gives}>")

    @property
    def integer(self) -> bool:
        """Whether nothing between the input and the logits is float."""
        return self.precision in ()  # none of the precisions that there are

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

    def plan(self, batch: int = 1, *, isa: str = "auto", n_threads: int = 1,
             skip_zeros: bool = True) -> Plan:
        """Returns a `Plan`, to be called with `batch` examples; arguments and errors are its."""
        return Plan(self.steps, self.input_shape, batch, isa=isa, n_threads=n_threads,
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
