"""SmoothQuant (Xiao, Lin, Seznec, Wu, Demouth, Han 2022, arXiv 2211.10438): outliers move to the
weights.

An activation that has one grid for all its channels loses the small ones where a few are large;
weights bear that better. A channel j of the activation is divided by s_j where it is computed, and
the weights that read it are multiplied:

    Y = (X diag(s)^-1) (diag(s) W),    s_j = max |X_j|^alpha / max |W_j|^(1 - alpha)     (eqs. 3, 4)

alpha = 1/2 shares the difficulty evenly; 0 leaves it all in the activations, 1 puts it all in the
weights. What the net gives stays the same up to rounding.

Where we leave the paper: it divides in the layer norm in front; here in whatever computes the
channels, a batch norm, convolution or linear layer, through activations, pooling and flattening
(`rescaling`; ReLU6 becomes a clip at 6 / s). Where several layers read a channel, the largest
counts over all of them; weights are looked at as they are before anything is divided. The nets here
have no outliers of the kind that large language models have, unless they are constructed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...tensor import Array
from ..examples import calibration
from ..technique import Technique, knob, weights
from .migration import all_readers, halved, input_peaks, joined, migrated, weight_peaks
from .rescaling import check_floats, sites

LEAST = 1e-5  # a divisor; nothing is divided by less


def smooth_scale(x_max: Array, w_max: Array, alpha: float = 0.5) -> Array:
    """Returns s, of x_max's shape, float64: 1 for a channel that is 0 or is not read.

    x_max : (C,) largest |X_j| of each channel        w_max : (C,) largest weight that reads it
    alpha : 0..1        Source: Xiao et al. 2022, eq. (4)
    """
    x_max, w_max = np.asarray(x_max, np.float64), np.asarray(w_max, np.float64)
    there = (x_max > 0) & (w_max > 0)
    x, w = np.where(there, x_max, 1), np.where(there, w_max, 1)
    return np.where(there, np.maximum(x**alpha / w**(1 - alpha), LEAST), 1.0)


@dataclass(frozen=True)
class SmoothQuant(Technique):
    """Divides channels of activations, and multiplies the weights that read them."""

    word: ClassVar[str] = "smoothquant"
    title: ClassVar[str] = "SmoothQuant"
    source: ClassVar[str] = ("Xiao, Lin, Seznec, Wu, Demouth & Han 2022, SmoothQuant: Accurate and "
                             "Efficient Post-Training Quantization for Large Language Models, "
                             "arXiv:2211.10438")

    alpha: float = knob(0.5, "how much of the difficulty moves to the weights", lo=0, hi=1)
    samples: int = knob(500, "training examples drawn; all where there are fewer", lo=1)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_floats(self.word, model)

    def reads(self):
        return ("train",)

    def change(self, model, data, run):
        found, x = sites(model), calibration(self, data, run).x
        inputs = input_peaks(model, x, all_readers(found))
        peaks = {name: weight_peaks(model.node(name).layer) for name in inputs}
        divisors: dict[str, Array] = {}
        for site in found:
            s = smooth_scale(site.largest(inputs, "readers"), site.largest(peaks, "readers"),
                             self.alpha)
            divisors = joined(divisors, site.divisors(s))
        return migrated(self.word, model, divisors, run)

    def sketch(self, model, *, rng):
        self.check(model)
        return halved(self.word, model)
