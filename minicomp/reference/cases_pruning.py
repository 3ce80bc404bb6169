"""The reference functions of pruning, and their cases: masks, scores, second order, structure."""

from __future__ import annotations

import numpy as np

from ..compress.curvature.hessian import inverse_hessian
from ..compress.prune.apoz import apoz
from ..compress.prune.bias import bias_mask
from ..compress.prune.channel_lasso import lasso
from ..compress.prune.dead_units import dead_units
from ..compress.prune.dns import surgery_mask, surgery_thresholds
from ..compress.prune.filters import filter_norms
from ..compress.prune.fpgm import fpgm_score
from ..compress.prune.lamp import lamp_score
from ..compress.prune.movement import movement_scores
from ..compress.prune.nm import nm_mask
from ..compress.prune.obc import obc_trace
from ..compress.prune.obd import obd_saliency, obd_shared, obd_unit, obd_weight
from ..compress.prune.obs import obs_saliency, obs_step
from ..compress.prune.slimming import l1_subgradient
from ..compress.prune.snip import snip_score
from ..compress.prune.sparsegpt import sparsegpt
from ..compress.prune.split import bank_mask
from ..compress.prune.taylor import taylor_score
from ..compress.prune.wanda import wanda_score
from ..compress.schedule import agp_sparsity
from ..compress.scores import magnitude_mask, percentile_threshold, quality_threshold
from .cases_coding import SIZES
from .draw import Draw
from .entry import CLOSE, LEAST, Case, Cases, Entry
from .judges import judge_sparsegpt

SHAPES = ((1,), (7,), (3, 5), (5, 1), (2, 3, 3, 3))

# ---------------------------------------------------------------------------------------- the cases


def _weights(draw: Draw) -> list[Case]:
    cases = []
    for i in range(20):
        w = draw.normal(*draw.choice(SHAPES))  # one-sided; with ties
        w = np.abs(w) + 0.25 if i % 4 == 1 else np.rint(2 * w) / 2 if i % 4 == 2 else w
        cases.append({"w": w, "sparsity": draw.choice([0.0, 0.1, 0.33, 0.5, 0.75, 0.9, 0.99])})
    return cases


WEIGHTS = Cases(
    tiny=[{"w": np.array([0.5, -0.1, 0.3, -0.9]), "sparsity": 0.5},
          {"w": np.array([-3.0, 1.0]), "sparsity": 0.5},
          {"w": np.array([[1.0, -1.0], [1.0, 2.0]]), "sparsity": 0.5}],
    golden=[{"w": np.array([4, -1, 2, -8, 5, 7, -1, 4, 2, 8, 5]) / 8, "sparsity": 0.45}],
    property=_weights,
    rounded=lambda draw: [{"w": np.round(draw.normal(n), 1), "sparsity": s}  # ties occur
                          for n in SIZES for s in (0.0, 0.33, 0.5, 0.9, 0.995)],
)


def matrices(draw: Draw) -> list[Case]:
    """Matrices in groups of m."""
    return [{"w": np.round(draw.normal(rows, blocks * m), 1), "n": n, "m": m}
            for rows, blocks in ((1, 1), (2, 3), (5, 8))
            for n, m in ((1, 2), (2, 4), (1, 4), (4, 8))]


def weights_to_score(draw: Draw) -> list[Case]:
    """Weights without ties."""
    return [{"w": draw.normal(n)} for n in SIZES]


def ramps(draw: Draw) -> list[Case]:
    """Steps before, on and after a ramp."""
    cases = [{"t": t, "s_i": 0.1, "s_f": 0.9, "t0": 10, "n": 10, "dt": 10}
             for t in (0, 5, 10, 60, 109, 110, 500)]
    for _ in range(20):
        lo, hi = sorted(draw.uniform(2).tolist())
        cases.append({"t": draw.integer(0, 300), "s_i": lo, "s_f": hi, "t0": draw.integer(0, 50),
                      "n": draw.integer(1, 20), "dt": draw.integer(1, 20)})
    return cases


def surgery_case(draw: Draw, shape: tuple[int, ...], *, coarse: bool = False) -> Case:
    """Returns weights about two thresholds; coarse: sizes equal to a threshold occur."""
    w = draw.normal(*shape)
    low, width = draw.choice([0.25, 0.5, 1.0]), draw.choice([0.0, 0.25, 0.75])
    return {"w": np.rint(4 * w) / 4 if coarse else w, "mask": draw.uniform(*shape) < 0.5,
            "a": low, "b": low + width}


def _surgeries(draw: Draw) -> list[Case]:
    cases = [surgery_case(draw, draw.choice(SHAPES), coarse=i % 2 == 1) for i in range(24)]
    return [case | {"w": np.abs(case["w"]) + 0.125} if i % 6 == 4 else case  # one-sided
            for i, case in enumerate(cases)]


SURGERIES = Cases(
    tiny=[{"w": np.array(w), "mask": np.array([True, False]), "a": 1.0, "b": 2.0}
          for w in ([0.5, 3.0], [-1.5, 1.5], [1.0, -2.0])],
    golden=[{"w": np.array([[-9, 5, 4, -6], [6, -3, 8, -5]]) / 8,
             "mask": np.array([[False, True, True, False], [True, True, False, False]]),
             "a": 0.625, "b": 1.0}],
    between=[{"w": np.array([0.05, -0.2, 0.2, -0.5]), "mask": np.array([True, True, False, False]),
              "a": 0.1, "b": 0.3}],
    property=_surgeries,
    rounded=lambda draw: [{"w": np.round(draw.normal(n), 1), "mask": draw.uniform(n) < 0.5,
                           "a": 0.4, "b": 0.9} for n in SIZES],
)


def _bands(draw: Draw) -> list[Case]:
    cases = []
    for i in range(20):
        w = draw.normal(*draw.choice([(2,), *SHAPES[1:]]))
        w = np.abs(w) + 0.25 if i % 4 == 1 else 0.01 * w if i % 4 == 2 else w  # one-sided; small
        cases.append({"w": w, "c": draw.choice([-3.0, -0.5, 0.0, 0.5, 2.0, 8.0])})
    return cases


BANDS = Cases(
    tiny=[{"w": np.array([1.0, -3.0, 1.0, 3.0]), "c": 0.5},
          {"w": np.array([2.0, -2.0]), "c": 4.0},
          {"w": np.array([1.0, 3.0]), "c": -4.0}],
    golden=[{"w": np.array([[-4, 1, 2], [8, -5, -7]]) / 8, "c": 2.0}],
    property=_bands,
    # also c so far below 0 that tau would be negative
    sizes=lambda draw: [{"w": draw.normal(n), "c": c} for n in SIZES for c in (-9.0, 0.0, 2.5)],
)


def trajectories(draw: Draw) -> list[Case]:
    """Weights and gradients of several steps, and a learning rate of the scores."""
    return [{"w": np.array([[2.0], [1.0]]), "g": np.array([[-1.0], [0.5]]), "lr": 1.0}] + [
        {"w": draw.normal(steps, n), "g": draw.normal(steps, n), "lr": 0.1}
        for steps in (1, 2, 5) for n in SIZES]


def filters(draw: Draw) -> list[Case]:
    """Filters of a linear layer and of convolutions, two of them equal."""
    drawn = [draw.normal(*shape)
             for shape in ((1, 4), (2, 3), (7, 5), (6, 2, 3, 3), (20, 3, 5, 5))]
    return [{"w": np.array([[0.0], [1.0], [3.0]])}] + [{"w": np.concatenate([w[:-1], w[:1]])}
                                                for w in drawn]


def _gradients(draw: Draw) -> list[Case]:
    cases = []
    for i in range(20):
        P, n = draw.choice(((1, 3), (2, 2), (3, 5), (7, 4), (20, 6), (5, 1)))
        X = draw.normal(P, n)
        X = np.abs(X) + 0.25 if i % 4 == 1 else X
        cases.append({"X": X, "alpha": draw.choice((0.0625, 0.25, 0.5, 2.0))})
    return cases


GRADIENTS = Cases(
    tiny=[{"X": np.array([[1.0, 1.0]]), "alpha": 1.0},
          {"X": np.array([[2.0], [0.0]]), "alpha": 0.5},
          {"X": np.array([[1.0, 0.0], [1.0, 2.0]]), "alpha": 1.0}],
    golden=[{"X": np.array([[2.0, 0.0, -1.0], [1.0, 3.0, 0.0], [0.0, 1.0, 1.0]]), "alpha": 0.5}],
    property=_gradients,
    sizes=lambda draw: [{"X": draw.normal(2 * n + 1, n), "alpha": alpha}
                        for n in (1, 2, 3, 8) for alpha in (1e-2, 1e-1, 1.0)],
)


def _inverse(draw: Draw, n: int) -> np.ndarray:
    X = draw.normal(2 * n + 1, n)
    return np.linalg.inv(0.1 * np.eye(n) + X.T @ X / len(X))


def hessians(draw: Draw) -> list[Case]:
    """Inverse Hessians that are positive definite."""
    H = np.array([[2.0, 1.0], [1.0, 2.0]])
    return [{"w": np.array([1.0, 3.0]), "Hinv": np.linalg.inv(H)}] + [
        {"w": draw.normal(n), "Hinv": _inverse(draw, n)} for n in (1, 2, 3, 8)]


def obs_deletions(draw: Draw) -> list[Case]:
    """Weights to delete with such a Hessian."""
    return [{**case, "q": int(np.argmin(obs_saliency(**case)))} for case in hessians(draw)]


def layer_rows(draw: Draw) -> list[Case]:
    """Matrices of weights with the inverse Hessian of their layer, a sparsity or (N, M)."""
    cases = []
    for n, rows in ((1, 1), (2, 1), (4, 3), (8, 5)):
        Hinv = _inverse(draw, n)
        amounts = (0.0, 0.5, 0.8) + (((1, 2),) if n > 1 else ()) + (((2, 4),) if n > 2 else ())
        cases += [{"W": draw.normal(rows, n), "Hinv": Hinv, "amount": s} for s in amounts]
    return cases


def saliencies(draw: Draw) -> list[Case]:
    """Parameters and their second derivatives."""
    return [{"u": np.array([1.0, 3.0]), "h": np.array([4.0, 0.1])}] + [
        {"u": draw.normal(n), "h": draw.uniform(n)} for n in SIZES]


def bends(draw: Draw) -> list[Case]:
    """Derivatives at the output of units, and of their sigmoid, with and without f''."""
    cases = []
    for n in (1, 2, 7, 64):
        f = 1 / (1 + np.exp(-draw.normal(3, n)))
        f1 = f * (1 - f)
        cases += [{"h_x": draw.uniform(3, n), "g_x": draw.normal(3, n), "f1": f1, "f2": f2}
                  for f2 in (f1 * (1 - 2 * f), None)]
    return cases


def unit_curvatures(draw: Draw) -> list[Case]:
    """Second derivatives of units, and the inputs of their layer."""
    return [{"h_a": draw.uniform(P, O), "x": draw.normal(P, I)}
            for P, O, I in ((1, 1, 1), (3, 2, 4), (20, 5, 7))]


def connections(draw: Draw) -> list[Case]:
    """Second derivatives of connections, and the parameters that they use, some of them none."""
    few = {"h": np.array([[1.0, 2.0], [4.0, 8.0]]), "index": np.array([[0, 2], [2, 0]]), "k": 3}
    return [few] + [
        {"h": draw.uniform(n), "index": draw.integers(0, k, n), "k": k + 1}
        for n, k in ((1, 1), (7, 2), (200, 16))]


def thresholds(draw: Draw) -> list[Case]:
    """Weights with zeros, which do not count, and a quality."""
    return [{"w": np.array([3.0, -1.0, 0.0, 0.0]), "quality": 0.5}] + [
        {"w": draw.normal(n) * (draw.uniform(n) < 0.8), "quality": q}
        for n in SIZES for q in (0.25, 1.0, 2.0)]


def percentiles(draw: Draw) -> list[Case]:
    """Weights and a percentile between two of them."""
    return [{"w": draw.normal(n), "percentile": p} for n in SIZES for p in (0.0, 0.3, 0.95, 1.0)]


def banks(draw: Draw) -> list[Case]:
    """Matrices in banks along the inputs."""
    return [{"w": np.array([[4.0, -3.0, 1.0, 2.0]]), "sparsity": 0.5, "blocks": 2}] + [
        {"w": np.round(draw.normal(rows, blocks * width), 1), "sparsity": s, "blocks": blocks}
        for rows, blocks, width in ((1, 1, 5), (3, 2, 4), (7, 5, 9)) for s in (0.0, 0.33, 0.5, 0.9)]


def biases(draw: Draw) -> list[Case]:
    """Biases, some of them at the threshold."""
    return [{"b": np.array([0.5, -0.5, 0.6, 0.0]), "threshold": 0.5}] + [
        {"b": np.round(draw.normal(n), 1), "threshold": 0.3} for n in SIZES]


def weights_and_gradients(draw: Draw) -> list[Case]:
    """Weights and their gradients."""
    return [{"w": np.array([2.0, -3.0]), "g": np.array([-0.5, 0.0])}] + [
        {"w": draw.normal(n), "g": draw.normal(n)} for n in SIZES]


def inputs_of_rows(draw: Draw) -> list[Case]:
    """Weights of a linear layer or a convolution, and the norms of their inputs."""
    return [{"w": np.array([[1.0, -2.0], [3.0, 0.5]]), "norm": np.array([2.0, 1.0])}] + [
        {"w": draw.normal(*shape), "norm": np.abs(draw.normal(shape[1]))}
        for shape in ((1, 1), (3, 5), (7, 2), (4, 3, 3, 3), (2, 6, 1, 5))]


def filters_and_norms(draw: Draw) -> list[Case]:
    """Filters, and which norm."""
    return [{"w": np.array([[3.0, -4.0], [0.0, 1.0]]), "order": 2}] + [
        {"w": draw.normal(*shape), "order": order}
        for shape in ((1, 4), (7, 5), (6, 2, 3, 3)) for order in (1, 2)]


def batch_norm_scales(draw: Draw) -> list[Case]:
    """Scales of both signs, and one that is 0."""
    return [{"gamma": np.array([0.5, 0.0, -2.0]), "lam": 1e-4}] + [
        {"gamma": np.round(draw.normal(n), 1), "lam": 0.125} for n in SIZES]


def activations(draw: Draw) -> list[Case]:
    """Outputs of a ReLU, of units and of maps."""
    return [{"a": np.array([[0.0, 1.0], [0.0, 0.0], [2.0, 3.0]])}] + [
        {"a": np.maximum(draw.normal(*shape), 0.0)}
        for shape in ((1, 1), (5, 3), (4, 2, 3, 3), (9, 6, 1, 5))]


def lassos(draw: Draw) -> list[Case]:
    """Gram matrices that are positive definite: the minimum is one point."""
    cases = [{"G": np.array([[2.0]]), "r": np.array([3.0]), "lam": 1.0}]
    for n in (1, 2, 3, 8):
        X = draw.normal(2 * n + 3, n)
        G = 0.5 * np.eye(n) + X.T @ X / len(X)
        cases += [{"G": G, "r": draw.normal(n), "lam": lam} for lam in (0.0, 0.1, 1.0, 10.0)]
    return cases


def chains_of_masks(draw: Draw) -> list[Case]:
    """Masks of layers in a row, from dense to nearly empty."""
    return [{"masks": [np.array([[True, False], [False, False]]), np.array([[True, True]])]}] + [
        {"masks": [draw.uniform(o, i) < kept for i, o in zip(sizes, sizes[1:])]}
        for sizes in ((3, 2), (4, 5, 3), (6, 7, 5, 4)) for kept in (0.1, 0.3, 0.6)]


# -------------------------------------------------------------------------------------- the entries

_HAN = "Han et al. 2015, arXiv:1506.02626"
_GUO = "Guo et al. 2016, "
_OBS, _OBD = "Hassibi & Stork 1993, ", "LeCun, Denker & Solla 1990, "

PRUNING: dict[str, Entry] = {
    "magnitude_mask": Entry(magnitude_mask, WEIGHTS, f"exactly round(s n) zeros, {LEAST}", _HAN),
    "nm_mask": Entry(nm_mask, matrices, LEAST, "Mishra et al. 2021, arXiv:2104.08378"),
    "lamp_score": Entry(
        lamp_score, weights_to_score, CLOSE, "Lee et al. 2021, eq. (1)", rtol=1e-9),
    "agp_sparsity": Entry(agp_sparsity, ramps, CLOSE, "Zhu & Gupta 2017, eq. (1)", rtol=1e-9),
    "surgery_mask": Entry(surgery_mask, SURGERIES, "equal in every entry", _GUO + "eq. (3)"),
    "movement_scores": Entry(
        movement_scores, trajectories, CLOSE, "Sanh et al. 2020, arXiv:2005.07683, table 1",
        rtol=1e-9),
    "fpgm_score": Entry(
        fpgm_score, filters, CLOSE, "He et al. 2019, arXiv:1811.00250, eq. (5)", rtol=1e-9),
    "obs_saliency": Entry(obs_saliency, hessians, CLOSE, _OBS + "eq. (5)", rtol=1e-9),
    "obs_step": Entry(obs_step, obs_deletions, CLOSE, _OBS + "eq. (5)", rtol=1e-9),
    "inverse_hessian": Entry(inverse_hessian, GRADIENTS, CLOSE, _OBS + "section 3", rtol=1e-9),
    "obd_saliency": Entry(obd_saliency, saliencies, CLOSE, _OBD + "section 2", rtol=1e-9),
    "obd_unit": Entry(
        obd_unit, bends, CLOSE + "; f2 None: the first term alone", _OBD + "eq. (7), with a plus",
        rtol=1e-9),
    "obd_weight": Entry(obd_weight, unit_curvatures, CLOSE, _OBD + "eq. (6)", rtol=1e-9),
    "obd_shared": Entry(obd_shared, connections, CLOSE, _OBD + "eq. (5)", rtol=1e-9),
    "obc_trace": Entry(
        obc_trace, hessians, f"the same order, {LEAST}; rises to 1e-9 of the largest",
        "Frantar et al. 2022, arXiv:2208.11580, algorithm 1", rtol=1e-9),
    "sparsegpt": Entry(
        sparsegpt, layer_rows,
        f"the same entries kept, exactly round(s n) zeros or N of M, {LEAST}; "
        "weights to 1e-9 of the largest", "Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1",
        judge=judge_sparsegpt),
    "quality_threshold": Entry(
        quality_threshold, thresholds,
        f"zeros do not count, the standard deviation is of the population; {CLOSE}",
        _HAN + ", section 3.1", rtol=1e-9),
    "percentile_threshold": Entry(
        percentile_threshold, percentiles, f"between two magnitudes linearly; {CLOSE}",
        "minicomp/compress/scores.py", rtol=1e-9),
    "bank_mask": Entry(
        bank_mask, banks, f"exactly round(s n) zeros a bank, {LEAST}",
        "Cao et al. 2019, algorithm 1"),
    "bias_mask": Entry(
        bias_mask, biases, "kept above the threshold, not at it",
        "minicomp/compress/prune/bias.py"),
    "taylor_score": Entry(
        taylor_score, weights_and_gradients, CLOSE,
        "Molchanov et al. 2019, arXiv:1906.10771, eq. (8)", rtol=1e-9),
    "snip_score": Entry(
        snip_score, weights_and_gradients, f"not divided by the sum; {CLOSE}",
        "Lee et al. 2019, arXiv:1810.02340, eq. (5)", rtol=1e-9),
    "wanda_score": Entry(
        wanda_score, inputs_of_rows, CLOSE, "Sun et al. 2023, arXiv:2306.11695, eq. (1)",
        rtol=1e-9),
    "surgery_thresholds": Entry(
        surgery_thresholds, BANDS,
        "of |w|, the standard deviation of the population; "
        "|got - expected| <= 1e-12 of each threshold", _GUO + "section 3.2", rtol=1e-12),
    "filter_norms": Entry(
        filter_norms, filters_and_norms, CLOSE, "Li et al. 2017, arXiv:1608.08710, section 3.1",
        rtol=1e-9),
    "l1_subgradient": Entry(
        l1_subgradient, batch_norm_scales, f"0 at 0; {CLOSE}",
        "Liu et al. 2017, arXiv:1708.06519, eq. (1)", rtol=1e-9),
    "apoz": Entry(
        apoz, activations, CLOSE, "Hu et al. 2016, arXiv:1607.03250, eq. (1)", rtol=1e-9),
    "lasso": Entry(
        lasso, lassos,
        "|got - expected| <= 1e-5 max|expected|: coordinate descent ends when nothing moves by "
        "more than 1e-7", "He et al. 2017, arXiv:1707.06168, eq. (2); Friedman et al. 2010, "
        "eq. (5)", rtol=1e-5),
    "dead_units": Entry(
        dead_units, chains_of_masks, "alive: reached from a living input and reaching an output",
        _HAN + ", section 3.5"),
}
