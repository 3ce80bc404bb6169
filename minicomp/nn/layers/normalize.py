"""Input normalisation as a layer: pixels in 0..1 become numbers around 0."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np

from ... import ops
from ...kernels.maps import norm
from ...tensor import Tensor
from ..forms import Dense
from .base import Layer

# Mean and standard deviation of the training pixels in 0..1, a channel each, to four places. A file
# repeats only the name: numbers behind a name never change.
NAMED: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "glyphs": ((0.1593,), (0.3390,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
LIMIT = 1e9  # of |mean|, std and 1 / std: their quotients are float32
Statistics = str | tuple[Sequence[float], Sequence[float]]  # a name of NAMED, or mean and std


class Normalize(Layer):
    """(x - mean) / std, a number each for a channel;   x (N, C, H, W) or (N, C).

    It has no parameters: nothing of it is trained, counted, decayed or pruned, and its MACs are 0,
    as those of batch norm: what happens once to a value is not a multiply-accumulate.

    mean, std : a number each a channel; or, as `mean` alone, a name of NAMED
    Raises ValueError for another name, for other lengths, and for numbers that are not finite, or
    a std that is not above 0.
    """

    kind, coupling, pointwise = "Normalize", "keep", True
    step = "scale"
    per_channel = ("mean", "std")

    def __init__(self, mean: str | Sequence[float], std: Sequence[float] | None = None):
        if isinstance(mean, str):
            if mean not in NAMED or std is not None:
                raise ValueError(f"mean must be numbers beside std, or, alone, one of "
                                 f"{', '.join(NAMED)}, got {mean[:40]!r}")
            super().__init__(mean=mean)
            mean, std = NAMED[mean]
        else:
            mean, std = _numbers("mean", mean, -LIMIT), _numbers("std", std, 1 / LIMIT)
            if len(mean) != len(std):
                raise ValueError(
                    f"mean and std must be equally many, got {len(mean)} and {len(std)}"
                )
            super().__init__(mean=list(mean), std=list(std))
        self.mean, self.std = tuple(mean), tuple(std)
        wide = np.array([self.mean, self.std])
        self._gain, self._bias = (1 / wide[1]).astype("f4"), (-wide[0] / wide[1]).astype("f4")
        for a in (self._gain, self._bias):
            a.setflags(write=False)  # copies of the layer share them

    def forward(self, x, **_):
        gain, bias = (a.astype(x.dtype, copy=False) for a in (self._gain, self._bias))
        if not x.requires_grad:  # the input of a net: one pass, and nothing kept for a gradient
            return Tensor(norm.affine(x.data, gain, bias))
        shape = (-1,) + (1,) * (x.ndim - 2)
        return ops.mul(x, gain.reshape(shape)) + bias.reshape(shape)

    def lowered(self):
        return {"gain": Dense(self._gain.copy(), trainable=False),
                "bias": Dense(self._bias.copy(), trainable=False)}

    def out_shape(self, shape):
        if len(self.mean) != shape[0]:
            raise ValueError(
                f"Normalize needs a mean for each of {shape[0]} channels, got {len(self.mean)}"
            )
        return shape

    def config(self):
        return {name: v if isinstance(v, str) else list(v) for name, v in self._config.items()}


def statistics(given: Statistics) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and std, a number a channel each; errors of `Normalize`.

    given : a name of NAMED, or (mean, std)
    """
    layer = normalizer(given)
    return layer.mean, layer.std


def normalizer(given: Statistics) -> Normalize:
    """Returns the layer of a name or of (mean, std); errors of `Normalize`."""
    if isinstance(given, str):
        return Normalize(given)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise ValueError(f"normalize must be one of {', '.join(NAMED)}, or mean and std, "
                         f"got {str(given)[:40]!r}")
    return Normalize(*given)


def _numbers(name: str, values, lo: float) -> tuple[float, ...]:
    values = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(values, (tuple, list)) or not values or not all(
            isinstance(v, Real) and not isinstance(v, bool) and lo <= v <= LIMIT for v in values):
        raise ValueError(f"{name} must be a list of numbers in [{lo:g}, {LIMIT:g}], one a channel, "
                         f"got {str(values)[:40]!r}")
    return tuple(float(v) for v in values)
