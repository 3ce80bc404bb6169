"""The quantizer of least squared error (Lloyd 1957, published 1982, "Least Squares Quantization in
PCM"; Max 1960, "Quantizing for Minimum Distortion").

k levels y_i and k - 1 edges t_i are to make E (x - Q(x))^2 least. Where they do,

    t_i = (y_i + y_{i+1}) / 2        a value goes to its nearest level                          (1)
    y_i = E[x | t_{i-1} < x <= t_i]  a level is the mean of its cell                            (2)

and putting one into the other in turn never makes the error larger ("lloyd", from levels at equal
steps of the distribution, until nothing moves). A fixed point need not be the best there is; for n
given weights, which are finitely many, the best is found too ("optimal": `compress/line.py`).

This is k-means on a line, as in Deep Compression (`kmeans`), seen as a quantizer; its number of
levels is a power of two, one of them a pinned 0 where a layer is pruned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...nn.forms import Dense
from ...tensor import Array
from ..line import Line, assign
from ..technique import knob
from .tables import FormQuantizer, coded, kept_values

METHODS = ("optimal", "lloyd")


def lloyd_max(x: Array, k: int, *, method: str = "optimal", iterations: int = 1000
              ) -> tuple[Array, float]:
    """Returns (levels, squared error summed): at most k levels, float64 ascending.

    x : float, any shape, at least one value        k : at least 1; all distinct values where those
        are at most k
    method : "optimal", the least error there is; "lloyd", eqs. (1) and (2) in turn, at most so many
        iterations
    Raises ValueError for k < 1, no values, NaN, infinity, another method.
    Source: Lloyd 1982, method I; Max 1960
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    x = np.asarray(x)
    if not x.size or not np.isfinite(x).all():
        raise ValueError("x must hold at least one number and no NaN or infinity")
    line = Line(x)
    if line.distinct() <= k:
        return np.unique(line.values).astype(np.float64), 0.0
    if method == "optimal":
        starts = line.optimum(k)
    else:
        first = line.values[((np.arange(k) + 0.5) / k * line.n).astype(np.int64)]
        starts = line.starts(line.lloyd(first.astype(np.float64), iterations))
    live = np.unique(starts)  # a cell without members has no mean
    return line.means(live), line.error(live)


@dataclass(frozen=True)
class LloydMax(FormQuantizer):
    """Gives every layer the levels of least squared error."""

    word: ClassVar[str] = "lloyd-max"
    title: ClassVar[str] = "Lloyd-Max quantizer"
    source: ClassVar[str] = ("Lloyd 1982, Least Squares Quantization in PCM; Max 1960, Quantizing "
                             "for Minimum Distortion")

    bits: int = knob(4, "bits of a weight: 2^bits levels, one of them the pinned 0 of a pruned "
                        "layer", lo=1, hi=12, per_layer=True)
    method: str = knob("optimal", "the least error there is, or where Lloyd's iterations end",
                       choices=METHODS, per_layer=True)

    def form(self, node, form, run):
        x, k = kept_values(form), 2 ** self.at("bits", node) - (form.mask is not None)
        if not x.size:
            return Dense(form.dense().data, form.mask)
        levels = lloyd_max(x, k, method=self.at("method", node))[0].astype(np.float32)
        levels = np.unique(levels)
        return coded(form, levels, assign(x, levels))
