"""Initial weights, named as in the papers.

fan_in is the number of inputs of one output: I of a Linear, C K K of a Conv2d; fan_out likewise.
Each function returns float32 of `shape` (O, I) or (O, C, K, K); `initialise` draws a whole net's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..tensor import Array
from .forms import Dense
from .graph import Model


def lecun_uniform(shape, *, rng: np.random.Generator) -> Array:
    """Returns U(-b, b), b = sqrt(3 / fan_in): unit variance in, unit variance out.

    Source: LeCun et al. 1998; Caffe's "xavier".
    """
    return _uniform(shape, math.sqrt(3 / fans(shape)[0]), rng)


def glorot_uniform(shape, *, rng: np.random.Generator) -> Array:
    """Returns U(-b, b), b = sqrt(6 / (fan_in + fan_out)).

    Source: Glorot & Bengio 2010, eq. (16).
    """
    return _uniform(shape, math.sqrt(6 / sum(fans(shape))), rng)


def glorot_normal(shape, *, rng: np.random.Generator) -> Array:
    """Returns N(0, 2 / (fan_in + fan_out)). Source: Glorot & Bengio 2010, eq. (12)."""
    return gaussian(shape, std=math.sqrt(2 / sum(fans(shape))), rng=rng)


def he_uniform(shape, *, rng: np.random.Generator) -> Array:
    """Returns U(-b, b), b = sqrt(6 / fan_in). Source: He et al. 2015, eq. (10), as a uniform."""
    return _uniform(shape, math.sqrt(6 / fans(shape)[0]), rng)


def he_normal(shape, *, rng: np.random.Generator) -> Array:
    """Returns N(0, 2 / fan_in). Source: He et al. 2015, eq. (10)."""
    return gaussian(shape, std=math.sqrt(2 / fans(shape)[0]), rng=rng)


def torch_uniform(shape, *, rng: np.random.Generator) -> Array:
    """Returns U(-b, b), b = 1 / sqrt(fan_in): what Torch and PyTorch draw for their layers."""
    return _uniform(shape, 1 / math.sqrt(fans(shape)[0]), rng)


def gaussian(shape, *, std: float, rng: np.random.Generator) -> Array:
    """Returns N(0, std^2)."""
    return (std * rng.standard_normal(shape)).astype(np.float32)


def initialise(model: Model, *, rng: np.random.Generator,
               draw: Callable[..., Array] = lecun_uniform) -> Model:
    """Returns the model itself, every weight of its mixing layers drawn anew; biases stay.

    draw : called as draw(shape, rng=rng), one of this page
    Layers are born with zeros, for a file or a draw to fill; `fit` refuses a net of zeros.
    """
    drawn = {f"{node.name}.weight": node.layer.forms["weight"].shape
             for node in model.nodes if node.layer.coupling == "mix"}
    model.set_forms({name: Dense(draw(shape, rng=rng)) for name, shape in drawn.items()})
    return model


def fans(shape) -> tuple[int, int]:
    """Returns (fan_in, fan_out) of a weight, (O, I) or (O, C, K, K)."""
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def _uniform(shape, bound: float, rng: np.random.Generator) -> Array:
    return rng.uniform(-bound, bound, shape).astype(np.float32)
