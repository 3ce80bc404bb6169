"""Lesson 10: scale and zero point of a range, codes and back, and scales of a weight.

Codes of b bits are 0 .. 2^b - 1 where there is a zero point (exercises 1 and 2), and
-(2^(b-1) - 1) .. 2^(b-1) - 1 around 0 (exercise 3).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...grid import code_range
from ...reference import ENTRIES
from ...reference.judges import Message, equal_to, first_difference
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
FLOAT32 = 1e-6  # relative: a scale may be a float32, whose half step is 6e-8
ERROR = 1e-9  # relative: an error is seldom below 1e-4 of the weights, which are doubles

# ------------------------------------------------------------------------- scale and zero point


def affine_params(r_min: float, r_max: float, bits: int) -> tuple[float, int]:
    """Returns the scale and the zero point of codes 0 .. 2^bits - 1 that cover a range and 0.

    The entry takes grids and channels; here ranges are those whose zero point lies at no tie that
    a rounded scale decides, so cases are the lesson's own.
    """
    scale, zero_point = ENTRIES["affine_params"].fn(r_min, r_max, bits=bits)
    return float(scale), int(zero_point)


def _params(
    r_min, r_max, bits, *, stretch=True, more=0, constant=1.0, sign=1, rounded=round
) -> tuple[float, int]:
    # The switches are how the mutants slip. more: steps; constant: the scale of a range of 0.
    n = 2**bits - 1 + more
    lo, hi = (min(r_min, 0.0), max(r_max, 0.0)) if stretch else (r_min, r_max)
    if lo == hi:
        return constant, 0
    scale = (hi - lo) / n
    return scale, rounded(-sign * lo / scale)


def _constant_divides(r_min, r_max, bits) -> tuple[float, int]:
    lo, hi = min(r_min, 0.0), max(r_max, 0.0)
    scale = (hi - lo) / (2**bits - 1)
    return scale, round(-lo / scale)


def _unstretched_constant(r_min, r_max, bits) -> tuple[float, int]:
    # No stretch, clipped: as numpy's min and max of the data suggest.
    scale, zero_point = _params(r_min, r_max, bits, stretch=False)
    return scale, min(max(zero_point, 0), 2**bits - 1)


def _centred(r_min, r_max, bits) -> tuple[float, int]:
    peak = max(abs(r_min), abs(r_max))
    return (2 * peak / (2**bits - 1) or 1.0), 2 ** (bits - 1)


def _range(draw) -> dict:
    # Ends are multiples of 1/64, and -lo / scale is no nearer to a tie than 1/1000.
    while True:
        lo, hi = np.sort(np.rint(64 * draw.normal(2)) / 64).tolist()
        bits = draw.choice((2, 3, 4, 8))
        width = max(hi, 0.0) - min(lo, 0.0)
        at = -min(lo, 0.0) * (2**bits - 1) / width if width else 0.0
        if abs(at % 1 - 0.5) > 1e-3:
            return {"r_min": lo, "r_max": hi, "bits": bits}


def _params_scaled(draw):
    for _ in range(4):
        case = _range(draw)
        wide = {"r_min": 8 * case["r_min"], "r_max": 8 * case["r_max"], "bits": case["bits"]}
        yield [case, wide]


def _units_do_not_count(case, results) -> Message | None:
    right = [affine_params(**c) for c in case]
    names = ("the result", "the result for a range 8 times as wide")
    return first_difference(right, results, names, rtol=FLOAT32)


_PARAMS = Exercise(
    id="10.affine_params",
    minutes=8,
    parts=standard_parts(
        equal_to(affine_params, rtol=FLOAT32, names=("the scale", "the zero point")),
        tiny=[
            {"r_min": -1.0, "r_max": 3.0, "bits": 2},
            {"r_min": 2.0, "r_max": 3.4, "bits": 2},
            {"r_min": 0.0, "r_max": 0.0, "bits": 2},
            {"r_min": -1.0, "r_max": 5.0, "bits": 2},  # 0.5: rounded to the even 0
        ],
        many=lambda draw: [_range(draw) for _ in range(20)],
        golden=[
            {"r_min": -1.0, "r_max": 3.0, "bits": 8},
            {"r_min": 2.0, "r_max": 3.4, "bits": 8},
            {"r_min": -3.4, "r_max": -2.0, "bits": 8},
            {"r_min": 3.0, "r_max": 3.0, "bits": 8},
        ],
        more=hidden("another unit", _params_scaled, _units_do_not_count),
    ),
    mutants=(
        Mutant(
            "zero-outside",
            partial(_params, stretch=False),
            forms=(_unstretched_constant,),
        ),
        Mutant("one-step-too-many", partial(_params, more=1)),
        Mutant(
            "constant",
            partial(_params, constant=0.0),
            forms=(_constant_divides,),
        ),
        Mutant("wrong-sign", partial(_params, sign=-1)),
        Mutant("rounded-down", partial(_params, rounded=int)),
        Mutant(
            "half-up", partial(_params, rounded=lambda t: int(np.floor(t + 0.5)))
        ),
        Mutant("not-rounded", partial(_params, rounded=float)),
        Mutant("centred", _centred),
    ),
    banned=("minicomp.grid.affine:affine_params",),
    reference=affine_params,
    rtol=FLOAT32,
)

# ------------------------------------------------------------------------------- codes and back


def quantize(x: Array, scale: float, zero_point: int, bits: int) -> tuple[Array, Array]:
    """Returns the codes of x, 0 .. 2^bits - 1, and what they stand for: two entries in one."""
    q = ENTRIES["quantize"].fn(x, scale, zero_point, bits=bits, grid="unsigned")
    return q, ENTRIES["dequantize"].fn(q, scale, zero_point)


def _codes(
    x, scale, zero_point, bits, *, rounded=np.rint, inside=False, clip=None, shift=1, back=1
) -> tuple[Array, Array]:
    # How the mutants slip. inside: the zero point is added before rounding; clip: what saturates;
    # shift, back: factors of the zero point on the way there and back.
    clip = clip or (lambda q: np.clip(q, 0, 2**bits - 1))
    t = x / scale
    q = rounded(t + zero_point) if inside else rounded(t) + shift * zero_point
    q = clip(q).astype(int)
    return q, scale * (q - back * zero_point)


def _half_up(t: Array) -> Array:
    return np.floor(t + 0.5)


def _clipped_first(x, scale, zero_point, bits) -> tuple[Array, Array]:
    q = (np.clip(np.rint(x / scale), 0, 2**bits - 1) + zero_point).astype(int)
    return q, scale * (q - zero_point)


def _numbers(draw):
    # Every other case is of ties, whose quotients are exact.
    for i in range(20):
        bits, n = draw.choice((2, 3, 4, 8)), draw.choice((1, 3, 7))
        scale = draw.choice((0.25, 0.5, 1.0, 2.0))
        x = draw.normal(n) * 2 ** (bits - 1)
        x = scale * (np.rint(2 * x) / 2 if i % 2 else x)
        yield {"x": x, "scale": scale, "zero_point": draw.integer(0, 2**bits), "bits": bits}


def _twice(draw):
    for case in list(_numbers(draw))[:4]:
        yield [case, case | {"x": quantize(**case)[1].astype(float)}]


def _once_is_enough(case, results) -> Message | None:
    names = ("the result", "the result for values that lie on the grid")
    return first_difference([quantize(**c) for c in case], results, names, rtol=FLOAT32)


_QUANTIZE = Exercise(
    id="10.quantize",
    minutes=10,
    parts=standard_parts(
        equal_to(quantize, rtol=FLOAT32, names=("the codes", "the values")),
        tiny=[
            {"x": np.array([0.5, 0.75]), "scale": 1.0, "zero_point": 0, "bits": 2},
            {"x": np.array([-0.5, 1.0]), "scale": 1.0, "zero_point": 1, "bits": 2},
            {"x": np.array([-3.0, 5.0]), "scale": 1.0, "zero_point": 1, "bits": 2},
            {"x": np.array([1.0, 2.0]), "scale": 0.5, "zero_point": 2, "bits": 3},
        ],
        many=_numbers,
        golden=[
            {
                "x": np.array([-1.0, -0.3, 0.0, 0.01, 1.5, 3.0, 9.0]),
                "scale": 4 / 255,
                "zero_point": 64,
                "bits": 8,
            }
        ],
        more=hidden("twice is once", _twice, _once_is_enough),
    ),
    mutants=(
        Mutant("half-up", partial(_codes, rounded=_half_up)),
        Mutant("rounds-the-sum", partial(_codes, inside=True)),
        Mutant(
            "truncated",
            partial(_codes, rounded=np.trunc),
            forms=(partial(_codes, rounded=np.floor),),
        ),
        Mutant(
            "not-saturated",
            partial(_codes, clip=lambda q: q),
            forms=(
                lambda *a: _codes(*a, clip=lambda q: q % 2 ** a[3]),
                partial(_codes, clip=lambda q: q % 256),  # astype(np.uint8)
            ),
        ),
        Mutant("clipped-first", _clipped_first),
        Mutant("zero-point-forgotten", partial(_codes, shift=0, back=0)),
        Mutant("zero-point-subtracted", partial(_codes, shift=-1, back=-1)),
        Mutant("back-without-zero-point", partial(_codes, back=0)),
    ),
    banned=(
        "minicomp.grid.affine:quantize",
        "minicomp.grid.affine:dequantize",
        "minicomp.grid.affine:fake_quantize",
    ),
    reference=quantize,
    rtol=FLOAT32,
)

# --------------------------------------------------------------------------- scales of a weight


def weight_scales(w: Array, bits: int, per_channel: bool) -> tuple[Array, float, int]:
    """Returns the scales of a weight, one or one a row, its mean squared error, and bytes."""
    rows = w.reshape(len(w), -1) if per_channel else w.reshape(1, -1)
    # Double precision: the error of a row that nearly lies on its grid is that of its scale.
    peak = np.abs(rows).max(axis=1)
    scale = np.where(peak == 0, 1.0, peak / code_range(bits, "narrow")[1])
    error = rows - scale[:, None] * ENTRIES["quantize"].fn(rows, scale[:, None], bits=bits)
    return scale, float(np.mean(error**2)), -(-w.size * bits // 8) + 4 * len(scale)


def _scales(
    w, bits, per_channel, *, rows=None, peak=None, divisor=None, zero=1.0, error=np.mean, size=None
) -> tuple[Array, float, int]:
    # How the mutants slip: rows that share a scale, their peak, its divisor, the scale of zeros,
    # what becomes of squares, and the bytes as a function of (weights, scales).
    rows = rows or (lambda w: w.reshape(len(w), -1) if per_channel else w.reshape(1, -1))
    table = rows(w)
    top = code_range(bits, "narrow")[1]
    scale = (peak or (lambda a: np.abs(a).max(axis=1)))(table) / (divisor(bits) if divisor else top)
    scale = np.where(scale == 0, zero, scale)
    safe = np.where(scale == 0, 1.0, scale)[:, None]
    back = safe * np.clip(np.rint(table / safe), -top, top)
    count = size or (lambda n, scales: -(-n * bits // 8) + 4 * scales)
    return scale, float(error((table - back) ** 2)), count(w.size, len(scale))


def _divides_by_zero(w, bits, per_channel) -> tuple[Array, float, int]:
    # A row of zeros has scale 0, and 0 / 0 is no number.
    scale, _, size = _scales(w, bits, per_channel, zero=0.0)
    rows = w.reshape(len(scale), -1)
    s = scale[:, None]
    with np.errstate(invalid="ignore"):
        return scale, float(np.mean((rows - s * np.rint(rows / s)) ** 2)), size


def _transposed(w, bits, per_channel) -> tuple[Array, float, int]:
    return _scales(
        w,
        bits,
        per_channel,
        rows=lambda w: np.moveaxis(w, 1, 0).reshape(w.shape[1], -1)
        if per_channel
        else w.reshape(1, -1),
    )


def _sized(size):
    return lambda w, bits, per_channel: _scales(w, bits, per_channel, size=size(bits))


def _kernels(draw):
    for i in range(20):
        shape = draw.choice(((1, 2), (2, 3), (3, 2, 3, 3), (5, 1, 3, 3), (4, 7)))
        w = draw.normal(*shape)
        if i % 4 == 1:
            w[0] = 0  # a channel without a weight
        yield {"w": w, "bits": draw.choice((2, 3, 4, 8)), "per_channel": bool(i % 2)}


def _permuted(draw):
    for _ in range(3):
        w, order = draw.normal(5, 3), draw.permutation(5)
        yield [{"w": v, "bits": 4, "per_channel": True} for v in (w, w[order])]


def _order_does_not_count(case, results) -> Message | None:
    names = ("the result", "the result for the rows in another order")
    return first_difference([weight_scales(**c) for c in case], results, names, rtol=ERROR)


_SCALES = Exercise(
    id="10.weight_scales",
    minutes=12,
    parts=standard_parts(
        equal_to(weight_scales, rtol=ERROR, names=("the scales", "the error", "the bytes")),
        tiny=[
            {"w": np.array([[-3.0, 1.0]]), "bits": 3, "per_channel": False},
            {"w": np.array([[8.0, 2.0], [1.0, -0.4]]), "bits": 3, "per_channel": True},
            {"w": np.array([[0.0, 0.0], [1.0, -0.4]]), "bits": 3, "per_channel": True},
        ],
        many=_kernels,
        golden=[
            {
                "w": np.array([[6.0, -2.5, 1.0], [0.25, 0.5, -0.75]]),
                "bits": 4,
                "per_channel": each,
            }
            for each in (False, True)
        ],
        more=hidden("another order", _permuted, _order_does_not_count),
    ),
    mutants=(
        Mutant(
            "signed-peak",
            partial(_scales, peak=lambda rows: rows.max(axis=1)),
            forms=(partial(_scales, peak=lambda rows: np.ptp(rows, axis=1) / 2),),
        ),
        Mutant("input-channels", _transposed),
        Mutant(
            "one-code-too-many",
            partial(_scales, divisor=lambda bits: 2 ** (bits - 1)),
            forms=(
                partial(_scales, divisor=lambda bits: 2**bits - 1),
                partial(_scales, divisor=lambda bits: (2**bits - 1) / 2),
            ),
        ),
        Mutant(
            "zero-channel",
            partial(_scales, zero=0.0),
            forms=(_divides_by_zero,),
            seen=lambda call, result: bool(np.isnan(np.sum(result[0]) + result[1])),
        ),
        Mutant("always-one-scale", lambda w, bits, per_channel: _scales(w, bits, False)),
        Mutant("scales-are-free", _sized(lambda bits: lambda n, scales: -(-n * bits // 8))),
        Mutant(
            "bits-for-bytes",
            _sized(lambda bits: lambda n, scales: n * bits + 4 * scales),
            forms=(
                _sized(lambda bits: lambda n, scales: n * bits + 32 * scales),
                _sized(lambda bits: lambda n, scales: n + 4 * scales),
                _sized(lambda bits: lambda n, scales: n * bits // 8 + 4 * scales),
            ),
        ),
        Mutant(
            "not-a-mean-of-squares",
            partial(_scales, error=np.sum),
            forms=(
                partial(_scales, error=lambda e: np.sqrt(e.mean())),
                partial(_scales, error=lambda e: np.sqrt(e).mean()),
                partial(_scales, error=lambda e: np.sqrt(e.max())),
            ),
        ),
    ),
    banned=(
        "minicomp.grid.affine:symmetric_scale",
        "minicomp.compress.quant.schemes:Scheme",
        "minicomp.nn.forms.affine:Affine",
    ),
    reference=weight_scales,
    rtol=ERROR,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_codes(x, scale, zero_point, bits) -> str | None:
    x = np.asarray(x)
    if x.ndim != 1 or not is_finite(x, "if", most=20):
        return "x is an array of 1 to 20 finite numbers"
    return wrong_grid(scale, zero_point, bits)


LESSON = LessonChecks(
    number="10",
    name="affine",
    exercises=(_PARAMS, _QUANTIZE, _SCALES),
    diagnosis=Diagnosis(
        id="10.broken",
        of=_QUANTIZE,
        shown_by={
            "half-up": (np.array([0.5]), 1.0, 0, 2),
            "rounds-the-sum": (np.array([-0.5]), 1.0, 1, 2),
            "truncated": (np.array([0.75]), 1.0, 0, 2),
            "not-saturated": (np.array([9.0]), 1.0, 0, 2),
        },
        valid=_valid_codes,
        agreeing=(np.array([1.0, 2.0]), 1.0, 0, 2),
        several=(
            (np.array([0.5]), 1.0, 1, 2),
            (np.array([0.75, 9.0]), 1.0, 0, 2),
        ),
        invalid=(np.array([1.0, 2.0]), -1.0, 0, 2),
    ),
    predictions=(
        Prediction("10.p1", unit="%"),
        Prediction("10.p2", unit="%"),
    ),
    reflections=(Reflection("10.r1"),),
    numbers=(
        Number("error_dense", "error of the float net", "%", 2),
        Number("tensor_8", "8 bits, a scale a layer", "%", 2),
        Number("channel_8", "8 bits, a scale a channel", "%", 2),
        Number("tensor_4", "4 bits, a scale a layer", "%", 2),
        Number("affine_4", "4 bits, a range a layer", "%", 2),
        Number("channel_4", "4 bits, a scale a channel", "%", 2),
        Number("spread", "block1.dw: widest channel over the median one", "", 1),
        Number("bytes_dense", "file, float32", "kB", 1),
        Number("bytes_8", "file, 8 bits, a scale a channel", "kB", 1),
        Number("bytes_4", "file, 4 bits, a scale a channel", "kB", 1),
        Number("bits", "bits of a weight", "", 0),
        Number("tensor", "error, a scale a layer", "%", 2),
        Number("channel", "error, a scale a channel", "%", 2),
    ),
)
