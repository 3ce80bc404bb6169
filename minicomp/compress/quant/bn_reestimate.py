"""Statistics of batch norm estimated anew (Li, Wu, Su, Wang 2020, "EagleEye: Fast sub-net
evaluation for efficient neural network pruning", arXiv 2007.02491: adaptive batch normalization).

Running means and variances are those of the net that was trained. Once weights are pruned or lie on
a grid their outputs are others, and batch norm centres and scales them by numbers that are no
longer theirs. With every weight as it is, mu and sigma^2 are taken again over a few training
images, of all values that a channel has, m in a batch and n in those before it:

    mu      <- mu + (mu_b - mu) m / (n + m)
    sigma^2 <- that of both together, by the squares about the common mean

Where we leave the paper: it lets running averages of momentum follow batches in training mode, in
which earlier layers are normalised by the batch at hand. Here layers are taken from the first to
the last, each seeing the net as it will be used, with what was estimated before it, dropout off: no
momentum is left to choose, and neither the size of the batches nor their order matters beyond
rounding. No weight, scale or shift changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model, Node
from ...nn.norm import batch_statistics
from ...nn.taps import Walk, fitting
from ...tensor import Array
from ..examples import calibration
from ..technique import Technique, knob

BATCH = 128  # examples at a time


def cumulative(batches: Iterable[Array]) -> tuple[Array, Array, int]:
    """Returns mean and variance, divided by n, of each channel, (C,) float64, and n.

    batches : (N, C) or (N, C, H, W) each, at least one value; n values a channel in all
    Source: Chan, Golub & LeVeque 1983, for the squares of two parts together
    """
    n, mean, squares = 0, 0.0, 0.0
    for x in batches:
        mu, var = (a.astype(np.float64) for a in batch_statistics(x))
        m = x.size // x.shape[1]
        apart = mu - mean
        squares = squares + m * var + apart**2 * (n * m / (n + m))
        mean = mean + apart * (m / (n + m))
        n += m
    return mean, squares / n, n


def reestimated(model: Model, x: Array, word: str = "bn-reestimate") -> Model:
    """Returns the model, a copy, whose batch norms have the statistics of examples x (P, ...).

    Raises UserError, beginning with `word`, where a channel has no two values.
    """
    made = model.copy()
    walk = Walk(x, batch_size=min(BATCH, fitting(made, BATCH)))
    for node in norms(made):
        (read,) = node.inputs
        taps = walk.run(made, [read], to=node.name)
        mean, var, n = cumulative(seen[read] for seen in taps)
        if n < 2:
            raise UserError(f"{word}: {node.name} must see more than one value a channel; give it "
                            "more examples")
        node.layer.buffers["running_mean"][...] = mean
        node.layer.buffers["running_var"][...] = var * (n / (n - 1))
    return made


def norms(model: Model) -> list[Node]:
    """Returns the nodes that are batch norms, in order."""
    return [node for node in model.nodes
            if node.layer.normalises and "running_mean" in node.layer.buffers]


@dataclass(frozen=True)
class BNReestimate(Technique):
    """Estimates the running statistics of batch norms anew, of the net as it is."""

    word: ClassVar[str] = "bn-reestimate"
    title: ClassVar[str] = "Batch norm re-estimation"
    source: ClassVar[str] = ("Li, Wu, Su & Wang 2020, EagleEye: Fast Sub-net Evaluation for "
                             "Efficient Neural Network Pruning, arXiv:2007.02491")

    samples: int = knob(1000, "training examples drawn; all where there are fewer", lo=1)

    def reads(self):
        return ("train",)

    def check(self, model):
        super().check(model)
        if not norms(model):
            raise UserError(f"{self.word}: the model has no batch norm; where they are folded "
                            "there is nothing left to estimate")

    def change(self, model, data, run):
        return reestimated(model, calibration(self, data, run).x, self.word)

    def sketch(self, model, *, rng):
        self.check(model)
        return model.copy()
