"""Lesson 7: saliencies of OBD, a step of OBS, and the inverse Hessian that OBS needs.

w (n,) weights, H (n, n) second derivatives of the loss, X (P, n) gradients of the output, one
example a row, alpha on the diagonal of H.
"""

from __future__ import annotations

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
from .inputs import is_finite

Array = np.ndarray
PRODUCT = 1e-14  # relative: three roundings
SOLVED = 1e-9  # relative: at condition numbers below 200, 200 updates lose less than 1e-11


def _spd(draw, n: int) -> Array:
    # A symmetric, positive definite (n, n) matrix of multiples of 1/64: in effect the same on every
    # machine. Rounding moves its eigenvalues by at most n / 128 < 1/4 for n < 32.
    A = draw.normal(n, n + 1)
    M = np.rint(64 * (A @ A.T) / n) / 64
    return np.tril(M) + np.tril(M, -1).T + 0.25 * np.eye(n)


def _weights(draw, n: int, i: int) -> Array:
    # Every fourth case has one sign only and no small weight.
    w = draw.normal(n)
    return np.abs(w) + 0.25 if i % 4 == 1 else w


# ----------------------------------------------------------------------------------- the saliency


def obd_saliency(w: Array, H: Array) -> Array:
    """Returns s_q = H_qq w_q^2 / 2, (n,).

    The entry takes the diagonal; here H is whole, so that its other entries can mislead, and the
    cases are the lesson's own.
    """
    return ENTRIES["obd_saliency"].fn(w, np.diag(H))


def _saliency_property(draw):
    for i in range(20):
        n = draw.choice((1, 2, 3, 5, 8))
        yield {"w": _weights(draw, n, i), "H": _spd(draw, n)}


def _saliency_scaled(draw):
    for _ in range(4):
        w, H = draw.normal(5), _spd(draw, 5)
        yield [{"w": w, "H": H}, {"w": -2 * w, "H": H}, {"w": w, "H": 4 * H}]


def _four_times(case, results) -> Message | None:
    right = obd_saliency(**case[0])
    names = ("the result", "the saliency of -2 w", "the saliency under 4 H")
    return first_difference((right, 4 * right, 4 * right), results, names, rtol=PRODUCT)


_SALIENCY = Exercise(
    id="07.obd_saliency",
    minutes=6,
    parts=standard_parts(
        equal_to(obd_saliency, rtol=PRODUCT),
        tiny=[
            {"w": np.array([3.0]), "H": np.array([[2.0]])},
            {"w": np.array([1.0, 3.0]), "H": np.array([[2.0, 1.0], [1.0, 2.0]])},
            {"w": np.array([-2.0, 1.0]), "H": np.array([[0.5, 0.0], [0.0, 8.0]])},
        ],
        many=_saliency_property,
        golden=[
            {
                "w": np.array([2.0, -1.5, 0.25]),
                "H": np.array([[4.0, 2.0, -1.0], [2.0, 6.0, 0.5], [-1.0, 0.5, 1.0]]),
            }
        ],
        more=hidden("scaling", _saliency_scaled, _four_times),
        points=(1, 1, 1),
    ),
    mutants=(
        Mutant("no-half", lambda w, H: np.diag(H) * w * w),
        Mutant(
            "not-squared",
            lambda w, H: np.diag(H) * np.abs(w) / 2,
            forms=(lambda w, H: np.diag(H) * w / 2,),
        ),
        Mutant("whole-row", lambda w, H: w * (H @ w) / 2),
        Mutant("inverse-diagonal", lambda w, H: w * w / (2 * np.diag(np.linalg.inv(H)))),
        Mutant("divided-by-h", lambda w, H: w * w / (2 * np.diag(H))),
        Mutant(
            "magnitude",
            lambda w, H: w * w / 2,
            forms=(lambda w, H: np.abs(w), lambda w, H: w * w),
        ),
    ),
    banned=("minicomp.compress.prune.obd:obd_saliency",),
    reference=obd_saliency,
    rtol=PRODUCT,
    atol=0.0,
)

# ---------------------------------------------------------------------------------------- the step


def obs_step(w: Array, Hinv: Array) -> tuple[int, float, Array]:
    """Returns q, L_q and the weights after q went and all others moved; entry q is exactly 0.

    The entry is told q; here the choice is part of the answer, so cases and judge are the lesson's
    own.
    """
    q = int(np.argmin(ENTRIES["obs_saliency"].fn(w, Hinv)))
    moved, rise = ENTRIES["obs_step"].fn(w, Hinv, q)
    return q, rise, moved


def _step(
    w, Hinv, *, score=None, move=None, sign=1.0, divide=True, zero=True, last=False
) -> tuple[int, float, Array]:
    # How the mutants slip. score: what chooses; move: the matrix whose column moves the others.
    L = w * w / (2 * np.diag(Hinv))
    score = L if score is None else score
    q = len(w) - 1 - int(np.argmin(score[::-1])) if last else int(np.argmin(score))
    move = Hinv if move is None else move
    moved = w - sign * w[q] / (move[q, q] if divide else 1.0) * move[:, q]
    if zero:
        moved[q] = 0.0
    return q, float(L[q]), moved


def _not_inverted(w, Hinv):
    return _step(w, np.linalg.inv(Hinv))


def _by_obd(w, Hinv):
    return _step(w, Hinv, score=obd_saliency(w, np.linalg.inv(Hinv)))


def _no_half(w, Hinv):
    q, L, moved = obs_step(w, Hinv)
    return q, 2 * L, moved


_STEPPED = ("q", "L_q", "the vector of weights")


def _step_right(case, result) -> Message | None:
    """Says what is wrong with (q, L_q, weights): the weight first, then the numbers, then the 0."""
    right = obs_step(**case)
    if isinstance(result, tuple | list) and len(result) == 3:
        q = result[0]
        if isinstance(q, int | np.integer) and not isinstance(q, bool) and int(q) != right[0]:
            told = f"expected q = {right[0]}, got {int(q)}"
            return Message("wrong-weight", "another weight has the smallest L_q", told)
    wrong = difference(right, result, rtol=SOLVED, names=_STEPPED)
    if wrong is None and (left := float(np.asarray(result[2])[right[0]])) != 0:
        told = f"got {left:.3g} at entry {right[0]}"
        return Message("not-zero", "the deleted weight is not exactly 0", told)
    return wrong


def _step_property(draw):
    for i in range(24):
        n = draw.choice((1, 2, 3, 5, 7, 9))
        yield {"w": _weights(draw, n, i), "Hinv": _spd(draw, n)}


def _step_small(draw):
    return [{"w": _weights(draw, 4, i), "Hinv": _spd(draw, 4)} for i in range(6)]


def _nothing_is_cheaper(case, result) -> Message | None:
    """Compares with every deletion there is, each solved for the others by itself."""
    w, H = case["w"], np.linalg.inv(case["Hinv"])
    if not isinstance(result, tuple | list) or len(result) != 3 or np.shape(result[2]) != w.shape:
        return difference(obs_step(**case), result)
    prices = np.array([_cheapest(w, H, q) for q in range(len(w))])
    q, least = int(np.argmin(prices)), float(prices.min())
    if wrong := difference((q, least), tuple(result[:2]), rtol=SOLVED):
        return wrong
    d = np.asarray(result[2], float) - w
    if result[2][q] != 0 or not abs(d @ H @ d / 2 - least) <= SOLVED * least:
        told = f"the loss rises by {d @ H @ d / 2:.6g}; the least is {least:.6g}"
        return Message("dear", "there is a cheaper way to lose this weight entirely", told)
    return None


def _cheapest(w: Array, H: Array, q: int) -> float:
    # The least 1/2 d' H d with d_q = -w_q: the others solve H_rr d_r = H_rq w_q.
    rest, d = np.arange(len(w)) != q, np.zeros(len(w))
    d[q], d[rest] = -w[q], np.linalg.solve(H[np.ix_(rest, rest)], H[rest, q] * w[q])
    return float(d @ H @ d / 2)


_STEP = Exercise(
    id="07.obs_step",
    minutes=12,
    parts=standard_parts(
        _step_right,
        tiny=[
            {"w": np.array([1.0, 3.0]), "Hinv": np.array([[2.0, -1.0], [-1.0, 2.0]]) / 3},
            {"w": np.array([2.0, 2.5]), "Hinv": np.array([[0.5, -0.5], [-0.5, 1.0]])},
            {"w": np.array([3.0, 2.0, -2.0]), "Hinv": np.eye(3)},  # of two equal L the first
            {  # the third weight is cheapest by OBD, the first with help
                "w": np.array([1.0, 2.0, 1.25]),
                "Hinv": np.array([[1.0, -0.875, 0.0], [-0.875, 1.0, 0.0], [0.0, 0.0, 0.5]]),
            },
        ],
        many=_step_property,
        golden=[
            {
                "w": np.array([1.0, 1.45, -3.0]),  # rounding leaves 2e-16 of 1.45
                "Hinv": np.array([[4.0, 3.0, 1.0], [3.0, 9.0, 2.0], [1.0, 2.0, 5.0]]) / 8,
            }
        ],
        more=hidden("nothing is cheaper", _step_small, _nothing_is_cheaper, points=2),
    ),
    mutants=(
        Mutant("obd-choice", _by_obd),
        Mutant("smallest-weight", lambda w, Hinv: _step(w, Hinv, score=np.abs(w))),
        Mutant("last-of-equals", partial(_step, last=True)),
        Mutant("only-zeroed", lambda w, Hinv: _step(w, Hinv, move=np.eye(len(w)))),
        Mutant("not-divided", partial(_step, divide=False)),
        Mutant("no-half", _no_half),
        Mutant("wrong-way", partial(_step, sign=-1.0)),
        Mutant("not-inverted", _not_inverted),
        Mutant("nearly-zero", partial(_step, zero=False)),
    ),
    banned=("minicomp.compress.prune.obs:obs_step", "minicomp.compress.prune.obs:obs_saliency"),
    reference=obs_step,
    rtol=SOLVED,
)

# ------------------------------------------------------------------------------------- the inverse


INVERSE = ENTRIES["inverse_hessian"]


def _recursion(
    X, alpha, *, start=None, rows=None, sign=1.0, outer=np.outer, below=True, fixed=False
) -> Array:
    # The switches are how the mutants slip. below: x' v in the denominator; fixed: every v is of
    # the first inverse.
    P = len(X) if rows is None else rows
    first = Hinv = np.eye(X.shape[1]) * (1 / alpha if start is None else start)
    for x in X:
        v = (first if fixed else Hinv) @ x
        Hinv = Hinv - sign * outer(v, v) / (P + (x @ v if below else 0))
    return Hinv


def _hessian(X, alpha) -> Array:
    return alpha * np.eye(X.shape[1]) + X.T @ X / len(X)


def _inverse_permuted(draw):
    for _ in range(3):
        X, alpha = draw.normal(200, 5), draw.choice((0.0625, 0.25, 0.5, 2.0))
        order = draw.permutation(200)
        yield [{"X": X, "alpha": alpha}, {"X": X[order], "alpha": alpha}]


def _order_does_not_count(case, results) -> Message | None:
    names = ("the result", "the inverse for the rows in another order")
    if wrong := first_difference([INVERSE.fn(**case[0])] * 2, results, names, rtol=SOLVED):
        return wrong
    X, alpha = case[0]["X"], case[0]["alpha"]
    product = _hessian(X, alpha) @ np.asarray(results[0])
    return difference(np.eye(X.shape[1]), product, rtol=SOLVED, where="H times the result")


_INVERSE = Exercise(
    id="07.inverse_hessian",
    minutes=12,
    parts=entry_parts(
        INVERSE, more=hidden("two hundred rows", _inverse_permuted, _order_does_not_count, points=2)
    ),
    mutants=(
        Mutant(
            "p-forgotten", partial(_recursion, rows=1), forms=(partial(_recursion, rows=0),)
        ),
        Mutant("columns-counted", lambda X, alpha: _recursion(X, alpha, rows=X.shape[1])),
        Mutant("not-inverted", _hessian),
        Mutant("denominator-of-p", partial(_recursion, below=False)),
        Mutant("inverse-not-updated", partial(_recursion, fixed=True)),
        Mutant("alpha-not-inverted", lambda X, alpha: _recursion(X, alpha, start=alpha)),
        Mutant("alpha-forgotten", lambda X, alpha: _recursion(X, alpha, start=1.0)),
        Mutant("added", partial(_recursion, sign=-1.0)),
        Mutant("elementwise", partial(_recursion, outer=lambda a, b: a * b)),
        Mutant("inner-product", partial(_recursion, outer=lambda a, b: a @ b)),
    ),
    banned=(
        "minicomp.compress.curvature.hessian:inverse_hessian",
        "minicomp.compress.curvature.hessian:damped_inverse",
        "numpy.linalg:inv",
        "numpy.linalg:pinv",
        "numpy.linalg:solve",
    ),
    reference=INVERSE.fn,
    rtol=SOLVED,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_step(w, Hinv) -> str | None:
    w, Hinv = np.asarray(w), np.asarray(Hinv)
    if w.ndim != 1 or not is_finite(w, "if", most=20):
        return "w is an array of 1 to 20 finite numbers"
    if Hinv.shape != (len(w), len(w)) or not is_finite(Hinv, "if"):
        return "Hinv is an array of finite numbers, one row and one column a weight"
    if not np.array_equal(Hinv, Hinv.T):
        return "Hinv is symmetric"
    eigenvalues = np.linalg.eigvalsh(Hinv)
    if not eigenvalues[0] > 1e-4 * eigenvalues[-1]:
        return "all eigenvalues of Hinv are positive, the smallest above 1e-4 of the largest"
    return None


LESSON = LessonChecks(
    number="07",
    name="obs",
    exercises=(_SALIENCY, _STEP, _INVERSE),
    diagnosis=Diagnosis(
        id="07.broken",
        of=_STEP,
        shown_by={
            "obd-choice": (
                np.array([1.0, 2.0, 1.25]),
                np.array([[1.0, -0.875, 0.0], [-0.875, 1.0, 0.0], [0.0, 0.0, 0.5]]),
            ),
            "smallest-weight": (np.array([1.0, 1.5]), np.diag([1.0, 4.0])),
            "last-of-equals": (np.array([2.0, -2.0]), np.eye(2)),
            "not-divided": (np.array([1.0, 3.0]), np.array([[2.0, -1.0], [-1.0, 2.0]])),
        },
        valid=_valid_step,
        agreeing=(np.array([3.0, -2.0]), np.eye(2)),
        several=(
            (
                np.array([1.0, 2.0, 1.25]),
                np.array([[9.0, -8.0, 0.0], [-8.0, 9.0, 0.0], [0.0, 0.0, 4.25]]) / 17,
            ),
            (np.array([1.0, 1.5]), np.array([[1.0, -0.5], [-0.5, 4.0]])),
            (np.array([2.0, -2.0]), np.array([[2.0, -0.5], [-0.5, 2.0]])),
        ),
        invalid=(np.array([3.0, -2.0]), np.array([[1.0, 0.0], [2.0, 1.0]])),
    ),
    predictions=(
        Prediction("07.p1", unit="weights", lo=0, hi=58),
        Prediction("07.p2", unit="%"),
    ),
    reflections=(Reflection("07.r1"),),
    numbers=(
        Number("monk_left", "weights left, MONK 1, 2, 3", "", 0),
        Number("monk_right", "test cases right, MONK 1, 2, 3", "%", 1),
        Number("left_1", "MONK 1: weights left of 58", "", 0),
        Number("short_obd", "true rise / OBD's prediction, median", "", 1),
        Number("short_obs", "true rise / OBS's prediction, median", "", 1),
        Number("helped", "rise when others stay / when they move, median", "", 1),
        Number("error_dense", "error of the dense net", "%", 2),
        Number("error_magnitude", "10 % kept, magnitude", "%", 2),
        Number("error_obd", "10 % kept, OBD", "%", 2),
        Number("error_rounds", "10 % kept, OBD in ten rounds", "%", 2),
        Number("error_obc", "10 % kept, OBC", "%", 2),
        Number("bytes_magnitude", "file, magnitude", "kB", 1),
        Number("bytes_obc", "file, OBC", "kB", 1),
        Number("obd_said", "rise that OBD predicts", "", 6),
        Number("obd_true", "true rise, the others stay", "", 6),
        Number("obs_said", "rise that OBS predicts", "", 6),
        Number("obs_true", "true rise, the others move", "", 6),
    ),
)
