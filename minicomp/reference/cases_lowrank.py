"""The reference functions of low rank, and their cases: matrices, filters, ranks, budgets."""

from __future__ import annotations

import numpy as np

from ..compress.lowrank.cp import cp_full
from ..compress.lowrank.factors import eckart_young, low_rank, whitened_low_rank
from ..compress.lowrank.flattened import flattened_conv, flattened_filters
from ..compress.lowrank.randomized import randomized_low_rank
from ..compress.lowrank.ranks import break_even_rank, energy_rank, ranks_under_bytes
from ..compress.lowrank.tucker import tucker2, tucker2_full
from ..compress.lowrank.vbmf import evbmf_rank
from ..compress.lowrank.ways import spatial_matrix
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry
from .judges import Message, difference

Array = np.ndarray


def cp_reconstruct(A: Array, B: Array, V: Array, H: Array) -> Array:
    """Returns the filters sum_r A[o, r] B[c, r] V[i, r] H[j, r], (O, C, h, w).

    A : (O, R)        B : (C, R)        V : (h, R)        H : (w, R)
    """
    return cp_full([A, B, V, H])


def spatial_low_rank(w: Array, rank: int) -> Array:
    """Returns the nearest filters that are `rank` filters h x 1 and then 1 x w, (O, C, h, w).

    w : (O, C, h, w)        rank : in 1..min(O w, C h)
    """
    O, C, h, width = w.shape
    near = low_rank(spatial_matrix(w)[0], rank)
    return near.reshape(O, width, C, h).transpose(0, 2, 3, 1)


def weight_low_rank(w: Array, rank: int) -> Array:
    """Returns the nearest filters that are sums of `rank` filters, (O, C, h, w).

    w : (O, C, h, w)        rank : in 1..min(O, C h w)
    """
    return low_rank(w.reshape(len(w), -1), rank).reshape(w.shape)


def tucker2_reconstruct(w: Array, ranks: tuple[int, int]) -> Array:
    """Returns the filters of a Tucker-2 decomposition by HOSVD, no round of HOOI, (O, C, h, w).

    w : (O, C, h, w)        ranks : of the outputs and of the inputs
    """
    return tucker2_full(*tucker2(w, tuple(ranks), iterations=0))


def judge_dropped(case: Case, result) -> Message | None:
    """Returns what is wrong with a sum of dropped squares: it may be 0 but for rounding."""
    atol = 1e-9 * float(np.square(case["w"]).sum())
    return difference(eckart_young(**case), result, atol=atol)


# ---------------------------------------------------------------------------------------- the cases

SHAPES = ((1, 1), (1, 4), (3, 2), (5, 8), (12, 7))
FILTERS = ((1, 1, 1, 1), (3, 2, 3, 3), (4, 5, 3, 2), (6, 3, 1, 5))

MATRICES = Cases(
    tiny=[{"w": np.array([[3.0, 0.0], [0.0, -2.0]]), "rank": 1},
          {"w": np.array([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0]]), "rank": 1}],
    property=lambda draw: [{"w": draw.normal(*shape), "rank": rank} for shape in SHAPES
                           for rank in sorted({1, (min(shape) + 1) // 2, min(shape)})])

SIZES = Cases(
    tiny=[{"m": 300, "k": 784}, {"m": 2, "k": 2}],  # below 216.9; 1 is no less than 2 x 2 / 4
    property=lambda draw: [{"m": draw.integer(1, 900), "k": draw.integer(1, 900)}
                           for _ in range(20)] + [{"m": n, "k": n} for n in (1, 2, 3, 8, 512)])


def _energies(draw: Draw) -> list[Case]:
    return [{"s": np.sort(draw.uniform(n))[::-1] + 0.01, "energy": e}
            for n in (1, 2, 7, 30) for e in (0.1, 0.5, 0.9, 0.99, 1.0)]


SPECTRA = Cases(
    tiny=[{"s": np.array([4.0, 2.0, 1.0]), "energy": 0.9},  # of squares: 16, 4, 1
          {"s": np.array([2.0, 2.0, 2.0, 2.0]), "energy": 0.5}],
    property=_energies)


def _budgets(draw: Draw) -> list[Case]:
    cases = []
    for shapes in ([(6, 9)], [(8, 12), (5, 8)], [(20, 30), (12, 20), (4, 12)]):
        spectra = [np.sort(draw.uniform(min(shape)))[::-1] * scale
                   for shape, scale in zip(shapes, (3.0, 1.0, 2.0))]
        least, most = sum(m + k for m, k in shapes), sum(m * k for m, k in shapes)
        cases += [{"spectra": spectra, "shapes": shapes,
                   "budget": 4 * int(least + part * (most - least))}
                  for part in (0.0, 0.2, 0.5, 0.9, 1.0)]
    return cases


BUDGETS = Cases(
    tiny=[{"spectra": [np.array([4.0, 3.0, 1.0])], "shapes": [(3, 8)], "budget": 88},
          {"spectra": [np.array([4.0, 3.0, 1.0])], "shapes": [(3, 8)], "budget": 96},
          {"spectra": [np.array([4.0, 2.0, 1.0, 1.0]), np.array([5.0, 3.0, 1.0, 0.5])],
           "shapes": [(4, 4), (4, 12)], "budget": 4 * 41}],
    property=_budgets)


def _moments(draw: Draw) -> list[Case]:
    cases = []
    for m, k in SHAPES:
        X = draw.normal(k, 2 * k + 3) * (0.2 + 3 * draw.uniform(k, 1))
        moment = X @ X.T / X.shape[1] + 1e-3 * np.eye(k)
        cases += [{"w": draw.normal(m, k), "moment": moment, "rank": rank}
                  for rank in sorted({1, min(m, k)})]
    return cases


MOMENTS = Cases(
    tiny=[{"w": np.array([[1.0, 0.0], [0.0, 2.0]]), "moment": np.diag([100.0, 1.0]), "rank": 1}],
    property=_moments)

FILTERS_AND_RANKS = Cases(
    tiny=[{"w": np.arange(8.0).reshape(2, 1, 2, 2), "rank": 1}],
    property=lambda draw: [{"w": draw.normal(*shape), "rank": rank} for shape in FILTERS
                           for rank in sorted({1, min(shape[0], shape[1] * shape[2])})])


def _axes(draw: Draw) -> Case:
    O, C, h, w = draw.choice(FILTERS)
    return {"alpha": draw.normal(O, C), "beta": draw.normal(O, h), "gamma": draw.normal(O, w)}


VECTORS = Cases(
    tiny=[{"alpha": np.array([[2.0]]), "beta": np.array([[1.0, 0.0]]),
           "gamma": np.array([[3.0, -1.0]])}],
    property=lambda draw: [_axes(draw) for _ in range(8)])

MAPS = Cases(
    tiny=[{"x": np.arange(9.0).reshape(1, 3, 3), "alpha": np.array([[1.0]]),
           "beta": np.array([[1.0, -1.0]]), "gamma": np.array([[1.0, 2.0]])}],
    property=lambda draw: [case | {"x": draw.normal(case["alpha"].shape[1], 6, 7)}
                           for case in (_axes(draw) for _ in range(8))])


def _noisy(draw: Draw) -> list[Case]:
    cases: list[Case] = [{"v": draw.normal(8, 20)}]
    for (m, k), rank in (((10, 30), 2), ((40, 25), 3), ((30, 60), 5)):
        signal = draw.normal(m, rank) @ draw.normal(rank, k)
        cases += [{"v": signal + noise * draw.normal(m, k)} for noise in (0.1, 0.5, 1.0)]
    return cases


FACTORS = Cases(
    tiny=[{"A": np.array([[1.0, 2.0]]), "B": np.array([[3.0, 1.0]]), "V": np.array([[1.0, 0.5]]),
           "H": np.array([[1.0, 1.0]])}],
    property=lambda draw: [dict(zip("ABVH", (draw.normal(n, R) for n in shape)))
                           for shape in FILTERS for R in (1, 3)])

CORES = Cases(
    tiny=[{"core": np.array([[[[2.0]]]]), "A": np.array([[1.0], [3.0]]), "B": np.array([[5.0]])}],
    property=lambda draw: [{"core": draw.normal(P, Q, *shape[2:]), "A": draw.normal(shape[0], P),
                            "B": draw.normal(shape[1], Q)}
                           for shape in FILTERS for P, Q in ((1, 1), (3, 2))])

DECOMPOSED = Cases(
    property=lambda draw: [{"w": draw.normal(*shape), "ranks": ranks} for shape in FILTERS[1:]
                           for ranks in ((1, 1), (2, 2), shape[:2])])

DIRECTIONS = Cases(
    property=lambda draw: [{"w": draw.normal(m, k), "omega": draw.normal(l, m), "power": power}
                           for m, k, l, power in ((6, 9, 2, 0), (6, 9, 2, 1), (12, 7, 2, 2),
                                                  (12, 7, 2, 4), (5, 5, 5, 0))])

# -------------------------------------------------------------------------------------- the entries

_EY = "Eckart & Young 1936; Denton et al. 2014, arXiv:1404.0736"
_JIN = "Jin et al. 2015, arXiv:1412.5474, "

LOWRANK: dict[str, Entry] = {
    "low_rank": Entry(low_rank, MATRICES, CLOSE, _EY, rtol=1e-9),
    "eckart_young": Entry(eckart_young, MATRICES,
                          "|got - expected| <= 1e-9 |w|^2", _EY, judge=judge_dropped),
    "break_even_rank": Entry(break_even_rank, SIZES, "the largest rank below m k / (m + k)",
                             "Denton et al. 2014, arXiv:1404.0736"),
    "energy_rank": Entry(energy_rank, SPECTRA, "of squares; the least rank that reaches it",
                         "minicomp/compress/lowrank/ranks.py"),
    "ranks_under_bytes": Entry(
        ranks_under_bytes, BUDGETS, "the same ranks: most energy per byte first, of what fits",
        "minicomp/compress/lowrank/ranks.py"),
    "whitened_low_rank": Entry(whitened_low_rank, MOMENTS, CLOSE,
                               "Wang et al. 2024, arXiv:2403.07378, section 3.1", rtol=1e-9),
    "weight_low_rank": Entry(weight_low_rank, FILTERS_AND_RANKS, CLOSE,
                             "Denton et al. 2014, arXiv:1404.0736", rtol=1e-9),
    "spatial_low_rank": Entry(spatial_low_rank, FILTERS_AND_RANKS, CLOSE,
                              "Jaderberg et al. 2014, arXiv:1405.3866, scheme 2", rtol=1e-9),
    "evbmf_rank": Entry(evbmf_rank, Cases(property=_noisy), "the same rank",
                        "Nakajima et al. 2013, theorems 2 and 5"),
    "tucker2_full": Entry(tucker2_full, CORES, CLOSE, "Kim et al. 2016, arXiv:1511.06530, eq. (3)",
                          rtol=1e-9),
    "tucker2_reconstruct": Entry(tucker2_reconstruct, DECOMPOSED, CLOSE,
                                 "Kim et al. 2016, arXiv:1511.06530, section 3.1", rtol=1e-9),
    "cp_reconstruct": Entry(cp_reconstruct, FACTORS, CLOSE,
                            "Lebedev et al. 2015, arXiv:1412.6553, eq. (2)", rtol=1e-9),
    "flattened_filters": Entry(flattened_filters, VECTORS, CLOSE, _JIN + "eq. (2)", rtol=1e-9),
    "flattened_conv": Entry(flattened_conv, MAPS, CLOSE, _JIN + "eq. (3)", rtol=1e-9),
    "randomized_low_rank": Entry(
        randomized_low_rank, DIRECTIONS, "|got - expected| <= 1e-7 max|expected|",
        "Musco & Musco 2015, arXiv:1504.05477, algorithm 2", rtol=1e-7),
}
