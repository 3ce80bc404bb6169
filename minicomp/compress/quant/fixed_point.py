"""Training in fixed point (Gupta, Agrawal, Gopalakrishnan, Narayanan 2015, Deep Learning with
Limited Numerical Precision, arXiv 1502.02551).

Training is done in floats because updates are small: a weight of few bits that is rounded to
nearest after each step stays where it is as long as its updates are below half a step of its grid.
Rounded stochastically it moves by a whole step now and then, and by the right amount on average,
so that 16 bits are enough for everything: weights, outputs of layers, gradients.

    <IL, FL>     IL integer and FL fractional bits, eps = 2^-FL, range [-2^(IL-1), 2^(IL-1) - eps]
    Round(x)     nearest: floor(x) if x - floor(x) <= eps / 2, else floor(x) + eps        (sec. 3.1)
                 stochastic: floor(x) + eps with probability (x - floor(x)) / eps
    Convert(x)   Round(x), saturated to the range                                          (eq. 1)
    z = sum_i a_i b_i is accumulated in wide numbers and converted once                   (sec. 3.2)

So, per step, with w on the grid before and after, and no other weights behind them:

    y = Convert(sum of products)       of each layer, into <act_il, act_fl>
    d = Convert(dL / dy)               on its way back, into <grad_il, grad_fl>
    g = Convert(sum of products d x)   of each weight, a mean over the batch, as d
    w = Convert(w - lr v)              into <il, fl>, then the velocity v = Convert(mu v + g), as d

Where we leave the paper: sums are of float32 (24 bits and not 2 WL + log2 d); d is converted as
if the loss were a sum over the batch, so that its grid does not depend on the batch's size; the
rounding of y stands behind an activation or a batch norm, which it commutes with or becomes part
of; parameters of a batch norm, of which the paper has none, and what other optimizers than SGD
remember stay float32. Evaluation, and the net that is left, round outputs to nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...grid import fixed_point, round_fixed
from ...grid.fixed import fixed_range
from ...kernels.int8.rounding import key_of
from ...nn.forms import FixedPoint
from ...nn.graph import Model, Node
from ...nn.layers import ActQuant
from ...optim import SGD
from ...tensor import Array, no_grad, primitive, rules
from ...train import Hook
from ..finetune import Trained
from ..technique import knob, weights
from .nodes import grids, places, with_grids, without_grids

# What is drawn for, the second number of a key.
WEIGHT, OUTPUT, GRADIENT, START, SUM, VELOCITY = range(6)


def nearest_fixed(x: Array, il: int, fl: int) -> Array:
    """Returns Convert(x), rounded to nearest, float64.

    x : real numbers, any shape        il, fl : at least 1 and together 1..24
    Source: Gupta et al. 2015, section 3.1 and eq. (1)
    """
    return round_fixed(np.asarray(x, np.float64), il=il, fl=fl)


def stochastic_fixed(x: Array, u: Array, il: int, fl: int) -> Array:
    """Returns Convert(x), rounded stochastically, float64: up where u < (x - floor(x)) / eps.

    x : real numbers        u : of its shape, uniform in [0, 1)        il, fl : as `nearest_fixed`
    Source: Gupta et al. 2015, section 3.1 and eq. (1)
    """
    lo, hi = fixed_range(il, fl)
    t = np.ldexp(np.asarray(x, np.float64), fl)
    down = np.floor(t)
    return np.ldexp(np.clip(down + (np.asarray(u) < t - down), lo, hi), -fl)


def fixed_dot(a: Array, b: Array, il: int, fl: int) -> float:
    """Returns Convert(sum_i a_i b_i): exact products and sums, one rounding to nearest at the end.

    a, b : (n,), multiples of 2^-fl in the range of <il, fl>
    Products are in <2 il, 2 fl>, their sum has 2 (il + fl) + log2 n bits, at most 63.
    Raises ValueError for other numbers.
    Source: Gupta et al. 2015, section 3.2
    """
    wide = 2 * (il + fl) + max(len(a) - 1, 0).bit_length()
    p, q = (fixed_point(v, il, fl).astype(np.int64) for v in (a, b))
    if wide > 63 or not (np.array_equal(np.ldexp(p * 1.0, -fl), a)
                         and np.array_equal(np.ldexp(q * 1.0, -fl), b)):
        raise ValueError(f"a and b must lie on the grid <{il}, {fl}>, their sum in 63 bits")
    z, (lo, hi) = int(p @ q), fixed_range(il, fl)  # in steps of 2^-2fl
    code = z + (1 << fl >> 1) - 1 >> fl if fl > 0 else z << -fl  # a tie goes down
    return float(np.ldexp(min(max(code, lo), hi), -fl))


def arrived(before: Array, wanted: Array, after: Array) -> tuple[int, int, float, float]:
    """Returns what became of a step: updates lost, updates, and two sums.

    before, wanted, after : of one shape, the weights, where an update would have them, and where
        they are once rounded
    An update is a difference of `wanted` and `before`, lost where `after` is `before`. The sums are
    those of |after - before| and |wanted - before|: their ratio is the part of the movement that
    arrived, 1 in expectation where rounding is unbiased and nothing saturates.
    """
    update = wanted != before
    lost = np.count_nonzero(update & (after == before))
    asked, made = (float(np.abs(to - before).sum()) for to in (wanted, after))
    return lost, np.count_nonzero(update), made, asked


@primitive
def converted(x, *, il: int, fl: int, key: int | None, back: tuple[int, int, int | None],
              examples: int):
    """Returns Convert(x) into <il, fl>; its cotangent g becomes Convert(examples g) / examples.

    key : of the draws, None to round to nearest        back : the same of the cotangent
    examples : of the batch over which the loss is a mean
    """
    return round_fixed(x, il=il, fl=fl, rounding=_rounding(key), key=key)


def _back(g, y, x, *, back, examples, **_):
    il, fl, key = back
    scaled = round_fixed(g * float(examples), il=il, fl=fl, rounding=_rounding(key), key=key)
    return scaled * (1.0 / examples)


rules(converted, _back)


def _rounding(key: int | None) -> str:
    return "nearest" if key is None else "stochastic"


class Converting(ActQuant):
    """An ActQuant on the grid <act_il, act_fl> that trains: a step sets `keys` and `examples`.

    Draws are for the batch as a whole, so it is not split over threads.
    """

    tracks = True

    def __init__(self, act: tuple[int, int], grad: tuple[int, int]):
        super().__init__(bits=sum(act), grid="full")
        self.act, self.grad = act, grad
        self.keys: tuple[int | None, int | None] = (None, None)
        self.examples = 1
        self.set_grid(2.0 ** -act[1])

    def forward(self, x, *, weights, training, **more):
        if not training:
            return super().forward(x, weights=weights, training=training, **more)
        il, fl = self.act
        forward, backward = self.keys
        return converted(x, il=il, fl=fl, key=forward, back=(*self.grad, backward),
                         examples=self.examples)

    def plain(self) -> ActQuant:
        """Returns the ActQuant that is left of it."""
        layer = ActQuant(bits=self.bits, grid=self.grid)
        layer.set_grid(self.scale)
        return layer


@dataclass(frozen=True)
class FixedPointTraining(Trained):
    """Trains with weights, outputs and gradients in fixed point, whatever grids they had before.

    Its log has rows "fixed-point", one an epoch: the fraction of updates that were `lost` to
    rounding, and the fraction of the movement that `arrived`, see `arrived`.
    """

    word: ClassVar[str] = "fixed-point"
    title: ClassVar[str] = "Training in fixed point"
    source: ClassVar[str] = (
        "Gupta, Agrawal, Gopalakrishnan & Narayanan 2015, Deep Learning with Limited Numerical "
        "Precision, arXiv:1502.02551"
    )
    quantizes: ClassVar[bool] = True

    il: int = knob(2, "integer bits of weights and biases, the sign among them", lo=1, hi=24,
                   per_layer=True)
    fl: int = knob(14, "fractional bits of weights and biases", lo=-23, hi=23, per_layer=True)
    act_il: int = knob(6, "integer bits of the outputs of layers", lo=1, hi=16)
    act_fl: int = knob(10, "fractional bits of the outputs of layers", lo=-15, hi=15)
    grad_il: int = knob(2, "integer bits of their gradients, of one example", lo=1, hi=24)
    grad_fl: int = knob(14, "fractional bits of their gradients", lo=-23, hi=23)
    rounding: str = knob("stochastic", "nearest or stochastic",
                         choices=("nearest", "stochastic"))

    def __post_init__(self):
        super().__post_init__()
        for what, most in (("act", 16), ("grad", 24)):
            il, fl = getattr(self, f"{what}_il"), getattr(self, f"{what}_fl")
            if not 1 <= il + fl <= most:
                raise UserError(f"{self.word}: {what}_il + {what}_fl must be in [1, {most}], got "
                                f"{il} + {fl}")
        if not any(isinstance(v, dict) for v in (self.il, self.fl)):
            self.format_of("*")

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        for node in self.targets(model):
            self.format_of(node)

    def format_of(self, node: str) -> tuple[int, int]:
        """Returns (il, fl) of a layer's weight and bias; UserError where they are no format."""
        il, fl = self.at("il", node), self.at("fl", node)
        try:
            fixed_range(il, fl)
        except ValueError as e:
            raise UserError(f"{self.word}: {node}: {e}") from None
        return il, fl

    def prepared(self, model, data, run):
        model = without_grids(model)
        stands = dict.fromkeys(places(model))
        stands |= dict.fromkeys(filter(None, [_output(model)]))
        act, grad = (self.act_il, self.act_fl), (self.grad_il, self.grad_fl)
        return with_grids(model, {name: Converting(act, grad) for name in stands})

    def hooks(self, model, data, run):
        return [FixedPointHook(self, model, run)]

    def finish(self, model, run):
        swap = {n.name: (Node(n.name, n.layer.plain(), n.inputs),)
                for n in model.nodes if isinstance(n.layer, Converting)}
        return model.edit(swap)


def _output(model: Model) -> str | None:
    # The node that makes what the net gives: layers that hand on what they read are passed by.
    name = model.nodes[-1].name if model.nodes else None
    while name is not None and model.node(name).layer.passes:
        (before, *_) = model.node(name).inputs
        name = before if before in {n.name for n in model.nodes} else None
    return name


class FixedPointHook(Hook):
    """Rounds the weights before the first step and after each, and gives nodes their keys.

    Draws are of the seed, the step and the place alone, so that a resumed training draws the same.
    Slot "epoch" : what `arrived` says, (4,) float64, summed over the epoch so far.
    """

    name = FixedPointTraining.word

    def __init__(self, technique: FixedPointTraining, model: Model, run):
        super().__init__()
        self.stochastic, self.log = technique.rounding == "stochastic", run.log
        self.seed = int(run.rng.integers(2**63))
        self.slots["epoch"] = np.zeros(4)
        self.grad = technique.grad_il, technique.grad_fl
        self.formats = {
            f"{node}.{part}": technique.format_of(node)
            for node in technique.targets(model) for part in model.node(node).layer.forms
        }
        self.before: dict[str, Array] = {}
        forms = model.forms()
        for place, (name, (il, fl)) in enumerate(self.formats.items()):
            key, form = self.key(START, 0, place), forms[name]
            with no_grad():
                w = form.dense().data
            model.set_form(name, FixedPoint.of(w, il, fl, mask=form.mask, key=key,
                                               rounding=_rounding(key), trainable=True))

    def key(self, what: int, step: int, place: int) -> int | None:
        """Returns the key of a place's draws at a step, None where rounding is to nearest."""
        return key_of(self.seed, what, step, place) if self.stochastic else None

    def before_batch(self, state):
        for place, layer in enumerate(grids(state.model).values()):
            layer.keys = (self.key(OUTPUT, state.step, place),
                          self.key(GRADIENT, state.step, place))
            layer.examples = len(state.batch[1])

    def after_backward(self, state):
        forms = state.model.forms()
        for place, name in enumerate(self.formats):
            key = self.key(SUM, state.step, place)
            g = self.grad_converted(state.weight_grads[name], key)
            state.weight_grads[name] = g
        self.before = {name: forms[name].latent.data.copy() for name in self.formats}

    def after_step(self, state):
        forms = state.model.forms()
        for place, (name, (il, fl)) in enumerate(self.formats.items()):
            w, key = forms[name].latent.data, self.key(WEIGHT, state.step, place)
            rounded = round_fixed(w, il=il, fl=fl, rounding=_rounding(key), key=key)
            self.slots["epoch"] += arrived(self.before[name], w, rounded)
            w[...] = rounded
        if isinstance(state.optimizer, SGD) and state.optimizer.momentum:
            for place, v in enumerate(state.optimizer.state["v"].values()):
                v[...] = self.grad_converted(v, self.key(VELOCITY, state.step, place))

    def grad_converted(self, g: Array, key: int | None) -> Array:
        """Returns Convert(g) into the format of gradients."""
        il, fl = self.grad
        return round_fixed(g, il=il, fl=fl, rounding=_rounding(key), key=key)

    def after_epoch(self, state):
        lost, updates, made, asked = self.slots["epoch"]
        self.log({"event": "fixed-point", "epoch": state.epoch + 1,
                  "lost": float(lost / updates) if updates else 0.0,
                  "arrived": float(made / asked) if asked else 1.0})
        self.slots["epoch"][:] = 0
