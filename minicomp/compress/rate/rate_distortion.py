"""Rate-distortion scalar quantization (Chou, Lookabaugh & Gray 1989, "Entropy-Constrained Vector
Quantization"; Choi, El-Khamy & Lee 2017, "Towards the Limit of Network Quantization", arXiv
1612.01543, for nets; Wiedemann et al. 2019, "DeepCABAC", arXiv 1905.08318, with a coder's rates).

The nearest code is the one of least error, not the one of least file: codes that occur often are
cheap. On a grid of step s a weight takes the code that costs least in error and bits together,

    k_i = argmin_k  h_i (w_i - s k)^2 + lambda R(k),        R(k) = -log2 p(k)                  (1)

p(k) is how often codes occur, which (1) changes, and so does the best step,

    s = sum h w k / sum h k^2                                                                  (2)

Prices, codes and step are fitted in turn; none of them raises J = sum h (w - s k)^2 + lambda sum R,
so that it settles. Code 0 is the most frequent of a trained layer: lambda prunes, and the more the
larger it is. h says whom an error hurts: 1, or an estimate of the diagonal of the Hessian.

Where we leave the papers: lambda is counted in squared steps of the first grid, so that one number
does for all layers; p is of one layer, without a code's neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .quantizer import RateQuantizer


@dataclass(frozen=True)
class RateDistortion(RateQuantizer):
    """Puts weights on a grid so that error and bits together are least."""

    word: ClassVar[str] = "rate-distortion"
    title: ClassVar[str] = "Rate-distortion (entropy-constrained) scalar quantization"
    source: ClassVar[str] = (
        "Chou, Lookabaugh & Gray 1989, Entropy-Constrained Vector Quantization; Choi, El-Khamy & "
        "Lee 2017, Towards the Limit of Network Quantization, arXiv:1612.01543"
    )

    def coded(self, node, form, h):
        return self.scalar(node, form, h)
