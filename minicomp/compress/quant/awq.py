"""AWQ (Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan, Han 2023, arXiv 2306.00978): the weights
that read large activations matter most.

Rounding errors of a weight reach the output times the activation that it reads. A channel that is
multiplied by s before it is rounded, and whose activation is divided by s, has its error divided by
s wherever that leaves the scale of its row alone:

    s* = argmin |Q(W diag(s)) diag(s)^-1 X - W X|^2                                       (eq. 4)
    s = s_X^alpha,     s_X = mean |X_j|,     alpha from a grid on 0..1                     (eq. 5)

alpha = 0 is rounding as it was: on the calibration examples the error that a choice minimises, of
the layers which read the channels together, does not rise by it. Each site is chosen as if it were
the only one; where the rows that it divides share one scale (per tensor), the layer that they
belong to may round worse.

Where we leave the paper: scales are divided by sqrt(max s min s), as its code does, so that they
lie around 1; what computes a channel divides it (`rescaling`), whatever it is. The output's error
is that of the layers which read the channel, exactly, by H = X'X; X is that of the float net.
Clipping is the knob `clip`. Weights are rounded to nearest in the end; activations stay floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.graph import Model
from ...nn.layers import Layer
from ...tensor import Array, no_grad
from ..curvature.hessian import float64
from ..curvature.layerwise import layer_moments
from ..examples import calibration
from ..technique import knob
from .migration import all_readers, halved, input_means, joined, migrated
from .rescaling import Site, check_floats, columns, of_channels, sites
from .schemes import Scheme, WeightQuantizer


def awq_scale(x_mean: Array, alpha: float) -> Array:
    """Returns s, of x_mean's shape, float64, its largest and least a product of 1; 1 for a channel
    that is always 0.

    x_mean : (C,) mean |X_j| of each channel        alpha : 0..1
    Source: Lin et al. 2023, eq. (5)
    """
    x_mean = np.asarray(x_mean, np.float64)
    there = x_mean > 0
    if not there.any():
        return np.ones(x_mean.shape)
    s = np.where(there, x_mean, 1.0) ** alpha
    middle = np.sqrt(s[there].max() * s[there].min())
    return np.where(there, s / middle, 1.0)


def output_error(layer: Layer, H: Array, scheme: Scheme, s: Array) -> float:
    """Returns |Q(W diag(s)) diag(s)^-1 X - W X|^2, summed over outputs: what eq. (4) minimises.

    H : (G, C, C), or one more for the bias, X'X of each group        s : (channels,)
    """
    form = layer.forms["weight"]
    with no_grad():
        w = form.dense().data
    factor = columns(layer, s).reshape(*w.shape[:2], *[1] * (w.ndim - 2)).astype(np.float32)
    with no_grad():
        rounded = scheme.form(form.moved(w * factor)).dense().data / factor
    D = (rounded - w).astype(np.float64).reshape(len(H), len(w) // len(H), -1)
    C = D.shape[2]
    return float(np.einsum("goc,gcd,god->", D, H[:, :C, :C], D, optimize=True))


@dataclass(frozen=True)
class AWQ(WeightQuantizer):
    """Multiplies the weights of important channels before they are rounded."""

    word: ClassVar[str] = "awq"
    title: ClassVar[str] = "AWQ: activation-aware weight quantization"
    source: ClassVar[str] = ("Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan & Han 2023, AWQ: "
                             "Activation-aware Weight Quantization for LLM Compression and "
                             "Acceleration, arXiv:2306.00978")

    tries: int = knob(20, "values of alpha that are tried, from 0 on", lo=1, hi=1000)
    samples: int = knob(500, "training examples drawn; all where there are fewer", lo=1)

    def check(self, model):
        super().check(model)
        check_floats(self.word, model)

    def reads(self):
        return ("train",)

    def change(self, model, data, run):
        model = self.migrate(model, calibration(self, data, run).x, run)
        self.quantize_weights(model)
        return model

    def sketch(self, model, *, rng):
        self.check(model)
        model = halved(self.word, model)
        self.quantize_weights(model)
        return model

    def migrate(self, model: Model, x: Array, run) -> Model:
        """Returns the float model whose channels are divided, and multiplied where they are read.

        x : (N, ...) examples
        """
        found = sites(model)
        readers = all_readers(found)
        means, work = input_means(model, x, readers), float64(model)
        moments = {node.name: H for node, H, _ in layer_moments(work, work, x)
                   if node.name in readers}
        divisors: dict[str, Array] = {}
        for site in found:
            alpha, s = self.best(model, site, means, moments)
            divisors = joined(divisors, site.divisors(s))
            run.log({"event": "progress", "name": self.word, "done": found.index(site) + 1,
                     "total": len(found), "alpha": alpha})
        return migrated(self.word, model, divisors, run)

    def best(self, model: Model, site: Site, means: Mapping[str, Array],
             moments: Mapping[str, Array]) -> tuple[float, Array]:
        """Returns alpha and s of the least error of the layers that read a site's channels."""
        x_mean = site.largest(means, "readers")
        errors = []
        tried = [k / self.tries for k in range(self.tries)]
        for alpha in tried:
            s = awq_scale(x_mean, alpha)
            errors.append(sum(
                output_error(model.node(name).layer, moments[name], self.scheme(name),
                             of_channels(s, at)) for name, at in site.readers.items()))
        alpha = tried[int(np.argmin(errors))]
        return alpha, awq_scale(x_mean, alpha)
