"""Trained ternary quantization (Zhu, Han, Mao, Dally 2017, "Trained Ternary Quantization",
arXiv 1612.01064).

A weight is -Wn, 0 or Wp, and both scales of a layer are learnt beside the floats w behind it:

    w^t = Wp where w > Delta, 0 where |w| <= Delta, -Wn where w < -Delta                       (1)
    dL/dWp = sum_{w > Delta} dL/dw^t,      dL/dWn = sum_{w < -Delta} dL/dw^t                   (2)
    dL/dw = Wp dL/dw^t where w > Delta, 1 dL/dw^t in between, Wn dL/dw^t where w < -Delta      (3)
    Delta = t max |w|,    t = 0.05                                                             (4)

The numbers of equations are this page's. One t serves all layers. (3) lets a weight whose scale is
large move faster. (2) adds up as many gradients as a layer has weights: the rate of scales is
`scale_lr` times that of weights, which plain SGD needs and Adam does not.

Where we leave the paper: it prints dL/dWn without a sign; Wn enters w^t as -Wn, and the derivative
is minus the sum, so here. Latents are not divided by their largest: Delta is relative to it anyway.
Scales begin where they are nearest to the weights, as the means of |w| beyond +-Delta, and stay
above 0. Pruned weights stay 0 whatever their latents, and are no part of the sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid import ternary_codes
from ...nn.forms import Ternary
from ...nn.forms.binary import threefold
from ...tensor import Array, primitive, raw, rules
from ..technique import knob
from .training import Latents, Rates, Threefold, latent_of


def ttq_codes(w: Array, t: float) -> Array:
    """Returns the codes -1, 0, +1 of (1), int8 of w's shape, at Delta = t max |w|, (4)."""
    return ternary_codes(w, t * float(np.abs(w).max(initial=0.0)))


def ttq_scales(w: Array, codes: Array) -> tuple[float, float]:
    """Returns (Wp, Wn) nearest to w: the means of |w| where the code is +1 and -1; of a side that
    is empty the other's, 1 where both are."""
    above, below = np.abs(w[codes > 0]), np.abs(w[codes < 0])
    Wp, Wn = (float(a.mean(dtype=np.float64)) if a.size else 0.0 for a in (above, below))
    return Wp or Wn or 1.0, Wn or Wp or 1.0


def ttq_gradients(g: Array, codes: Array, Wp: float, Wn: float) -> tuple[Array, float, float]:
    """Returns (dL/dw, dL/dWp, dL/dWn): (2), (3), minus the sum for Wn, which enters as -Wn.

    g : dL/dw^t, of codes' shape
    """
    return g * ttq_factors(codes, Wp, Wn), g[codes > 0].sum(), -g[codes < 0].sum()


def ttq_factors(codes: Array, Wp: float, Wn: float) -> Array:
    """Returns Wp, 1 or Wn, by which (3) multiplies the gradient of a latent."""
    return 1 + (Wp - 1) * (codes > 0) + (Wn - 1) * (codes < 0)


@primitive
def ternarized(w, scale, *, q):
    """Returns Wp, 0 or -Wn by the codes q of w; gradients of (2), (3).

    scale : (1, 2), Wp and Wn
    """
    return threefold(scale, q, w.shape)


def _of_scale(g, q: Array, dtype):
    # Sums over the places of +1, and minus those of -1.
    g = raw(g)
    return np.array([[(g * (q > 0)).sum(dtype=np.float64), -(g * (q < 0)).sum(dtype=np.float64)]],
                    dtype)


rules(ternarized,
      lambda g, y, w, scale, q: g * ttq_factors(q, *raw(scale)[0]),
      lambda g, y, w, scale, q: _of_scale(g, q, raw(scale).dtype))


class Learnt(Threefold):
    """The form while it trains: codes of its latent, scales of their own."""

    t = 0.05

    def found(self, w):
        return ttq_codes(w, self.t), raw(self.scale)

    def parameters(self):
        return Ternary.parameters(self)

    def decode(self, *, training=False, rng=None):
        if self.latent is None:
            return super().decode()
        return ternarized(self.latent, self.scale, q=ttq_codes(self.visible(), self.t))


@dataclass(frozen=True)
class TTQ(Latents):
    """Trains weights -Wn, 0, Wp whose scales are learnt."""

    word: ClassVar[str] = "ttq"
    title: ClassVar[str] = "Trained ternary quantization"
    source: ClassVar[str] = (
        "Zhu, Han, Mao & Dally 2017, Trained Ternary Quantization, arXiv:1612.01064"
    )

    t: float = knob(0.05, "threshold, of a layer's largest |w|", lo=0.0, hi=1.0, below=True,
                    per_layer=True)

    scale_lr: float = knob(0.001, "learning rate of the scales, of that of the weights", lo=1e-9)

    def placed(self, node, form):
        w = latent_of(form)
        made = Learnt(w, equal=False)
        made.t = self.at("t", node)
        visible = w if form.mask is None else np.where(form.mask, w, w.dtype.type(0))
        made.scale.data[...] = ttq_scales(visible, ttq_codes(visible, made.t))
        return made

    def hook(self, model, data, run):
        return Rates(self.word, {f"{name}.scale": self.scale_lr
                                 for name in self.chosen(model).values()})
