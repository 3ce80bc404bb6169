"""OFFLINE: from a model to a program.

`lower` reads the model's list of nodes once, from the first to the last:

    a layer that is the identity outside of training, such as dropout, vanishes;
    a step that nothing reads goes;
    batch norm, y = x gain + bias a channel, becomes the gain and bias of the step before it;
    so does a normalisation, which as the first of all has none before it and stays a step `scale`:
    two numbers a channel, less than the biases that would have to change behind it;
    an activation becomes what that step does `then`;
    all else stays a step.

The last two happen only where nobody else reads what lies between. Stored weights are never
touched: W stays the codes that it is, and (x W') gain + bias takes fewer bytes than the four arrays
of a batch norm. Whether gain is multiplied into packed weights is the runtime's affair. The same
model gives the same program.

Source of the fold: Jacob et al. 2018 (arXiv 1712.05877), eq. (14)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..nn.forms import Dense, Form
from ..nn.graph import INPUT, Model, Node
from .program import Program, check_precision, check_rule
from .steps import ACTIVATIONS, KINDS, Step

Named = TypeVar("Named", Step, Node)


def lower(model: Model, *, precision: str = "float", rounding: str = "single",
          zero_first: bool = False) -> Program:
    """Returns the program of a model: its outputs are the model's up to rounding.

    precision : one of PRECISIONS, see program.py        rounding, zero_first : of precision int8,
        how accumulators become codes, see kernels/int8/requantize.py
    Raises ValueError for a precision or a rule that there is not, and, by name, for a layer that no
    step computes, for a batch norm that would divide by 0, and for what the precision cannot
    compute.
    """
    if not isinstance(model, Model):
        raise ValueError(f"model must be a Model, got a {type(model).__name__}")
    check_precision(precision)
    check_rule(precision, rounding, zero_first)
    steps, source = [], {INPUT: INPUT}  # source : by node, the step that gives its output
    for node in model.nodes:
        inputs = tuple(source[name] for name in node.inputs)
        if node.layer.step == "":
            source[node.name] = inputs[0]
        else:
            steps.append(step_of(node, inputs))
            source[node.name] = node.name
    output = source[model.nodes[-1].name] if model.nodes else INPUT
    return Program(_fused(leading_to(steps, output)), input_shape=model.input_shape,
                   precision=precision, origin_bytes=model.origin_bytes,
                   trained_on=model.trained_on, rounding=rounding, zero_first=zero_first)


def integer_precision(model: Model) -> str:
    """Returns the precision at which a model has no floats between layers: binary where it has
    signs, else int8."""
    return "binary" if any(node.layer.step == "sign" for node in model.nodes) else "int8"


def step_of(node: Node, inputs: tuple[str, ...]) -> Step:
    """Returns the step of a node by itself; ValueError, by its name, for one that has none."""
    layer = node.layer
    if layer.step not in KINDS:
        raise ValueError(f"{node.name}: a {layer.kind} cannot be lowered, no step computes it")
    declared, config = KINDS[layer.step].args, layer.config()
    args = {name: config[name] for name in declared if name in config}
    try:
        weights = layer.lowered()
    except ValueError as e:
        raise ValueError(f"{node.name}: {e}") from None
    return Step(node.name, layer.step, inputs, args, weights)


def leading_to(steps: Sequence[Named], output: str) -> list[Named]:
    """Returns the steps, or nodes, on which an output depends, in order; its own is the last."""
    needed, found = {output}, []
    for step in reversed(steps):
        if step.name in needed:
            needed |= set(step.inputs)
            found.insert(0, step)
    return found


def _fused(steps: list[Step]) -> list[Step]:
    readers = [name for step in steps for name in step.inputs]
    made: dict[str, Step] = {}
    into = {INPUT: INPUT}  # by step, the one that it became a part of
    for step in steps:
        step = replace(step, inputs=tuple(into[name] for name in step.inputs))
        before, alone = made.get(step.inputs[0]), readers.count(step.inputs[0]) == 1
        joined = _joined(before, step) if before and alone else None
        kept = step if joined is None else joined
        made[kept.name], into[step.name] = kept, kept.name
        if joined is not None:  # what read the second reads the first
            readers = [kept.name if name == step.name else name for name in readers]
            readers.remove(kept.name)
    return list(made.values())


def _joined(first: Step, second: Step) -> Step | None:
    # One step that does what both do, None where there is none.
    if first.args.get("then", second) is not None:  # it has no `then`, or one already
        return None
    if second.kind in ACTIVATIONS:
        return replace(first, args=first.args | {"then": second.kind})
    if second.kind != "scale" or not KINDS[first.kind].folds:
        return None
    # (y g1 + b1) g2 + b2 = y (g1 g2) + (b1 g2 + b2), in float64
    gain, bias = _numbers(second, "gain", 1.0), _numbers(second, "bias", 0.0)
    weights = first.weights | {
        "gain": _dense(_numbers(first, "gain", 1.0) * gain),
        "bias": _dense(_numbers(first, "bias", 0.0) * gain + bias)}
    there = {part: True for part in ("gain", "bias") if part in first.args}
    return replace(first, args=first.args | there, weights=weights)


def _numbers(step: Step, part: str, missing: float):
    form = step.weights.get(part)
    return missing if form is None else form.dense().data.astype(np.float64)


def _dense(a) -> Form:
    return Dense(a.astype(np.float32), trainable=False)
