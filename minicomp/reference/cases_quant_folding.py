"""The reference functions of folding and equalisation, and their cases."""

from __future__ import annotations

import numpy as np

from ..compress.quant.equalize import absorbed, equalisation_factors
from ..compress.quant.folding import fold_bn
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry

# ---------------------------------------------------------------------------------------- the cases


def _layers(draw: Draw) -> list[Case]:
    # A dense layer, a convolution, a depthwise one; with a bias and without; a gain of 0.
    cases = []
    for i, shape in enumerate(((1, 1), (3, 2), (4, 3, 3, 3), (5, 1, 3, 3), (2, 0))):
        gain = draw.normal(shape[0])
        gain[0] *= i % 2
        cases += [{"w": draw.normal(*shape), "b": b, "gain": gain, "bias": draw.normal(shape[0])}
                  for b in (draw.normal(shape[0]), None)]
    return cases


LAYERS = Cases(
    tiny=[{"w": np.array([[3.0]]), "b": np.array([1.0]), "gain": np.array([0.5]),
           "bias": np.array([4.5])}],
    property=_layers)


def _ranges(draw: Draw) -> list[Case]:
    cases = []
    for n in (1, 2, 7, 64):
        r1, r2 = np.exp(3 * draw.normal(2, n))
        r1[draw.uniform(n) < 0.2], r2[draw.uniform(n) < 0.2] = 0, 0  # dead on either side
        cases.append({"r1": r1, "r2": r2})
    return cases


RANGES = Cases(
    tiny=[{"r1": np.array([0.1, 4, 1]), "r2": np.array([2, 0.5, 1])},
          {"r1": np.array([0.0, 2, 0]), "r2": np.array([3.0, 0, 0])}],
    extreme=[{"r1": np.array([1e300, 1e-300]), "r2": np.array([1e-300, 1e300])}],
    property=_ranges)

GAUSSIANS = Cases(
    tiny=[{"beta": np.array([5.0, 5, 1, -2, 3]), "gamma": np.array([1, -1, 1, 0.1, 0])}],
    property=lambda draw: [{"beta": 4 * draw.normal(n), "gamma": draw.normal(n)} for n in (1, 9)])

# -------------------------------------------------------------------------------------- the entries

_DFQ = "Nagel et al. 2019, arXiv:1906.04721, "

QUANT_FOLDING: dict[str, Entry] = {
    "fold_bn": Entry(fold_bn, LAYERS, CLOSE, "Jacob et al. 2018, arXiv:1712.05877, eq. (14)",
                     rtol=1e-9, names=("w_fold", "b_fold")),
    "equalisation_factors": Entry(
        equalisation_factors, RANGES, CLOSE + "; 1 where a range is 0", _DFQ + "section 4.1, s",
        rtol=1e-9),
    "absorbed": Entry(absorbed, GAUSSIANS, CLOSE, _DFQ + "section 4.1, c", rtol=1e-9),
}
