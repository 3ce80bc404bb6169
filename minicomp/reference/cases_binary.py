"""The reference functions of binary and ternary weights, and their cases."""

from __future__ import annotations

import numpy as np

from ..compress.binary.abc_net import abc_alphas, abc_bases
from ..compress.binary.signs import glorot
from ..compress.binary.ttq import ttq_codes, ttq_gradients, ttq_scales
from ..compress.binary.twn import twn
from ..compress.binary.xnor_net import GRADIENTS, bwn_gradient, bwn_scale
from ..grid import ap2, binarize, stochastic_signs, ternary_codes
from ..nn.layers.binary import binary_sum, input_scales
from ..tensor import Array, raw
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry


def nearest_power(x: Array) -> Array:
    """Returns AP2(x) = sign(x) 2^round(log2 |x|), in x's dtype; 0 for 0."""
    return raw(ap2(x))


EDGES = np.array([-1.5, -1.0, -0.25, -0.0, 0.0, 0.25, 1.0, 1.5])

NUMBERS = Cases(tiny=[{"x": EDGES}], property=lambda draw: [{"x": draw.normal(n)}
                                                            for n in (1, 7, 40)])

POWERS = Cases(tiny=[{"x": np.array([3.0, -5.0, 0.7, 1.0, 0.0, 1.4, 1.5, -6.0])}],
               property=lambda draw: [{"x": 10.0**i * draw.normal(30)} for i in (-3, 0, 3)])

DRAWN = Cases(tiny=[{"x": EDGES, "u": np.full(8, u)} for u in (0.0, 0.5, 0.625, 0.99)],
              property=lambda draw: [{"x": draw.normal(30), "u": draw.uniform(30)}
                                     for _ in range(5)])

THRESHOLDS = Cases(tiny=[{"w": EDGES, "delta": 0.25}, {"w": EDGES, "delta": 0.0}],
                   property=lambda draw: [{"w": draw.normal(40), "delta": d} for d in (0.1, 0.7)])

LAYERS = Cases(tiny=[{"w": np.array([1.0, -0.2, 0.5, -0.7, 0.1])}, {"w": np.array([2.0])}],
               property=lambda draw: [{"w": draw.normal(n)} for n in (6, 25, 100)])


def _trits(draw: Draw) -> list[Case]:
    return [{"w": w, "codes": ttq_codes(w, t)} for t in (0.05, 0.5) for w in [draw.normal(40)]]


TRITS = Cases(
    tiny=[{"w": np.array([1.0, -0.5, 0.1, -1.5]), "codes": np.array([1, -1, 0, -1], np.int8)},
          {"w": np.array([1.0, 3.0, 0.1]), "codes": np.array([1, 1, 0], np.int8)}],
    property=_trits)

RELATIVE = Cases(tiny=[{"w": np.array([1.0, -0.05, 0.5, -0.7, 0.04]), "t": 0.05}],
                 property=lambda draw: [{"w": draw.normal(40), "t": t} for t in (0.05, 0.3)])

PULLED = Cases(
    tiny=[{"g": np.array([1.0, 2.0, 3.0, 4.0]), "codes": np.array([1, -1, 0, -1], np.int8),
           "Wp": 0.5, "Wn": 2.0}],
    property=lambda draw: [{"g": draw.normal(40), "codes": ttq_codes(draw.normal(40), 0.3),
                            "Wp": 0.75, "Wn": 1.5} for _ in range(4)])

FILTERS = Cases(
    tiny=[{"w": np.array([[1.0, -3.0], [0.5, 0.5]])}],
    property=lambda draw: [{"w": draw.normal(np.prod(s)).reshape(s)}
                           for s in ((3, 8), (4, 2, 3, 3))])

SLOPES = Cases(
    tiny=[{"g": np.array([[1.0, 2.0]]), "w": np.array([[0.5, -1.5]]), "gradient": gradient}
          for gradient in GRADIENTS],
    property=lambda draw: [{"g": draw.normal(24).reshape(3, 8), "w": draw.normal(24).reshape(3, 8),
                            "gradient": gradient} for gradient in GRADIENTS])

SHIFTED = Cases(tiny=[{"w": np.array([-2.0, 0.5, 1.0, 1.5]), "M": M} for M in (1, 2, 3)],
                property=lambda draw: [{"w": draw.normal(30), "M": M} for M in (1, 3, 5)])


def _columns(draw: Draw) -> list[Case]:
    return [{"w": w, "B": abc_bases(w, M)} for M in (1, 2, 3, 5) for w in [draw.normal(30)]]


COLUMNS = Cases(
    tiny=[{"w": np.array([1.0, 2.0, -4.0]), "B": np.array([[1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])},
          {"w": np.array([1.0, 2.0]), "B": np.ones((2, 2))}],
    property=_columns)

WINDOWS: list[Case] = [
    {"kernel_size": kernel, "stride": stride, "padding": padding}
    for kernel, stride, padding in ((None, (1, 1), (0, 0)), ((2, 1), (1, 1), (0, 0)),
                                    ((3, 3), (2, 1), (1, 2)))]

SEEN = Cases(tiny=[{"x": np.array([[[[1.0, -2.0], [3.0, -4.0]]]]), **how} for how in WINDOWS],
             property=lambda draw: [{"x": draw.normal(180).reshape(2, 3, 5, 6), **how}
                                    for how in WINDOWS])

SUMS = Cases(tiny=[{"x": EDGES, "beta": np.array([1.0]), "shift": np.array([0.5])},
                   {"x": EDGES, "beta": np.array([0.5, -0.25]), "shift": np.array([0.25, 1.5])}],
             property=lambda draw: [{"x": draw.normal(40), "beta": draw.normal(n),
                                     "shift": draw.normal(n)} for n in (1, 3, 5)])

SHAPES = Cases(tiny=[{"shape": shape} for shape in ((300, 784), (50, 20, 5, 5), (1, 5))])

_BNN = "Courbariaux et al. 2016, arXiv:1602.02830, "
_BC = "Courbariaux et al. 2015, arXiv:1511.00363"
_TTQ, _XNOR = "Zhu et al. 2017, arXiv:1612.01064", "Rastegari et al. 2016, arXiv:1603.05279"
_ABC, _TWN = "Lin et al. 2017, arXiv:1711.11294", "Li et al. 2016, arXiv:1605.04711"

BINARY: dict[str, Entry] = {
    "binarize": Entry(binarize, NUMBERS, "equal; sign(0) = +1, of -0 too", _BNN + "section 1.1"),
    "stochastic_signs": Entry(stochastic_signs, DRAWN, "equal; +1 where u < clip((x + 1) / 2, 0, "
                              "1)", f"{_BC}, eqs. (2), (3)"),
    "ap2": Entry(nearest_power, POWERS, "equal; sign(x) 2^round(log2 |x|), 0 for 0",
                 _BNN + "section 1.4"),
    "glorot": Entry(glorot, SHAPES, f"{CLOSE}; sqrt(1.5 / (fan_in + fan_out))", f"{_BC}, its code",
                    rtol=1e-9),
    "ternary_codes": Entry(ternary_codes, THRESHOLDS, "equal; what lies at delta is 0", _TWN),
    "twn": Entry(twn, LAYERS, f"{CLOSE}; Delta = 0.7 mean |w|", _TWN, rtol=1e-9,
                 names=("codes", "alpha")),
    "ttq_codes": Entry(ttq_codes, RELATIVE, "equal; Delta = t max |w|, itself 0", _TTQ),
    "ttq_scales": Entry(ttq_scales, TRITS, f"{CLOSE}; of a side that is empty the other's", _TTQ,
                        rtol=1e-9, names=("Wp", "Wn")),
    "ttq_gradients": Entry(ttq_gradients, PULLED, f"{CLOSE}; Wn enters as -Wn", _TTQ, rtol=1e-9,
                           names=("dw", "dWp", "dWn")),
    "bwn_scale": Entry(bwn_scale, FILTERS, f"{CLOSE}; a scale for each of axis 0", _XNOR,
                       rtol=1e-9),
    "bwn_gradient": Entry(bwn_gradient, SLOPES, f"{CLOSE}; |w| = 1 is inside", _XNOR, rtol=1e-9),
    "input_scales": Entry(input_scales, SEEN, f"{CLOSE}; K of eq. (11): mean |x| over channels "
                          "and windows, padding 0; without a kernel over an example", _XNOR,
                          rtol=1e-9),
    "abc_bases": Entry(abc_bases, SHIFTED, "equal; std divides by n; sign(0) = +1", _ABC),
    "abc_alphas": Entry(abc_alphas, COLUMNS, f"{CLOSE}; of several solutions that of least norm",
                        _ABC, rtol=1e-9),
    "binary_sum": Entry(binary_sum, SUMS, f"{CLOSE}; sum of beta_n H_v(x), +1 where clip(x + v, 0, "
                        "1) >= 0.5", _ABC, rtol=1e-9),
}
