"""Lesson 18: soft targets, the gradient of distillation in closed form, what feature maps say.

N examples, K classes; z the student's logits, v the teacher's, T the temperature, alpha the weight
of soft targets; maps a (N, M, H, W) and b (N, L, H, W) of two layers of one net.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...compress.distill import soft
from ...compress.distill.attention import attention_map
from ...compress.distill.fsp import fsp_matrix
from ...nn.losses import one_hot
from ...reference import ENTRIES
from ...reference.judges import Message, difference, equal_to, first_difference
from ..asking.exercise import (
    Diagnosis,
    Exercise,
    Mutant,
    Prediction,
    hidden,
    standard_parts,
)
from ..asking.lesson import LessonChecks, Number, Reflection
from .inputs import is_finite

Array = np.ndarray
ROUND = 1e-9  # relative: exponentials and sums of at most 10 of them, in double precision
SLOPE = 1e-6  # relative: central differences of a smooth loss, h = 1e-5

# ------------------------------------------------------------------------------------ soft targets

soft_targets = soft.soft_targets


def _softened(z: Array, T: float, *, power=-1, axis=-1, total=np.sum) -> Array:
    # How the mutants slip: T multiplies, the sum runs over something else.
    e = np.exp((z - z.max()) * T**power)
    with np.errstate(invalid="ignore"):
        return e / total(e, axis=axis, keepdims=axis is not None)


def _after(z: Array, T: float) -> Array:
    return soft_targets(z, 1.0) / T


def _rooted(z: Array, T: float) -> Array:
    # p^(1/T), not divided by its sum.
    return soft_targets(z, 1.0) ** (1 / T)


def _as_they_are(z: Array, T: float) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(z / T)
        return e / e.sum(axis=-1, keepdims=True)


def _overflow(call: dict, result) -> bool:
    # Infinity over infinity: what np.exp of large logits makes.
    return bool(np.isnan(np.asarray(result, float)).any())


def _softer(draw):
    for n, k in ((1, 2), (3, 5), (4, 10), (2, 3)) * 5:
        yield {"z": 4 * draw.normal(n, k), "T": draw.choice((0.5, 1.0, 2.0, 4.0, 20.0))}


def _shifted(draw):
    for case in list(_softer(draw))[:4]:
        yield [case, case | {"z": case["z"] + 1000 * draw.integer(1, 4)}]


def _shift_says_nothing(case, results) -> Message | None:
    names = ("the result", "the result for logits that are all larger by one number")
    return first_difference([soft_targets(**c) for c in case], results, names, rtol=1e-8)


_SOFT = Exercise(
    id="18.soft_targets",
    minutes=6,
    parts=standard_parts(
        equal_to(soft_targets, rtol=ROUND),
        tiny=[
            {"z": np.array([[0.0, np.log(9.0)]]), "T": 2.0},
            {"z": np.array([[0.0, 1.0], [2.0, 0.0]]), "T": 1.0},
            {"z": np.array([[1000.0, 0.0]]), "T": 1.0},
        ],
        many=_softer,
        golden=[{"z": np.array([[9.0, 4.0, 1.0, -3.0]]), "T": T} for T in (1.0, 4.0, 20.0)],
        more=hidden("shift", _shifted, _shift_says_nothing),
    ),
    mutants=(
        Mutant("overflows", _as_they_are, seen=_overflow),
        Mutant("times-temperature", partial(_softened, power=1)),
        Mutant("temperature-forgotten", partial(_softened, power=0)),
        Mutant("after-the-softmax", _after),
        Mutant("not-divided-again", _rooted),
        Mutant("over-the-examples", partial(_softened, axis=0)),
        Mutant("over-everything", partial(_softened, axis=None)),
        Mutant("by-the-largest", partial(_softened, total=np.max)),
    ),
    banned=(
        "minicomp.compress.distill.soft:soft_targets",
        "minicomp.compress.distill.soft:mean_targets",
        "minicomp.compress.distill.teaching:mean_targets",
    ),
    reference=soft_targets,
    rtol=ROUND,
)

# -------------------------------------------------------------------- the gradient of distillation


def kd_gradient(z: Array, v: Array, y: Array, T: float, alpha: float) -> Array:
    """Returns dL/dz, (N, K), of L = (1 - alpha) CE(y, z) + alpha T^2 KL(p || q), the batch mean."""
    return ENTRIES["distillation"].fn(z, v, y, T, alpha)[1]


def _gradient(
    z, v, y, T, alpha, *, factor=lambda T: T * T, at=None, teacher=None, hard=1.0, weights=None,
    mean=True, sign=1, slope=lambda T: T,
) -> Array:
    # How the mutants slip: factor of the soft term; temperature of the student and the teacher in
    # it, and of the student in the hard term; the weights; a sum for the mean; the sign; what the
    # soft term is divided by.
    q, p = (soft_targets(x, each or T) for x, each in ((z, at), (v, teacher)))
    a, b = (weights or (lambda alpha: (1 - alpha, alpha)))(alpha)
    labels = soft_targets(z, hard or T) - one_hot(y, z.shape[1], z.dtype)
    dz = a * labels + sign * b * factor(T) * (q - p) / slope(T)
    return dz / len(z) if mean else dz


def _case(draw, n: int, k: int, T: float, alpha: float) -> dict:
    return {"z": 2 * draw.normal(n, k), "v": 3 * draw.normal(n, k), "y": draw.integers(0, k, n),
            "T": T, "alpha": alpha}


def _pairs(draw):
    for n, k in ((1, 2), (2, 3), (3, 10), (5, 4)) * 5:
        yield _case(draw, n, k, draw.choice((0.5, 2.0, 4.0, 20.0)), draw.choice((0.3, 0.9, 1.0)))


def _few(draw):
    for T in (1.0, 3.0, 8.0):
        yield _case(draw, 2, 3, T, 0.75)


def _as_differences_say(case, result) -> Message | None:
    """Compares with central differences of the loss."""
    def loss(z):
        return ENTRIES["distillation"].fn(z, *(case[name] for name in ("v", "y", "T", "alpha")))[0]

    z, h = case["z"], 1e-5
    steps = [h * np.eye(z.size)[i].reshape(z.shape) for i in range(z.size)]
    slopes = [(loss(z + s) - loss(z - s)) / (2 * h) for s in steps]
    return difference(np.reshape(slopes, z.shape), result, rtol=SLOPE,
                      where="the result beside central differences of the loss")


_ONE = {"z": np.array([[1.0, 0.0]]), "v": np.array([[0.0, 2.0]]), "y": np.array([0]),
        "T": 2.0, "alpha": 1.0}
_TWO = {"z": np.array([[1.0, 0.0], [0.0, 1.0]]), "v": np.array([[3.0, 0.0], [0.0, 0.0]]),
        "y": np.array([0, 0]), "T": 1.0, "alpha": 0.25}

_KD = Exercise(
    id="18.kd_gradient",
    minutes=12,
    parts=standard_parts(
        equal_to(kd_gradient, rtol=ROUND),
        tiny=[_ONE, _TWO, _ONE | {"alpha": 0.0}, _TWO | {"T": 4.0, "alpha": 0.5}],
        many=_pairs,
        golden=[{"z": np.array([[2.0, 1.0, -1.0]]), "v": np.array([[4.0, 3.0, -5.0]]),
                 "y": np.array([1]), "T": 20.0, "alpha": 0.9}],
        more=hidden("differences", _few, _as_differences_say),
    ),
    mutants=(
        Mutant("square-forgotten", partial(_gradient, factor=lambda T: 1.0)),
        Mutant("one-factor", partial(_gradient, factor=lambda T: T)),
        Mutant("slope-forgotten", partial(_gradient, slope=lambda T: 1.0)),
        Mutant("teacher-not-softened", partial(_gradient, teacher=1.0)),
        Mutant("student-not-softened", partial(_gradient, at=1.0)),
        Mutant("labels-softened", partial(_gradient, hard=0.0)),
        Mutant("weights-exchanged", partial(_gradient, weights=lambda a: (a, 1 - a))),
        Mutant("weights-not-shared", partial(_gradient, weights=lambda a: (1.0, a))),
        Mutant("summed", partial(_gradient, mean=False)),
        Mutant("away-from-the-teacher", partial(_gradient, sign=-1)),
    ),
    banned=(
        "minicomp.compress.distill.soft:distillation",
        "minicomp.compress.distill.soft:soft_gradient",
        "minicomp.compress.distill.soft:soft_loss",
        "minicomp.compress.distill.teaching:soft_loss",
    ),
    reference=kd_gradient,
    rtol=ROUND,
)

# ------------------------------------------------------------------------- what feature maps say


def map_targets(a: Array, b: Array) -> tuple[Array, Array]:
    """Returns Q (N, H W), the attention map of b, p = 2, of norm 1, and G (N, M, L), a's and b's
    flow."""
    return attention_map(b), fsp_matrix(a, b)


def _said(a: Array, b: Array, *, power=2, norm=None, of=1, pixels=True, turned=False, batch=False):
    # How the mutants slip: another power; what Q is divided by; another place; G not divided by
    # the pixels, turned, or averaged over the examples.
    maps = b if of else a
    q = (np.abs(maps) ** power).sum(1).reshape(len(maps), -1)
    q = q / (norm or (lambda q: np.sqrt((q * q).sum(1, keepdims=True))))(q)
    G = np.einsum("nmhw,nlhw->nml", a, b) / (b[0, 0].size if pixels else 1)
    G = G.swapaxes(1, 2) if turned else G
    return q, np.broadcast_to(G.mean(0), G.shape).copy() if batch else G


def _signed(a: Array, b: Array) -> tuple[Array, Array]:
    q = b.sum(1).reshape(len(b), -1)
    return q / np.sqrt((q * q).sum(1, keepdims=True)), fsp_matrix(a, b)


def _layers(draw, n=None):
    m, k, h, w = (draw.integer(1, 5) for _ in range(4))
    n = n or draw.integer(1, 4)
    return {"a": draw.normal(n, m, h + 1, w), "b": draw.normal(n, k, h + 1, w)}


def _places_moved(draw):
    # The same places in another order: G stays, Q is reordered.
    for _ in range(4):
        case = _layers(draw)
        yield [case, {name: x[..., ::-1, ::-1].copy() for name, x in case.items()}]


def _follow(case, results) -> Message | None:
    names = ("the result", "the result for maps turned by 180 degrees")
    return first_difference([map_targets(**c) for c in case], results, names, rtol=ROUND)


_FEW_MAPS = {"a": np.array([[[[1.0, 2.0]]]]), "b": np.array([[[[3.0, -1.0]], [[0.0, 2.0]]]])}
_TWO_MAPS = {"a": np.array([[[[1.0, 0.0]], [[2.0, 1.0]]], [[[0.0, 3.0]], [[1.0, 1.0]]]]),
             "b": np.array([[[[2.0, 1.0]], [[1.0, -1.0]]], [[[1.0, 1.0]], [[0.0, 4.0]]]])}

_MAPS = Exercise(
    id="18.map_targets",
    minutes=10,
    parts=standard_parts(
        equal_to(map_targets, rtol=ROUND, names=("Q", "G")),
        tiny=[_FEW_MAPS, _TWO_MAPS],
        many=lambda draw: [_layers(draw) for _ in range(20)],
        golden=[{"a": np.arange(1.0, 19).reshape(1, 2, 3, 3) / 4,
                 "b": np.arange(27.0).reshape(1, 3, 3, 3) / 8 - 1}],
        more=hidden("turned maps", _places_moved, _follow),
    ),
    mutants=(
        Mutant("signs-cancel", _signed),
        Mutant("absolute", partial(_said, power=1)),
        Mutant("sum-not-norm", partial(_said, norm=lambda q: q.sum(1, keepdims=True))),
        Mutant("whole-batch", partial(_said, norm=lambda q: np.sqrt((q * q).sum()))),
        Mutant("not-divided", partial(_said, norm=lambda q: 1.0)),
        Mutant("other-layer", partial(_said, of=0)),
        Mutant("pixels-forgotten", partial(_said, pixels=False)),
        Mutant("turned-round", partial(_said, turned=True)),
        Mutant("mean-of-examples", partial(_said, batch=True)),
    ),
    banned=(
        "minicomp.compress.distill.attention:attention_map",
        "minicomp.compress.distill.fsp:fsp_matrix",
    ),
    reference=map_targets,
    rtol=ROUND,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_batch(z, v, y, T, alpha) -> str | None:
    if z.ndim != 2 or z.shape != v.shape or z.shape[1] < 2 or y.shape != z.shape[:1]:
        return "z and v are of one shape (N, K), K at least 2, and y has N labels"
    if not (is_finite(z) and is_finite(v) and max(np.abs(z).max(), np.abs(v).max()) <= 100):
        return "z and v are arrays of finite floats, from -100 to 100"
    if y.dtype.kind not in "iu" or not ((y >= 0) & (y < z.shape[1])).all():
        return "y holds labels in 0 .. K - 1, whole numbers"
    if not all(isinstance(s, int | float) and not isinstance(s, bool) for s in (T, alpha)):
        return "T and alpha are numbers"
    return None if 0.1 <= T <= 100 and 0 <= alpha <= 1 else "T is in 0.1 .. 100, alpha in 0 .. 1"


def _batch(z, v, y, T, alpha) -> tuple:
    return np.array(z, float), np.array(v, float), np.array(y), T, alpha


TEMPERATURES = (1, 2, 4, 20)
LESSON = LessonChecks(
    number="18",
    name="distillation",
    exercises=(_SOFT, _KD, _MAPS),
    diagnosis=Diagnosis(
        id="18.broken",
        of=_KD,
        shown_by={
            "square-forgotten": _batch([[1, 0]], [[0, 0]], [0], 2.0, 0.5),
            "teacher-not-softened": _batch([[1, 0]], [[1, 0]], [0], 2.0, 0.5),
            "weights-exchanged": _batch([[1, 0]], [[0, 0]], [0], 1.0, 0.25),
            "summed": _batch([[1, 0], [0, 0]], [[0, 0], [0, 0]], [0, 0], 1.0, 0.5),
        },
        valid=_valid_batch,
        agreeing=_batch([[1, 0]], [[0, 2]], [0], 1.0, 0.5),
        several=(_batch([[1, 0], [2, 0]], [[3, 0], [0, 1]], [0, 1], 4.0, 0.9),),
        invalid=_batch([[1, 0]], [[1, 0]], [2], 2.0, 0.5),
    ),
    predictions=(
        Prediction("18.p1", unit="%"),
        Prediction("18.p2", unit="%"),
    ),
    reflections=(Reflection("18.r1"),),
    numbers=(
        Number("error_teacher", "error of the teacher", "%", 2),
        Number("error_alone", "error of the student, from labels alone", "%", 2),
        Number("error_soft", "error of the student, distilled", "%", 2),
        Number("chosen", "T chosen on validation data", "", 0),
        Number("threes_unseen", "3s known by a student that never saw one", "%", 1),
        Number("threes_raised", "3s known once its bias is raised", "%", 1),
        Number("threes_labels", "3s known by one that had labels alone, bias raised", "%", 1),
        Number("error_raised", "its error then", "%", 2),
        Number("offset", "by which the bias was raised", "", 1),
        Number("thin_alone", "small convolutional net, labels alone", "%", 2),
        Number("thin_soft", "small convolutional net, distilled", "%", 2),
        Number("thin_hint", "small convolutional net, FitNets", "%", 2),
        Number("thin_both", "small convolutional net, attention and soft targets", "%", 2),
        Number("kb_teacher", "file of the teacher", "kB", 0),
        Number("kb_student", "file of the student", "kB", 0),
        Number("temperatures", "temperatures", "", 0),
        Number("errors", "errors by temperature", "%", 2),
        *(Number(f"bars_{T}", f"what the teacher says of one 2 at T = {T}", "%", 3)
          for T in TEMPERATURES),
    ),
)
