"""The reference functions of pruning, and their cases: masks, scores, structure."""

from __future__ import annotations

import numpy as np

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
from ..compress.prune.slimming import l1_subgradient
from ..compress.prune.snip import snip_score
from ..compress.prune.split import bank_mask
from ..compress.prune.taylor import taylor_score
from ..compress.prune.wanda import wanda_score
from ..compress.schedule import agp_sparsity
from ..compress.scores import magnitude_mask, percentile_threshold, quality_threshold
from .cases_coding import SIZES
from .draw import Draw
from .entry import CLOSE, LEAST, Case, Cases, Entry

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
    tiny=[
        {"w": np.array([0.5, -0.1, 0.3, -0.9]), "sparsity": 0.4},  # 1.6 are 2
        {"w": np.array([-3.0, 1.0]), "sparsity": 0.5},
        {"w": np.array([[1.0, -1.0], [1.0, 2.0]]), "sparsity": 0.5},
        {"w": np.array([2.0, 1.0, 4.0, 3.0, 5.0]), "sparsity": 0.5},  # 2.5 are 2: half to even
    ],
    golden=[{"w": np.array([4, -1, 2, -8, 5, 7, -1, 4, 2, 8, 5]) / 8, "sparsity": 0.45}],
    property=_weights,
    rounded=lambda draw: [
        {"w": np.round(draw.normal(n), 1), "sparsity": s}  # ties occur
        for n in SIZES
        for s in (0.0, 0.33, 0.5, 0.9, 0.995)
    ],
)

MATRICES = Cases(  # matrices in groups of m
    sizes=lambda draw: [
        {"w": np.round(draw.normal(rows, blocks * m), 1), "n": n, "m": m}
        for rows, blocks in ((1, 1), (2, 3), (5, 8))
        for n, m in ((1, 2), (2, 4), (1, 4), (4, 8))
    ]
)

WEIGHTS_TO_SCORE = Cases(  # weights without ties
    sizes=lambda draw: [{"w": draw.normal(n)} for n in SIZES]
)


def ramps(draw: Draw) -> list[Case]:
    """Steps before, on and after a ramp."""
    cases = [
        {"t": t, "s_i": 0.1, "s_f": 0.9, "t0": 10, "n": 10, "dt": 10}
        for t in (0, 5, 10, 60, 109, 110, 500)
    ]
    for _ in range(20):
        lo, hi = sorted(draw.uniform(2).tolist())
        cases.append(
            {
                "t": draw.integer(0, 300),
                "s_i": lo,
                "s_f": hi,
                "t0": draw.integer(0, 50),
                "n": draw.integer(1, 20),
                "dt": draw.integer(1, 20),
            }
        )
    return cases


def surgery_case(draw: Draw, shape: tuple[int, ...], *, coarse: bool = False) -> Case:
    """Returns weights about two thresholds; coarse: sizes equal to a threshold occur."""
    w = draw.normal(*shape)
    low, width = draw.choice([0.25, 0.5, 1.0]), draw.choice([0.0, 0.25, 0.75])
    return {
        "w": np.rint(4 * w) / 4 if coarse else w,
        "mask": draw.uniform(*shape) < 0.5,
        "a": low,
        "b": low + width,
    }


def _surgeries(draw: Draw) -> list[Case]:
    cases = [surgery_case(draw, draw.choice(SHAPES), coarse=i % 2 == 1) for i in range(24)]
    return [
        case | {"w": np.abs(case["w"]) + 0.125} if i % 6 == 4 else case  # one-sided
        for i, case in enumerate(cases)
    ]


SURGERIES = Cases(
    tiny=[
        {"w": np.array(w), "mask": np.array([True, False]), "a": 1.0, "b": 2.0}
        for w in ([0.5, 3.0], [-1.5, 1.5], [1.0, -2.0])
    ],
    golden=[
        {
            "w": np.array([[-9, 5, 4, -6], [6, -3, 8, -5]]) / 8,
            "mask": np.array([[False, True, True, False], [True, True, False, False]]),
            "a": 0.625,
            "b": 1.0,
        }
    ],
    between=[
        {
            "w": np.array([0.05, -0.2, 0.2, -0.5]),
            "mask": np.array([True, True, False, False]),
            "a": 0.1,
            "b": 0.3,
        }
    ],
    property=_surgeries,
    rounded=lambda draw: [
        {"w": np.round(draw.normal(n), 1), "mask": draw.uniform(n) < 0.5, "a": 0.4, "b": 0.9}
        for n in SIZES
    ],
)


def _bands(draw: Draw) -> list[Case]:
    cases = []
    for i in range(20):
        w = draw.normal(*draw.choice([(2,), *SHAPES[1:]]))
        w = np.abs(w) + 0.25 if i % 4 == 1 else 0.01 * w if i % 4 == 2 else w  # one-sided; small
        cases.append({"w": w, "c": draw.choice([-3.0, -0.5, 0.0, 0.5, 2.0, 8.0])})
    return cases


BANDS = Cases(
    tiny=[
        {"w": np.array([1.0, -3.0, 1.0, 3.0]), "c": 0.5},
        {"w": np.array([2.0, -2.0]), "c": 4.0},
        {"w": np.array([1.0, 3.0]), "c": -4.0},
    ],
    golden=[{"w": np.array([[-4, 1, 2], [8, -5, -7]]) / 8, "c": 2.0}],
    property=_bands,
    # also c so far below 0 that tau would be negative
    sizes=lambda draw: [{"w": draw.normal(n), "c": c} for n in SIZES for c in (-9.0, 0.0, 2.5)],
)

TRAJECTORIES = Cases(  # weights and gradients of several steps, and a learning rate of the scores
    tiny=[{"w": np.array([[2.0], [1.0]]), "g": np.array([[-1.0], [0.5]]), "lr": 1.0}],
    sizes=lambda draw: [
        {"w": draw.normal(steps, n), "g": draw.normal(steps, n), "lr": 0.1}
        for steps in (1, 2, 5)
        for n in SIZES
    ],
)


def filters(draw: Draw) -> list[Case]:
    """Filters of a linear layer and of convolutions, two of them equal."""
    drawn = [draw.normal(*shape) for shape in ((1, 4), (2, 3), (7, 5), (6, 2, 3, 3), (20, 3, 5, 5))]
    return [{"w": np.array([[0.0], [1.0], [3.0]])}] + [
        {"w": np.concatenate([w[:-1], w[:1]])} for w in drawn
    ]


THRESHOLDS = Cases(  # weights with zeros, which do not count, and a quality
    tiny=[{"w": np.array([3.0, -1.0, 0.0, 0.0]), "quality": 0.5}],
    sizes=lambda draw: [
        {"w": draw.normal(n) * (draw.uniform(n) < 0.8), "quality": q}
        for n in SIZES
        for q in (0.25, 1.0, 2.0)
    ],
)

PERCENTILES = Cases(  # weights and a percentile between two of them
    sizes=lambda draw: [
        {"w": draw.normal(n), "percentile": p} for n in SIZES for p in (0.0, 0.3, 0.95, 1.0)
    ]
)

BANKS = Cases(  # matrices in banks along the inputs
    tiny=[{"w": np.array([[4.0, -3.0, 1.0, 2.0]]), "sparsity": 0.5, "blocks": 2}],
    sizes=lambda draw: [
        {"w": np.round(draw.normal(rows, blocks * width), 1), "sparsity": s, "blocks": blocks}
        for rows, blocks, width in ((1, 1, 5), (3, 2, 4), (7, 5, 9))
        for s in (0.0, 0.33, 0.5, 0.9)
    ],
)

BIASES = Cases(  # biases, some of them at the threshold
    tiny=[{"b": np.array([0.5, -0.5, 0.6, 0.0]), "threshold": 0.5}],
    sizes=lambda draw: [{"b": np.round(draw.normal(n), 1), "threshold": 0.3} for n in SIZES],
)

WEIGHTS_AND_GRADIENTS = Cases(  # weights and their gradients
    tiny=[{"w": np.array([2.0, -3.0]), "g": np.array([-0.5, 0.0])}],
    sizes=lambda draw: [{"w": draw.normal(n), "g": draw.normal(n)} for n in SIZES],
)

INPUTS_OF_ROWS = Cases(  # weights of a linear layer or a convolution, and the norms of their inputs
    tiny=[{"w": np.array([[1.0, -2.0], [3.0, 0.5]]), "norm": np.array([2.0, 1.0])}],
    sizes=lambda draw: [
        {"w": draw.normal(*shape), "norm": np.abs(draw.normal(shape[1]))}
        for shape in ((1, 1), (3, 5), (7, 2), (4, 3, 3, 3), (2, 6, 1, 5))
    ],
)

FILTERS_AND_NORMS = Cases(  # filters, and which norm
    tiny=[{"w": np.array([[3.0, -4.0], [0.0, 1.0]]), "order": 2}],
    sizes=lambda draw: [
        {"w": draw.normal(*shape), "order": order}
        for shape in ((1, 4), (7, 5), (6, 2, 3, 3))
        for order in (1, 2)
    ],
)

BATCH_NORM_SCALES = Cases(  # scales of both signs, and one that is 0
    tiny=[{"gamma": np.array([0.5, 0.0, -2.0]), "lam": 1e-4}],
    sizes=lambda draw: [{"gamma": np.round(draw.normal(n), 1), "lam": 0.125} for n in SIZES],
)

ACTIVATIONS = Cases(  # outputs of a ReLU, of units and of maps
    tiny=[{"a": np.array([[0.0, 1.0], [0.0, 0.0], [2.0, 3.0]])}],
    sizes=lambda draw: [
        {"a": np.maximum(draw.normal(*shape), 0.0)}
        for shape in ((1, 1), (5, 3), (4, 2, 3, 3), (9, 6, 1, 5))
    ],
)


def lassos(draw: Draw) -> list[Case]:
    """Gram matrices that are positive definite: the minimum is one point."""
    cases = [{"G": np.array([[2.0]]), "r": np.array([3.0]), "lam": 1.0}]
    for n in (1, 2, 3, 8):
        X = draw.normal(2 * n + 3, n)
        G = 0.5 * np.eye(n) + X.T @ X / len(X)
        cases += [{"G": G, "r": draw.normal(n), "lam": lam} for lam in (0.0, 0.1, 1.0, 10.0)]
    return cases


CHAINS_OF_MASKS = Cases(  # masks of layers in a row, from dense to nearly empty
    tiny=[{"masks": [np.array([[True, False], [False, False]]), np.array([[True, True]])]}],
    sizes=lambda draw: [
        {"masks": [draw.uniform(o, i) < kept for i, o in zip(sizes, sizes[1:])]}
        for sizes in ((3, 2), (4, 5, 3), (6, 7, 5, 4))
        for kept in (0.1, 0.3, 0.6)
    ],
)


# -------------------------------------------------------------------------------------- the entries

_HAN = "Han et al. 2015, arXiv:1506.02626"
_GUO = "Guo et al. 2016, "

PRUNING: dict[str, Entry] = {
    "magnitude_mask": Entry(magnitude_mask, WEIGHTS, f"exactly round(s n) zeros, {LEAST}", _HAN),
    "nm_mask": Entry(nm_mask, MATRICES, LEAST, "Mishra et al. 2021, arXiv:2104.08378"),
    "lamp_score": Entry(
        lamp_score, WEIGHTS_TO_SCORE, CLOSE, "Lee et al. 2021, eq. (1)", rtol=1e-9),
    "agp_sparsity": Entry(agp_sparsity, ramps, CLOSE, "Zhu & Gupta 2017, eq. (1)", rtol=1e-9),
    "surgery_mask": Entry(surgery_mask, SURGERIES, "equal in every entry", _GUO + "eq. (3)"),
    "movement_scores": Entry(
        movement_scores, TRAJECTORIES, CLOSE, "Sanh et al. 2020, arXiv:2005.07683, table 1",
        rtol=1e-9),
    "fpgm_score": Entry(
        fpgm_score, filters, CLOSE, "He et al. 2019, arXiv:1811.00250, eq. (5)", rtol=1e-9),
    "quality_threshold": Entry(
        quality_threshold, THRESHOLDS,
        f"zeros do not count, the standard deviation is of the population; {CLOSE}",
        _HAN + ", section 3.1", rtol=1e-9),
    "percentile_threshold": Entry(
        percentile_threshold, PERCENTILES, f"between two magnitudes linearly; {CLOSE}",
        "minicomp/compress/scores.py", rtol=1e-9),
    "bank_mask": Entry(
        bank_mask, BANKS, f"exactly round(s n) zeros a bank, {LEAST}",
        "Cao et al. 2019, algorithm 1"),
    "bias_mask": Entry(
        bias_mask, BIASES, "kept above the threshold, not at it",
        "minicomp/compress/prune/bias.py"),
    "taylor_score": Entry(
        taylor_score, WEIGHTS_AND_GRADIENTS, CLOSE,
        "Molchanov et al. 2019, arXiv:1906.10771, eq. (8)", rtol=1e-9),
    "snip_score": Entry(
        snip_score, WEIGHTS_AND_GRADIENTS, f"not divided by the sum; {CLOSE}",
        "Lee et al. 2019, arXiv:1810.02340, eq. (5)", rtol=1e-9),
    "wanda_score": Entry(
        wanda_score, INPUTS_OF_ROWS, CLOSE, "Sun et al. 2023, arXiv:2306.11695, eq. (1)",
        rtol=1e-9),
    "surgery_thresholds": Entry(
        surgery_thresholds, BANDS,
        "of |w|, the standard deviation of the population; "
        "|got - expected| <= 1e-12 of each threshold", _GUO + "section 3.2", rtol=1e-12,
        names=("a", "b")),
    "filter_norms": Entry(
        filter_norms, FILTERS_AND_NORMS, CLOSE, "Li et al. 2017, arXiv:1608.08710, section 3.1",
        rtol=1e-9),
    "l1_subgradient": Entry(
        l1_subgradient, BATCH_NORM_SCALES, f"0 at 0; {CLOSE}",
        "Liu et al. 2017, arXiv:1708.06519, eq. (1)", rtol=1e-9),
    "apoz": Entry(
        apoz, ACTIVATIONS, CLOSE, "Hu et al. 2016, arXiv:1607.03250, eq. (1)", rtol=1e-9),
    "lasso": Entry(
        lasso, lassos,
        "|got - expected| <= 1e-5 max|expected|: coordinate descent ends when nothing moves by "
        "more than 1e-7", "He et al. 2017, arXiv:1707.06168, eq. (2); Friedman et al. 2010, "
        "eq. (5)", rtol=1e-5),
    "dead_units": Entry(
        dead_units, CHAINS_OF_MASKS, "alive: reached from a living input and reaching an output",
        _HAN + ", section 3.5"),
}
