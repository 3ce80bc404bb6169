"""Lesson 5: two thresholds, a mask that remembers, and a gradient that reaches what is cut.

w weights, mask True where kept, a <= b thresholds of |w|, tau the threshold that both come from.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...reference import ENTRIES
from ...reference.cases_pruning import surgery_case
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
from .inputs import is_finite

Array = np.ndarray
ROUNDING = 1e-10  # relative, of sixty float64 steps

# ----------------------------------------------------------------------------------- the thresholds


BAND = ENTRIES["surgery_thresholds"]


def _band(size, c, *, ddof=0, floor=True) -> tuple[float, float]:
    return _of(size.mean() + c * size.std(ddof=ddof), floor)


def _of(tau: float, floor: bool = True) -> tuple[float, float]:
    # The pair about a threshold.
    tau = max(tau, 0.0) if floor else tau
    return 0.9 * tau, 1.1 * tau


def _apart(w, c):
    a, b = _band(np.abs(w), c)
    return (a + b) / 2 - 0.1, (a + b) / 2 + 0.1


def _on_the_spread(w, c):
    size = np.abs(w)
    return tuple(max(size.mean() + part * c * size.std(), 0.0) for part in (0.9, 1.1))


def _band_same(draw):
    drawn = (draw.normal(3, 4) for _ in range(4))
    return [[{"w": v, "c": 1.5} for v in (w, -w, 8 * w, np.concatenate([w, w]))] for w in drawn]


def _scales_and_repeats(case, results) -> Message | None:
    of = "the pair of thresholds of"
    names = (f"{of} w", f"{of} -w", f"{of} 8 w", f"{of} w taken twice")
    return first_difference([BAND.fn(**one) for one in case], results, names, rtol=BAND.rtol)


_BAND = Exercise(
    id="05.surgery_thresholds",
    minutes=6,
    parts=entry_parts(BAND, more=hidden("invariance", _band_same, _scales_and_repeats)),
    mutants=(
        Mutant(
            "sign-forgotten",
            lambda w, c: _band(w, c),
            forms=(
                lambda w, c: _of(np.abs(w).mean() + c * w.std()),
                lambda w, c: _of(w.mean() + c * np.abs(w).std()),
            ),
        ),
        Mutant("sample-deviation", lambda w, c: _band(np.abs(w), c, ddof=1)),
        Mutant("variance", lambda w, c: _of(np.abs(w).mean() + c * np.abs(w).var())),
        Mutant(
            "floor-forgotten",
            lambda w, c: _band(np.abs(w), c, floor=False),
            forms=(lambda w, c: _of(abs(np.abs(w).mean() + c * np.abs(w).std())),),
        ),
        Mutant("tenth-added", _apart),
        Mutant("spread-only", _on_the_spread),
    ),
    banned=("minicomp.compress.prune.dns:surgery_thresholds", "minicomp.compress.prune.dns:DNS"),
    reference=BAND.fn,
)

# ----------------------------------------------------------------------------------------- the mask


RULE = ENTRIES["surgery_mask"]


def _rule_again(draw):
    cases = (surgery_case(draw, (5, 7)) for _ in range(6))
    return [[c, c | {"w": -c["w"]}, c | {"mask": RULE.fn(**c)}] for c in cases]


def _settled(case, results) -> Message | None:
    names = ("the mask", "the mask of -w", "the mask after a second look at the same weights")
    return first_difference([RULE.fn(**case[0])] * 3, results, names)


_RULE = Exercise(
    id="05.surgery_mask",
    minutes=8,
    parts=entry_parts(RULE, more=hidden("invariance", _rule_again, _settled)),
    mutants=(
        Mutant("middle-is-cut", lambda w, mask, a, b: np.abs(w) >= b),
        Mutant("middle-revives", lambda w, mask, a, b: np.abs(w) >= a),
        Mutant("no-way-back", lambda w, mask, a, b: mask & (np.abs(w) >= a)),
        Mutant("sign-forgotten", lambda w, mask, a, b: (w >= b) | (mask & (w >= a))),
        Mutant(
            "strict",
            lambda w, mask, a, b: (np.abs(w) > b) | (mask & (np.abs(w) > a)),
            forms=(
                lambda w, mask, a, b: (np.abs(w) >= b) | (mask & (np.abs(w) > a)),
                lambda w, mask, a, b: (np.abs(w) > b) | (mask & (np.abs(w) >= a)),
            ),
        ),
        Mutant("turned-round", lambda w, mask, a, b: ~RULE.fn(w, mask, a, b)),
    ),
    banned=("minicomp.compress.prune.dns:surgery_mask", "minicomp.compress.prune.dns:DNS"),
    reference=RULE.fn,
)

# -------------------------------------------------------------------------------------- the surgery


def surgery_steps(
    w: Array, mask: Array, target: Array, lr: float, a: float, b: float, steps: int,
    *, dense=True, zeroed=False, full=False, first=False, late=False, copies=True, early=False,
    masked=False, once=False,
) -> tuple[Array, Array]:
    """Returns the weights after each step and the masks of each step, (steps, ...) both.

    The switches are how the mutants slip.
    """
    path, masks, start = [], [], mask
    for _ in range(steps):
        if not late and not (once and path):
            mask = RULE.fn(w, start if first else mask, a, b)
        before = w = w * mask if zeroed else w
        g = (w if full else w * mask) - target
        w = w - lr * (g if dense else g * mask)
        if late:
            mask = RULE.fn(w, mask, a, b)
        path.append(before if early else w * mask if masked else w)
        masks.append(mask)
    if not copies:
        path, masks = [path[-1]] * steps, [masks[-1]] * steps
    return np.stack(path), np.stack(masks)


def _weights_of_one_array(*args) -> tuple[Array, Array]:
    path, masks = surgery_steps(*args)
    return np.stack([path[-1]] * len(path)), masks


def _masks_of_one_array(*args) -> tuple[Array, Array]:
    path, masks = surgery_steps(*args)
    return path, np.stack([masks[-1]] * len(masks))


def _patient(draw, shape, steps, *, one_sided=False) -> dict:
    # Targets keep away from the thresholds, where the last bit of a sum would decide.
    low, a, b = 0.3 * draw.uniform(*shape), 0.45, 0.55
    size = np.where(draw.uniform(*shape) < 0.5, 0.65 + low, 0.05 + low)
    sign = 1.0 if one_sided else np.where(draw.uniform(*shape) < 0.5, 1.0, -1.0)
    return {
        "w": sign * draw.uniform(*shape, lo=0.1, hi=1.0),
        "mask": draw.uniform(*shape) < 0.75,
        "target": sign * size,
        "lr": draw.choice([0.0625, 0.1, 0.2]),
        "a": a,
        "b": b,
        "steps": steps,
    }


_SLOPE = {"lr": 0.5, "a": 0.5, "b": 0.625, "steps": 2, "mask": np.array([True])}


def _steps_property(draw):
    for i in range(20):
        shape = draw.choice([(1,), (5,), (3, 3), (2, 1, 3)])
        yield _patient(draw, shape, draw.integer(1, 12), one_sided=i % 4 == 1)


def _steps_sixty(draw):
    return [_patient(draw, (4, 5), 60) for _ in range(4)]


_PATHS = ("the path of the weights", "the path of the masks")


def _comes_back(case, result) -> Message | None:
    right = surgery_steps(**case)
    wrong = difference(right, result, rtol=ROUNDING, names=_PATHS)
    if wrong and wrong.slug == "wrong-value":
        back = (~right[1]).any(0) & right[1][-1]
        missing = back & ~np.asarray(result[1], bool)[-1]
        if missing.any():
            told = (
                f"{int(missing.sum())} of {int(back.sum())} weights that must have come back are"
                " still cut after 60 steps"
            )
            return Message(wrong.slug, told, wrong.detail)
    return wrong


_STEPS = Exercise(
    id="05.surgery_steps",
    minutes=14,
    parts=standard_parts(
        equal_to(surgery_steps, rtol=ROUNDING, names=_PATHS),
        tiny=[
            _SLOPE | {"w": np.array([0.25, 1.0]), "mask": np.ones(2, bool), "target": np.ones(2)},
            _SLOPE | {"w": np.array([-0.5]), "mask": np.array([False]), "target": np.array([-0.5])},
            _SLOPE | {"w": np.array([0.5625]), "target": np.array([0.25]), "steps": 3},
        ],
        many=_steps_property,
        golden=[
            {
                "w": np.array([0.375, -0.75, 0.625]),
                "mask": np.array([True, True, False]),
                "target": np.array([0.875, -0.25, 0.125]),
                "lr": 0.25,
                "a": 0.5,
                "b": 0.6875,
                "steps": 5,
            }
        ],
        more=hidden("sixty steps", _steps_sixty, _comes_back, points=2),
    ),
    mutants=(
        Mutant("gradient-masked", partial(surgery_steps, dense=False)),
        Mutant("weight-zeroed", partial(surgery_steps, zeroed=True)),
        Mutant("gradient-of-w", partial(surgery_steps, full=True)),
        Mutant("mask-starts-over", partial(surgery_steps, first=True)),
        Mutant("mask-made-once", partial(surgery_steps, once=True)),
        Mutant("mask-too-late", partial(surgery_steps, late=True)),
        Mutant(
            "one-array",
            partial(surgery_steps, copies=False),
            forms=(_weights_of_one_array, _masks_of_one_array),
        ),
        Mutant("before-the-step", partial(surgery_steps, early=True)),
        Mutant("weights-masked", partial(surgery_steps, masked=True)),
    ),
    banned=(
        "minicomp.compress.prune.dns:surgery_mask",
        "minicomp.compress.prune.dns:DNS",
        "minicomp.compress.prune.dns:Surgery",
    ),
    reference=surgery_steps,
    rtol=ROUNDING,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_rule(w, mask, a, b) -> str | None:
    w, mask = np.asarray(w), np.asarray(mask)
    if not is_finite(w):
        return "w is a float array of 1 to 10,000 finite numbers"
    if mask.dtype.kind != "b" or mask.shape != w.shape:
        return "mask is an array of booleans of the shape of w"
    if any(isinstance(t, bool) or not isinstance(t, int | float | np.floating) for t in (a, b)):
        return "a and b are numbers"
    return None if 0 <= a <= b < np.inf else "0 <= a <= b"


LESSON = LessonChecks(
    number="05",
    name="surgery",
    exercises=(_BAND, _RULE, _STEPS),
    diagnosis=Diagnosis(
        id="05.broken",
        of=_RULE,
        shown_by={
            "middle-is-cut": (np.array([1.5]), np.array([True]), 1.0, 2.0),
            "middle-revives": (np.array([1.5]), np.array([False]), 1.0, 2.0),
            "no-way-back": (np.array([3.0]), np.array([False]), 1.0, 2.0),
            "sign-forgotten": (np.array([-3.0]), np.array([True]), 1.0, 2.0),
            "strict": (np.array([1.0]), np.array([True]), 1.0, 1.0),
        },
        valid=_valid_rule,
        agreeing=(np.array([0.5, 3.0]), np.array([False, True]), 1.0, 2.0),
        several=(
            (
                np.array([-2.0, 1.5, 1.5, 1.0]),
                np.array([False, True, False, True]),
                1.0,
                2.0,
            ),
        ),
        invalid=(np.array([0.5, 3.0]), np.array([False, True]), 2.0, 1.0),
    ),
    predictions=(Prediction("05.p1", unit="%"),),
    reflections=(Reflection("05.r1"),),
    numbers=(
        Number("error_dense", "error of the dense net", "%", 2),
        Number("error_surgery", "error after surgery", "%", 2),
        Number("error_at_once", "cut at once, same sparsity", "%", 2),
        Number("error_gradual", "cut gradually, same sparsity", "%", 2),
        Number("kept", "weights kept", "%", 2),
        Number("times", "weights before / after", "x", 0),
        Number("splices", "splices", "", 0),
        Number("returned", "survivors seen cut before", "%", 0),
        Number("ratio", "dense bytes / file bytes", "x", 1),
        Number("share_survivors", "survivors in the net", "%", 1),
        Number("share_lost", "later lost, in the net", "%", 1),
    ),
)
