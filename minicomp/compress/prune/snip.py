"""SNIP: connection sensitivity (Lee, Ajanthan, Torr 2019,
"SNIP: Single-shot Network Pruning", arXiv 1810.02340).

A mask c multiplies every weight; how strongly the loss reacts to it at c = 1 says which connections
matter,

    g_j = dL(c w) / dc_j = (dL / dw_j) w_j,       s_j = |g_j| / sum_k |g_k|            (eqs. 5, 6)

The paper prunes once, *before* training, on one batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...tensor import Array
from ..examples import calibration
from ..scoring import SampledPruning, loss_gradients
from ..technique import knob, weights


def snip_score(w: Array, g: Array) -> Array:
    """Returns |g w|, not yet divided by the sum over all layers.

    w, g : of one shape        Source: Lee et al. 2019, eq. (5)
    """
    return np.abs(g * w)


@dataclass(frozen=True)
class SNIP(SampledPruning):
    """Drops the connections to which the loss is least sensitive; meant for an untrained net."""

    word: ClassVar[str] = "snip"
    title: ClassVar[str] = "Single-shot network pruning by connection sensitivity"
    source: ClassVar[str] = ("Lee, Ajanthan & Torr 2019, SNIP: Single-shot Network Pruning, "
                             "arXiv:1810.02340")

    samples: int = knob(100, "training examples in the one batch", lo=1)

    def scores(self, model, data, run):
        g = loss_gradients(model, calibration(self, data, run))
        forms = model.forms()
        raw = {node: snip_score(forms[name].dense().data, g[name])
               for node, name in weights(model).items()}
        total = sum(float(s.sum()) for s in raw.values()) or 1.0
        return {node: s / total for node, s in raw.items()}
