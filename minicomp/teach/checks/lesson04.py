"""Lesson 4: magnitude masks, masked SGD with momentum, and how much to keep in each round.

w weights, mask True where kept, s sparsity (fraction of zeros).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from ...reference import ENTRIES
from ...reference.judges import Message, difference, equal_to, first_difference
from ..asking.exercise import (
    Diagnosis,
    Exercise,
    Mutant,
    Prediction,
    entry_parts,
    hidden,
    standard_parts,
)
from ..asking.lesson import LessonChecks, Number, Reflection
from .inputs import is_finite, is_sparsity

Array = np.ndarray
ROUNDING = 1e-10  # relative, of a hundred float64 steps

# ----------------------------------------------------------------------------------------- the mask

MASK = ENTRIES["magnitude_mask"]


def _smallest_go(score: Array, zeros: int) -> Array:
    mask = np.ones(score.size, bool)
    mask[np.argsort(score, axis=None, kind="stable")[:zeros]] = False
    return mask.reshape(score.shape)


def _by_count(count: Callable[[float], int]) -> Callable:
    # The right mask with another number of zeros.
    return lambda w, sparsity: _smallest_go(np.abs(w), count(sparsity * w.size))


def _last_of_equals(w: Array, sparsity: float) -> Array:
    # Keeps the largest, as a stable sort of -|w| orders them.
    mask = np.zeros(w.size, bool)
    kept = w.size - round(sparsity * w.size)
    mask[np.argsort(-np.abs(w), axis=None, kind="stable")[:kept]] = True
    return mask.reshape(w.shape)


def _any_of_equals(w: Array, sparsity: float) -> Array:
    mask = np.ones(w.size, bool)
    mask[np.argsort(np.abs(w), axis=None)[: round(sparsity * w.size)]] = False
    return mask.reshape(w.shape)


def _partitioned(w: Array, sparsity: float) -> Array:
    mask, zeros = np.ones(w.size, bool), round(sparsity * w.size)
    mask[np.argpartition(np.abs(w), max(zeros - 1, 0), axis=None)[:zeros]] = False
    return mask.reshape(w.shape)


def _by_percentile(w: Array, sparsity: float) -> Array:
    return np.abs(w) >= np.percentile(np.abs(w), 100 * sparsity)


def _above_percentile(w: Array, sparsity: float) -> Array:
    return np.abs(w) > np.quantile(np.abs(w), sparsity)


def _up_to_threshold(w: Array, sparsity: float) -> Array:
    zeros = round(sparsity * w.size)
    return np.abs(w) > (np.sort(np.abs(w), axis=None)[zeros - 1] if zeros else -1)


def _from_threshold(w: Array, sparsity: float) -> Array:
    return np.abs(w) >= np.sort(np.abs(w), axis=None)[round(sparsity * w.size)]


def _mask_signs(draw):
    drawn = (draw.normal(4, 5) for _ in range(4))
    return [[{"w": v, "sparsity": 0.6} for v in (w, -w, 8 * w)] for w in drawn]


def _signs_do_not_count(case, results) -> Message | None:
    names = ("the result", "the mask of -w", "the mask of 8 w")
    return first_difference([MASK.fn(**case[0])] * 3, results, names)


_MASK = Exercise(
    id="04.magnitude_mask",
    minutes=7,
    parts=entry_parts(MASK, more=hidden("invariance", _mask_signs, _signs_do_not_count)),
    mutants=(
        Mutant("sign-forgotten", lambda w, sparsity: _smallest_go(w, round(sparsity * w.size))),
        Mutant("rounded-down", _by_count(int)),
        Mutant("half-up", _by_count(lambda zeros: int(zeros + 0.5))),
        Mutant("rounded-up", _by_count(math.ceil)),
        Mutant("percentile", _by_percentile, forms=(_above_percentile,)),
        Mutant("ties-together", _up_to_threshold, forms=(_from_threshold,)),
        Mutant("last-of-equals", _last_of_equals, perhaps=(_any_of_equals, _partitioned)),
        Mutant(
            "part-of-the-largest",
            lambda w, sparsity: np.abs(w) > sparsity * np.abs(w).max(),
            forms=(lambda w, sparsity: np.abs(w) >= sparsity * np.abs(w).max(),),
        ),
        Mutant(
            "sparsity-as-threshold",
            lambda w, sparsity: np.abs(w) > sparsity,
            forms=(lambda w, sparsity: np.abs(w) >= sparsity,),
        ),
        Mutant(
            "keeps-the-small",
            lambda w, sparsity: ~_smallest_go(np.abs(w), w.size - round(sparsity * w.size)),
            forms=(lambda w, sparsity: ~_smallest_go(np.abs(w), round(sparsity * w.size)),),
        ),
        Mutant("sparsity-is-kept", lambda w, sparsity: _smallest_go(
            np.abs(w), w.size - round(sparsity * w.size))),
    ),
    banned=(
        "minicomp.compress.scores:magnitude_mask",
        "minicomp.compress.scores:smallest_mask",
        "minicomp.compress.scores:global_masks",
        "minicomp.compress.scores:kernel_mask",
        "minicomp.compress.prune.magnitude:Magnitude",
    ),
    reference=MASK.fn,
)

# ------------------------------------------------------------------------------------------ the SGD


def masked_sgd(
    w: Array, v: Array, mask: Array, grads: Array, lr: float, momentum: float, weight_decay: float,
    *, each=True, first=True, last=False, gradient=False, decay=True, copies=True,
    rate_first=False, decoupled=False,
) -> Array:
    """Returns w after each step, (T, ...); pruned entries are 0 throughout.

    The switches say what is masked, and are how the mutants slip.
    """
    w, v, path = w * mask if first else w.copy(), v.copy(), []
    for g in grads:
        shrunk = w * (1 - lr * weight_decay) if decoupled else w
        g = g + weight_decay * w if decay and not decoupled else g
        g = g * mask if gradient else g
        v = momentum * v + (lr * g if rate_first else g)
        w = shrunk - (v if rate_first else lr * v)
        if each:
            w = w * mask
        path.append(w)
    if last:
        path[-1] = path[-1] * mask
    return np.stack(path if copies else [path[-1]] * len(path))


def _sgd(draw, shape, steps, s=0.5, decay=None) -> dict:
    mask = _smallest_go(draw.uniform(*shape), round(s * int(np.prod(shape))))
    return {
        "w": draw.normal(*shape),
        "v": draw.normal(*shape),
        "mask": mask,
        "grads": draw.normal(steps, *shape),
        "lr": draw.choice([0.5, 0.125, 0.0625]),
        "momentum": draw.choice([0.5, 0.75, 0.9375]),
        "weight_decay": draw.choice([0.125, 0.25]) if decay is None else decay,
    }


_ONE_CUT = {
    "w": np.array([1.0, 0.5]),
    "v": np.array([0.0, 0.0]),
    "mask": np.array([True, False]),
    "lr": 0.5,
    "momentum": 0.5,
    "weight_decay": 0.0,
}


def _sgd_property(draw):
    for _ in range(20):
        shape = draw.choice([(1,), (5,), (3, 3), (2, 1, 3)])
        yield _sgd(draw, shape, draw.integer(1, 9), draw.choice([0.0, 0.4, 0.5, 0.9]))


def _sgd_hundred(draw):
    return [_sgd(draw, (4, 5), 100, 0.8) for _ in range(3)]


def _zeros_stay(case, result) -> Message | None:
    wrong = difference(masked_sgd(**case), result, rtol=ROUNDING)
    if wrong and wrong.slug == "wrong-value":
        alive = np.flatnonzero((np.asarray(result) * ~case["mask"]).reshape(100, -1).any(1))
        if alive.size:
            told = f"a pruned weight is not 0 after step {alive[0] + 1} of 100"
            return Message(wrong.slug, told, wrong.detail)
    return wrong


_SGD = Exercise(
    id="04.masked_sgd",
    minutes=12,
    parts=standard_parts(
        equal_to(masked_sgd, rtol=ROUNDING),
        tiny=[
            _ONE_CUT | {"grads": np.array([[1.0, 1.0]])},
            _ONE_CUT | {"grads": np.zeros((2, 2)), "v": np.array([0.0, 4.0])},
            _ONE_CUT | {"grads": np.zeros((1, 2)), "weight_decay": 0.5},
        ],
        many=_sgd_property,
        golden=[
            {
                "w": np.array([0.5, -1.0, 2.0]),
                "v": np.array([1.0, -2.0, 0.0]),
                "mask": np.array([True, False, True]),
                "grads": np.array([[1.0, 1.0, 1.0], [0.0, -2.0, 4.0]]),
                "lr": 0.25,
                "momentum": 0.5,
                "weight_decay": 0.5,
            }
        ],
        more=hidden("hundred steps", _sgd_hundred, _zeros_stay, points=2),
    ),
    mutants=(
        Mutant(
            "momentum-revives",
            partial(masked_sgd, each=False, gradient=True),
            forms=(partial(masked_sgd, each=False, gradient=True, first=False),),
        ),
        Mutant("masked-once", partial(masked_sgd, each=False)),
        Mutant("never-masked", partial(masked_sgd, each=False, first=False)),
        Mutant("masked-at-the-end", partial(masked_sgd, each=False, last=True)),
        Mutant("decay-forgotten", partial(masked_sgd, decay=False)),
        Mutant("decay-beside-momentum", partial(masked_sgd, decoupled=True)),
        Mutant("rate-in-the-velocity", partial(masked_sgd, rate_first=True)),
        Mutant("one-array", partial(masked_sgd, copies=False)),
    ),
    banned=("minicomp.optim:SGD", "minicomp.optim:Optimizer"),
    reference=masked_sgd,
    rtol=ROUNDING,
)

# --------------------------------------------------------------------------------------- the rounds


def keep_per_round(keep: float, rounds: int) -> Array:
    """Returns keep^(i / rounds), i = 1..rounds."""
    return keep ** (np.arange(1, rounds + 1) / rounds)


_ROUNDS = Exercise(
    id="04.keep_per_round",
    minutes=6,
    parts=standard_parts(
        equal_to(keep_per_round, rtol=1e-12),
        tiny=[{"keep": 0.25, "rounds": 2}, {"keep": 0.125, "rounds": 1}],
        many=lambda draw: [
            {"keep": float(k), "rounds": draw.integer(1, 12)}
            for k in draw.uniform(20, lo=0.01, hi=1.0)
        ],
        golden=[{"keep": 0.0625, "rounds": 4}],
    ),
    mutants=(
        Mutant("equal-steps", lambda keep, rounds: np.linspace(1, keep, rounds + 1)[1:]),
        Mutant(
            "starts-at-one",
            lambda keep, rounds: keep ** (np.arange(rounds) / rounds),
            forms=(lambda keep, rounds: np.geomspace(1, keep, rounds),),
        ),
        Mutant("not-accumulated", lambda keep, rounds: np.full(rounds, keep ** (1 / rounds))),
        Mutant("sparsity", lambda keep, rounds: 1 - keep ** (np.arange(1, rounds + 1) / rounds)),
        Mutant("all-at-once", lambda keep, rounds: keep ** np.arange(1.0, rounds + 1)),
    ),
    reference=keep_per_round,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_mask(w, sparsity) -> str | None:
    if not is_finite(np.asarray(w)):
        return "w is a float array of 1 to 10,000 finite numbers"
    return None if is_sparsity(sparsity) else "sparsity is a number in [0, 1)"


LESSON = LessonChecks(
    number="04",
    name="magnitude",
    exercises=(_MASK, _SGD, _ROUNDS),
    diagnosis=Diagnosis(
        id="04.broken",
        of=_MASK,
        shown_by={
            "sign-forgotten": (np.array([-2.0, 1.0]), 0.5),
            "rounded-down": (np.array([1.0, 2.0, 3.0]), 0.3),
            "half-up": (np.array([1.0]), 0.5),
            "ties-together": (np.array([1.0, 1.0]), 0.5),
        },
        valid=_valid_mask,
        agreeing=(np.array([1.0, 4.0]), 0.5),
        several=(
            (np.array([-5.0, 1.0, 1.0, 1.0, 3.0]), 0.35),
            (np.array([-5.0, 1.0, 1.0, 1.0, 1.0]), 0.5),
        ),
        invalid=(np.array([1.0, 4.0]), 1.5),
    ),
    predictions=(Prediction("04.p1", unit="%"), Prediction("04.p2", unit="%")),
    reflections=(Reflection("04.r1"),),
    numbers=(
        Number("error_dense", "error of the dense net", "%", 2),
        Number("error_cut", "10 % kept, not retrained", "%", 2),
        Number("error_once", "10 % kept, retrained once", "%", 2),
        Number("error_iterative", "8 % kept in rounds", "%", 2),
        Number("ratio", "dense bytes / file bytes at 8 %", "x", 1),
        Number("keeps", "fractions kept", "", 3),
        Number("curve_cut", "error, pruned only", "%", 2),
        Number("curve_once", "error, retrained once", "%", 2),
        Number("curve_iterative", "error, in rounds", "%", 2),
    ),
)
