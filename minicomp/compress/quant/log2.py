"""Weights rounded to powers of two (Miyashita, Lee & Murmann 2016, "Convolutional Neural Networks
using Logarithmic Data Representation", arXiv 1603.01025).

Weights have a distribution that is dense near 0; a grid that is even in log2 |w| gives small ones
as many digits as large ones, and a multiplication by a power of two is a shift.

    LogQuant(w) = sign(w) 2^e,  e = clip(round(log2 |w|), top - n + 1, top);  0 stays 0        (1)

with b bits: a code for 0 and n = 2^(b-1) - 1 exponents of each sign. The paper's full scale range
is a parameter; here top = round(log2 max |w|) of the layer. With meet="arithmetic" a weight goes to
the nearer of two powers, at 1.5 2^k instead of 2^(k+1/2), what is below half of the least to 0, and
top = floor(log2(4/3 max |w|)): the rule of INQ (Zhou et al. 2017, arXiv 1702.03044, eqs. (2)-(4)),
which then trains, and has the lesser squared error.

The file holds a code a weight and one exponent (`nn/forms/levels.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...grid.powers import EXPONENTS, MEETS, power_codes, power_levels
from ...nn.forms import Codebook, Powers
from ...tensor import Array
from ..technique import knob
from .tables import FormQuantizer


def top_exponent(w: Array, *, meet: str = "log") -> int:
    """Returns the exponent of the largest power for weights w, any shape; 0 where all are 0.

    meet : "log", round(log2 max |w|); "arithmetic", floor(log2(4/3 max |w|))
    Raises ValueError for NaN, infinity, another meet.
    Source: Zhou et al. 2017, eq. (2) for arithmetic
    """
    if meet not in MEETS:
        raise ValueError(f"meet must be one of {', '.join(MEETS)}, got {meet!r}")
    peak = float(np.abs(w).max(initial=0))
    if not math.isfinite(peak):
        raise ValueError("w must be finite, got NaN or infinity")
    m, e = math.frexp(peak)  # peak = m 2^e, 1/2 <= m < 1
    up = m >= 0.75 if meet == "arithmetic" else m * m > 0.5
    return e - 1 + up if peak else 0


def log2_quantize(w: Array, *, bits: int, meet: str = "log") -> Array:
    """Returns w rounded to 0 and 2^(bits-1) - 1 powers of two of each sign, float32: eq. (1).

    w : float, finite        bits : 2..8        meet : "log" or "arithmetic"
    """
    top, n = _levels(w, bits, meet)
    return power_levels(top, n)[power_codes(w, top, n, meet=meet)]


def _levels(w: Array, bits: int, meet: str) -> tuple[int, int]:
    # (top, n), with all exponents in range
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be in [2, 8], got {bits}")
    n, (lo, hi) = 2 ** (bits - 1) - 1, EXPONENTS
    return min(max(top_exponent(w, meet=meet), lo + n - 1), hi), n


@dataclass(frozen=True)
class Log2(FormQuantizer):
    """Rounds every weight to a power of two, without training."""

    word: ClassVar[str] = "log2"
    title: ClassVar[str] = "Powers of two"
    source: ClassVar[str] = ("Miyashita, Lee & Murmann 2016, Convolutional Neural Networks using "
                             "Logarithmic Data Representation, arXiv:1603.01025")

    bits: int = knob(4, "bits of a weight: 2^(bits-1) - 1 exponents of each sign, and 0", lo=2,
                     hi=8, per_layer=True)
    meet: str = knob("log", "where neighbouring powers part: half-way in the exponent, or "
                            "arithmetic, half-way in value", choices=MEETS, per_layer=True)

    def form(self, node, form, run):
        w, meet = form.dense().data, self.at("meet", node)
        top, n = _levels(w, self.at("bits", node), meet)
        return Codebook(power_codes(w, top, n, meet=meet), Powers(top, n), pinned_zero=True)
