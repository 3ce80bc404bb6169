"""Training with 16-bit fixed-point numbers on MNIST (Gupta et al. 2015, arXiv 1502.02551): rounded
to nearest it stalls where the grid is coarse, rounded stochastically it does as well as float.

Two nets: 784-1000-1000-10 with ReLU, plain SGD; and two convolutions of 5 x 5, 8 and 16 maps, each
with ReLU and pooled by maximum, 128 hidden units, SGD with momentum 0.9 and weight decay 5e-4, rate
0.1 times 0.95 an epoch. Batches of 100; all numbers have WL = 16 bits, FL of them fractional.
Weights and gradients are <16 - FL, FL>; outputs of layers are <6, 10> in every row, so that logits
fit. All 60,000 images train, as theirs did. Errors are of the .mcz file, counted by a fresh
process.

The paper's errors are quoted from memory and agree with its abstract. It says less than a rerun
needs, so that these are ours, chosen with 5,000 images held out: weights of the first net are drawn
from N(0, 0.01^2), where 0.01 may be the variance as well, but then rounding to nearest at FL 10
does learn; the first net's rate is 0.1, falling as the other's does. Ours is the small variant, of
fewer epochs: `gupta2015-long` trains longer. A row of the first net is *met* where it does, beside
our own float row, what the paper says it does beside its float row: `MATCHES` or `FAILS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..compress.finetune import FineTune
from ..compress.quant.fixed_point import FixedPointTraining
from ..compress.technique import Run, silent
from ..models.papers import GuptaCNN, GuptaMLP
from ..optim import exponential
from ..timing import Clock
from .slimming2017 import whole
from .table import Paper, file_errors, mean, percent

MATCHES = 0.3  # points above float that are as good as float
FAILS = 2.0  # times float's error
SETTING = {"batch_size": 100, "lr": 0.1, "momentum": 0.0}
CNN = {"momentum": 0.9, "weight_decay": 5e-4}
EPOCHS, LONG = 10, 40


@dataclass(frozen=True)
class Decaying(FineTune):
    """Training whose rate falls by a factor of 0.95 an epoch."""

    def make_schedule(self):
        return exponential(final=0.95**self.epochs)


@dataclass(frozen=True)
class Row:
    """A row of the table: net, rounding (None: float), fractional bits, what the paper has."""

    net: str
    rounding: str | None
    fl: int
    paper: str
    met: Callable[[float, float], bool]  # of its error and float's, in percent

    @property
    def title(self) -> str:
        """Returns what the table calls it."""
        net = {"mlp": "784-1000-1000-10", "cnn": "CNN"}[self.net]
        return f"{net}, " + (f"{self.rounding}, FL {self.fl}" if self.rounding else "float")


def _matches(error: float, of_float: float) -> bool:
    return error <= of_float + MATCHES


def _fails(error: float, of_float: float) -> bool:
    return error >= FAILS * of_float


def _at_most(limit: float, error: float, of_float: float) -> bool:
    return round(error, 2) <= limit


ROWS = (
    Row("mlp", None, 0, "1.4 %", partial(_at_most, 1.4)),
    Row("mlp", "nearest", 14, "as float", _matches),
    Row("mlp", "nearest", 10, "does not learn", _fails),
    Row("mlp", "nearest", 8, "does not learn", _fails),
    Row("mlp", "stochastic", 14, "as float", _matches),
    Row("mlp", "stochastic", 10, "as float", _matches),
    Row("mlp", "stochastic", 8, "nearly as float", _matches),
    Row("cnn", None, 0, "0.77 %", partial(_at_most, 0.77)),
    Row("cnn", "nearest", 14, "diverges", _fails),
    Row("cnn", "nearest", 12, "diverges", _fails),
    Row("cnn", "stochastic", 14, "0.83 %", partial(_at_most, 0.83)),
    Row("cnn", "stochastic", 12, "0.90 %", partial(_at_most, 0.90)),
)


def technique(row: Row, epochs: int) -> FineTune:
    """Returns the training of a row."""
    how = SETTING | (CNN if row.net == "cnn" else {})
    if row.rounding is None:
        return Decaying(epochs=epochs, **how)
    bits = {"il": 16 - row.fl, "fl": row.fl, "grad_il": 16 - row.fl, "grad_fl": row.fl}
    fixed = FixedPointTraining(rounding=row.rounding, act_il=6, act_fl=10, **bits)
    return Decaying(epochs=epochs, methods=(fixed,), **how)


def run(data, *, seeds, log, n_threads, out, epochs: int = EPOCHS) -> list[dict]:
    """Returns the ROWS of the table."""
    clock, given, made, log = Clock(), whole(data), [], log or silent
    error: dict[str, float] = {}
    for row in ROWS:
        files, ends = [], []
        for seed in seeds:
            init, rng = np.random.default_rng(seed).spawn(2)
            net = {"mlp": GuptaMLP, "cnn": GuptaCNN}[row.net](rng=init)
            said: dict[str, dict] = {}  # the last row of each event

            def tell(r, said=said):
                said[r["event"]] = r
                log(r)
            model = technique(row, epochs).apply(net, given, Run(rng, tell, n_threads=n_threads))
            ends += [said["fixed-point"]] if row.rounding else []
            name = f"gupta-{row.net}-{row.rounding or 'float'}-{row.fl}-{seed}.mcz"
            files.append(file_errors(model, out / name, data.name))
        made.append(_row(row, files, ends, len(data.test.y), error) | {"seconds": clock.lap()})
    return made


def _row(row: Row, files, ends: list[dict], images: int, error: dict[str, float]) -> dict:
    errors = [e for _, e in files]
    rate = 100 * mean(errors) / images
    error.setdefault(row.net, rate)  # its float row comes first
    ours = percent(errors, images)
    if ends:
        lost, arrived = (100 * mean([e[k] for e in ends]) for k in ("lost", "arrived"))
        ours += f"; last epoch: {lost:.1f} % of updates lost, {arrived:.0f} % of the way arrived"
    return {"row": row.title, "paper": row.paper, "ours": ours,
            "met": bool(row.met(rate, error[row.net])), "errors": errors,
            "file_bytes": [b for b, _ in files]}


_NOTE = ("outputs of layers are <6, 10> in all rows; the first net's fixed-point rows are beside "
         "our own float row")
PAPER = Paper("gupta2015", "Training in 16-bit fixed point, MNIST (Gupta et al. 2015), "
              f"{EPOCHS} epochs", "mnist", "10 minutes a seed", run, _NOTE)
FULL = Paper("gupta2015-long", "Training in 16-bit fixed point, MNIST (Gupta et al. 2015), "
             f"{LONG} epochs", "mnist", "40 minutes a seed", partial(run, epochs=LONG), _NOTE)
