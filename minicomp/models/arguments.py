"""The arguments of built-in nets: a few numbers, bounded, which a file's header repeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np

from ..errors import printable
from ..nn.graph import Model, Node, chain
from ..nn.init import he_normal, initialise
from ..nn.layers import Layer
from ..nn.layers.normalize import NAMED, Statistics, normalizer, statistics
from ..tensor import Array


@dataclass(frozen=True)
class Argument:
    """A number in lo..hi, whole unless `default` is a float; with `among`, one of these."""

    default: int | float
    lo: int | float
    hi: int | float
    among: tuple[int, ...] = ()

    def check(self, name: str, value) -> int | float:
        """Returns the value as int or float; ValueError names the range and what was given."""
        real = isinstance(self.default, float)
        sound = isinstance(value, Real if real else Integral) and not isinstance(value, bool)
        if not sound or not self.lo <= value <= self.hi:
            raise ValueError(f"{name} must be {'a number' if real else 'an integer'} in "
                             f"[{self.lo}, {self.hi}], got {printable(value, 40)!r}")
        if self.among and value not in self.among:
            raise ValueError(f"{name} must be one of {', '.join(map(str, self.among))}, "
                             f"got {value}")
        return type(self.default)(value)

    def read(self, name: str, text: str) -> int | float:
        """Returns the value that a text stands for; ValueError as `check`."""
        try:
            value: int | float | str = type(self.default)(text)
        except ValueError:
            value = text
        return self.check(name, value)


@dataclass(frozen=True)
class Normalization:
    """What the net subtracts from its input and divides it by: None, nothing; a name of NAMED in
    nn/layers/normalize.py; or (mean, std), a number each a channel."""

    default: None = None

    def check(self, name: str, value):
        """Returns the value as a header holds it; ValueError where it is none of these."""
        if value is None or isinstance(value, str) and value in NAMED:
            return value
        layer = normalizer(value)
        return [list(layer.mean), list(layer.std)]


CLASSES = Argument(10, 1, 1000)
CHANNELS = Argument(1, 1, 16)         # of the input
RESOLUTION = Argument(32, 8, 224)     # height and width of the input
WIDTH = Argument(1.0, 0.05, 4.0)      # times the channels of every layer
NORMALIZE = Normalization()
LEAST_REDUCED = 96  # the smallest resolution at which a net for 224 keeps its first strides


def of_images(width: float, *, most: float = 1.0,
              least: int = RESOLUTION.lo) -> dict[str, Argument | Normalization]:
    """Returns the arguments of a net of colour images, 32 x 32 unless told otherwise.

    width : the default, below 1 where the published net is too large to be trained on one machine
    most : the largest width        least : the smallest resolution
    """
    return {"classes": CLASSES, "channels": replace(CHANNELS, default=3),
            "resolution": replace(RESOLUTION, lo=least),
            "width": replace(WIDTH, default=width, hi=most), "normalize": NORMALIZE}


def checked(declared: dict[str, Argument | Normalization], given: dict) -> dict:
    """Returns the arguments that are not the default, as a header holds them; errors of `check`."""
    values = {name: argument.check(name, given[name]) for name, argument in declared.items()}
    if values.get("normalize") is not None:
        means, channels = len(statistics(values["normalize"])[0]), values["channels"]
        if means != channels:
            raise ValueError(f"normalize must have a mean for each channel of the input, "
                             f"{channels}, got {means}")
    return {name: value for name, value in values.items() if value != declared[name].default}


def chained(normalize: Statistics | None, *named: tuple[str, Layer]) -> tuple[Node, ...]:
    """Returns nodes in a row as `chain`, behind a `Normalize` unless `normalize` is None."""
    front = () if normalize is None else (("normalize", normalizer(normalize)),)
    return chain(*front, *named)


def built_in(name: str, args: dict, nodes: tuple[Node, ...], size: tuple[int, int],
             rng: np.random.Generator | None, draw: Callable[..., Array] = he_normal) -> Model:
    """Returns the net `name` of square images, its weights drawn, or 0 without rng.

    args : what `checked` gave        size : (channels, resolution) of the input
    draw : of `nn.init`
    """
    channels, resolution = size
    model = Model(nodes, input_shape=(channels, resolution, resolution),
                  builtin={"name": name, "args": args})
    return model if rng is None else initialise(model, rng=rng, draw=draw)


def widened(channels: int, width: float, of: int = 8) -> int:
    """Returns channels x width as MobileNet rounds it: to the nearest multiple of `of`, at least
    `of`, and never more than a tenth below.

    Source: Howard et al. 2017 (arXiv 1704.04861), section 3.3; `make_divisible` of their code
    """
    wide = max(of, int(channels * width + of / 2) // of * of)
    return wide + of if wide < 0.9 * channels * width else wide
