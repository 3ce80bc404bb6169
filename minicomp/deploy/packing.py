"""What a plan takes of a step: its numbers as dense float32, its windows as kernels take them."""

from __future__ import annotations

import numpy as np

from ..tensor import Array, no_grad
from .steps import Step


def gain_and_bias(step: Step) -> tuple[Array | None, Array | None]:
    """Returns the gain and the bias of each output channel, (O,), None where a step has none."""
    return tuple(numbers(step, part) if part in step.weights else None
                 for part in ("gain", "bias"))


def dense_weight(step: Step, gain: Array | None) -> Array:
    """Returns the weight of a step, its rows times `gain`."""
    w = numbers(step, "weight")
    return w if gain is None else w * gain.reshape(-1, *[1] * (w.ndim - 1))


def numbers(step: Step, part: str) -> Array:
    """Returns a part of a step, float32, contiguous, an array of its own."""
    with no_grad():
        return np.array(step.weights[part].dense().data, np.float32, order="C")


def windows(step: Step) -> dict:
    """Returns the arguments of a pooling under the names of kernels/maps/pool.py."""
    args = dict(step.args)
    return {"kernel": args.pop("kernel_size"), **args}
