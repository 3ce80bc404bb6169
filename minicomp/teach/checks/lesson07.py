"""Lesson 7: saliencies of OBD, a step of OBS, and the inverse Hessian that OBS needs.

w (n,) weights, H (n, n) second derivatives of the loss, X (P, n) gradients of the output, one
example a row, alpha on the diagonal of H.
"""

from __future__ import annotations

import numpy as np

from ..catalog import LessonChecks, Number, Reflection
from ..asking.exercise import Diagnosis, Exercise, Mutant, Part, Prediction
from ..asking.judge import Message, difference, equal_to

Array = np.ndarray
PRODUCT = 1e-14  # relative: three roundings
ALPHAS = (0.0625, 0.25, 0.5, 2.0)
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
    """Returns s_k = H_kk w_k^2 / 2, (n,)."""
    return np.diag(H) * w * w / 2


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
    return (
        difference(right, results[0], rtol=PRODUCT)
        or difference(4 * right, results[1], rtol=PRODUCT, where="the saliency of -2 w")
        or difference(4 * right, results[2], rtol=PRODUCT, where="the saliency under 4 H")
    )


_SALIENCY = Exercise(
    id="07.obd_saliency",
    title="What deleting a weight costs, says OBD",
    minutes=6,
    parts=(
        Part(
            "tiny",
            1,
            lambda draw: [
                {"w": np.array([3.0]), "H": np.array([[2.0]])},
                {"w": np.array([1.0, 3.0]), "H": np.array([[2.0, 1.0], [1.0, 2.0]])},
                {"w": np.array([-2.0, 1.0]), "H": np.array([[0.5, 0.0], [0.0, 8.0]])},
            ],
            equal_to(obd_saliency, rtol=PRODUCT),
        ),
        Part(
            "property", 1, _saliency_property, equal_to(obd_saliency, rtol=PRODUCT), hidden=True
        ),
        Part("scaling", 1, _saliency_scaled, _four_times, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
                {
                    "w": np.array([2.0, -1.5, 0.25]),
                    "H": np.array([[4.0, 2.0, -1.0], [2.0, 6.0, 0.5], [-1.0, 0.5, 1.0]]),
                }
            ],
            equal_to(obd_saliency, rtol=PRODUCT),
        ),
    ),
    mutants=(
        Mutant(
            "no-half",
            lambda w, H: np.diag(H) * w * w,
            "The half is missing: a parabola of second derivative h is h w^2 / 2 high at"
            " distance w.",
        ),
        Mutant(
            "not-squared",
            lambda w, H: np.diag(H) * np.abs(w) / 2,
            "At a minimum there is no slope, so the rise grows with the square of the distance"
            " |w|, not with |w|.",
        ),
        Mutant(
            "whole-row",
            lambda w, H: w * (H @ w) / 2,
            "That is a weight's share of w' H w / 2, as if all weights went together. Where one"
            " weight moves alone, only H_kk counts.",
        ),
        Mutant(
            "inverse-diagonal",
            lambda w, H: w * w / (2 * np.diag(np.linalg.inv(H))),
            "That is what is left to pay when all other weights move to help. OBD leaves them"
            " where they are: H_kk w_k^2 / 2.",
        ),
        Mutant(
            "magnitude",
            lambda w, H: w * w / 2,
            "The curvature is missing: this is the order of |w|, that of lesson 4.",
        ),
    ),
    hints=(
        (
            "Walk from the minimum along one weight's axis until that weight is 0. How long is the"
            " way, and how steeply does the loss bend along it?"
        ),
        "s_k = H_kk w_k^2 / 2, shape (n,). np.diag takes the diagonal out of a matrix.",
        "h = diagonal of H; return h times w times w, halved",
    ),
    tolerance="1e-14 of the largest saliency: three products, rounded",
    banned=("minicomp.compress.prune.obd:obd_saliency",),
    reference=obd_saliency,
    rtol=PRODUCT,
    atol=0.0,
)

# ---------------------------------------------------------------------------------------- the step


def obs_step(w: Array, Hinv: Array) -> tuple[int, float, Array]:
    """Returns q, L_q and the weights after q went and all others moved; entry q is exactly 0."""
    return _step(w, Hinv)


def _step(w, Hinv, *, score=None, move=None, sign=1.0, zero=True) -> tuple[int, float, Array]:
    # score: what chooses; move: the matrix whose column moves the others; None: as it should be.
    L = w * w / (2 * np.diag(Hinv))
    q = int(np.argmin(L if score is None else score))
    move = Hinv if move is None else move
    moved = w - sign * w[q] / move[q, q] * move[:, q]
    if zero:
        moved[q] = 0.0
    return q, float(L[q]), moved


def _not_inverted(w, Hinv):
    return _step(w, np.linalg.inv(Hinv))


def _by_obd(w, Hinv):
    return _step(w, Hinv, score=obd_saliency(w, np.linalg.inv(Hinv)))


def _step_right(case, result) -> Message | None:
    """Says what is wrong with (q, L_q, weights): the weight first, then the numbers, then the 0."""
    right = obs_step(**case)
    if isinstance(result, tuple | list) and len(result) == 3:
        q = result[0]
        if isinstance(q, int | np.integer) and not isinstance(q, bool) and int(q) != right[0]:
            return Message(
                "wrong-weight",
                "another weight has the smallest L_q",
                f"expected q = {right[0]}, got {int(q)}",
            )
    wrong = difference(right, result, rtol=SOLVED)
    if wrong is None and np.asarray(result[2])[right[0]] != 0:
        return Message(
            "not-zero",
            "the deleted weight is not exactly 0",
            f"got {float(np.asarray(result[2])[right[0]]):.3g} at entry {right[0]}",
        )
    return wrong


def _step_tiny(draw):
    yield {"w": np.array([1.0, 3.0]), "Hinv": np.array([[2.0, -1.0], [-1.0, 2.0]]) / 3}
    yield {"w": np.array([2.0, 2.5]), "Hinv": np.array([[0.5, -0.5], [-0.5, 1.0]])}
    yield {"w": np.array([3.0, 2.0, -2.0]), "Hinv": np.eye(3)}  # of two equal L the first
    yield {"w": np.array([-4.0]), "Hinv": np.array([[0.5]])}


def _step_property(draw):
    for i in range(24):
        n = draw.choice((2, 3, 5, 7, 9))
        yield {"w": _weights(draw, n, i), "Hinv": _spd(draw, n)}


def _step_small(draw):
    for i in range(6):
        yield {"w": _weights(draw, 4, i), "Hinv": _spd(draw, 4)}


def _nothing_is_cheaper(case, result) -> Message | None:
    """Compares with every deletion there is, each solved for the others by itself."""
    w, H = case["w"], np.linalg.inv(case["Hinv"])
    if not isinstance(result, tuple | list) or len(result) != 3 or np.shape(result[2]) != w.shape:
        return difference(obs_step(**case), result)
    prices = np.array([_cheapest(w, H, q) for q in range(len(w))])
    q, least = int(np.argmin(prices)), float(prices.min())
    wrong = difference((q, least), tuple(result[:2]), rtol=SOLVED)
    if wrong:
        return wrong
    d = np.asarray(result[2], float) - w
    if result[2][q] != 0 or not abs(d @ H @ d / 2 - least) <= SOLVED * least:
        return Message(
            "dear",
            "there is a cheaper way to lose this weight entirely",
            f"the loss rises by {d @ H @ d / 2:.6g}; the least is {least:.6g}",
        )
    return None


def _cheapest(w: Array, H: Array, q: int) -> float:
    # The least 1/2 d' H d with d_q = -w_q: the others solve H_rr d_r = H_rq w_q.
    rest, d = np.arange(len(w)) != q, np.zeros(len(w))
    d[q], d[rest] = -w[q], np.linalg.solve(H[np.ix_(rest, rest)], H[rest, q] * w[q])
    return float(d @ H @ d / 2)


_STEP = Exercise(
    id="07.obs_step",
    title="Delete one weight, move the others",
    minutes=12,
    parts=(
        Part("tiny", 1, _step_tiny, _step_right),
        Part("property", 2, _step_property, _step_right, hidden=True),
        Part("nothing is cheaper", 2, _step_small, _nothing_is_cheaper, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
                {
                    "w": np.array([1.0, 1.25, -3.0]),
                    "Hinv": np.array([[4.0, 3.0, 1.0], [3.0, 7.0, 2.0], [1.0, 2.0, 5.0]]) / 8,
                }
            ],
            _step_right,
        ),
    ),
    mutants=(
        Mutant(
            "obd-choice",
            _by_obd,
            "The weight was chosen by H_qq w_q^2 / 2, which is OBD: the price when the others stay."
            " Here they move, so the smallest w_q^2 / (2 [H^-1]_qq) goes.",
        ),
        Mutant(
            "only-zeroed",
            lambda w, Hinv: _step(w, Hinv, move=np.eye(len(w))),
            "The weight went, but the others stayed where they were. They must move by"
            " -w_q / [H^-1]_qq times column q of H^-1: L_q holds only then.",
        ),
        Mutant(
            "wrong-way",
            lambda w, Hinv: _step(w, Hinv, sign=-1.0),
            "The others moved the wrong way. The same step must carry weight q itself from w_q to"
            " 0, so its sign is minus.",
        ),
        Mutant(
            "not-inverted",
            _not_inverted,
            "H stands where H^-1 belongs. The matrix that is passed in is the inverse already:"
            " divide by its diagonal, move along its column.",
        ),
        Mutant(
            "nearly-zero",
            lambda w, Hinv: _step(w, Hinv, zero=False),
            "Rounding leaves something like 1e-17 where the weight was, and a file stores that as a"
            " weight. Set it to 0 after the step.",
        ),
    ),
    hints=(
        (
            "Two questions, one after the other: which deletion is cheapest when the others help,"
            " and where does that deletion put every weight?"
        ),
        (
            "L = w^2 / (2 diag of Hinv), shape (n,); q = the first place of its minimum;"
            " new w = w - w_q / Hinv_qq times Hinv[:, q], then entry q is 0."
        ),
        (
            "L = w squared over twice the diagonal; q = argmin of L; v = column q of Hinv; moved ="
            " w minus (w at q over Hinv at q, q) times v; moved at q = 0; return q, L at q, moved"
        ),
    ),
    tolerance="1e-9 of the largest entry: some dozen roundings; the deleted weight is exactly 0",
    banned=("minicomp.compress.prune.obs:obs_step", "minicomp.compress.prune.obs:obs_saliency"),
    reference=obs_step,
    rtol=SOLVED,
)

# ------------------------------------------------------------------------------------- the inverse


def inverse_hessian(X: Array, alpha: float) -> Array:
    """Returns the inverse of alpha I + X'X / P, (n, n), row by row of X."""
    return _recursion(X, alpha)


def _recursion(X, alpha, *, start=None, rows=None, sign=1.0, outer=np.outer) -> Array:
    # The switches are how the mutants slip.
    P, Hinv = rows or len(X), np.eye(X.shape[1]) * (1 / alpha if start is None else start)
    for x in X:
        v = Hinv @ x
        Hinv = Hinv - sign * outer(v, v) / (P + x @ v)
    return Hinv


def _inverse_tiny(draw):
    yield {"X": np.array([[1.0, 1.0]]), "alpha": 1.0}
    yield {"X": np.array([[2.0], [0.0]]), "alpha": 0.5}
    yield {"X": np.array([[1.0, 0.0], [1.0, 2.0]]), "alpha": 1.0}


def _inverse_property(draw):
    for i in range(20):
        P, n = draw.choice(((1, 3), (2, 2), (3, 5), (7, 4), (20, 6), (5, 1)))
        X = draw.normal(P, n)
        yield {"X": np.abs(X) + 0.25 if i % 4 == 1 else X, "alpha": draw.choice(ALPHAS)}


def _inverse_permuted(draw):
    for _ in range(3):
        X, alpha = draw.normal(200, 5), draw.choice(ALPHAS)
        order = draw.permutation(200)
        yield [{"X": X, "alpha": alpha}, {"X": X[order], "alpha": alpha}]


def _order_does_not_count(case, results) -> Message | None:
    right = inverse_hessian(**case[0])
    wrong = difference(right, results[0], rtol=SOLVED) or difference(
        right, results[1], rtol=SOLVED, where="the inverse for the rows in another order"
    )
    if wrong:
        return wrong
    X, alpha = case[0]["X"], case[0]["alpha"]
    H = alpha * np.eye(X.shape[1]) + X.T @ X / len(X)
    return difference(
        np.eye(len(H)), H @ np.asarray(results[0]), rtol=SOLVED, where="H times the result"
    )


_INVERSE = Exercise(
    id="07.inverse_hessian",
    title="The inverse, gradient by gradient",
    minutes=12,
    parts=(
        Part("tiny", 1, _inverse_tiny, equal_to(inverse_hessian, rtol=SOLVED)),
        Part("property", 2, _inverse_property, equal_to(inverse_hessian, rtol=SOLVED), hidden=True),
        Part("two hundred rows", 2, _inverse_permuted, _order_does_not_count, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
                {"X": np.array([[2.0, 0.0, -1.0], [1.0, 3.0, 0.0], [0.0, 1.0, 1.0]]), "alpha": 0.5}
            ],
            equal_to(inverse_hessian, rtol=SOLVED),
        ),
    ),
    mutants=(
        Mutant(
            "p-forgotten",
            lambda X, alpha: _recursion(X, alpha, rows=1),
            "The denominator is P + x' H^-1 x, with P the number of rows: H is a mean over"
            " examples. With 1 it is the inverse for their sum.",
        ),
        Mutant(
            "alpha-not-inverted",
            lambda X, alpha: _recursion(X, alpha, start=alpha),
            "The start is the inverse of alpha I, which is I / alpha.",
        ),
        Mutant(
            "added",
            lambda X, alpha: _recursion(X, alpha, sign=-1.0),
            "Every example adds to H, so H^-1 must shrink: the outer product is subtracted.",
        ),
        Mutant(
            "elementwise",
            lambda X, alpha: _recursion(X, alpha, outer=lambda a, b: a * b),
            "v * v is a vector of squares. v v' is an outer product, shape (n, n): np.outer(v, v).",
        ),
        Mutant(
            "inner-product",
            lambda X, alpha: _recursion(X, alpha, outer=lambda a, b: a @ b),
            "v @ v.T is one number, as a vector has no transpose in NumPy. v v' is an outer"
            " product, shape (n, n): np.outer(v, v).",
        ),
    ),
    hints=(
        (
            "Each example changes H by one outer product. Then H^-1 changes by one outer product"
            " too, and v = H^-1 x is all it takes."
        ),
        (
            "Start at I / alpha, shape (n, n). For each row x of X: v = H^-1 x, shape (n,);"
            " H^-1 = H^-1 - v v' / (P + x' v), with P = len(X)."
        ),
        (
            "A = identity of n over alpha; for each x in X: v = A times x; A = A minus outer(v, v)"
            " over (P + x dot v); return A"
        ),
    ),
    tolerance="1e-9 of the largest entry: 200 updates here lose less than 1e-11",
    banned=(
        "minicomp.compress.curvature.hessian:inverse_hessian",
        "minicomp.compress.curvature.hessian:damped_inverse",
        "numpy.linalg:inv",
        "numpy.linalg:pinv",
        "numpy.linalg:solve",
    ),
    reference=inverse_hessian,
    rtol=SOLVED,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_step(w, Hinv) -> str | None:
    w, Hinv = np.asarray(w), np.asarray(Hinv)
    if w.dtype.kind not in "if" or w.ndim != 1 or not 1 <= len(w) <= 20 or not np.isfinite(w).all():
        return "w is an array of 1 to 20 finite numbers"
    if Hinv.dtype.kind not in "if" or Hinv.shape != (len(w), len(w)) or not np.isfinite(Hinv).all():
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
    title="OBD and OBS",
    exercises=(_SALIENCY, _STEP, _INVERSE),
    diagnosis=Diagnosis(
        id="07.broken",
        of=_STEP,
        slugs=("obd-choice", "only-zeroed", "wrong-way", "not-inverted"),
        valid=_valid_step,
        agreeing=lambda: (np.array([3.0, -2.0]), np.eye(2)),
        invalid=lambda: (np.array([3.0, -2.0]), np.array([[1.0, 0.0], [2.0, 1.0]])),
        hints=(
            (
                "All their tests had a diagonal Hinv. Then no weight can help another, and OBS is"
                " OBD."
            ),
            (
                "The answer is a tuple (w, Hinv), Hinv symmetric with positive eigenvalues. With"
                " two weights OBD and OBS always choose the same one: take three."
            ),
            (
                "let a large curvature be one that another weight can take over: Hinv = inverse of"
                " a 3 x 3 matrix with large entries off its diagonal; return a w for which"
                " broken(w, Hinv) is not obs_step(w, Hinv)"
            ),
        ),
    ),
    predictions=(
        Prediction(
            "07.p1",
            "How many of the 58 weights are left when OBS must not cause one more error?",
            "weights",
            lo=0,
            hi=58,
        ),
        Prediction(
            "07.p2",
            "Test error of LeNet-300-100 with 90 % of its weights cut by magnitude is a few"
            " percent. And with second derivatives, without retraining?",
            "%",
            lo=0,
            hi=100,
        ),
    ),
    reflections=(
        Reflection(
            "07.r1",
            "Second derivatives beat magnitude without any retraining. Yet most people prune by"
            " magnitude and retrain. Give a reason for that, and a situation in which you would"
            " not. Use the numbers of your run.",
            (
                (
                    3,
                    (
                        "the cost (H of a whole net does not fit, or the seconds of OBC against"
                        " magnitude, its own) and that retraining repairs what the crude choice"
                        " broke; a situation without retraining: no labels, little data, little"
                        " time, a net too large to train; its own errors quoted"
                    ),
                ),
                (2, "one reason and one situation, one of them with a number"),
                (1, "a reason or a situation, without a number"),
                (0, "claims that OBS needs no data, or that H is cheap"),
            ),
        ),
    ),
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
