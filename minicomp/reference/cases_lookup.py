"""The reference functions of circulant matrices and of dictionaries, and their cases."""

from __future__ import annotations

import numpy as np

from ..compress.share.circulant import circulant_gradient, circulant_product
from ..compress.share.lcnn import lookup_conv, pursuit
from ..nn.forms.circulant import blocks
from ..nn.forms.dictionary import dictionary_weights
from ..tensor import Array, raw
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry

SIZES = ((4, 4, 4), (3, 5, 5), (6, 4, 6), (5, 7, 3), (2, 6, 1))  # outputs, inputs, block


def dictionary_decode(atoms: Array, counts: Array, index: Array, coefficient: Array,
                      shape: tuple[int, ...]) -> Array:
    """Returns W of `shape`, (O, C, KH, KW) or (O, C), of its look-ups.

    atoms : (k, C)        counts : (O KH KW,) look-ups of each place, in C order of (o, r, c)
    index, coefficient : (L,), of the places one behind the other
    """
    return raw(dictionary_weights(atoms, counts, index, coefficient, shape))


def _products(draw: Draw) -> list[Case]:
    return [{"x": draw.normal(3, i), "columns": draw.normal(int(np.prod(blocks((o, i), b))) * b),
             "signs": 1 - 2 * draw.integers(0, 2, i), "outputs": o, "block": b}
            for o, i, b in SIZES]


def _correlations(draw: Draw) -> list[Case]:
    return [{"g": draw.normal(3, o), "x": draw.normal(3, i),
             "signs": 1 - 2 * draw.integers(0, 2, i), "block": b} for o, i, b in SIZES]


def _looked_up(draw: Draw, *shape: int) -> Case:
    counts = draw.integers(0, 4, shape[0] * int(np.prod(shape[2:])))
    n = int(counts.sum())
    return {"atoms": draw.normal(5, shape[1]), "counts": counts, "index": draw.integers(0, 5, n),
            "coefficient": draw.normal(n), "shape": shape}


def _convs(draw: Draw) -> list[Case]:
    return [{"x": draw.normal(2, 3, 6, 7), **_looked_up(draw, 4, 3, 3, 2), "stride": stride,
             "padding": padding} for stride, padding in ((1, 0), (2, 1), (1, 2))]


ONE = np.ones(3, np.int64)
PRODUCTS = Cases(tiny=[{"x": np.array([[1.0, 0.0, 2.0]]), "columns": np.array([1.0, 2.0, 3.0]),
                        "signs": ONE, "outputs": 3, "block": 3}], property=_products)
CORRELATIONS = Cases(tiny=[{"g": np.array([[1.0, 0.0, 0.0]]), "x": np.array([[1.0, 2.0, 3.0]]),
                            "signs": ONE, "block": 3}], property=_correlations)
TWO = {"atoms": np.array([[1.0, 0.0, 1.0], [0.0, 3.0, 1.0]]), "counts": np.array([2, 1]),
       "index": np.array([0, 1, 1]), "coefficient": np.array([2.0, -1.0, 0.5])}
DECODED = Cases(tiny=[TWO | {"shape": (2, 3)}],
                property=lambda draw: [_looked_up(draw, *shape)
                                       for shape in ((6, 4), (3, 2, 2, 2), (2, 5, 3, 1))])
CONVS = Cases(tiny=[{"x": np.arange(12.0).reshape(1, 3, 2, 2), **TWO, "shape": (2, 3, 1, 1),
                           "stride": 1, "padding": 0}], property=_convs)
PURSUED = Cases(
    tiny=[{"X": np.array([[2.0, 1.0]]), "D": np.array([[1.0, 0.0], [0.0, 1.0]]), "s": s}
          for s in (1, 2)],
    property=lambda draw: [{"X": draw.normal(6, 5), "D": draw.normal(8, 5), "s": s}
                           for s in (1, 2, 4)])

_CIRCULANT = "Cheng et al. 2015, arXiv:1502.03436"
_LCNN = "Bagherinezhad et al. 2017, arXiv:1611.06473, section 3"
_LAST = "blocks cut off behind the last row and column; y = R D x"

LOOKUP: dict[str, Entry] = {
    "circulant_product": Entry(circulant_product, PRODUCTS, f"{CLOSE}; {_LAST}", _CIRCULANT,
                               rtol=1e-9),
    "circulant_gradient": Entry(circulant_gradient, CORRELATIONS, f"{CLOSE}; {_LAST}", _CIRCULANT,
                                rtol=1e-9),
    "dictionary_weights": Entry(dictionary_decode, DECODED, f"{CLOSE}; places in order (o, r, c)",
                                _LCNN, rtol=1e-9),
    "lookup_conv": Entry(lookup_conv, CONVS, f"{CLOSE}; cross-correlation, zeros around", _LCNN,
                         rtol=1e-9),
    "orthogonal_pursuit": Entry(pursuit, PURSUED, f"{CLOSE}; ties by lowest index",
                                "Pati, Rezaiifar & Krishnaprasad 1993", rtol=1e-9),
}
