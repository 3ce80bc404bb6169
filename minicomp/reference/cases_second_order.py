"""The reference functions of second order, and their cases: OBD, OBS and what came of them."""

from __future__ import annotations

import numpy as np

from ..compress.curvature.hessian import inverse_hessian
from ..compress.prune.obc import obc_trace
from ..compress.prune.obd import obd_saliency, obd_shared, obd_unit, obd_weight
from ..compress.prune.obs import obs_saliency, obs_step
from ..compress.prune.sparsegpt import sparsegpt
from .cases_coding import SIZES
from .draw import Draw
from .entry import CLOSE, LEAST, Case, Cases, Entry
from .judges import judge_sparsegpt

# ---------------------------------------------------------------------------------------- the cases


def _gradients(draw: Draw) -> list[Case]:
    cases = []
    for i in range(20):
        P, n = draw.choice(((1, 3), (2, 2), (3, 5), (7, 4), (20, 6), (5, 1)))
        X = draw.normal(P, n)
        X = np.abs(X) + 0.25 if i % 4 == 1 else X
        cases.append({"X": X, "alpha": draw.choice((0.0625, 0.25, 0.5, 2.0))})
    return cases


GRADIENTS = Cases(
    tiny=[
        {"X": np.array([[1.0, 1.0]]), "alpha": 1.0},
        {"X": np.array([[2.0], [0.0]]), "alpha": 0.5},
        {"X": np.array([[1.0, 0.0], [1.0, 2.0]]), "alpha": 1.0},
    ],
    golden=[{"X": np.array([[2.0, 0.0, -1.0], [1.0, 3.0, 0.0], [0.0, 1.0, 1.0]]), "alpha": 0.5}],
    property=_gradients,
    sizes=lambda draw: [
        {"X": draw.normal(2 * n + 1, n), "alpha": alpha}
        for n in (1, 2, 3, 8)
        for alpha in (1e-2, 1e-1, 1.0)
    ],
)


def _inverse(draw: Draw, n: int) -> np.ndarray:
    X = draw.normal(2 * n + 1, n)
    return np.linalg.inv(0.1 * np.eye(n) + X.T @ X / len(X))


def hessians(draw: Draw) -> list[Case]:
    """Inverse Hessians that are positive definite."""
    H = np.array([[2.0, 1.0], [1.0, 2.0]])
    return [{"w": np.array([1.0, 3.0]), "Hinv": np.linalg.inv(H)}] + [
        {"w": draw.normal(n), "Hinv": _inverse(draw, n)} for n in (1, 2, 3, 8)
    ]


OBS_DELETIONS = Cases(  # weights to delete with such a Hessian
    sizes=lambda draw: [
        {**case, "q": int(np.argmin(obs_saliency(**case)))} for case in hessians(draw)
    ]
)


def layer_rows(draw: Draw) -> list[Case]:
    """Matrices of weights with the inverse Hessian of their layer, a sparsity or (N, M)."""
    cases = []
    for n, rows in ((1, 1), (2, 1), (4, 3), (8, 5)):
        Hinv = _inverse(draw, n)
        amounts = (0.0, 0.5, 0.8) + (((1, 2),) if n > 1 else ()) + (((2, 4),) if n > 2 else ())
        cases += [{"W": draw.normal(rows, n), "Hinv": Hinv, "amount": s} for s in amounts]
    return cases


SALIENCIES = Cases(  # parameters and their second derivatives
    tiny=[{"u": np.array([1.0, 3.0]), "h": np.array([4.0, 0.1])}],
    sizes=lambda draw: [{"u": draw.normal(n), "h": draw.uniform(n)} for n in SIZES],
)


def bends(draw: Draw) -> list[Case]:
    """Derivatives at the output of units, and of their sigmoid, with and without f''."""
    cases = []
    for n in (1, 2, 7, 64):
        f = 1 / (1 + np.exp(-draw.normal(3, n)))
        f1 = f * (1 - f)
        cases += [
            {"h_x": draw.uniform(3, n), "g_x": draw.normal(3, n), "f1": f1, "f2": f2}
            for f2 in (f1 * (1 - 2 * f), None)
        ]
    return cases


UNIT_CURVATURES = Cases(  # second derivatives of units, and the inputs of their layer
    sizes=lambda draw: [
        {"h_a": draw.uniform(P, O), "x": draw.normal(P, I)}
        for P, O, I in ((1, 1, 1), (3, 2, 4), (20, 5, 7))
    ]
)


def connections(draw: Draw) -> list[Case]:
    """Second derivatives of connections, and the parameters that they use, some of them none."""
    few = {"h": np.array([[1.0, 2.0], [4.0, 8.0]]), "index": np.array([[0, 2], [2, 0]]), "k": 3}
    return [few] + [
        {"h": draw.uniform(n), "index": draw.integers(0, k, n), "k": k + 1}
        for n, k in ((1, 1), (7, 2), (200, 16))
    ]


# -------------------------------------------------------------------------------------- the entries

_OBS, _OBD = "Hassibi & Stork 1993, ", "LeCun, Denker & Solla 1990, "

SECOND_ORDER: dict[str, Entry] = {
    "obs_saliency": Entry(obs_saliency, hessians, CLOSE, _OBS + "eq. (5)", rtol=1e-9),
    "obs_step": Entry(obs_step, OBS_DELETIONS, CLOSE, _OBS + "eq. (5)", rtol=1e-9),
    "inverse_hessian": Entry(inverse_hessian, GRADIENTS, CLOSE, _OBS + "section 3", rtol=1e-9),
    "obd_saliency": Entry(obd_saliency, SALIENCIES, CLOSE, _OBD + "section 2", rtol=1e-9),
    "obd_unit": Entry(
        obd_unit, bends, CLOSE + "; f2 None: the first term alone", _OBD + "eq. (7), with a plus",
        rtol=1e-9),
    "obd_weight": Entry(obd_weight, UNIT_CURVATURES, CLOSE, _OBD + "eq. (6)", rtol=1e-9),
    "obd_shared": Entry(obd_shared, connections, CLOSE, _OBD + "eq. (5)", rtol=1e-9),
    "obc_trace": Entry(
        obc_trace, hessians, f"the same order, {LEAST}; rises to 1e-9 of the largest",
        "Frantar et al. 2022, arXiv:2208.11580, algorithm 1", rtol=1e-9),
    "sparsegpt": Entry(
        sparsegpt, layer_rows,
        f"the same entries kept, exactly round(s n) zeros or N of M, {LEAST}; "
        "weights to 1e-9 of the largest", "Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1",
        judge=judge_sparsegpt),
}
