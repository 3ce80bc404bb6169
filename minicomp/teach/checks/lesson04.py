"""Lesson 4: magnitude masks, masked SGD with momentum, and how much to keep in each round.

w weights, mask True where kept, s sparsity (fraction of zeros).
"""

from __future__ import annotations

import numpy as np

from ..catalog import LessonChecks, Number, Reflection
from ..asking.exercise import Diagnosis, Exercise, Mutant, Part, Prediction
from ..asking.judge import Message, difference, equal_to, is_sparsity

Array = np.ndarray
ROUNDING = 1e-10  # relative, of a hundred float64 steps

# ----------------------------------------------------------------------------------------- the mask


def magnitude_mask(w: Array, sparsity: float) -> Array:
    """Returns the mask that drops the round(sparsity n) smallest |w|, ties by lowest index."""
    return _smallest_go(np.abs(w), round(sparsity * w.size))


def _smallest_go(score: Array, zeros: int) -> Array:
    mask = np.ones(score.size, bool)
    mask[np.argsort(score, axis=None, kind="stable")[:zeros]] = False
    return mask.reshape(score.shape)


def _up_to_threshold(w: Array, sparsity: float) -> Array:
    zeros = round(sparsity * w.size)
    return np.abs(w) > (np.sort(np.abs(w), axis=None)[zeros - 1] if zeros else -1)


def _mask_tiny(draw):
    yield {"w": np.array([0.5, -0.1, 0.3, -0.9]), "sparsity": 0.5}
    yield {"w": np.array([-3.0, 1.0]), "sparsity": 0.5}
    yield {"w": np.array([[1.0, -1.0], [1.0, 2.0]]), "sparsity": 0.5}


def _mask_property(draw):
    for i in range(20):
        w = draw.normal(*draw.choice([(1,), (7,), (3, 5), (5, 1), (2, 3, 3, 3)]))
        w = (
            np.abs(w) + 0.25 if i % 4 == 1 else np.rint(2 * w) / 2 if i % 4 == 2 else w
        )  # one-sided; with ties
        yield {"w": w, "sparsity": draw.choice([0.0, 0.1, 0.33, 0.5, 0.75, 0.9, 0.99])}


def _mask_signs(draw):
    for _ in range(4):
        w = draw.normal(4, 5)
        yield [{"w": w, "sparsity": 0.6}, {"w": -w, "sparsity": 0.6}, {"w": 8 * w, "sparsity": 0.6}]


def _signs_do_not_count(case, results) -> Message | None:
    wrong = difference(magnitude_mask(**case[0]), results[0])
    return (
        wrong
        or difference(np.asarray(results[0]), results[1], where="the mask of -w")
        or difference(np.asarray(results[0]), results[2], where="the mask of 8 w")
    )


_MASK = Exercise(
    id="04.magnitude_mask",
    title="The mask: exactly so many zeros",
    minutes=7,
    parts=(
        Part("tiny", 1, _mask_tiny, equal_to(magnitude_mask)),
        Part("property", 2, _mask_property, equal_to(magnitude_mask), hidden=True),
        Part("invariance", 1, _mask_signs, _signs_do_not_count, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
                {"w": np.array([4, -1, 2, -8, 5, 7, -1, 4, 2, 8, 5]) / 8, "sparsity": 0.45}
            ],
            equal_to(magnitude_mask),
        ),
    ),
    mutants=(
        Mutant(
            "sign-forgotten",
            lambda w, sparsity: _smallest_go(w, round(sparsity * w.size)),
            "The most negative weights went, however large. What counts is the magnitude |w|.",
        ),
        Mutant(
            "rounded-down",
            lambda w, sparsity: _smallest_go(np.abs(w), int(sparsity * w.size)),
            "The number of zeros is s x n rounded to the nearest integer (round), not cut off"
            " (int).",
        ),
        Mutant(
            "ties-together",
            _up_to_threshold,
            "A threshold drops all equal magnitudes together. Exactly round(s n) weights go; of"
            " equals those with the lowest index.",
        ),
        Mutant(
            "part-of-the-largest",
            lambda w, sparsity: np.abs(w) > sparsity * np.abs(w).max(),
            "s times the largest |w| is a threshold, but how many weights lie below it depends on"
            " the layer. s is the fraction of weights that go.",
        ),
        Mutant(
            "sparsity-as-threshold",
            lambda w, sparsity: np.abs(w) > sparsity,
            "s was compared with the weights themselves. It is no threshold: it says which part of"
            " the weights goes, whatever their size.",
        ),
        Mutant(
            "keeps-the-small",
            lambda w, sparsity: ~_smallest_go(np.abs(w), w.size - round(sparsity * w.size)),
            "The mask is True where a weight is kept: here the small ones stayed.",
        ),
    ),
    hints=(
        "Put the weights in order of size and cross out from the small end until enough are gone.",
        (
            "round(sparsity * w.size) entries are False. np.argsort of |w| flattened,"
            " kind='stable', gives the order with ties by lowest index."
        ),
        (
            "n = round(sparsity * w.size); order = stable argsort of |w|, flat; mask = all True,"
            " flat; mask at the first n of order = False; reshape like w"
        ),
    ),
    tolerance="equality: a mask is right or wrong in each entry",
    banned=(
        "minicomp.compress.scores:magnitude_mask",
        "minicomp.compress.scores:smallest_mask",
        "minicomp.compress.scores:global_masks",
        "minicomp.compress.scores:kernel_mask",
        "minicomp.compress.prune.magnitude:Magnitude",
    ),
    reference=magnitude_mask,
)

# ------------------------------------------------------------------------------------------ the SGD


def masked_sgd(
    w: Array, v: Array, mask: Array, grads: Array, lr: float, momentum: float, weight_decay: float
) -> Array:
    """Returns w after each step, (T, ...); pruned entries are 0 throughout."""
    return _steps(w, v, mask, grads, lr, momentum, weight_decay)


def _steps(
    w,
    v,
    mask,
    grads,
    lr,
    momentum,
    weight_decay,
    *,
    each=True,
    first=True,
    last=False,
    gradient=False,
    decay=True,
    copies=True,
) -> Array:
    # The path of w, (T, ...); the switches say what is masked, and are how the mutants slip.
    w, v, path = w * mask if first else w.copy(), v.copy(), []
    for g in grads:
        g = g + weight_decay * w if decay else g
        v = momentum * v + (g * mask if gradient else g)
        w = w - lr * v
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


def _sgd_tiny(draw):
    case = {
        "w": np.array([1.0, 0.5]),
        "v": np.array([0.0, 0.0]),
        "mask": np.array([True, False]),
        "lr": 0.5,
        "momentum": 0.5,
        "weight_decay": 0.0,
    }
    yield case | {"grads": np.array([[1.0, 1.0]])}
    yield case | {"grads": np.zeros((2, 2)), "v": np.array([0.0, 4.0])}
    yield case | {"grads": np.zeros((1, 2)), "weight_decay": 0.5}


def _sgd_property(draw):
    for _ in range(20):
        shape = draw.choice([(1,), (5,), (3, 3), (2, 1, 3)])
        yield _sgd(draw, shape, draw.integer(1, 9), draw.choice([0.0, 0.4, 0.5, 0.9]))


def _sgd_hundred(draw):
    for _ in range(3):
        yield _sgd(draw, (4, 5), 100, 0.8)


def _zeros_stay(case, result) -> Message | None:
    wrong = difference(masked_sgd(**case), result, rtol=ROUNDING)
    if wrong and wrong.slug == "wrong-value":
        alive = np.flatnonzero((np.asarray(result) * ~case["mask"]).reshape(100, -1).any(1))
        if alive.size:
            return Message(
                wrong.slug,
                f"a pruned weight is not 0 after step {alive[0] + 1} of 100",
                wrong.detail,
            )
    return wrong


_SGD = Exercise(
    id="04.masked_sgd",
    title="SGD with momentum that leaves zeros alone",
    minutes=12,
    parts=(
        Part("tiny", 1, _sgd_tiny, equal_to(masked_sgd, rtol=ROUNDING)),
        Part("property", 2, _sgd_property, equal_to(masked_sgd, rtol=ROUNDING), hidden=True),
        Part("hundred steps", 2, _sgd_hundred, _zeros_stay, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
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
            equal_to(masked_sgd, rtol=ROUNDING),
        ),
    ),
    mutants=(
        Mutant(
            "momentum-revives",
            lambda *a, **k: _steps(*a, **k, each=False, gradient=True),
            "Only the gradient was masked. The velocity still moves pruned weights: it remembers"
            " gradients from before the pruning. Mask the weight after the step.",
        ),
        Mutant(
            "masked-once",
            lambda *a, **k: _steps(*a, **k, each=False),
            "The mask was applied once, before the first step. Every step moves every weight, so"
            " every step must mask.",
        ),
        Mutant(
            "masked-at-the-end",
            lambda *a, **k: _steps(*a, **k, each=False, last=True),
            "The mask was applied after the last step only. In between the pruned weights were"
            " alive, and the network would have learned with them.",
        ),
        Mutant(
            "decay-forgotten",
            lambda *a, **k: _steps(*a, **k, decay=False),
            "Weight decay is missing: the gradient of lambda/2 |w|^2 is lambda w, added to g before"
            " momentum.",
        ),
        Mutant(
            "one-array",
            lambda *a, **k: _steps(*a, **k, copies=False),
            "Every row of the result is the last one: a list of one array that was changed in"
            " place. Keep a copy of each step.",
        ),
    ),
    hints=(
        (
            "What moves a weight? The gradient, the decay, and the memory of both: the velocity."
            " Which of the three is 0 for a pruned weight?"
        ),
        (
            "g' = g + weight_decay w;  v = momentum v + g';  w = (w - lr v) mask;  result[t] is w"
            " after step t, shape (T, ...)."
        ),
        (
            "w = w times mask; for each g: g = g + weight_decay * w; v = momentum * v + g; w = (w -"
            " lr * v) * mask; append w; stack the list"
        ),
    ),
    tolerance="1e-10 of the largest weight: a hundred float64 steps; pruned weights are exactly 0",
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
    title="How much to keep in each round",
    minutes=6,
    parts=(
        Part(
            "tiny",
            1,
            lambda draw: [{"keep": 0.25, "rounds": 2}, {"keep": 0.125, "rounds": 1}],
            equal_to(keep_per_round, rtol=1e-12),
        ),
        Part(
            "property",
            2,
            lambda draw: [
                {"keep": float(k), "rounds": draw.integer(1, 12)}
                for k in draw.uniform(20, lo=0.01, hi=1.0)
            ],
            equal_to(keep_per_round, rtol=1e-12),
            hidden=True,
        ),
        Part(
            "golden",
            1,
            lambda draw: [{"keep": 0.0625, "rounds": 4}],
            equal_to(keep_per_round, rtol=1e-12),
        ),
    ),
    mutants=(
        Mutant(
            "equal-steps",
            lambda keep, rounds: np.linspace(1, keep, rounds + 1)[1:],
            "Each round took the same number of weights. Then the last rounds take most of what is"
            " left: each round should take the same part of what the one before left.",
        ),
        Mutant(
            "starts-at-one",
            lambda keep, rounds: keep ** (np.arange(rounds) / rounds),
            "The first round kept everything. The list starts after the first pruning and ends at"
            " keep.",
        ),
        Mutant(
            "sparsity",
            lambda keep, rounds: 1 - keep ** (np.arange(1, rounds + 1) / rounds),
            "That is the part that is gone, not the part that is kept.",
        ),
        Mutant(
            "all-at-once",
            lambda keep, rounds: keep ** np.arange(1.0, rounds + 1),
            "Every round kept the whole factor, so the net ends far below keep. rounds factors"
            " together make keep: each is its root.",
        ),
    ),
    hints=(
        "If each of r rounds keeps the same part q of what is left, what is left at the end?",
        "q^rounds = keep, so after round i the net keeps keep^(i / rounds), i = 1..rounds.",
        "i = 1, 2, ..., rounds as an array; return keep to the power of i / rounds",
    ),
    tolerance="1e-12 relative: one power in float64",
    reference=keep_per_round,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_mask(w, sparsity) -> str | None:
    w = np.asarray(w)
    if w.dtype.kind != "f" or not 1 <= w.size <= 10_000 or not np.isfinite(w).all():
        return "w is a float array of 1 to 10,000 finite numbers"
    return None if is_sparsity(sparsity) else "sparsity is a number in [0, 1)"


LESSON = LessonChecks(
    number="04",
    name="magnitude",
    title="Magnitude pruning and iterative retraining",
    exercises=(_MASK, _SGD, _ROUNDS),
    diagnosis=Diagnosis(
        id="04.broken",
        of=_MASK,
        slugs=("sign-forgotten", "rounded-down", "ties-together", "part-of-the-largest"),
        valid=_valid_mask,
        agreeing=lambda: (np.array([1.0, 4.0]), 0.5),
        invalid=lambda: (np.array([1.0, 4.0]), 1.5),
        hints=(
            (
                "What did all your tests have in common? Positive weights, no two equal, a round"
                " number of zeros."
            ),
            "The answer is a tuple (w, sparsity).",
            (
                "try weights of both signs, two equal magnitudes at the cut, and s * n = 1.6;"
                " return the pair for which broken(w, s) is not magnitude_mask(w, s)"
            ),
        ),
    ),
    predictions=(
        Prediction(
            "04.p1",
            "Test error after 90 % of the weights are cut, without retraining?",
            "%",
            lo=0,
            hi=100,
        ),
        Prediction("04.p2", "And after a few epochs of retraining?", "%", lo=0, hi=100),
    ),
    reflections=(
        Reflection(
            "04.r1",
            "Your net keeps 8 % of its weights. A colleague stores it as an ordinary float32 "
            "array and runs it with an ordinary matrix product. What has he gained, what not, "
            "and what would have to change? Use the numbers of your run.",
            (
                (
                    3,
                    (
                        "nothing in bytes or time: zeros are stored and multiplied; a sparse file"
                        " needs positions (index cost named), a sparse kernel pays only above some"
                        " sparsity (its own timing quoted)"
                    ),
                ),
                (2, "zeros are stored and multiplied, and one of the two remedies"),
                (1, "no gain, without a reason"),
                (0, "claims that the net is smaller or faster as it is"),
            ),
        ),
    ),
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
