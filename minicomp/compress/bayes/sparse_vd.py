"""Sparse variational dropout (Molchanov, Ashukha, Vetrov 2017, "Variational Dropout Sparsifies Deep
Neural Networks", arXiv 1701.05369).

Each weight is a Gaussian, w ~ N(theta, sigma^2), and training raises the evidence's lower bound

    L = sum_n E log p(y_n | x_n, w) - KL(q || p)                                             (eq. 3)

against the log-uniform prior p(|w|) ~ 1 / |w|. The divergence depends on alpha = sigma^2 / theta^2
alone and has no closed form; within 0.01 it is (`divergence.kl_log_uniform`)

    -KL = k1 sigm(k2 + k3 log alpha) - log(1 + 1 / alpha) / 2 - k1                          (eq. 14)

It falls with alpha: the prior rewards a weight for being unknown. Where the data do not object
alpha goes to infinity and theta to 0; weights of log alpha > 3, which are more than 95 % noise, are
dropped.

Two things make that train. Noise is additive, w = theta + sigma eps with log sigma^2 a parameter of
its own (eq. 11), instead of theta (1 + sqrt(alpha) eps), whose slope in theta is as noisy as alpha
is large. And noise is drawn at outputs, not at weights (`noisy.py`).

In the mean over N examples the divergence has the weight 1 / N; over the first part of the training
(`warmup`) it rises from 0, so that weights learn before they are judged. From scratch or from a
trained net. Where we leave the paper: no further noise on what is read (its binary dropout).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...train import Hook
from ..finetune import Trained
from ..technique import check_movable, knob, weights
from .divergence import certain, slopes
from .noisy import check_mixing, noisy, noisy_nodes, quiet, risen


@dataclass(frozen=True)
class SparseVD(Trained):
    """Trains weights with noise of their own and drops those that are mostly noise."""

    word: ClassVar[str] = "sparse-vd"
    plain: ClassVar[bool] = True
    apart: ClassVar[dict[str, str]] = dict.fromkeys(
        ("slimming", "group-lasso"), "channels would go whose noise stays")
    title: ClassVar[str] = "Sparse variational dropout"
    source: ClassVar[str] = (
        "Molchanov, Ashukha & Vetrov 2017, Variational Dropout Sparsifies Deep Neural Networks, "
        "arXiv:1701.05369"
    )

    threshold: float = knob(3.0, "log alpha above which a weight is dropped", lo=-8.0, hi=8.0,
                            per_layer=True)
    log_var: float = knob(-8.0, "log sigma^2 at the start", lo=-20.0, hi=6.0)
    warmup: float = knob(0.3, "part of the training over which the divergence rises from 0, 0..1",
                         lo=0.0, hi=1.0)
    weight: float = knob(1.0, "of the divergence; 1 is the bound itself", lo=0.0)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_mixing(self.word, model)
        check_movable(self.word, model)

    def prepared(self, model, data, run):
        return noisy(model, self.log_var)

    def hooks(self, model, data, run):
        return [Divergence(self, 1 if data is None else len(data.train.y))]

    def finish(self, model, run):
        for node in noisy_nodes(model):
            form, layer = node.layer.forms["weight"], node.layer
            keep = certain(form.dense().data, layer.buffers["log_var"],
                           self.at("threshold", node.name), form.mask)
            layer.forms["weight"] = form.masked(keep)
        return quiet(model)


class Divergence(Hook):
    """Adds the slopes of KL / N to those of weights and of their log variances."""

    name = SparseVD.word

    def __init__(self, technique: SparseVD, n: int):
        super().__init__()
        self.technique, self.n = technique, n

    def settled(self, steps):
        return steps  # alpha grows to the end

    def after_backward(self, state):
        part = self.technique.weight * risen(self.technique.warmup, state) / self.n
        for node in noisy_nodes(state.model):
            layer, grads = node.layer, state.weight_grads
            theta = state.weights[f"{node.name}.weight"].data
            for name, slope in zip(("weight", "log_var"), slopes(theta, layer.buffers["log_var"])):
                full = f"{node.name}.{name}"
                grads[full] = grads[full] + theta.dtype.type(part) * slope * layer.kept()
