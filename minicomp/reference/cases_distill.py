"""The reference functions of distillation, and their cases."""

from __future__ import annotations

import numpy as np

from ..compress.distill.attention import attention_map
from ..compress.distill.fitnets import regressed
from ..compress.distill.fsp import fsp_matrix
from ..compress.distill.soft import (MEANS, distillation, high_temperature_gradient, mean_targets,
                                     soft_gradient, soft_targets)
from .draw import Draw
from .entry import CLOSE, Case, Cases, Entry

SIZES = ((1, 2), (3, 10), (8, 5))  # examples, classes


def _logits(draw: Draw) -> list[Case]:
    return [{"z": 3 * draw.normal(n, k), "T": T} for n, k in SIZES for T in (1.0, 4.0, 20.0)]


def _targets(draw: Draw) -> list[Case]:
    return [case | {"p": soft_targets(3 * draw.normal(*case["z"].shape), case["T"])}
            for case in _logits(draw)]


def _teachers(draw: Draw) -> list[Case]:
    return [{"z": 3 * draw.normal(m, n, k), "T": T, "mean": mean}
            for m in (1, 3) for n, k in SIZES for T in (1.0, 4.0) for mean in MEANS]


def _both(draw: Draw) -> list[Case]:
    # Logits of a student and of a teacher.
    return [case | {"v": 3 * draw.normal(*case["z"].shape)} for case in _logits(draw)]


def _labelled(draw: Draw) -> list[Case]:
    return [case | {"y": draw.integers(0, case["z"].shape[1], len(case["z"])), "alpha": alpha}
            for case in _both(draw) for alpha in (0.0, 0.3, 1.0)]


def _maps(draw: Draw) -> list[Case]:
    return [{"a": draw.normal(n, c, h, w), "p": p}
            for n, c, h, w in ((1, 1, 2, 2), (2, 5, 3, 4)) for p in (1, 2, 4)]


def _flows(draw: Draw) -> list[Case]:
    return [{"a": draw.normal(n, c, h, w), "b": draw.normal(n, c + 2, h, w)}
            for n, c, h, w in ((1, 1, 2, 2), (2, 2, 1, 3), (3, 4, 3, 2))]


def _guided(draw: Draw) -> list[Case]:
    return [{"v": draw.normal(2, *guided), "w": draw.normal(*w), "b": draw.normal(w[0])}
            for guided, w in (((4,), (3, 4)), ((2, 4, 5), (3, 2, 1, 1)), ((2, 4, 5), (3, 2, 3, 2)))]


_KD = "Hinton, Vinyals & Dean 2015, arXiv:1503.02531"

DISTILL: dict[str, Entry] = {
    "soft_targets": Entry(
        soft_targets, Cases(tiny=[{"z": np.array([[0.0, np.log(9.0)]]), "T": 2.0}],
                            property=_logits), CLOSE, _KD + ", eq. (1)", rtol=1e-9),
    "mean_targets": Entry(
        mean_targets, Cases(all=_teachers), "rows of sum 1; " + CLOSE, _KD + ", section 1",
        rtol=1e-9),
    "soft_gradient": Entry(
        soft_gradient, Cases(all=_targets), "of one example's cross-entropy, no T^2; " + CLOSE,
        _KD + ", eq. (2)", rtol=1e-9),
    "high_temperature_gradient": Entry(
        high_temperature_gradient, Cases(all=_both), "each row of sum 0; " + CLOSE,
        _KD + ", eq. (4)", rtol=1e-9),
    "distillation": Entry(
        distillation, Cases(all=_labelled), "batch mean, T^2 on the soft term; " + CLOSE,
        _KD + ", section 2", rtol=1e-9, names=("loss", "dz")),
    "attention_map": Entry(
        attention_map, Cases(all=_maps), "rows of norm 1; " + CLOSE,
        "Zagoruyko & Komodakis 2017, arXiv:1612.03928, eq. (1)", rtol=1e-9),
    "fsp_matrix": Entry(
        fsp_matrix, Cases(all=_flows), "divided by h w; " + CLOSE,
        "Yim, Joo, Bae & Kim 2017, CVPR, eq. (1)", rtol=1e-9),
    "regressed": Entry(
        regressed, Cases(all=_guided), "no padding; " + CLOSE,
        "Romero et al. 2015, arXiv:1412.6550, section 2.2", rtol=1e-9),
}
