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

from ..technique import knob
from .divergence import certain
from .training import NoisyTraining


@dataclass(frozen=True)
class SparseVD(NoisyTraining):
    """Trains weights with noise of their own and drops those that are mostly noise."""

    word: ClassVar[str] = "sparse-vd"
    title: ClassVar[str] = "Sparse variational dropout"
    source: ClassVar[str] = (
        "Molchanov, Ashukha & Vetrov 2017, Variational Dropout Sparsifies Deep Neural Networks, "
        "arXiv:1701.05369"
    )

    threshold: float = knob(3.0, "log alpha above which a weight is dropped", lo=-8.0, hi=8.0,
                            per_layer=True)

    def known(self, node, layer):
        form = layer.forms["weight"]
        return form.masked(certain(form.dense().data, layer.buffers["log_var"],
                                   self.at("threshold", node), form.mask))
