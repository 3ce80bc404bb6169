"""BinaryConnect (Courbariaux, Bengio, David 2015, "BinaryConnect: Training Deep Neural Networks
with binary weights during propagations", arXiv 1511.00363).

Forward and backward passes see weights of +-H, the update moves the floats w behind them, which
small steps need:

    w_b = +1 where w >= 0, else -1                                         deterministic (eq. 1)
    w_b = +1 with probability sigma(w), else -1                               stochastic (eq. 2)
    sigma(x) = clip((x + 1) / 2, 0, 1)                                                   (eq. 3)
    w <- clip(w - eta dC/dw_b, -1, 1)                                              (algorithm 1)

H = 1 in the paper. The authors' code also has +-H and clips at +-H, with sigma(w / H) and

    H = sqrt(1.5 / (fan_in + fan_out)),

half of Glorot's largest initial weight; nets without batch norm need it, as activations else grow
by the root of fan_in at every layer: it is the default here. Batch norm makes both the same net.

Learning rates of a weight are divided by that same number (section 2.5 of the paper): once for Adam
and AdaMax, squared for SGD: `lr_scale` = 1 and 2. That is meant for H = 1; with H small the
gradient is as much larger already.

A file holds signs. The stochastic training can be used in three ways (section 2.6): by its real
weights, the mean of what is drawn; by their signs, which a deterministic net has anyway; as the
mean output of several drawn nets. `ways` measures all three, with the bytes that each takes, and a
stochastic training tells them to the log at its end. `ends` = "real" leaves the real weights.

The weight is drawn once a step, for all of its examples, whatever the number of threads. Without
training, epochs=0, size=one is the baseline sign(W) of Gong et al. 2014 (arXiv 1412.6115).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...codec.model import encode
from ...grid import binarize
from ...nn.forms import Binary
from ...nn.graph import Model
from ...tensor import Array
from ...train import Score, evaluate
from ..technique import knob
from .signs import Connecting, OnSigns, connected, draw

DRAWS = 10  # nets whose outputs are averaged


@dataclass(frozen=True)
class Way:
    """One way to use a net that was trained stochastically: what it is called, how it scores, and
    the bytes of the file or files that it takes."""

    name: str
    score: Score
    bytes: int

    def __str__(self) -> str:
        return f"{self.name} {100 * self.score.error:.2f} % ({self.bytes:,} bytes)"


def ways(model: Model, H: Mapping[str, float], split, *, rng: np.random.Generator,
         draws: int = DRAWS, n_threads: int = 1) -> list[Way]:
    """Returns the scores on a split of the real weights, of their signs, and of the mean output of
    `draws` nets drawn from them, with the bytes that each takes.

    model : with real weights, as `ends` = "real" leaves them        H : by form name
    Source: Courbariaux et al. 2015, section 2.6
    """
    forms = {name: model.forms()[name] for name in H}

    def net(signs) -> Model:
        other = model.copy()
        other.set_forms({name: Binary.of(signs(form.dense().data, H[name]), H[name], mask=form.mask)
                         for name, form in forms.items()})
        return other

    drawn = [net(lambda w, h: draw(w, h, rng=rng)) for _ in range(draws)]
    weights = [other.decode() for other in drawn]

    def mean_output(x: Array) -> Array:
        return sum(o(x, weights=w).data for o, w in zip(drawn, weights)) / np.float32(draws)

    signs = net(lambda w, h: binarize(w))
    found = [("real weights", model, [model]), ("signs", signs, [signs]),
             (f"mean of {draws} drawn nets", mean_output, drawn)]
    return [Way(name, evaluate(predict, split, n_threads=n_threads),
                sum(len(encode(net.frozen())) for net in nets)) for name, predict, nets in found]


@dataclass(frozen=True)
class BinaryConnect(OnSigns):
    """Trains weights +-H, signs of the floats behind them, or drawn from them."""

    word: ClassVar[str] = "binary-connect"
    title: ClassVar[str] = "BinaryConnect"
    source: ClassVar[str] = (
        "Courbariaux, Bengio & David 2015, BinaryConnect: Training Deep Neural Networks with "
        "binary weights during propagations, arXiv:1511.00363"
    )
    ends: str = knob("signs", "what is left: signs, or the real weights behind them",
                     choices=("signs", "real"))

    def placed(self, node, form):
        made = self.signs_of(form)
        made.ends = self.ends
        return made

    def hook(self, model, data, run):
        return Telling(self, model, data, run)


class Telling(Connecting):
    """Tells the three ways to use the net after the last step."""

    def __init__(self, technique: BinaryConnect, model: Model, data, run):
        super().__init__(technique, model)
        self.tells, self.data, self.run = technique.stochastic, data, run

    def after_epoch(self, state):
        if not (self.tells and state.step == state.steps):
            return
        model, forms = state.model.copy(), connected(state.model)
        model.set_forms({name: form.real() for name, form in forms.items()})
        found = ways(model, {name: form.H for name, form in forms.items()}, self.data.val,
                     rng=state.rng, n_threads=self.run.n_threads)
        self.run.log({"event": "say", "text": f"{self.name}: validation errors of "
                                              + ", ".join(map(str, found))})
