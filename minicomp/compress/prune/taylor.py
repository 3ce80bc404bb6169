"""First-order Taylor importance (Molchanov, Mallya, Tyree, Frosio, Kautz 2019, arXiv 1906.10771).

Removing a weight changes the loss, to first order, by g w; its square is the importance,

    I_m = (g_m w_m)^2                                                                       (eq. 8)

with g averaged over examples of the training data of a *trained* net.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...tensor import Array
from ..examples import calibration
from ..scoring import SampledPruning, loss_gradients
from ..technique import weights


def taylor_score(w: Array, g: Array) -> Array:
    """Returns (g w)^2;  w, g : any one shape.        Source: Molchanov et al. 2019, eq. (8)"""
    return (g * w) ** 2


@dataclass(frozen=True)
class Taylor(SampledPruning):
    """Drops the weights whose removal changes the loss least to first order."""

    word: ClassVar[str] = "taylor"
    title: ClassVar[str] = "First-order Taylor importance"
    source: ClassVar[str] = ("Molchanov et al. 2019, Importance Estimation for Neural Network "
                             "Pruning, arXiv:1906.10771")

    def scores(self, model, data, run):
        g = loss_gradients(model, calibration(self, data, run))
        forms = model.forms()
        return {node: taylor_score(forms[name].dense().data, g[name])
                for node, name in weights(model).items()}
