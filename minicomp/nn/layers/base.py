"""What a layer is: a pure function of its inputs and weights, which says of itself what others need.

N batch, C in, O out, H W size, K kernel. Meaning is NCHW and OIHW with PyTorch's names and shapes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from ...tensor import Array, Tensor
from ..forms import Form, Part


class Layer:
    """The contract of a layer. `forms` holds weight and bias, `buffers` the running statistics.

    What a layer says of itself, so that nobody keeps lists of kinds:

    coupling : what removing a channel must respect. A layer that can "mix" channels ends a group,
        one that "keep"s them passes it on, "add" ties its inputs together, "concat" lines them up,
        "flatten" turns a channel into a block of features, "permute" reorders them.
    pointwise : each output entry is a function of that input entry alone
    normalises : scales and shifts each channel by its weight and bias after normalising it
    tracks : its buffers move in training, so that a batch cannot be split over threads
    groups, padding : of a convolution or a pooling
    sizes : the constructor's arguments that count channels: "in" those read, "out" those made
    """

    kind: ClassVar[str]
    coupling: ClassVar[str] = "keep"
    arity: ClassVar[int | None] = 1  # number of inputs; None: one or more
    pointwise: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    tracks: ClassVar[bool] = False
    sizes: ClassVar[dict[str, str]] = {}
    buffer_parts: ClassVar[dict[str, Part]] = {}  # what the numbers of `buffers` may be
    groups: int = 1
    padding: tuple[int, int] = (0, 0)

    def __init__(self, **config):
        self._config = config
        self.forms: dict[str, Form] = {}
        self.buffers: dict[str, Array] = {}

    def __call__(
        self,
        *xs: Tensor,
        weights: dict[str, Tensor] | None = None,
        training: bool = False,
        rng: np.random.Generator | None = None,
    ) -> Tensor:
        """Returns the output.

        weights : {"weight": Tensor, "bias": Tensor}, decoded; None decodes the layer's own forms
        training : batch statistics and dropout are on        rng : draws the latter
        """
        if weights is None:
            weights = self.decode(training=training, rng=rng)
        return self.forward(*xs, weights=weights, training=training, rng=rng)

    def forward(self, *xs, weights, training, rng) -> Tensor:
        """Returns the output as a function of the inputs and of `weights`."""
        raise NotImplementedError

    def fused(self, after: Layer) -> Callable[..., Tensor] | None:
        """Returns what computes this layer and then `after` in one pass, to the same bits; or None.

        It is called as `forward` of this layer is. `after` takes this layer's output alone.
        """
        return None

    def decode(self, *, training: bool = False, rng=None) -> dict[str, Tensor]:
        """Returns every form decoded, by part: "weight", "bias"."""
        return {part: form.dense(training=training, rng=rng) for part, form in self.forms.items()}

    def out_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the output's shape without N; ValueError where the inputs do not fit."""
        return shapes[0]

    def macs(self, *shapes: tuple[int, ...]) -> int:
        """Returns multiply-accumulates per example, bias not counted."""
        return 0

    def config(self) -> dict:
        """Returns the constructor's arguments, JSON-able."""
        return dict(self._config)

    @classmethod
    def entries(cls, **config) -> int:
        """Returns how many numbers a layer of this configuration holds, before it is made."""
        return 0

    def copy(self) -> Layer:
        """Returns an equal layer that shares no writable array."""
        other = copy.copy(self)
        other.forms = {name: form.copy() for name, form in self.forms.items()}
        other.buffers = {name: a.copy() for name, a in self.buffers.items()}
        return other


class Plain(Layer):
    """A layer that takes no arguments."""

    def __init__(self):
        super().__init__()


def flag(name: str, value) -> bool:
    """Returns value; ValueError where it is not True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value


def positive(**sizes) -> tuple[int, ...]:
    """Returns the sizes as ints; ValueError where one is not an integer of at least 1."""
    for name, n in sizes.items():
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {n!r}")
    return tuple(int(n) for n in sizes.values())


def pair(name: str, value, least: int) -> tuple[int, int]:
    """Returns an integer or a pair as a pair; ValueError where one is below `least`."""
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2 or any(
        isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < least for n in both
    ):
        raise ValueError(
            f"{name} must be an integer or a pair, each at least {least}, got {value!r}"
        )
    return int(both[0]), int(both[1])


def windows(n: int, k: int, s: int, p: int, ceil_mode: bool = False) -> int:
    """Returns the number of windows of size k at stride s along n entries padded by p.

    ceil_mode : a last window may hang over the end as long as it starts inside the input or its
        left padding
    Raises ValueError where not even one window fits.
    """
    span = n + 2 * p - k
    if span < 0:
        raise ValueError(f"a window of {k} does not fit {n} entries padded by {p}")
    count = (-(-span // s) if ceil_mode else span // s) + 1
    return count - 1 if ceil_mode and (count - 1) * s >= n + p else count
