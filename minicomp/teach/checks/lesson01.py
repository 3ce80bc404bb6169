"""Lesson 1: backward passes of ReLU, matmul and convolution.

g is the cotangent of the output: d loss / d output. N batch, C in, O out, H W size, K L kernel.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...reference.judges import Message, difference, equal_to
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
ROUNDING = 1e-11  # relative, of sums of at most some hundred float64 products

# --------------------------------------------------------------------------------------------- ReLU


def relu_backward(g: Array, x: Array) -> Array:
    """Returns the gradient of x for y = max(x, 0): g where x > 0, else 0."""
    return g * (x > 0)


def _relu_property(draw):
    for i in range(20):
        shape = draw.choice([(1,), (7,), (3, 5), (1, 9), (2, 3, 5)])
        x = draw.normal(*shape) + draw.choice([-6.5, 0.0, 6.5])  # all negative, mixed, all positive
        x = np.rint(2 * x) / 2 if i % 3 else x  # with zeros and without
        yield {"g": draw.normal(*shape), "x": x}


def _relu_scaled(draw):
    for _ in range(5):
        g, x = draw.normal(3, 4), draw.normal(3, 4)
        yield [{"g": g, "x": x}, {"g": 2 * g, "x": x}, {"g": g, "x": 3 * x}]


def _relu_linear(case, results) -> Message | None:
    once, doubled, stretched = results
    return (
        difference(2 * np.asarray(once, float), doubled, where="the result for 2 g")
        or difference(np.asarray(once, float), stretched, where="the result for 3 x")
        or difference(relu_backward(**case[0]), once)
    )


_RELU = Exercise(
    id="01.relu_backward",
    minutes=5,
    parts=standard_parts(
        equal_to(relu_backward),
        tiny=[
            {"g": np.array([1.0, 2.0, 3.0]), "x": np.array([-1.0, 0.0, 2.0])},
            {"g": np.array([-1.0, -2.0]), "x": np.array([5.0, -5.0])},
        ],
        many=_relu_property,
        golden=[{"g": np.arange(6.0), "x": np.array([3, -3, 0, 1e-300, -0.0, 7])}],
        more=hidden("invariance", _relu_scaled, _relu_linear),
    ),
    mutants=(
        Mutant("gradient-everywhere", lambda g, x: g.copy()),
        Mutant("zero-passes", lambda g, x: g * (x >= 0)),
        Mutant(
            "mask-only",
            lambda g, x: (x > 0).astype(g.dtype),
            forms=(lambda g, x: x > 0, lambda g, x: np.heaviside(x, 1.0)),
        ),
        Mutant("masks-the-gradient", lambda g, x: g * (g > 0)),
        Mutant(
            "multiplies-by-output",
            lambda g, x: g * np.maximum(x, 0),
            forms=(lambda g, x: g * x,),
        ),
        Mutant("forward-again", lambda g, x: np.maximum(x, 0)),
    ),
    banned=("minicomp.ops:relu", "minicomp.tensor:_pull"),
    reference=relu_backward,
)

# ------------------------------------------------------------------------------------------- matmul


def matmul_backward(g: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Returns the gradients of a and b for y = a b:  g b' and a' g."""
    return g @ b.T, a.T @ g


def _matmul_draw(draw, m, k, n):
    return {"g": draw.normal(m, n), "a": draw.normal(m, k), "b": draw.normal(k, n)}


def _matmul_adjoint(case, result) -> Message | None:
    # <g, a b> = <ga, a> = <gb, b>: the product is linear in each argument.
    wrong = difference(matmul_backward(**case), result, rtol=ROUNDING, names=("ga", "gb"))
    if wrong and wrong.slug == "wrong-value":
        ga, gb = (np.asarray(r, float) for r in result)
        whole = float(np.sum(case["g"] * (case["a"] @ case["b"])))
        sums = (
            f"sum(g * (a @ b)) = {whole:.6g}, sum(ga * a) = {np.sum(ga * case['a']):.6g}, "
            f"sum(gb * b) = {np.sum(gb * case['b']):.6g}: all three must agree"
        )
        return Message(wrong.slug, wrong.text, sums)
    return wrong


_MATMUL = Exercise(
    id="01.matmul_backward",
    minutes=8,
    parts=standard_parts(
        equal_to(matmul_backward, rtol=ROUNDING, names=("ga", "gb")),
        tiny=[
            {
                "g": np.eye(2),
                "a": np.array([[1.0, 2.0], [3.0, 4.0]]),
                "b": np.array([[5.0, 6.0], [7.0, 8.0]]),
            },
            {
                "g": np.array([[1.0, 1.0, 0.0]]),
                "a": np.array([[2.0, 3.0]]),
                "b": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
            },
        ],
        many=lambda draw: [
            _matmul_draw(draw, *(draw.integer(1, 8) for _ in range(3))) for _ in range(20)
        ],
        golden=[
            {
                "g": np.ones((2, 4)),
                "a": np.arange(6.0).reshape(2, 3),
                "b": np.arange(12.0).reshape(3, 4),
            }
        ],
        more=hidden(
            "invariance",
            lambda draw: [_matmul_draw(draw, 3, 4, 5) for _ in range(5)],
            _matmul_adjoint,
        ),
    ),
    mutants=(
        Mutant(
            "not-transposed",
            lambda g, a, b: (g @ b, a @ g),
            forms=(lambda g, a, b: (g @ b, a.T @ g), lambda g, a, b: (g @ b.T, a @ g)),
        ),
        Mutant("wrong-order", lambda g, a, b: (b.T @ g, g @ a.T)),
        Mutant("answers-swapped", lambda g, a, b: (a.T @ g, g @ b.T)),
        Mutant("as-if-elementwise", lambda g, a, b: (g * b, g * a)),
        Mutant(
            "result-transposed",
            lambda g, a, b: ((g @ b.T).T, (a.T @ g).T),
            forms=(lambda g, a, b: (b @ g.T, a.T @ g), lambda g, a, b: (g @ b.T, g.T @ a)),
        ),
    ),
    banned=("minicomp.ops:matmul", "minicomp.tensor:_pull"),
    reference=matmul_backward,
    rtol=ROUNDING,
)

# -------------------------------------------------------------------------------------- convolution


def conv2d_backward(
    g: Array, x: Array, w: Array, stride: int,
    *, step=None, flip=False, flip_x=False, add_x=True, add_w=True, swap=False, mean=False,
) -> tuple[Array, Array]:
    """Returns the gradients of x and w for a cross-correlation without padding.

    The switches are how the mutants slip.
    """
    gx, gw = np.zeros(x.shape), np.zeros(w.shape)
    k, l = w.shape[2:]
    step = stride if step is None else step
    for i in range(g.shape[2]):
        for j in range(g.shape[3]):
            for a in range(k):
                for b in range(l):
                    r, c = (i * step + b, j * step + a) if swap else (i * step + a, j * step + b)
                    p, q = (k - 1 - a, l - 1 - b) if flip else (a, b)
                    t, u = (k - 1 - a, l - 1 - b) if flip or flip_x else (a, b)
                    dx, dw = g[:, :, i, j] @ w[:, :, t, u], g[:, :, i, j].T @ x[:, :, r, c]
                    gx[:, :, r, c] = gx[:, :, r, c] * add_x + dx
                    gw[:, :, p, q] = gw[:, :, p, q] * add_w + dw
    return gx, gw / len(x) if mean else gw


def _conv_draw(draw, n, c, o, k, l, ho, wo, stride, rest=(0, 0)):
    h, width = (ho - 1) * stride + k + rest[0], (wo - 1) * stride + l + rest[1]
    return {
        "g": draw.normal(n, o, ho, wo),
        "x": draw.normal(n, c, h, width),
        "w": draw.normal(o, c, k, l),
        "stride": stride,
    }


def _one_weight(g, x, images, stride) -> dict:
    # Images of one row, one channel, a kernel of one weight, 0.5.
    return {
        "g": np.array(g).reshape(images, 1, 1, -1),
        "x": np.array(x).reshape(images, 1, 1, -1),
        "w": np.full((1, 1, 1, 1), 0.5),
        "stride": stride,
    }


def _conv_property(draw):
    for _ in range(16):
        stride = draw.integer(1, 3)
        # rest: rows and columns that no window reaches
        rest = draw.integer(0, stride), draw.integer(0, stride)
        yield _conv_draw(draw, *(draw.integer(1, 4) for _ in range(7)), stride, rest)


def _conv_reversed(draw):
    for _ in range(3):
        case = _conv_draw(draw, 3, 2, 2, 3, 2, 2, 3, 1)
        yield [case, case | {"g": case["g"][::-1].copy(), "x": case["x"][::-1].copy()}]


def _conv_batch(case, results) -> Message | None:
    names = ("gx", "gw")
    wrong = difference(conv2d_backward(**case[0]), results[0], rtol=ROUNDING, names=names)
    if wrong:
        return wrong
    gx, gw = map(np.asarray, results[0])
    where = "the result for the batch in reverse order"
    return difference((gx[::-1], gw), results[1], rtol=ROUNDING, where=where)


_CONV = Exercise(
    id="01.conv2d_backward",
    minutes=12,
    parts=standard_parts(
        equal_to(conv2d_backward, rtol=ROUNDING, names=("gx", "gw")),
        tiny=[
            {
                "g": np.ones((1, 1, 2, 2)),
                "x": np.arange(9.0).reshape(1, 1, 3, 3),
                "w": np.array([[[[1.0, 2.0], [3.0, 4.0]]]]),
                "stride": 1,
            },
            _one_weight(g=[1.0, 2.0], x=[3.0, 4.0], images=2, stride=1),
            _one_weight(g=[1.0, 2.0], x=[1.0, 2.0, 3.0], images=1, stride=2),
        ],
        many=_conv_property,
        golden=[
            {
                "g": np.arange(8.0).reshape(1, 2, 2, 2),
                "x": np.arange(20.0).reshape(1, 1, 4, 5),
                "w": np.arange(12.0).reshape(2, 1, 2, 3) - 5,
                "stride": 2,
            }
        ],
        more=hidden("invariance", _conv_reversed, _conv_batch),
        points=(1, 3, 1),
    ),
    mutants=(
        Mutant(
            "overwritten",
            partial(conv2d_backward, add_x=False, add_w=False),
            forms=(partial(conv2d_backward, add_x=False), partial(conv2d_backward, add_w=False)),
        ),
        Mutant("stride-forgotten", partial(conv2d_backward, step=1)),
        Mutant(
            "kernel-flipped",
            partial(conv2d_backward, flip=True),
            forms=(partial(conv2d_backward, flip_x=True),),
        ),
        Mutant("mean-over-batch", partial(conv2d_backward, mean=True)),
        Mutant("rows-and-columns", partial(conv2d_backward, swap=True)),
    ),
    banned=(
        "minicomp.conv:conv2d",
        "minicomp.conv:conv2d_input_grad",
        "minicomp.conv:conv2d_weight_grad",
        "minicomp.kernels.maps.conv:conv2d_input_grad_ref",
        "minicomp.kernels.maps.conv:conv2d_weight_grad_ref",
        "minicomp.tensor:_pull",
    ),
    reference=conv2d_backward,
    rtol=ROUNDING,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_relu(g, x) -> str | None:
    g, x = np.asarray(g), np.asarray(x)
    if g.shape != x.shape or not 1 <= g.size <= 10_000:
        return "g and x are arrays of one shape, 1 to 10,000 entries"
    if not (is_finite(g) and is_finite(x)):
        return "g and x hold finite floating-point numbers"
    return None


LESSON = LessonChecks(
    number="01",
    name="autograd",
    exercises=(_RELU, _MATMUL, _CONV),
    diagnosis=Diagnosis(
        id="01.broken",
        of=_RELU,
        shown_by={
            "zero-passes": (np.array([-1.0]), np.array([0.0])),
            "masks-the-gradient": (np.array([1.0]), np.array([-1.0])),
            "mask-only": (np.array([2.0]), np.array([1.0])),
        },
        valid=_valid_relu,
        agreeing=(np.array([1.0, 1.0]), np.array([1.0, 2.0])),
        several=((np.array([2.0, 3.0]), np.array([0.0, 1.0])),),
        invalid=(np.array([1.0, 1.0]), np.array([1.0])),
    ),
    predictions=(Prediction("01.p1", unit="exponent p", lo=-16, hi=0),),
    reflections=(Reflection("01.r1"),),
    numbers=(
        Number("best_exponent", "exponent of the best step, float64", "", 0),
        Number("best_error", "log10 of the error there", "", 1),
        Number("best_exponent32", "exponent of the best step, float32", "", 0),
        Number("best_error32", "log10 of the error there", "", 1),
        Number("relu_error", "log10 of the error of the ReLU net at h = 0.01", "", 1),
        Number("steps", "log10 of the steps drawn"),
        Number("curve64", "log10 error, smooth, float64"),
        Number("curve32", "log10 error, smooth, float32"),
        Number("curve_relu", "log10 error, ReLU, float64"),
    ),
)
