"""A search space as data: named choices, each one of a few values, and the net that they make.

    space = Space({"conv1": (2, 4, 8), "hidden": (16, 32)}, make)     3 x 2 nets
    small = space.under(Limit(bytes=4000))                            those that keep the limit
    choice = small.sample(rng=rng)                                    {"conv1": 4, "hidden": 16}
    model = small.build(choice, rng=rng)                              make(conv1=4, hidden=16, rng=)

What a search knows of a net is its choice; what the net costs is taken from the net itself: bytes
of its file, multiply-accumulates an image, milliseconds measured here. A search is given a space
under a limit, and never meets a net that is not in it.

Values stand in rising order, so that the first of each make the smallest net and the last the
largest (`width.py` slices the one out of the other).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np

from ..codec import decode, encode
from ..errors import UserError, did_you_mean, printable
from ..kernels.threads import blas
from ..nn.graph import Model
from ..passport import planned
from ..tensor import no_grad
from ..timing import race

Choice = dict[str, Any]
COSTS = ("bytes", "macs", "ms")
TRIES = 10_000  # draws after which a space counts as empty
SECONDS = 0.05  # that a net is timed for


def declared_bytes(model: Model, *, bits: int = 32) -> int:
    """Returns the bytes of a file that stores each number in so many bits: those, and the header
    as measured on the file of this net.

    bits : in [1, 32]        Raises UserError outside
    """
    if not (isinstance(bits, int) and 1 <= bits <= 32):
        raise UserError(f"bits must be a whole number in [1, 32], got {printable(bits, 40)}")
    header = decode(encode(model)).parts()["header"]
    return math.ceil(header + model.count() * bits / 8)


def milliseconds(model: Model, *, seconds: float = SECONDS) -> float:
    """Returns the median milliseconds of one image through the net's program, one thread."""
    x = np.zeros((1, *model.input_shape), np.float32)
    program = planned(model)
    with no_grad(), blas(1):
        program(x)
        return 1e3 * race({"net": partial(program, x)}, seconds=seconds, least=5)["net"]


@dataclass(frozen=True)
class Limit:
    """The most that a net may cost; None: no limit. Raises UserError where one is not positive.

    bytes : of its file        macs : multiply-accumulates an image        ms : of one image
    """

    bytes: int | None = None
    macs: int | None = None
    ms: float | None = None

    def __post_init__(self):
        for name, most in self.given().items():
            if isinstance(most, bool) or not isinstance(most, int | float) or not most > 0:
                raise UserError(f"{name} must be a number above 0, got {printable(most, 40)}")

    def given(self) -> dict[str, float]:
        """Returns the limits that there are, by name."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: most for name, most in found.items() if most is not None}

    def __str__(self) -> str:
        return ", ".join(f"{n} <= {most:,g}" if n == "ms" else f"{n} <= {most:,}"
                         for n, most in self.given().items()) or "no limit"


@dataclass(frozen=True, eq=False)
class Space:
    """A space of nets.

    choices : name -> its values, in rising order        make : make(rng=rng, **choice) -> Model;
        with rng None its weights are 0
    limit : that every net of the space keeps
    weigh : weigh(model) -> bytes of its file; `declared_bytes` of 32 bits unless given
    Raises UserError for a choice without values or with one that stands twice.
    """

    choices: Mapping[str, tuple]
    make: Callable[..., Model]
    limit: Limit = Limit()
    weigh: Callable[[Model], float] = declared_bytes
    known: dict = field(default_factory=dict, repr=False)  # (cost, code) -> what was measured

    def __post_init__(self):
        if not self.choices:
            raise UserError("choices must name at least one choice, got none")
        for name, values in self.choices.items():
            if not isinstance(values, tuple) or not values or len(set(values)) < len(values):
                raise UserError(f"choices: {name} must be a tuple of different values, "
                                f"got {printable(values, 80)}")

    @property
    def size(self) -> int:
        """How many nets there are, with those over the limit."""
        return math.prod(map(len, self.choices.values()))

    @property
    def smallest(self) -> Choice:
        """The first value of every choice."""
        return {name: values[0] for name, values in self.choices.items()}

    @property
    def largest(self) -> Choice:
        """The last value of every choice."""
        return {name: values[-1] for name, values in self.choices.items()}

    def under(self, limit: Limit) -> Space:
        """Returns the space of the nets that keep a limit; costs that are known stay known."""
        return replace(self, limit=limit)

    def __iter__(self) -> Iterator[Choice]:
        """Yields every net under the limit, the last choice moving fastest."""
        for values in itertools.product(*self.choices.values()):
            choice = dict(zip(self.choices, values))
            if self.admits(choice):
                yield choice

    def encode(self, choice: Choice) -> tuple[int, ...]:
        """Returns where each value stands among those of its choice: a key for tables.

        Raises UserError where a choice is missing, unknown, or has another value.
        """
        if unknown := [name for name in choice if name not in self.choices]:
            raise UserError(f"unknown choice {printable(repr(unknown[0]), 40)}"
                            f"{did_you_mean(str(unknown[0]), self.choices)}")
        code = []
        for name, values in self.choices.items():
            if name not in choice or choice[name] not in values:
                given = printable(repr(choice[name]), 40) if name in choice else "none"
                raise UserError(f"{name} must be one of {', '.join(map(str, values))}, got {given}")
            code.append(values.index(choice[name]))
        return tuple(code)

    def decode(self, code: tuple[int, ...]) -> Choice:
        """Returns the choice of a code; the inverse of `encode`."""
        return {name: values[i]
                for (name, values), i in zip(self.choices.items(), code, strict=True)}

    def sample(self, *, rng: np.random.Generator) -> Choice:
        """Returns a net drawn uniformly from those under the limit.

        Raises UserError where none of 10,000 draws keeps the limit.
        """
        for _ in range(TRIES):
            choice = {n: values[rng.integers(len(values))] for n, values in self.choices.items()}
            if self.admits(choice):
                return choice
        raise UserError(f"the limit must admit a net of the space, got {self.limit}; "
                        f"{self.costs(self.smallest)} the smallest")

    def mutate(self, choice: Choice, *, rng: np.random.Generator) -> Choice:
        """Returns the choice with one value changed: a name is drawn, then another of its values,
        both uniformly from what the limit admits.

        Raises UserError where it admits none.
        """
        self.encode(choice)
        near = {name: [other for value in values if value != choice[name]
                       and self.admits(other := choice | {name: value})]
                for name, values in self.choices.items()}
        if not (names := [name for name, others in near.items() if others]):
            raise UserError(f"the limit must admit a net one change from {self.name(choice)}, "
                            f"got {self.limit}")
        others = near[names[rng.integers(len(names))]]
        return others[rng.integers(len(others))]

    def build(self, choice: Choice, *, rng: np.random.Generator | None = None) -> Model:
        """Returns the net of a choice; its weights drawn with rng, 0 without."""
        self.encode(choice)
        return self.make(rng=rng, **choice)

    def cost(self, kind: str, choice: Choice) -> float:
        """Returns what a net costs, measured once: "bytes", "macs" or "ms"."""
        if kind not in COSTS:
            raise UserError(f"kind must be one of {', '.join(COSTS)}, got {printable(kind, 40)}")
        key = kind, self.encode(choice)
        if key not in self.known:
            model = self.make(rng=None, **choice)
            self.known[key] = (
                self.weigh(model) if kind == "bytes"
                else sum(model.macs().values()) if kind == "macs" else milliseconds(model))
        return self.known[key]

    def admits(self, choice: Choice) -> bool:
        """Returns whether a net keeps the limit."""
        return all(self.cost(kind, choice) <= most for kind, most in self.limit.given().items())

    def costs(self, choice: Choice) -> str:
        """Returns what a net costs of what is limited, in words."""
        found = {kind: self.cost(kind, choice) for kind in self.limit.given()}
        return ", ".join(f"{cost:,.4g} {kind}" if kind == "ms" else f"{cost:,.0f} {kind}"
                         for kind, cost in found.items())

    def name(self, choice: Choice) -> str:
        """Returns a choice in one line: "conv1=4 hidden=16"."""
        return " ".join(f"{name}={choice[name]}" for name in self.choices)
