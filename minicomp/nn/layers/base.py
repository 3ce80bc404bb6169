"""What a layer is: a pure function of inputs and weights, which says of itself what others need.

N batch, C in, O out, H W size, K kernel. Meaning is NCHW and OIHW with PyTorch's names and shapes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from numbers import Real
from typing import ClassVar

import numpy as np

from ...errors import printable
from ...tensor import Array, Tensor, grad, no_grad
from ..forms import Dense, Form, Part, check_floats
from ..forms.parts import check_held

MAX_SIZE = 2**31 - 1  # of one axis, kernel, stride or padding
MAX_ENTRIES = 2**40  # of an array: sums of a net's thousands of them stay below 2**63


class Layer:
    """The contract of a layer. `forms` holds weight and bias, `buffers` the running statistics.

    What a layer says of itself, so that nobody keeps lists of kinds. Whatever is left out is taken
    for the worst, so that a further layer is right or refused by name, never silently wrong:

    coupling : what becomes of channels, and so what their removal must respect. None, the default,
        does not say: no channel of such a net is removed.
            "mix"       weight (O, C / groups, ...) times the input, summed over its channels and
                        places, plus bias, if any: it reads channels and computes others
            "keep"      channel c of the output is a function of channel c of the input alone
            "compete"   channel c of the output belongs to channel c of the input, but all have a
                        say in it
            "add"       the sum of the inputs, whose channels are tied by it
            "concat"    the inputs one behind the other
            "flatten"   each channel as a block of features
            "mirror"    the channels, and behind them as many that are functions of them again
            "permute"   the channels in the order `permutation(channels)`
    pointwise : each output entry is a function of that input entry alone, in every channel its own,
        when not training
    activation : a pointwise layer that bends; rectifies : one that gives exactly 0 below 0
    normalises : after normalising multiplies each channel by its entry of weight
    drops : in training it sets entries to 0 with probability `p`, its only argument
    passes : every entry of the output is one of the input, or 0, outside of training: what lies on
        a grid that has a 0 stays on it
    homogeneous : of what goes in, s > 0 times as much in a channel, in all inputs alike, gives s
        times as much in that channel of the output, outside of training
    straight_through : its gradient is not that of the staircase that it is
    tracks : its buffers move in training, so that a batch cannot be split over threads
    groups, padding : of a convolution or a pooling
    sizes : the constructor's arguments that count channels: "in" those read, "out" those made
    per_channel : its arguments that hold a number for each channel
    step : the kind of step that computes it in a program (deploy/steps.py), which takes from
        `config` the arguments that it declares; "" where nothing is computed outside of training;
        None: no program computes it
    """

    kind: ClassVar[str]
    coupling: ClassVar[str | None] = None
    arity: ClassVar[int | None] = 1  # number of inputs; None: one or more
    pointwise: ClassVar[bool] = False
    activation: ClassVar[bool] = False
    rectifies: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    drops: ClassVar[bool] = False
    passes: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    straight_through: ClassVar[bool] = False
    tracks: ClassVar[bool] = False
    sizes: ClassVar[dict[str, str]] = {}
    per_channel: ClassVar[tuple[str, ...]] = ()
    step: ClassVar[str | None] = None
    buffer_parts: ClassVar[dict[str, Part]] = {}  # what the numbers of `buffers` may be
    groups: int = 1
    padding: tuple[int, int] = (0, 0)

    def __init__(self, **config):
        self._config = config
        self.forms: dict[str, Form] = {}
        self.buffers: dict[str, Array] = {}

    @property
    def grids(self) -> dict[str, Tensor]:
        """Numbers that training moves and that are no weights, by part: not counted, not decayed,
        not pruned. They come back in `weights` when the layer is called."""
        return {}

    @property
    def weight(self) -> Form:
        """The form of the weight; a form or an array of its shape may be put in its place."""
        return self._part("weight")

    @weight.setter
    def weight(self, value: Form | Array) -> None:
        self._put("weight", value)

    @property
    def bias(self) -> Form:
        """The form of the bias; a form or an array of its shape may be put in its place."""
        return self._part("bias")

    @bias.setter
    def bias(self, value: Form | Array) -> None:
        self._put("bias", value)

    def _part(self, part: str) -> Form:
        if part not in self.forms:
            raise AttributeError(f"{self.kind} has no {part}")
        return self.forms[part]

    def _put(self, part: str, value: Form | Array) -> None:
        form = value if isinstance(value, Form) else Dense(np.asarray(value, np.float32))
        if form.shape != self._part(part).shape:
            raise ValueError(f"{part} must have shape {self._part(part).shape}, got {form.shape}")
        self.forms[part] = form

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={printable(value, 40)}" for name, value in self.config().items())
        held = "".join(f", {part} {form!r}" for part, form in self.forms.items())
        return f"{self.kind}({given}){held}"

    def __call__(
        self,
        *xs: Tensor,
        weights: dict[str, Tensor] | None = None,
        training: bool = False,
        rng: np.random.Generator | None = None,
        n_threads: int = 1,
    ) -> Tensor:
        """Returns the output.

        weights : {"weight": Tensor, "bias": Tensor}, decoded; None decodes the layer's own forms
        training : batch statistics and dropout are on        rng : draws the latter
        n_threads : of the kernels of a layer that takes statistics of the batch
        """
        if weights is None:
            weights = self.decode(training=training, rng=rng)
        more = {"n_threads": n_threads} if self.tracks else {}
        return self.forward(*xs, weights=weights, training=training, rng=rng, **more)

    def forward(self, *xs, weights, training, rng) -> Tensor:
        """Returns the output as a function of the inputs and of `weights`."""
        raise NotImplementedError

    def fused(self, *after: Layer) -> Callable[..., Tensor] | None:
        """Returns what computes this layer and then those of `after` in one pass; or None.

        It is called as the layer is, `weights` those of each of the layers. Each of `after` takes
        the output of the one before alone; rows are tried from the shortest on, until two in a row
        have no such pass. Bits are the same, but for the order in which double sums of a batch's
        statistics run.
        """
        return None

    def decode(self, *, training: bool = False, rng=None) -> dict[str, Tensor]:
        """Returns every form decoded, by part: "weight", "bias"; and the `grids`."""
        return {part: form.dense(training=training, rng=rng)
                for part, form in self.forms.items()} | self.grids

    def check_buffers(self, buffers: dict[str, Array]) -> None:
        """Raises ValueError, which names the part, where `buffers` could not be this layer's.

        buffers : arrays by part, of the shapes of its own
        """
        for part, a in buffers.items():
            check_held(part, self.buffers[part], a)
            check_floats(part, self.buffer_parts[part], a)

    def project(self) -> None:
        """Puts `grids` back where they may be after an optimizer step, in place."""

    def out_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the output's shape without N; ValueError where the inputs do not fit."""
        return shapes[0]

    def macs(self, *shapes: tuple[int, ...]) -> int:
        """Returns multiply-accumulates per example, bias not counted."""
        return 0

    def lowered(self) -> dict[str, Form]:
        """Returns the weights of its step by part, frozen."""
        return {part: form.freeze() for part, form in self.forms.items()}

    def switched_off(self, channels: int) -> Array:
        """Returns which channels come out as one number whatever goes in, (C,) bool."""
        return np.zeros(channels, bool)

    def rescaled(self, s: Array) -> Layer | None:
        """Returns the layer g of g(x / s) = f(x) / s in every channel, or None where there is none.

        s : (C,), above 0, of the input's channels        Of a layer without weights
        """
        return self if self.homogeneous else None

    def shifted(self, c: Array) -> Layer | None:
        """Returns the layer g of g(x - c) = f(x) - c where x >= c in every channel, another than f,
        or None where there is none.

        c : (C,), at least 0, of the input's channels        Of a layer that clips
        """
        return None

    def constant(self, v: Array, shape: tuple[int, ...]) -> Array:
        """Returns the value of each output channel of a layer that "keep"s them, (C,) float64.

        v : (C,), what each input channel is for every input and place; NaN: not one number, as in
            the result        shape : of the input, without N
        A pointwise layer is computed on one pixel; of another nothing is known, unless it says.
        """
        if not self.pointwise:
            return np.full(len(v), np.nan)
        x = np.where(np.isnan(v), 0.0, v).astype(np.float32)
        with no_grad():
            y = self(Tensor(x.reshape(1, -1, *[1] * (len(shape) - 1)))).data.ravel()
        known = ~np.isnan(v) | self.switched_off(len(v))
        return np.where(known, y.astype(np.float64), np.nan)

    def slopes(self, x: Array) -> tuple[Array, Array]:
        """Returns f'(x) and f''(x) of a pointwise layer, of x's shape."""
        a = Tensor(x, requires_grad=True)
        f1 = grad(self(a).sum(), a, create_graph=True)
        f2 = grad(f1.sum(), a).data if f1.requires_grad else np.zeros_like(x)
        return f1.data, f2

    def pull_squared(self, h: Array, *xs: Array) -> list[Array]:
        """Returns sum_o (dy_o / dx_i)^2 h_o for each input, in its shape.

        That is how second derivatives go back through a layer where no two paths meet.
        h : of the output's shape        xs : the inputs
        Raises NotImplementedError for a layer that does not say.
        """
        if not self.pointwise:
            raise NotImplementedError
        return [self.slopes(xs[0])[0] ** 2 * h]

    def rows(self, x: Array, *, ones: bool = False) -> Array:
        """Returns what outputs of a mixing layer see of its input, (G, N L, C), an output a row.

        x : (N, ...)        ones : an entry 1 ends each row: what a bias sees
        G groups, L places, C entries in the order of a row of the weight, w.reshape(O, C).
        Raises NotImplementedError for a layer that does not say.
        """
        raise NotImplementedError

    def config(self) -> dict:
        """Returns the constructor's arguments, JSON-able."""
        return dict(self._config)

    @classmethod
    def entries(cls, **config) -> int:
        """Returns how many numbers a layer of this configuration holds, before it is made.

        Sizes may be anything that a file can say: ValueError where the constructor would raise it.
        """
        return 0

    def copy(self) -> Layer:
        """Returns an equal layer that shares no writable array."""
        other = copy.copy(self)
        other.forms = {name: form.copy() for name, form in self.forms.items()}
        other.buffers = {name: a.copy() for name, a in self.buffers.items()}
        return other


class Moving(Layer):
    """A layer whose numbers beside its weights may move in training: `grids` in the memory of its
    buffers, so that a step of an optimizer moves the buffer."""

    _moving: tuple[Tensor, ...] = ()

    def moving(self, *parts: str) -> dict[str, Tensor]:
        """Returns a Tensor of each of the buffers, the same ones whenever it is called."""
        mine = [self.buffers[part] for part in parts]
        known = [t.data for t in self._moving]
        if len(known) != len(mine) or any(a is not b for a, b in zip(known, mine)):  # a copy's
            self._moving = tuple(Tensor(a, requires_grad=True) for a in mine)
        return dict(zip(parts, self._moving))


class Plain(Layer):
    """A layer that takes no arguments."""

    def __init__(self):
        super().__init__()


def pulled(layer: Layer, h: Array, *xs: Array, weights=None) -> list[Array]:
    """Returns sum_o dy_o / dx_i h_o for each input, in its shape; arguments as of `Layer`."""
    inputs = [Tensor(x, requires_grad=True) for x in xs]
    return [t.data for t in grad(layer(*inputs, weights=weights), inputs, cotangent=h)]


def flag(name: str, value) -> bool:
    """Returns value; ValueError where it is not True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {printable(repr(value), 40)}")
    return value


def number(name: str, value, within: Callable[[float], bool], words: str) -> float:
    """Returns a number as float, whatever type of real number it has.

    within : whether one is allowed (NaN must not be)        words : for the message, "in [0, 1)"
    Raises ValueError for one that is not, or what is no number.
    """
    real = isinstance(value, Real) and not isinstance(value, (bool, np.bool_))
    if not real or not within(value):
        raise ValueError(f"{name} must be {words}, got {printable(repr(value), 40)}")
    return float(value)


def positive(**sizes) -> tuple[int, ...]:
    """Returns the sizes as ints; ValueError where one is not an integer in [1, 2**31)."""
    for name, n in sizes.items():
        if not _whole(n, 1):
            raise ValueError(f"{name} must be an integer {_range(n, 'of at least 1')}, "
                             f"got {printable(repr(n), 40)}")
    return tuple(int(n) for n in sizes.values())


def _whole(n, least: int) -> bool:
    return (isinstance(n, (int, np.integer)) and not isinstance(n, bool)
            and least <= n <= MAX_SIZE)


def _range(value, else_: str) -> str:
    # In words, which end of the range a size, or one of a pair, is beyond.
    sizes = value if isinstance(value, (tuple, list)) else (value,)
    above = any(isinstance(n, (int, np.integer)) and n > MAX_SIZE for n in sizes)
    return "below 2**31" if above else else_


def pair(name: str, value, least: int) -> tuple[int, int]:
    """Returns an integer or a pair as a pair; ValueError where one is not in [least, 2**31)."""
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2 or not all(_whole(n, least) for n in both):
        raise ValueError(f"{name} must be an integer or a pair, each "
                         f"{_range(value, f'at least {least}')}, got {printable(repr(value), 40)}")
    return int(both[0]), int(both[1])


def bounded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns a shape of ints; ValueError where it has more than 2**40 entries."""
    if math.prod(shape) > MAX_ENTRIES:
        raise ValueError(f"an array must take at most {4 * MAX_ENTRIES} bytes, "
                         f"got shape {printable(shape, 80)}")
    return shape


def padded(shape: tuple[int, ...], padding: tuple[int, int]) -> int:
    """Returns the entries of maps (C, H, W) with their padding on both sides."""
    channels, *size = shape
    return channels * math.prod(n + 2 * p for n, p in zip(size, padding))
