"""What a program costs, step by step: milliseconds, multiplications, bytes, memory.

Milliseconds are medians of calls on this machine, of a step on its own: what a step finds in the
caches is what the one before it left there. Bytes are those of weights as they are multiplied and
of values that a step reads and gives. The peak is the largest sum of values needed at a time.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import count
from statistics import median

import numpy as np

from ..nn.graph import INPUT
from ..tensor import Array
from ..timing import Clock
from .arena import Value, live
from .integer import Instruction
from .integer_runtime import IntegerPlan
from .runtime import Plan
from .steps import Shape, Step

SECONDS = 0.2  # that calls are repeated for, at least LEAST of them
LEAST = 5
XNOR_KINDS = ("xnor_conv", "xnor_linear")  # of which a weight is a bit
KEPT = ("weight", "offset", "table", "tables", "gain")  # arrays that a plan needs


@dataclass(frozen=True)
class Cost:
    """A step: ms, of a call; macs, of an example, bias not counted; weight_bytes; value_bytes, read
    and given in a call."""

    name: str
    kind: str
    ms: float
    macs: int
    weight_bytes: int
    value_bytes: int


@dataclass(frozen=True)
class Profile:
    """What a program costs.

    steps : one Cost each, in order        batch : examples of a call
    peak : bytes that the values of a call take at most at a time, the input left out
    bound : the largest sum of values that are needed at a time, which no plan of memory undercuts
    """

    steps: tuple[Cost, ...]
    batch: int
    peak: int
    bound: int

    @property
    def ms(self) -> float:
        """Milliseconds of a call, the sum over steps."""
        return sum(step.ms for step in self.steps)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of an example, the sum over steps."""
        return sum(step.macs for step in self.steps)


def profiled(program, batch: int = 1, *, isa: str = "auto", n_threads: int = 1) -> Profile:
    """Returns what a program costs; arguments of `Program.plan`, and its errors."""
    plan = program.plan(batch, isa=isa, n_threads=n_threads)
    seconds, sizes = _timed(plan, np.zeros(plan.shape, np.float32))
    shapes = program.shapes()
    costs = [Cost(run.name, " + ".join(step.kind for step in run.steps), 1000 * spent,
                  sum(_macs(step, shapes) for step in run.steps),
                  sum(_weight_bytes(step, plan, shapes) for step in run.steps),
                  sum(sizes[name] for name in (*run.inputs, run.name)))
             for run, spent in zip(plan.runs, seconds)]
    if isinstance(plan, IntegerPlan):
        return Profile(tuple(costs), batch, plan.size, plan.bound)
    most = live(_values(plan, sizes))
    return Profile(tuple(costs), batch, most, most)


def _timed(plan: Plan | IntegerPlan, x: Array) -> tuple[list[float], dict[str, int]]:
    # The median seconds of each run of a plan, and the bytes of values.
    taken, sizes = [[] for _ in plan.runs], {INPUT: x.nbytes}
    stop = time.perf_counter() + SECONDS
    for call in count():
        clock = Clock()
        for seconds, (name, y) in zip(taken, plan.walk(x)):
            seconds.append(clock.lap())
            sizes[name] = getattr(y, "codes", y).nbytes
            clock.lap()
        if call >= LEAST and time.perf_counter() > stop:
            return [median(seconds) for seconds in taken], sizes


def _macs(step: Step | Instruction, shapes: dict[str, Shape]) -> int:
    if isinstance(step, Instruction):
        weights, out = np.size(step.arrays.get("weight", ())), step.shape
    else:
        weights = math.prod(step.parts(shapes).get("weight", (0,)))
        out = shapes[step.name]
    return weights * math.prod(out[1:])


def _weight_bytes(step: Step | Instruction, plan: Plan, shapes: dict[str, Shape]) -> int:
    # As dense arrays: of integers where the plan multiplies such.
    if isinstance(step, Instruction):
        rules = [a for a in step.arrays.values() if not isinstance(a, np.ndarray)]
        kept = KEPT if step.kind == "input" or step.grid is None else KEPT[:-1]
        arrays = [step.arrays[k] for k in kept if k in step.arrays]
        arrays += [a for rule in rules for a in vars(rule).values() if isinstance(a, np.ndarray)]
        of_bits = step.arrays["weight"].nbytes * 7 // 8 if step.kind in XNOR_KINDS else 0
        return sum(a.nbytes for a in arrays) - of_bits
    parts = {part: math.prod(shape) for part, shape in step.parts(shapes).items()}
    integers = parts.pop("weight", 0) if plan.layouts.get(step.name) == "int8" else 0
    return integers + 4 * sum(parts.values())


def _values(plan: Plan, sizes: dict[str, int]) -> list[Value]:
    # The values of a call of a float plan and how long they are needed; the input is the caller's.
    last = {name: at for at, run in enumerate(plan.runs) for name in (run.name, *run.inputs)}
    return [Value(run.name, sizes[run.name], at, last[run.name])
            for at, run in enumerate(plan.runs)]
