"""Lesson 5: two thresholds, a mask that remembers, and a gradient that reaches what is cut.

w weights, mask True where kept, a <= b thresholds of |w|, tau the threshold that both come from.
"""

from __future__ import annotations

import numpy as np

from ..catalog import LessonChecks, Number, Reflection
from ..asking.exercise import Diagnosis, Exercise, Mutant, Part, Prediction
from ..asking.judge import Message, difference, equal_to

Array = np.ndarray
SUMS = 1e-12  # relative, of a mean and a deviation of some dozen float64
ROUNDING = 1e-10  # relative, of sixty float64 steps

# ----------------------------------------------------------------------------------- the thresholds


def surgery_thresholds(w: Array, c: float) -> tuple[float, float]:
    """Returns (0.9 tau, 1.1 tau), tau = max(mu + c sigma, 0) over |w|."""
    return _band(np.abs(w), c)


def _band(size, c, *, ddof=0, floor=True) -> tuple[float, float]:
    tau = size.mean() + c * size.std(ddof=ddof)
    tau = max(tau, 0.0) if floor else tau
    return 0.9 * tau, 1.1 * tau


def _apart(w, c):
    a, b = _band(np.abs(w), c)
    return (a + b) / 2 - 0.1, (a + b) / 2 + 0.1


def _on_the_spread(w, c):
    size = np.abs(w)
    return tuple(max(size.mean() + part * c * size.std(), 0.0) for part in (0.9, 1.1))


def _band_tiny(draw):
    yield {"w": np.array([1.0, -3.0, 1.0, 3.0]), "c": 0.5}
    yield {"w": np.array([2.0, -2.0]), "c": 4.0}
    yield {"w": np.array([1.0, 3.0]), "c": -4.0}


def _band_property(draw):
    for i in range(20):
        w = draw.normal(*draw.choice([(2,), (7,), (3, 5), (5, 1), (2, 3, 3, 3)]))
        w = np.abs(w) + 0.25 if i % 4 == 1 else 0.01 * w if i % 4 == 2 else w  # one-sided; small
        yield {"w": w, "c": draw.choice([-3.0, -0.5, 0.0, 0.5, 2.0, 8.0])}


def _band_same(draw):
    for _ in range(4):
        w = draw.normal(3, 4)
        yield [{"w": v, "c": 1.5} for v in (w, -w, 8 * w, np.concatenate([w, w]))]


def _scales_and_repeats(case, results) -> Message | None:
    names = ("w", "-w", "8 w", "w taken twice")
    for one, result, name in zip(case, results, names):
        where = f"the pair of thresholds of {name}"
        wrong = difference(surgery_thresholds(**one), result, rtol=SUMS, where=where)
        if wrong:
            return wrong
    return None


_BAND = Exercise(
    id="05.surgery_thresholds",
    title="Two thresholds",
    minutes=6,
    parts=(
        Part("tiny", 1, _band_tiny, equal_to(surgery_thresholds, rtol=SUMS)),
        Part("property", 2, _band_property, equal_to(surgery_thresholds, rtol=SUMS), hidden=True),
        Part("invariance", 1, _band_same, _scales_and_repeats, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [{"w": np.array([[-4, 1, 2], [8, -5, -7]]) / 8, "c": 2.0}],
            equal_to(surgery_thresholds, rtol=SUMS),
        ),
    ),
    mutants=(
        Mutant(
            "sign-forgotten",
            lambda w, c: _band(w, c),
            "Mean and deviation were taken of w. Weights of both signs cancel in that mean: the"
            " threshold is about sizes, so both are of |w|.",
        ),
        Mutant(
            "sample-deviation",
            lambda w, c: _band(np.abs(w), c, ddof=1),
            "The deviation was divided by n - 1. These are all the weights of the layer, not a"
            " sample of them: the mean square is over n, as np.std does it.",
        ),
        Mutant(
            "floor-forgotten",
            lambda w, c: _band(np.abs(w), c, floor=False),
            "tau became negative, and then a lies above b. With c far below 0 nothing is to be"
            " cut: tau is at least 0.",
        ),
        Mutant(
            "tenth-added",
            _apart,
            "A tenth was taken off and added. The band is a tenth of tau wide to each side, so"
            " that it fits layers of large and of small weights: multiply.",
        ),
        Mutant(
            "spread-only",
            _on_the_spread,
            "0.9 and 1.1 went to the deviation alone. They multiply the whole of tau, mean and"
            " deviation.",
        ),
    ),
    hints=(
        "How large is a usual weight of this layer, and by how much do sizes differ?",
        "size = |w|; tau = mean(size) + c std(size), at least 0; the pair is 0.9 tau, 1.1 tau.",
        (
            "size = absolute values of w; tau = mean of size + c * deviation of size (over n); if"
            " tau < 0 then tau = 0; return 0.9 * tau and 1.1 * tau"
        ),
    ),
    tolerance="1e-12 of the threshold: a mean and a deviation of some dozen float64",
    banned=(
        "minicomp.compress.prune.dns:surgery_thresholds",
        "minicomp.compress.prune.dns:DNS",
    ),
    reference=surgery_thresholds,
)

# ----------------------------------------------------------------------------------------- the mask


def surgery_mask(w: Array, mask: Array, a: float, b: float) -> Array:
    """Returns False where |w| < a, True where |w| >= b, `mask` in between."""
    size = np.abs(w)
    return (size >= b) | (mask & (size >= a))


def _rule_tiny(draw):
    yield {"w": np.array([0.5, 3.0]), "mask": np.array([True, False]), "a": 1.0, "b": 2.0}
    yield {"w": np.array([-1.5, 1.5]), "mask": np.array([True, False]), "a": 1.0, "b": 2.0}
    yield {"w": np.array([1.0, -2.0]), "mask": np.array([True, False]), "a": 1.0, "b": 2.0}


def _rule(draw, shape, *, coarse=False) -> dict:
    w = draw.normal(*shape)
    a, width = draw.choice([0.25, 0.5, 1.0]), draw.choice([0.0, 0.25, 0.75])
    return {
        "w": np.rint(4 * w) / 4 if coarse else w,  # coarse: sizes equal to a threshold
        "mask": draw.uniform(*shape) < 0.5,
        "a": a,
        "b": a + width,
    }


def _rule_property(draw):
    for i in range(24):
        shape = draw.choice([(1,), (7,), (3, 5), (5, 1), (2, 3, 3, 3)])
        case = _rule(draw, shape, coarse=i % 2 == 1)
        yield case | {"w": np.abs(case["w"]) + 0.125} if i % 6 == 4 else case  # one-sided


def _rule_again(draw):
    for _ in range(6):
        case = _rule(draw, (5, 7))
        yield [case, case | {"w": -case["w"]}, case | {"mask": surgery_mask(**case)}]


def _settled(case, results) -> Message | None:
    right = surgery_mask(**case[0])
    names = ("the mask", "the mask of -w", "the mask after a second look at the same weights")
    found = (difference(right, result, where=name) for name, result in zip(names, results))
    return next((wrong for wrong in found if wrong), None)


_RULE = Exercise(
    id="05.surgery_mask",
    title="A mask that remembers",
    minutes=8,
    parts=(
        Part("tiny", 1, _rule_tiny, equal_to(surgery_mask)),
        Part("property", 2, _rule_property, equal_to(surgery_mask), hidden=True),
        Part("invariance", 1, _rule_again, _settled, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
                {
                    "w": np.array([[-9, 5, 4, -6], [6, -3, 8, -5]]) / 8,
                    "mask": np.array([[False, True, True, False], [True, True, False, False]]),
                    "a": 0.625,
                    "b": 1.0,
                }
            ],
            equal_to(surgery_mask),
        ),
    ),
    mutants=(
        Mutant(
            "middle-is-cut",
            lambda w, mask, a, b: np.abs(w) >= b,
            "Everything below b was cut: one threshold. A weight between a and b stays what it"
            " was, in the net or out of it.",
        ),
        Mutant(
            "middle-revives",
            lambda w, mask, a, b: np.abs(w) >= a,
            "Everything from a on is in the net: one threshold. A weight that is out must reach b"
            " before it comes back.",
        ),
        Mutant(
            "no-way-back",
            lambda w, mask, a, b: mask & (np.abs(w) >= a),
            "What is out stays out, however large it has grown. From b on a weight is spliced"
            " back, whatever the mask was.",
        ),
        Mutant(
            "sign-forgotten",
            lambda w, mask, a, b: (w >= b) | (mask & (w >= a)),
            "Negative weights were cut, however large. Both thresholds are compared with |w|.",
        ),
        Mutant(
            "strict",
            lambda w, mask, a, b: (np.abs(w) > b) | (mask & (np.abs(w) > a)),
            "A weight exactly at a threshold: |w| = a is not below a, so it is not cut, and"
            " |w| = b is spliced. Compare with >=.",
        ),
    ),
    hints=(
        "Three zones of |w|. In two of them the old mask does not matter. In which?",
        "mask' = (|w| >= b) or (mask and |w| >= a), entry by entry: | and & on arrays.",
        (
            "size = absolute values of w; large = size >= b; fair = size >= a; the result is large,"
            " or else (old mask and fair)"
        ),
    ),
    tolerance="equality: a mask is right or wrong in each entry",
    banned=(
        "minicomp.compress.prune.dns:surgery_mask",
        "minicomp.compress.prune.dns:DNS",
    ),
    reference=surgery_mask,
)

# -------------------------------------------------------------------------------------- the surgery


def surgery_steps(
    w: Array, mask: Array, target: Array, lr: float, a: float, b: float, steps: int
) -> tuple[Array, Array]:
    """Returns the weights after each step and the masks of each step, (steps, ...) both."""
    return _operate(w, mask, target, lr, a, b, steps)


def _operate(
    w,
    mask,
    target,
    lr,
    a,
    b,
    steps,
    *,
    dense=True,
    zeroed=False,
    full=False,
    first=False,
    late=False,
) -> tuple[Array, Array]:
    # The switches are how the mutants slip.
    path, masks, start = [], [], mask
    for _ in range(steps):
        if not late:
            mask = surgery_mask(w, start if first else mask, a, b)
        w = w * mask if zeroed else w
        g = (w if full else w * mask) - target
        w = w - lr * (g if dense else g * mask)
        if late:
            mask = surgery_mask(w, mask, a, b)
        path.append(w)
        masks.append(mask)
    return np.stack(path), np.stack(masks)


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


def _steps_tiny(draw):
    case = {"lr": 0.5, "a": 0.5, "b": 0.625, "steps": 2}
    yield case | {
        "w": np.array([0.25, 1.0]),
        "mask": np.array([True, True]),
        "target": np.array([1.0, 1.0]),
    }
    yield case | {"w": np.array([-0.5]), "mask": np.array([False]), "target": np.array([-0.5])}
    yield case | {
        "w": np.array([0.5625]),
        "mask": np.array([True]),
        "target": np.array([0.25]),
        "steps": 3,
    }


def _steps_property(draw):
    for i in range(20):
        shape = draw.choice([(1,), (5,), (3, 3), (2, 1, 3)])
        yield _patient(draw, shape, draw.integer(1, 12), one_sided=i % 4 == 1)


def _steps_sixty(draw):
    for _ in range(4):
        yield _patient(draw, (4, 5), 60)


def _comes_back(case, result) -> Message | None:
    right = surgery_steps(**case)
    wrong = difference(right, result, rtol=ROUNDING)
    if wrong and wrong.slug == "wrong-value":
        back = (~right[1]).any(0) & right[1][-1]
        missing = back & ~np.asarray(result[1], bool)[-1]
        if missing.any():
            return Message(
                wrong.slug,
                f"{int(missing.sum())} of {int(back.sum())} weights that must have come back are"
                " still cut after 60 steps",
                wrong.detail,
            )
    return wrong


_STEPS = Exercise(
    id="05.surgery_steps",
    title="Surgery: a wrongly cut weight returns",
    minutes=14,
    parts=(
        Part("tiny", 1, _steps_tiny, equal_to(surgery_steps, rtol=ROUNDING)),
        Part("property", 2, _steps_property, equal_to(surgery_steps, rtol=ROUNDING), hidden=True),
        Part("sixty steps", 2, _steps_sixty, _comes_back, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
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
            equal_to(surgery_steps, rtol=ROUNDING),
        ),
    ),
    mutants=(
        Mutant(
            "gradient-masked",
            lambda *a, **k: _operate(*a, **k, dense=False),
            "The gradient was masked, so a cut weight never moves and never comes back. Every entry"
            " of w takes the step, also those that are out (eq. 2).",
        ),
        Mutant(
            "weight-zeroed",
            lambda *a, **k: _operate(*a, **k, zeroed=True),
            "The cut weights were set to 0 in w itself. Then each starts again from nothing. The"
            " mask belongs to the product w T; w behind it keeps its value.",
        ),
        Mutant(
            "gradient-of-w",
            lambda *a, **k: _operate(*a, **k, full=True),
            "The loss was differentiated at w. The net computes with w T: there a cut weight counts"
            " as 0, and the gradient says what the net misses.",
        ),
        Mutant(
            "mask-starts-over",
            lambda *a, **k: _operate(*a, **k, first=True),
            "Every mask was made from the first one. Between the thresholds a weight stays what it"
            " was a step ago: hand the mask on.",
        ),
        Mutant(
            "mask-too-late",
            lambda *a, **k: _operate(*a, **k, late=True),
            "The step was taken with the mask of the step before. First the mask, then the gradient"
            " at w T, then the step.",
        ),
    ),
    hints=(
        "Two arrays side by side: w, which always learns, and T, which says what the net uses.",
        (
            "in each step: T = h(w, T); g = w T - target; w = w - lr g, all entries. Keep w and T;"
            " stack both to (steps, ...)."
        ),
        (
            "repeat steps times: mask = surgery_mask(w, mask, a, b); g = w * mask - target;"
            " w = w - lr * g; append w to one list and mask to the other; stack both lists"
        ),
    ),
    tolerance="1e-10 of the largest weight: sixty float64 steps; masks are exactly equal",
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
    if w.dtype.kind != "f" or not 1 <= w.size <= 10_000 or not np.isfinite(w).all():
        return "w is a float array of 1 to 10,000 finite numbers"
    if mask.dtype.kind != "b" or mask.shape != w.shape:
        return "mask is an array of booleans of the shape of w"
    if any(isinstance(t, bool) or not isinstance(t, int | float | np.floating) for t in (a, b)):
        return "a and b are numbers"
    return None if 0 <= a <= b < np.inf else "0 <= a <= b"


LESSON = LessonChecks(
    number="05",
    name="surgery",
    title="Dynamic network surgery",
    exercises=(_BAND, _RULE, _STEPS),
    diagnosis=Diagnosis(
        id="05.broken",
        of=_RULE,
        slugs=("middle-is-cut", "middle-revives", "no-way-back", "sign-forgotten", "strict"),
        valid=_valid_rule,
        agreeing=lambda: (np.array([0.5, 3.0]), np.array([False, True]), 1.0, 2.0),
        invalid=lambda: (np.array([0.5, 3.0]), np.array([False, True]), 2.0, 1.0),
        hints=(
            (
                "What did all their tests have in common? Positive weights, small ones out and"
                " large ones in."
            ),
            "The answer is a tuple (w, mask, a, b).",
            (
                "put into one w: a large negative weight that is out, weights between a and b of"
                " which some are in and some out, and one exactly at each threshold"
            ),
        ),
    ),
    predictions=(
        Prediction(
            "05.p1",
            "Of 100 weights that survive the surgery, how many were cut at some time?",
            "%",
            lo=0,
            hi=100,
        ),
    ),
    reflections=(
        Reflection(
            "05.r1",
            "Surgery and gradual pruning differ in the way back. In what else? Describe one more"
            " run that tells whether the way back is what wins, and what you would count as an"
            " answer. With high=1e9 no weight ever reaches b.",
            (
                (
                    3,
                    (
                        "another difference (thresholds or counts; a gradient for all weights or"
                        " for the kept ones); surgery with high=1e9 and a lower c, so that as many"
                        " weights stay and nothing else changes; which result means what; more"
                        " than one seed"
                    ),
                ),
                (2, "such a run, without saying how its result is read"),
                (1, "names another difference, without a run"),
                (0, "takes the lower error as proof that splices are needed"),
            ),
        ),
    ),
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
