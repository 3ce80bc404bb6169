"""The reference functions of rounding by a layer's output, of scale migration, of mixed bits."""

from __future__ import annotations

import numpy as np

from ..compress.allocation import allocate
from ..compress.quant.adaround import rectified_sigmoid, regularizer
from ..compress.quant.awq import awq_scale
from ..compress.quant.smoothquant import smooth_scale
from ..compress.quant.sweep import gptq
from .cases_coding import SIZES
from .cases_second_order import hessians
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry


def rows_to_round(draw: Draw) -> list[Case]:
    """Rows with the inverse Hessian of their layer, and a scale for each row."""
    cases: list[Case] = []
    for case in hessians(draw):
        n = len(case["w"])
        W = draw.normal(3, n)
        for bits in (2, 4):
            scale = np.abs(W).max(axis=1, keepdims=True).astype(np.float32) / 2 ** (bits - 1)
            cases.append({"W": W, "Hinv": case["Hinv"], "scale": scale, "bits": bits})
    return cases


V = Cases(tiny=[{"V": np.array([0.0, -2.5, 2.5])}],
          sizes=lambda draw: [{"V": 3 * draw.normal(n)} for n in SIZES])
H = Cases(tiny=[{"h": np.array([0.0, 1.0, 0.5]), "beta": 2.0}],
          sizes=lambda draw: [{"h": draw.uniform(n), "beta": beta} for n in SIZES
                              for beta in (2.0, 20.0)])
PEAKS = Cases(
    tiny=[{"x_max": np.array([16.0, 1.0]), "w_max": np.array([1.0, 4.0]), "alpha": 0.5},
          {"x_max": np.array([0.0, 2.0]), "w_max": np.array([1.0, 0.0]), "alpha": 0.5}],
    sizes=lambda draw: [{"x_max": draw.uniform(n) + 0.01, "w_max": draw.uniform(n) + 0.01,
                         "alpha": alpha} for n in SIZES for alpha in (0.0, 0.5, 0.8)])
MEANS = Cases(
    tiny=[{"x_mean": np.array([16.0, 1.0]), "alpha": 0.5},
          {"x_mean": np.array([0.0, 4.0, 1.0]), "alpha": 1.0}],
    sizes=lambda draw: [{"x_mean": draw.uniform(n) + 0.01, "alpha": alpha} for n in SIZES if n
                        for alpha in (0.0, 0.5, 1.0)])


def budgets(draw: Draw) -> list[Case]:
    """Costs and sizes of a few layers; no two choices cost the same."""
    cases: list[Case] = [{"costs": [[3.0, 1.0], [2.0, 0.5]], "sizes": [[1, 2], [2, 4]],
                          "budget": 5}]
    for layers, choices in ((1, 3), (3, 4), (5, 6)):
        sizes = np.cumsum(draw.integers(1, 9, layers * choices).reshape(layers, choices), axis=1)
        costs = draw.uniform(layers, choices)
        cases.append({"costs": costs.tolist(), "sizes": sizes.tolist(),
                      "budget": int(sizes[:, choices // 2].sum())})
    return cases


ROUNDING: dict[str, Entry] = {
    "gptq": Entry(gptq, rows_to_round, CLOSE, "Frantar et al. 2022, arXiv:2210.17323, algorithm 1",
                  rtol=1e-9, names=("q", "rows", "scale", "zero_point", "rise")),
    "rectified_sigmoid": Entry(rectified_sigmoid, V, CLOSE, "Nagel et al. 2020, eq. (23)",
                               rtol=1e-9),
    "rounding_regularizer": Entry(regularizer, H, CLOSE, "Nagel et al. 2020, eq. (24)", rtol=1e-9),
    "smooth_scale": Entry(smooth_scale, PEAKS, CLOSE, "Xiao et al. 2022, eq. (4)", rtol=1e-9),
    "awq_scale": Entry(awq_scale, MEANS, CLOSE, "Lin et al. 2023, eq. (5), normalised as its code "
                       "does", rtol=1e-9),
    "allocate": Entry(allocate, budgets, "the same choices: those of the least sum of costs",
                      "an integer programme, as in Dong et al. 2020, arXiv:1911.03852"),
}
