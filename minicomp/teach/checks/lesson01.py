"""Lesson 1: backward passes of ReLU, matmul and convolution.

g is the cotangent of the output: d loss / d output. N batch, C in, O out, H W size, K L kernel.
"""

from __future__ import annotations

import numpy as np

from ..catalog import LessonChecks, Number, Reflection
from ..asking.exercise import Diagnosis, Exercise, Mutant, Part, Prediction
from ..asking.judge import Message, difference, equal_to

Array = np.ndarray
ROUNDING = 1e-11  # relative, of sums of at most some hundred float64 products

# --------------------------------------------------------------------------------------------- ReLU


def relu_backward(g: Array, x: Array) -> Array:
    """Returns the gradient of x for y = max(x, 0): g where x > 0, else 0."""
    return g * (x > 0)


def _relu_tiny(draw):
    yield {"g": np.array([1.0, 2.0, 3.0]), "x": np.array([-1.0, 0.0, 2.0])}
    yield {"g": np.array([-1.0, -2.0]), "x": np.array([5.0, -5.0])}


def _relu_property(draw):
    for i in range(20):
        shape = draw.choice([(1,), (7,), (3, 5), (1, 9), (2, 3, 5)])
        x = draw.normal(*shape) + draw.choice([-6.5, 0.0, 6.5])  # all negative, mixed, all positive
        yield {
            "g": draw.normal(*shape),
            "x": np.rint(2 * x) / 2 if i % 3 else x,
        }  # with zeros and without


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
    title="Backward of ReLU",
    minutes=5,
    parts=(
        Part("tiny", 1, _relu_tiny, equal_to(relu_backward)),
        Part("property", 2, _relu_property, equal_to(relu_backward), hidden=True),
        Part("invariance", 1, _relu_scaled, _relu_linear, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [{"g": np.arange(6.0), "x": np.array([3, -3, 0, 1e-300, -0.0, 7])}],
            equal_to(relu_backward),
        ),
    ),
    mutants=(
        Mutant(
            "gradient-everywhere",
            lambda g, x: g.copy(),
            "The gradient passed also where x is negative. There the output is the constant 0, and"
            " a constant has slope 0.",
        ),
        Mutant(
            "zero-passes",
            lambda g, x: g * (x >= 0),
            "At x = 0 the gradient passed. The slope jumps there from 0 to 1; minicomp, like"
            " PyTorch, takes 0.",
        ),
        Mutant(
            "mask-only",
            lambda g, x: (x > 0).astype(g.dtype),
            "This is the slope of ReLU, not the gradient: by the chain rule it is still multiplied"
            " by g.",
        ),
        Mutant(
            "masks-the-gradient",
            lambda g, x: g * (g > 0),
            "The sign that decides is that of the input x, not that of g.",
        ),
        Mutant(
            "multiplies-by-output",
            lambda g, x: g * np.maximum(x, 0),
            "g was multiplied by the output. The chain rule multiplies by the slope, which is 0"
            " or 1.",
        ),
    ),
    hints=(
        (
            "Where did the input come through, and where was it stopped? The gradient goes back the"
            " same way."
        ),
        "Same shape as x, entry by entry: dx = g * slope, slope 1 where x > 0, else 0.",
        "make a mask of x > 0; multiply g by the mask; return it",
    ),
    tolerance="equality: the result is g or 0, nothing is rounded",
    banned=("minicomp.ops:relu", "minicomp.tensor:_pull"),
    reference=relu_backward,
)

# ------------------------------------------------------------------------------------------- matmul


def matmul_backward(g: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Returns the gradients of a and b for y = a b:  g b' and a' g."""
    return g @ b.T, a.T @ g


def _matmul_tiny(draw):
    yield {
        "g": np.eye(2),
        "a": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "b": np.array([[5.0, 6.0], [7.0, 8.0]]),
    }
    yield {
        "g": np.array([[1.0, 1.0, 0.0]]),
        "a": np.array([[2.0, 3.0]]),
        "b": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    }


def _matmul_draw(draw, m, k, n):
    return {"g": draw.normal(m, n), "a": draw.normal(m, k), "b": draw.normal(k, n)}


def _matmul_property(draw):
    for _ in range(20):
        yield _matmul_draw(draw, *(draw.integer(1, 8) for _ in range(3)))


def _matmul_adjoint(case, result) -> Message | None:
    # <g, a b> = <ga, a> = <gb, b>: the product is linear in each argument.
    wrong = difference(matmul_backward(**case), result, rtol=ROUNDING)
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
    title="Backward of a matrix product",
    minutes=8,
    parts=(
        Part("tiny", 1, _matmul_tiny, equal_to(matmul_backward, rtol=ROUNDING)),
        Part(
            "property", 2, _matmul_property, equal_to(matmul_backward, rtol=ROUNDING), hidden=True
        ),
        Part(
            "invariance",
            1,
            lambda draw: [_matmul_draw(draw, 3, 4, 5) for _ in range(5)],
            _matmul_adjoint,
            hidden=True,
        ),
        Part(
            "golden",
            1,
            lambda draw: [
                {
                    "g": np.ones((2, 4)),
                    "a": np.arange(6.0).reshape(2, 3),
                    "b": np.arange(12.0).reshape(3, 4),
                }
            ],
            equal_to(matmul_backward, rtol=ROUNDING),
        ),
    ),
    mutants=(
        Mutant(
            "not-transposed",
            lambda g, a, b: (g @ b, a @ g),
            "The shapes fit only when all matrices are square. Here g is (M, N), a is (M, K), b is"
            " (K, N): one of each pair must be transposed.",
        ),
        Mutant(
            "wrong-order",
            lambda g, a, b: (b.T @ g, g @ a.T),
            "The two factors stand in the wrong order: M must come first in ga, K in gb.",
        ),
        Mutant(
            "answers-swapped",
            lambda g, a, b: (a.T @ g, g @ b.T),
            "Both gradients are right and the wrong way round: first that of a, then that of b.",
        ),
        Mutant(
            "as-if-elementwise",
            lambda g, a, b: (g * b, g * a),
            "That is the rule of a * b, entry by entry. In a @ b an entry of a takes part in a"
            " whole row of the output, so its gradient is a sum over that row.",
        ),
        Mutant(
            "result-transposed",
            lambda g, a, b: ((g @ b.T).T, (a.T @ g).T),
            "The numbers are right but transposed: a gradient has the shape of its argument.",
        ),
    ),
    hints=(
        (
            "Each entry of a is multiplied by a row of b and lands in a row of the output. Add up"
            " what comes back along that row."
        ),
        (
            "ga has the shape of a, (M, K), and is made of g (M, N) and b (K, N). Only one product"
            " of those two fits."
        ),
        "ga = g times b transposed; gb = a transposed times g; return both, ga first",
    ),
    tolerance=(
        "1e-11 of the largest entry: float64 sums of a few products are exact to about 1e-15 each"
    ),
    banned=("minicomp.ops:matmul", "minicomp.tensor:_pull"),
    reference=matmul_backward,
    rtol=ROUNDING,
)

# -------------------------------------------------------------------------------------- convolution


def _conv_loops(g, x, w, stride, *, step=None, flip=False, add=True, swap=False):
    # The loops of the backward pass, with the slips that the mutants make.
    gx, gw = np.zeros(x.shape), np.zeros(w.shape)
    k, l = w.shape[2:]
    step = stride if step is None else step
    for i in range(g.shape[2]):
        for j in range(g.shape[3]):
            for a in range(k):
                for b in range(l):
                    r, c = (i * step + b, j * step + a) if swap else (i * step + a, j * step + b)
                    p, q = (k - 1 - a, l - 1 - b) if flip else (a, b)
                    dx, dw = g[:, :, i, j] @ w[:, :, p, q], g[:, :, i, j].T @ x[:, :, r, c]
                    gx[:, :, r, c] = gx[:, :, r, c] * add + dx
                    gw[:, :, p, q] = gw[:, :, p, q] * add + dw
    return gx, gw


def conv2d_backward(g: Array, x: Array, w: Array, stride: int) -> tuple[Array, Array]:
    """Returns the gradients of x and w for a cross-correlation without padding."""
    return _conv_loops(g, x, w, stride)


def _conv_draw(draw, n, c, o, k, l, ho, wo, stride, rest=(0, 0)):
    h, width = (ho - 1) * stride + k + rest[0], (wo - 1) * stride + l + rest[1]
    return {
        "g": draw.normal(n, o, ho, wo),
        "x": draw.normal(n, c, h, width),
        "w": draw.normal(o, c, k, l),
        "stride": stride,
    }


def _conv_tiny(draw):
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    yield {
        "g": np.ones((1, 1, 2, 2)),
        "x": x,
        "w": np.array([[[[1.0, 2.0], [3.0, 4.0]]]]),
        "stride": 1,
    }


def _conv_property(draw):
    for i in range(16):
        stride = draw.integer(1, 3)
        rest = (
            draw.integer(0, stride),
            draw.integer(0, stride),
        )  # rows and columns that no window reaches
        yield _conv_draw(
            draw,
            *(draw.integer(1, 4) for _ in range(3)),
            draw.integer(1, 4),
            draw.integer(1, 4),
            draw.integer(1, 4),
            draw.integer(1, 4),
            stride,
            rest,
        )


def _conv_reversed(draw):
    for _ in range(3):
        case = _conv_draw(draw, 3, 2, 2, 3, 2, 2, 3, 1)
        yield [case, case | {"g": case["g"][::-1].copy(), "x": case["x"][::-1].copy()}]


def _conv_batch(case, results) -> Message | None:
    wrong = difference(conv2d_backward(**case[0]), results[0], rtol=ROUNDING)
    if wrong:
        return wrong
    gx, gw = results[0]
    return difference(
        (np.asarray(gx)[::-1], np.asarray(gw)),
        results[1],
        rtol=ROUNDING,
        where="the result for the batch in reverse order",
    )


_CONV = Exercise(
    id="01.conv2d_backward",
    title="Backward of a convolution",
    minutes=12,
    parts=(
        Part("tiny", 1, _conv_tiny, equal_to(conv2d_backward, rtol=ROUNDING)),
        Part("property", 3, _conv_property, equal_to(conv2d_backward, rtol=ROUNDING), hidden=True),
        Part("invariance", 1, _conv_reversed, _conv_batch, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
                {
                    "g": np.arange(8.0).reshape(1, 2, 2, 2),
                    "x": np.arange(20.0).reshape(1, 1, 4, 5),
                    "w": np.arange(12.0).reshape(2, 1, 2, 3) - 5,
                    "stride": 2,
                }
            ],
            equal_to(conv2d_backward, rtol=ROUNDING),
        ),
    ),
    mutants=(
        Mutant(
            "overwritten",
            lambda g, x, w, stride: _conv_loops(g, x, w, stride, add=False),
            "Contributions replaced one another. A pixel that several windows see, and a weight"
            " that every position uses, collect a sum: += instead of =.",
        ),
        Mutant(
            "stride-forgotten",
            lambda g, x, w, stride: _conv_loops(g, x, w, stride, step=1),
            "The windows were taken one pixel apart. Output (i, j) reads the input from (i *"
            " stride, j * stride).",
        ),
        Mutant(
            "kernel-flipped",
            lambda g, x, w, stride: _conv_loops(g, x, w, stride, flip=True),
            "The kernel was turned round. The forward pass is a cross-correlation: w[a, b] meets "
            "x[i * stride + a, j * stride + b], and so it does on the way back.",
        ),
        Mutant(
            "mean-over-batch",
            lambda g, x, w, stride: (
                _conv_loops(g, x, w, stride)[0],
                _conv_loops(g, x, w, stride)[1] / len(x),
            ),
            "gw was divided by the batch. Whether the loss is a mean is already in g; here it is a"
            " sum over images.",
        ),
        Mutant(
            "rows-and-columns",
            lambda g, x, w, stride: _conv_loops(g, x, w, stride, swap=True),
            "Rows and columns of the kernel changed places: a belongs to i, b to j.",
        ),
    ),
    hints=(
        (
            "Take the five-line forward pass. Every line that reads x and w and adds to y becomes"
            " two lines that read g and add to gx and gw."
        ),
        (
            "y[n, o, i, j] += w[o, c, a, b] x[n, c, i s + a, j s + b], so gx[n, c, i s + a, j s +"
            " b] += g[n, o, i, j] w[o, c, a, b] and gw[o, c, a, b] += g[n, o, i, j] x[n, c, i s +"
            " a, j s + b]."
        ),
        (
            "gx, gw = zeros; for i, j over the output: for a, b over the kernel: r = i * stride +"
            " a; c = j * stride + b; gx[:, :, r, c] += g[:, :, i, j] @ w[:, :, a, b]; gw[:, :, a,"
            " b] += g[:, :, i, j].T @ x[:, :, r, c]; return gx, gw"
        ),
    ),
    tolerance="1e-11 of the largest entry: float64 sums of at most a few hundred products",
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
    if (
        g.dtype.kind != "f"
        or x.dtype.kind != "f"
        or not (np.isfinite(g).all() and np.isfinite(x).all())
    ):
        return "g and x hold finite floating-point numbers"
    return None


LESSON = LessonChecks(
    number="01",
    name="autograd",
    title="Autograd and layers, checked by differences",
    exercises=(_RELU, _MATMUL, _CONV),
    diagnosis=Diagnosis(
        id="01.broken",
        of=_RELU,
        slugs=("zero-passes", "masks-the-gradient", "mask-only"),
        valid=_valid_relu,
        agreeing=lambda: (np.array([1.0, 1.0]), np.array([1.0, 2.0])),
        invalid=lambda: (np.array([1.0, 1.0]), np.array([1.0])),
        hints=(
            "Try inputs that people forget: negative g, g that is not 1, x exactly 0.",
            "The answer is a tuple (g, x) of two float arrays of one shape.",
            (
                "for each suspicious pair: compare broken(g, x) with relu_backward(g, x); return"
                " the pair that differs"
            ),
        ),
    ),
    predictions=(
        Prediction(
            "01.p1",
            "At which step h = 10^p is the central difference most accurate?",
            "exponent p",
            lo=-16,
            hi=0,
        ),
    ),
    reflections=(
        Reflection(
            "01.r1",
            "Why does a smaller step h not always give a better derivative, and why do we "
            "check gradients in float64 although nets train in float32?",
            (
                (
                    3,
                    (
                        "both errors named (cut-off of the series grows with h, rounding grows as h"
                        " shrinks), and float32's rounding makes the best reachable check too"
                        " coarse to tell a bug from noise"
                    ),
                ),
                (2, "one error explained and float64 tied to rounding"),
                (1, "one of the two parts"),
                (0, "neither"),
            ),
        ),
    ),
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
