"""Lesson 12: the backward rules of fake quantization and of a learnt step, batch norm folded.

x behind a grid of codes 0 .. 2^b - 1 with a zero point (exercise 1); a weight v behind the codes
-(2^(b-1) - 1) .. 2^(b-1) - 1 with a step s (exercise 2); W, b of a layer that a batch norm follows
(exercise 3).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from ... import grid
from ...compress.quant import folding
from ...grid import code_range
from ...reference import ENTRIES
from ...reference.judges import Message, difference, equal_to, first_difference
from ...tensor import Tensor, grad
from ..asking.exercise import (
    Diagnosis,
    Exercise,
    Mutant,
    Prediction,
    hidden,
    standard_parts,
)
from ..asking.lesson import LessonChecks, Number, Reflection
from .inputs import is_finite, wrong_grid

Array = np.ndarray
SUM = 1e-9  # relative: a sum of at most 40 products of double precision
SLOPE = 1e-6  # relative: central differences of a linear function, h = 1e-3 of the step

# ------------------------------------------------------------- backward through a fake quantization


def fake_quant_backward(g: Array, x: Array, scale: float, zero_point: int, bits: int) -> Array:
    """Returns d L / d x, where g is d L / d x^: g where the code was not clipped, else 0.

    The entry is for g = 1; here g counts, so cases and judge are the lesson's own.
    """
    lo, hi = code_range(bits, "unsigned")
    return g * ENTRIES["fake_quantize_gradient"].fn(x, scale, zero_point, lo, hi)


def _codes(x, scale, zero_point) -> Array:
    return np.rint(x / scale) + zero_point


def _masked(g, x, scale, zero_point, bits, *, shift=1, power=0, strict=False) -> Array:
    # How the mutants slip. shift: factor of the zero point; power: of the scale, a factor too many;
    # strict: the end codes count as outside.
    q, hi = _codes(x, scale, shift * zero_point), 2**bits - 1
    return scale**power * g * ((q > 0) & (q < hi) if strict else (q >= 0) & (q <= hi))


def _mask_only(g, x, scale, zero_point, bits) -> Array:
    return _masked(np.ones_like(g), x, scale, zero_point, bits)


def _by_values(g, x, scale, zero_point, bits) -> Array:
    return g * ((x >= -scale * zero_point) & (x <= scale * (2**bits - 1 - zero_point)))


def _forward(g, x, scale, zero_point, bits) -> Array:
    q = np.clip(_codes(x, scale, zero_point), 0, 2**bits - 1)
    return scale * (q - zero_point)


def _behind_grids(draw):
    # Every other case has ties and borders: quotients that are multiples of 1/4, exactly.
    for i in range(20):
        bits, n = draw.choice((2, 3, 4, 8)), draw.choice((1, 3, 7))
        scale = draw.choice((0.25, 0.5, 2.0))
        x = draw.normal(n) * 2 ** (bits - 1) * scale
        x = scale * np.rint(4 * x / scale) / 4 if i % 2 else x
        yield {
            "g": draw.normal(n),
            "x": x,
            "scale": scale,
            "zero_point": draw.integer(0, 2**bits),
            "bits": bits,
        }


def _twice_the_gradient(draw):
    for case in list(_behind_grids(draw))[:4]:
        yield [case, case | {"g": -2 * case["g"]}]


def _linear(case, results) -> Message | None:
    names = ("the result", "the result for -2 g")
    return first_difference([fake_quant_backward(**c) for c in case], results, names, rtol=SUM)


_BACKWARD = Exercise(
    id="12.fake_quant_backward",
    minutes=8,
    parts=standard_parts(
        equal_to(fake_quant_backward, rtol=SUM),
        tiny=[
            {"g": np.array([3.0]), "x": np.array([1.0]), "scale": 0.5, "zero_point": 0, "bits": 3},
            {
                "g": np.array([2.0, 4.0]),
                "x": np.array([-1.0, 5.0]),
                "scale": 1.0,
                "zero_point": 2,
                "bits": 2,
            },
            {
                "g": np.array([2.0, 4.0]),
                "x": np.array([3.25, 3.75]),
                "scale": 1.0,
                "zero_point": 0,
                "bits": 2,
            },
        ],
        many=_behind_grids,
        golden=[
            {
                "g": np.array([0.5, -1.5, 2.0, 3.0, -4.0, 1.25]),
                "x": np.array([-1.25, -1.0, -0.6, 0.0, 0.76, 0.9]),
                "scale": 0.5,
                "zero_point": 2,
                "bits": 2,
            }
        ],
        more=hidden("linear in g", _twice_the_gradient, _linear),
    ),
    mutants=(
        Mutant("everywhere", lambda g, x, scale, zero_point, bits: g),
        Mutant("true-gradient", lambda g, x, scale, zero_point, bits: 0 * g),
        Mutant("values-not-codes", _by_values),
        Mutant("zero-point-forgotten", partial(_masked, shift=0)),
        Mutant("ends-left-out", partial(_masked, strict=True)),
        Mutant(
            "times-scale",
            partial(_masked, power=1),
            forms=(partial(_masked, power=-1),),
        ),
        Mutant("mask-only", _mask_only),
        Mutant("forward-again", _forward, forms=(lambda g, *a: g * _forward(g, *a),)),
    ),
    banned=("minicomp.grid.affine:fake_quantize",),
    reference=fake_quant_backward,
    rtol=SUM,
)

# ------------------------------------------------------------------ the gradient of a learnt step


def step_gradient(g: Array, v: Array, scale: float, bits: int) -> float:
    """Returns d L / d s of LSQ, with its factor 1 / sqrt(N Qp): eq. (3) of Esser et al. 2020."""
    lo, hi = code_range(bits, "narrow")
    s = Tensor(np.asarray(scale, float), requires_grad=True)
    y = grid.lsq_quantize(v, s, lo=lo, hi=hi, gain=1 / math.sqrt(v.size * hi))
    return float(grad(y, s, cotangent=g).data)


def _slope(
    g, v, scale, bits, *, inside=None, outside=None, gain=None, total=np.sum
) -> float:
    # How the mutants slip: slopes inside and outside of the range, as functions of t = v / s, the
    # factor as a function of N and Qp, and what becomes of the products.
    hi, t = code_range(bits, "narrow")[1], v / scale
    inner = (inside or (lambda t: np.rint(t) - t))(t)
    outer = (outside or (lambda t: np.sign(t) * hi))(t)
    factor = (gain or (lambda n, top: 1 / math.sqrt(n * top)))(v.size, hi)
    return factor * total(g * np.where(np.abs(t) < hi, inner, outer))


def _latents(draw):
    # No v / s at the ends, where a rounded quotient would decide.
    for i in range(20):
        bits, n = draw.choice((2, 3, 4)), draw.choice((1, 2, 5, 9))
        scale = draw.choice((0.25, 0.5, 0.3))
        spread = scale * 2 ** (bits - 1)
        v = draw.normal(n) * spread * (1 if i % 3 else 0.3)
        yield {"g": draw.normal(n), "v": v, "scale": scale, "bits": bits}


def _all_clipped(draw):
    for bits in (2, 3, 4):
        n, scale = 5, 0.5
        sign = np.where(draw.uniform(n) < 0.5, -1.0, 1.0)
        v = sign * scale * (2 ** (bits - 1) + draw.uniform(n))
        yield {"g": draw.normal(n), "v": v, "scale": scale, "bits": bits}


def _as_differences_say(case, result) -> Message | None:
    """Compares with central differences of the forward pass, which is linear in s where clipped."""
    hi, h = code_range(case["bits"], "narrow")[1], 1e-3 * case["scale"]

    def forward(s):
        return float(np.sum(case["g"] * s * np.clip(np.rint(case["v"] / s), -hi, hi)))

    slope = (forward(case["scale"] + h) - forward(case["scale"] - h)) / (2 * h)
    right = slope / math.sqrt(case["v"].size * hi)
    return difference(right, result, rtol=SLOPE, where="the slope where all is clipped")


_STEP = Exercise(
    id="12.step_gradient",
    minutes=12,
    parts=standard_parts(
        equal_to(step_gradient, rtol=SUM),
        tiny=[
            {"g": np.array([1.0]), "v": np.array([0.25]), "scale": 1.0, "bits": 2},
            {"g": np.array([1.0]), "v": np.array([9.0]), "scale": 1.0, "bits": 3},
            {"g": np.array([1.0]), "v": np.array([-1.75]), "scale": 1.0, "bits": 3},
            {"g": np.array([2.0, 1.0]), "v": np.array([-9.0, 0.75]), "scale": 0.5, "bits": 3},
        ],
        many=_latents,
        golden=[
            {
                "g": np.array([1.0, -2.0, 0.5, 3.0]),
                "v": np.array([0.3, -0.85, 1.1, -0.2]),
                "scale": 0.25,
                "bits": 3,
            }
        ],
        more=hidden("differences", _all_clipped, _as_differences_say),
    ),
    mutants=(
        Mutant("codes-only", partial(_slope, inside=np.rint)),
        Mutant("not-clipped", partial(_slope, outside=lambda t: np.rint(t) - t)),
        Mutant("outside-zero", partial(_slope, outside=lambda t: 0 * t)),
        Mutant("outside-unsigned", lambda g, v, scale, bits: _slope(
            g, v, scale, bits, outside=lambda t: 0 * t + code_range(bits, "narrow")[1])),
        Mutant("turned-round", partial(_slope, inside=lambda t: t - np.rint(t))),
        Mutant(
            "gain-forgotten",
            partial(_slope, gain=lambda n, top: 1.0),
            forms=(
                partial(_slope, gain=lambda n, top: 1 / math.sqrt(n)),
                partial(_slope, gain=lambda n, top: 1 / math.sqrt(top)),
                partial(_slope, gain=lambda n, top: 1 / (n * top)),
            ),
        ),
        Mutant("mean-not-sum", partial(_slope, total=np.mean)),
        Mutant(
            "gradient-of-the-weight",
            partial(_slope, inside=lambda t: 0 * t + 1, outside=lambda t: 0 * t),
        ),
    ),
    banned=("minicomp.grid.affine:lsq_quantize",),
    reference=step_gradient,
    rtol=SUM,
)

# ------------------------------------------------------------------------------- batch norm, folded


def fold_batch_norm(
    w: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float
) -> tuple[Array, Array]:
    """Returns W and b of the layer that does what a layer without bias and batch norm do."""
    sigma = np.sqrt(var + eps)
    return folding.fold_bn(w, None, gamma / sigma, beta - gamma * mean / sigma)


def _folded(
    w, gamma, beta, mean, var, eps, *, sigma=None, axis=0, scaled=True, shift=None
) -> tuple[Array, Array]:
    # How the mutants slip. sigma: of var and eps; axis: which channels of w; scaled: gamma in w;
    # shift: b as a function of gamma / sigma, beta and the mean.
    s = (sigma or (lambda var, eps: np.sqrt(var + eps)))(var, eps)
    gain = gamma / s
    shape = [1] * w.ndim
    shape[axis] = -1
    b = shift(gain, beta, mean) if shift else beta - gain * mean
    return w * (gain if scaled else 1 / s).reshape(shape), b


def _norms(draw):
    for i in range(20):
        o, c, k = draw.choice((1, 2, 3)), draw.choice((1, 2, 4)), draw.choice((1, 2))
        yield {
            "w": draw.normal(o, c, k, k),
            "gamma": draw.normal(o),
            "beta": draw.normal(o),
            "mean": draw.normal(o),
            "var": draw.uniform(o, lo=0.01, hi=4.0),
            "eps": draw.choice((1e-5, 1e-3, 0.25)),
        }


def _same_outputs(case, result) -> Message | None:
    """Compares what both compute of a patch, whatever the numbers are."""
    if not isinstance(result, tuple | list) or len(result) != 2 or (
        np.shape(result[0]) != case["w"].shape or np.shape(result[1]) != case["beta"].shape
    ):
        return difference(fold_batch_norm(**case), result, names=("W", "b"))
    patch = np.cos(np.arange(case["w"][0].size)).reshape(case["w"][0].shape)
    y = np.sum(case["w"] * patch, axis=(1, 2, 3))
    right = case["gamma"] * (y - case["mean"]) / np.sqrt(case["var"] + case["eps"]) + case["beta"]
    got = np.sum(np.asarray(result[0]) * patch, axis=(1, 2, 3)) + np.asarray(result[1])
    return difference(right, got, rtol=SUM, where="the output for a patch")


_FOLD = Exercise(
    id="12.fold_batch_norm",
    minutes=8,
    parts=standard_parts(
        equal_to(fold_batch_norm, rtol=SUM, names=("W", "b")),
        tiny=[
            {
                "w": np.array([[[[3.0]]]]),
                "gamma": np.array([2.0]),
                "beta": np.array([1.0]),
                "mean": np.array([5.0]),
                "var": np.array([3.0]),
                "eps": 1.0,
            },
            {
                "w": np.array([[[[1.0]], [[2.0]]], [[[3.0]], [[4.0]]]]),
                "gamma": np.array([1.0, -2.0]),
                "beta": np.array([0.0, 1.0]),
                "mean": np.array([1.0, 2.0]),
                "var": np.array([0.75, 3.75]),
                "eps": 0.25,
            },
        ],
        many=_norms,
        golden=[
            {
                "w": np.array([[[[0.5, -1.0]]], [[[2.0, 0.25]]], [[[-3.0, 1.5]]]]),
                "gamma": np.array([1.5, 0.0, -0.5]),
                "beta": np.array([0.25, -1.0, 2.0]),
                "mean": np.array([0.5, 3.0, -2.0]),
                "var": np.array([0.04, 1.0, 9.0]),
                "eps": 1e-3,
            }
        ],
        more=hidden("same outputs", _norms, _same_outputs),
    ),
    mutants=(
        Mutant("not-a-root", partial(_folded, sigma=lambda var, eps: var + eps)),
        Mutant(
            "eps-forgotten",
            partial(_folded, sigma=lambda var, eps: np.sqrt(var)),
            forms=(partial(_folded, sigma=lambda var, eps: np.sqrt(var) + eps),),
        ),
        Mutant("input-channels", partial(_folded, axis=1)),
        Mutant("gamma-forgotten", partial(_folded, scaled=False)),
        Mutant(
            "mean-not-scaled",
            partial(_folded, shift=lambda gain, beta, mean: beta - mean),
        ),
        Mutant(
            "mean-forgotten",
            partial(_folded, shift=lambda gain, beta, mean: beta),
        ),
        Mutant(
            "mean-added",
            partial(_folded, shift=lambda gain, beta, mean: beta + gain * mean),
        ),
        Mutant(
            "shift-scaled",
            partial(_folded, shift=lambda gain, beta, mean: gain * (beta - mean)),
        ),
    ),
    banned=("minicomp.compress.quant.folding:fold_bn", "minicomp.compress.quant.folding:fold"),
    reference=fold_batch_norm,
    rtol=SUM,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_backward(g, x, scale, zero_point, bits) -> str | None:
    g, x = np.asarray(g), np.asarray(x)
    if x.ndim != 1 or not is_finite(x, "if", most=20):
        return "x is an array of 1 to 20 finite numbers"
    if g.shape != x.shape or not is_finite(g, "if"):
        return "g is an array of finite numbers, one for each of x"
    return wrong_grid(scale, zero_point, bits)


LESSON = LessonChecks(
    number="12",
    name="qat",
    exercises=(_BACKWARD, _STEP, _FOLD),
    diagnosis=Diagnosis(
        id="12.broken",
        of=_BACKWARD,
        shown_by={
            "everywhere": (np.array([1.0]), np.array([9.0]), 1.0, 0, 2),
            "values-not-codes": (np.array([1.0]), np.array([3.25]), 1.0, 0, 2),
            "zero-point-forgotten": (np.array([1.0]), np.array([-1.0]), 1.0, 2, 2),
            "mask-only": (np.array([3.0]), np.array([1.0]), 1.0, 0, 2),
        },
        valid=_valid_backward,
        agreeing=(np.array([1.0]), np.array([2.0]), 1.0, 0, 2),
        several=(
            (np.array([3.0]), np.array([3.25]), 1.0, 0, 2),
            (np.array([1.0, 1.0]), np.array([9.0, -1.0]), 1.0, 2, 2),
        ),
        invalid=(np.array([1.0]), np.array([2.0]), -1.0, 0, 2),
    ),
    predictions=(
        Prediction("12.p1", unit="%"),
        Prediction("12.p2", unit="%"),
    ),
    reflections=(Reflection("12.r1"),),
    numbers=(
        Number("error_dense", "error of the float net", "%", 2),
        Number("rounded_8", "8 bits, rounded", "%", 2),
        Number("rounded_2", "2 bits, rounded", "%", 2),
        Number("trained_2", "2 bits, QAT", "%", 2),
        Number("learnt_2", "2 bits, LSQ", "%", 2),
        Number("learnt_3", "3 bits, LSQ", "%", 2),
        Number("rounded_3", "3 bits, rounded", "%", 2),
        Number("bytes_dense", "file, float32", "kB", 1),
        Number("bytes_2", "file, 2 bits, LSQ", "kB", 1),
        Number("crossed", "weights of fc1 in another code after LSQ, 2 bits", "%", 1),
        Number("bits", "bits", "", 0),
        Number("rounded", "error, rounded", "%", 2),
        Number("trained", "error, QAT", "%", 2),
        Number("learnt", "error, LSQ", "%", 2),
        Number("stuck", "the toy's weight by the true gradient", "", 2),
        Number("through", "the toy's weight, straight through", "", 2),
    ),
)
