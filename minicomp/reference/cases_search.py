"""The reference functions of architecture search, and their cases."""

from __future__ import annotations

import numpy as np

from ..search.darts import likeliest, mixture, mixture_gradient
from ..search.evolution import REMOVE, parent_of, taken_out
from ..search.width import sliced
from .draw import Draw
from .entry import CLOSE, LEAST, Case, Cases, Entry

SHAPES = ((1, 2), (3, 2, 2), (5, 4))  # operations, and the shape of their outputs
KERNELS = (((4, 3), (2, 3)), ((5,), (2,)), ((4, 3, 5, 5), (2, 1, 3, 3)),
           ((2, 2, 3, 3), (2, 2, 1, 1)), ((3, 2, 7, 5), (1, 2, 3, 5)))


def _populations(draw: Draw) -> list[Case]:
    # Errors in eighths, so that some are equal.
    return [{"errors": (draw.integers(0, 8, n) / 8).tolist(),
             "drawn": draw.integers(0, n, s).tolist()}
            for n, s in ((1, 1), (2, 1), (5, 3), (8, 4), (8, 20))]


def _deaths(draw: Draw) -> list[Case]:
    return [{"errors": case["errors"], "remove": remove}
            for case in _populations(draw) for remove in REMOVE]


def _mixed(draw: Draw) -> list[Case]:
    return [{"outputs": draw.normal(*shape), "alpha": 2 * draw.normal(shape[0]) + shift}
            for shape in SHAPES for shift in (0.0, 30.0)]


def _pulled(draw: Draw) -> list[Case]:
    return [{"g": draw.normal(*case["outputs"].shape[1:]), **case} for case in _mixed(draw)]


def _places(draw: Draw) -> list[Case]:
    return [{"alphas": [draw.normal(o) + 5.0 * i for i, o in enumerate(sizes)],
             "codes": np.stack([draw.integers(0, o, n) for o in sizes], axis=1)}
            for sizes, n in (((2,), 2), ((3, 4), 6), ((5, 2, 3), 12))]


def _weights(draw: Draw) -> list[Case]:
    return [{"w": draw.normal(*whole), "shape": shape} for whole, shape in KERNELS]


_EVOLUTION = "Real, Aggarwal, Huang & Le 2019, arXiv:1802.01548, algorithm 1"
_DARTS = "Liu, Simonyan & Yang 2019, arXiv:1806.09055, "

SEARCH: dict[str, Entry] = {
    "parent_of": Entry(
        parent_of, Cases(tiny=[{"errors": [0.1, 0.3, 0.2], "drawn": [2, 1]}],
                         property=_populations),
        "of the sample alone; " + LEAST, _EVOLUTION),
    "taken_out": Entry(
        taken_out, Cases(tiny=[{"errors": [0.1, 0.3, 0.2], "remove": how} for how in REMOVE],
                         property=_deaths),
        "the oldest stands first; " + LEAST, _EVOLUTION + " and section 6"),
    "mixture": Entry(
        mixture, Cases(tiny=[{"outputs": np.array([[1.0], [5.0]]),
                              "alpha": np.array([0.0, np.log(3.0)])}], property=_mixed),
        CLOSE, _DARTS + "eq. (2)", rtol=1e-9),
    "mixture_gradient": Entry(
        mixture_gradient, Cases(all=_pulled), "of sum 0; " + CLOSE, _DARTS + "eq. (2), derived",
        rtol=1e-9),
    "likeliest": Entry(
        likeliest, Cases(tiny=[{  # 0.75 x 0.05 against 0.25 x 0.25
            "alphas": [np.log([0.75, 0.25]), np.log([0.05, 0.25, 0.7])],
            "codes": np.array([[0, 0], [1, 1]])}], property=_places),
        "product of softmax(alpha); " + LEAST, _DARTS + "section 2.2, under a limit"),
    "sliced": Entry(
        sliced, Cases(tiny=[{"w": np.arange(9.0).reshape(1, 1, 3, 3), "shape": (1, 1, 1, 1)}],
                      property=_weights),
        "first filters and channels, middle of the kernel",
        "Cai, Gan, Wang, Zhang & Han 2020, arXiv:1908.09791, section 3.3"),
}
