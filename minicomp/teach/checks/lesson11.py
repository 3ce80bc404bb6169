"""Lesson 11: a bias that takes back a mean, a threshold by divergence, and sums made codes.

w, w^ a weight and what rounding made of it, b a bias, x examples of what a layer reads (exercise
1); c_0 .. c_{n-1} a histogram of |x|, L levels (exercise 2); M = M0 2^-n a real factor, z a zero
point of codes 0 .. 255 (exercise 3).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from ...kernels.int8.requantize import multiplier, requantize_ref, requantizer
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
SUM = 1e-9  # relative: sums of at most a few hundred products of double precision

# --------------------------------------------------------------------------------- bias correction


def corrected_bias(w: Array, w_hat: Array, b: Array, x: Array) -> Array:
    """Returns the bias, (O,), with which w^ has w's mean output over the examples x, (N, C)."""
    return b - ENTRIES["bias_shift"].fn(w_hat - w, x.mean(axis=0))


def _bias(w, w_hat, b, x, *, sign=-1.0, of=None, seen=np.mean, start=1.0, each=True) -> Array:
    # How the mutants slip. of: whose outputs are averaged; seen: what becomes of the examples;
    # start: factor of the old bias; each: a shift for each channel, or one for all.
    shift = (w_hat - w if of is None else of(w, w_hat)) @ seen(x, axis=0)
    return start * b + sign * (shift if each else np.full_like(shift, shift.mean()))


def _by_weights(w, w_hat, b, x) -> Array:
    return b - (w_hat - w).mean(axis=1)


def _behind_relu(w, w_hat, b, x) -> Array:
    # The mean behind the activation, which a bias in front of it does not set.
    y, y_hat = (np.maximum(x @ each.T + b, 0).mean(axis=0) for each in (w, w_hat))
    return b - (y_hat - y)


def _layers(draw):
    for _ in range(20):
        n, c, o = draw.choice((1, 3, 8)), draw.choice((1, 2, 5)), draw.choice((1, 2, 4))
        w = draw.normal(o, c)
        yield {"w": w, "w_hat": np.rint(2 * w) / 2, "b": draw.normal(o),
               "x": np.maximum(draw.normal(n, c) + 0.25, 0)}


def _mean_is_back(case, result) -> Message | None:
    """Compares the means of the outputs, whatever the bias is."""
    if np.shape(result) != case["b"].shape:
        return difference(corrected_bias(**case), result)
    x = case["x"].mean(axis=0)
    right = case["w"] @ x + case["b"]
    return difference(right, case["w_hat"] @ x + np.asarray(result), rtol=SUM, atol=1e-12,
                      where="the mean of the outputs")


_BIAS = Exercise(
    id="11.corrected_bias",
    minutes=8,
    parts=standard_parts(
        equal_to(corrected_bias, rtol=SUM),
        tiny=[
            {"w": np.array([[0.75]]), "w_hat": np.array([[1.0]]), "b": np.array([5.0]),
             "x": np.array([[2.0], [6.0]])},
            {"w": np.array([[0.75, 0.5], [-1.0, 0.25]]), "w_hat": np.array([[1.0, 0], [-1, 0]]),
             "b": np.array([0.0, -4.0]), "x": np.array([[4.0, 0.0], [8.0, 2.0]])},
        ],
        many=_layers,
        golden=[
            {"w": np.array([[0.6, -0.3, 1.4], [-0.7, 0.2, 0.4]]),
             "w_hat": np.array([[0.5, -0.5, 1.5], [-0.5, 0.0, 0.5]]),
             "b": np.array([0.25, -1.0]), "x": np.array([[1.0, 0, 2], [3, 1, 0], [0, 5, 1]])}
        ],
        more=hidden("the mean is back", _layers, _mean_is_back),
    ),
    mutants=(
        Mutant("wrong-sign", partial(_bias, sign=1.0)),
        Mutant("whole-mean", partial(_bias, of=lambda w, w_hat: w_hat),
               forms=(partial(_bias, of=lambda w, w_hat: -w),)),
        Mutant("sum-not-mean", partial(_bias, seen=np.sum)),
        Mutant("one-for-all", partial(_bias, each=False)),
        Mutant("shift-only", partial(_bias, start=0.0),
               forms=(partial(_bias, start=0.0, sign=1.0),)),
        Mutant("inputs-forgotten", _by_weights,
               forms=(partial(_bias, seen=lambda x, axis: np.ones(x.shape[1])),)),
        Mutant("behind-relu", _behind_relu),
    ),
    banned=(
        "minicomp.compress.quant.shifts:weight_shift",
        "minicomp.compress.quant.shifts:measured",
        "minicomp.compress.quant.shifts:expected",
        "minicomp.compress.quant.shifts:corrected",
    ),
    reference=corrected_bias,
    rtol=SUM,
)

# ------------------------------------------------------------------------ a threshold by divergence

KL = ENTRIES["kl_threshold"]


def kl_threshold(counts: Array, width: float, levels: int) -> tuple[float, float]:
    """Returns (T, KL(P || Q)) of the cut of least divergence: the entry, without its options."""
    return KL.fn(counts, width, levels=levels)


def _threshold(
    counts, width, levels, *, fold=True, into=False, empties=False, turned=False, half=0.5,
    void=True, norm=True
) -> tuple[float, float]:
    # How the mutants slip. fold: outliers go into P's last bin; into: and into Q's; empties: empty
    # bins have a share; turned: KL(Q || P); half: of T; void: a cut with p > 0 = q is skipped, else
    # such bins are left out; norm: P and Q are divided by their sums.
    best = math.inf, 0.0
    for i in range(levels, len(counts) + 1):
        p = counts[:i].copy()
        p[-1] += counts[i:].sum() if fold else 0
        seen, level = (p if into else counts[:i]), np.arange(i) * levels // i
        full = np.ones(i, bool) if empties else seen > 0
        share = np.bincount(level, seen) / np.maximum(np.bincount(level, full), 1)
        q = full * share[level]
        if void and ((p > 0) & (q == 0)).any():
            continue
        if norm:
            p, q = p / p.sum(), q / q.sum()
        p, q = (q, p) if turned else (p, q)
        both = (p > 0) & (q > 0)
        best = min(best, (float(np.sum(p[both] * np.log(p[both] / q[both]))), (i + half) * width))
    return best[1], best[0]


def _histograms(draw):
    for _ in range(2):
        yield from KL.cases["property"](draw)


def _scaled(draw):
    # Twice the numbers, in bins four times as wide.
    for case in list(KL.cases["property"](draw))[:4]:
        yield [case, case | {"counts": 2 * case["counts"], "width": 4 * case["width"]}]


def _units_and_numbers_do_not_count(case, results) -> Message | None:
    return next(filter(None, (KL.judge(*each) for each in zip(case, results))), None)


def _golden():
    # A hundred falling bins, half of those at the end empty, and two outliers.
    k = np.arange(128)
    counts = np.floor(4000 * np.exp(-k / 12)) * (1 - (k > 60) * (k % 2))
    counts[[97, 127]] = 3.0, 1.0
    return {"counts": counts, "width": 1 / 16, "levels": 16}


_KL = Exercise(
    id="11.kl_threshold",
    minutes=15,
    parts=standard_parts(
        KL.judge,
        tiny=[
            {"counts": np.array([4.0, 2.0, 1.0, 1.0]), "width": 0.5, "levels": 2},
            {"counts": np.array([5.0, 4.0, 0.0, 0.0, 1.0]), "width": 1.0, "levels": 2},
            {"counts": np.array([6.0, 0.0, 3.0, 2.0, 0.0, 1.0]), "width": 1.0, "levels": 3},
            {"counts": np.array([8.0, 3.0, 2.0, 6.0, 1.0, 0.0]), "width": 1.0, "levels": 2},
        ],
        many=_histograms,
        golden=[_golden()],
        more=hidden("other units", _scaled, _units_and_numbers_do_not_count),
    ),
    mutants=(
        # With the same numbers in both, the first cut of all has divergence 0.
        Mutant("clipping-is-free", partial(_threshold, fold=False),
               forms=(partial(_threshold, into=True),)),
        Mutant("empty-bins-share", partial(_threshold, empties=True)),
        Mutant("turned-round", partial(_threshold, turned=True)),
        Mutant("edge-not-middle", partial(_threshold, half=0.0),
               forms=(partial(_threshold, half=1.0), partial(_threshold, half=-0.5))),
        Mutant("void-not-skipped", partial(_threshold, void=False)),
        Mutant("not-normalised", partial(_threshold, norm=False)),
    ),
    banned=(
        "minicomp.compress.quant.ranges.thresholds:kl_threshold",
        "minicomp.compress.quant.ranges.thresholds:kl_divergences",
    ),
    reference=kl_threshold,
    rtol=SUM,
)

# -------------------------------------------------------------------------------- sums become codes


def requantize(acc: Array, m: float, zero_point: int) -> tuple[int, int, Array]:
    """Returns M0, n and the codes 0 .. 255 of sums under rule `single`.

    acc : (N,) int32        m : in (0, 2^30)
    """
    m0, n = multiplier(m)
    rule = requantizer([m], zero_point=zero_point, lo=0, hi=255)
    return int(m0), int(n), requantize_ref(acc.reshape(-1, 1), rule).reshape(acc.shape)


def _fixed(m: float, carry=True) -> tuple[int, int]:
    # M0 and n; carry: an M0 of 2^31 is halved.
    f, e = math.frexp(m)
    m0, n = round(f * 2**31), 31 - e
    return (m0 // 2, n - 1) if carry and m0 == 2**31 else (m0, n)


def _codes(
    acc, m, zero_point, *, fixed=_fixed, half=True, product=np.int64, rounded=None, shift=1,
    first=False, clip=None
) -> tuple[int, int, Array]:
    # How the mutants slip. fixed: M0 and n; half: 2^(n-1) is added; product: the type that holds
    # acc M0; rounded: takes acc M instead; shift: factor of the zero point; first: clipped before
    # it; clip: what saturates.
    m0, n = fixed(m)
    wide = (acc.astype(product) * np.int64(m0).astype(product)).astype(np.int64)
    y = wide + ((1 << n >> 1) if half else 0) >> n if rounded is None else rounded(acc * m)
    clip = clip or (lambda y: np.clip(y, 0, 255))
    y = clip(y) + shift * zero_point if first else clip(y + shift * zero_point)
    return m0, n, y.astype(np.int64)


def _plain(m: float) -> tuple[int, int]:
    return round(m * 2**31), 31


def _narrow(acc, m, zero_point) -> tuple[int, int, Array]:
    # All in the type of acc, which 2^(n - 1) may leave: an OverflowError.
    m0, n = _fixed(m)
    return m0, n, np.clip((acc * m0 + 2 ** (n - 1) >> n) + zero_point, 0, 255)


def _narrow_half(acc, m, zero_point) -> tuple[int, int, Array]:
    # n as np.frexp gives it has 32 bits, and 2^(n - 1) is 0 from n = 33 on.
    m0, n = _fixed(m)
    y = acc.astype(np.int64) * m0 + 2 ** np.int32(n - 1) >> n
    return m0, n, np.clip(y + zero_point, 0, 255)


def _half_away(t: Array) -> Array:
    return (np.sign(t) * np.floor(np.abs(t) + 0.5)).astype(np.int64)


def _sums(draw):
    # Every other factor is a power of two, whose ties are exact; codes reach beyond both ends.
    for i in range(20):
        count = draw.choice((1, 3, 7))
        m = 2.0 ** -draw.integer(1, 12)
        m *= 1.0 if i % 2 else 0.5 + draw.integer(1, 2**20) / 2**21
        acc = np.rint(2 * (draw.uniform(count) - 0.5) * 400 / m).astype(np.int32)
        yield {"acc": acc, "m": m, "zero_point": draw.integer(0, 256)}


def _doubled(draw):
    for case in list(_sums(draw))[:4]:
        yield [case, case | {"acc": 2 * case["acc"], "m": case["m"] / 2}]


def _halved_is_the_same(case, results) -> Message | None:
    names = ("the result", "the result for 2 acc and M / 2")
    return first_difference([requantize(**c) for c in case], results, names)


_REQUANTIZE = Exercise(
    id="11.requantize",
    minutes=12,
    parts=standard_parts(
        equal_to(requantize, names=("M0", "n", "the codes")),
        tiny=[
            {"acc": np.array([1, -1], np.int32), "m": 0.5, "zero_point": 2},
            {"acc": np.array([500, -900], np.int32), "m": 0.01, "zero_point": 100},
            {"acc": np.array([30, -30, 3], np.int32), "m": 10.0, "zero_point": 8},
            {"acc": np.array([5], np.int32), "m": 1 - 2.0**-40, "zero_point": 0},
        ],
        many=_sums,
        golden=[
            {"acc": np.array([100, 5, -5, 15, 1195, 2995], np.int32), "m": 0.1, "zero_point": 128},
            {"acc": np.array([-2**31, 2**31 - 1, 123_456_789, -1], np.int32), "m": 3e-8,
             "zero_point": 60},
        ],
        more=hidden("halved", _doubled, _halved_is_the_same),
    ),
    mutants=(
        Mutant("narrow-product", partial(_codes, product=np.int32),
               forms=(_narrow, _narrow_half)),
        Mutant("rounded-down", partial(_codes, half=False)),
        Mutant(
            "another-tie",
            partial(_codes, rounded=lambda t: np.rint(t).astype(np.int64)),
            forms=(partial(_codes, rounded=_half_away),),
        ),
        Mutant(
            "not-saturated",
            partial(_codes, clip=lambda y: y & 255),
            forms=(partial(_codes, clip=lambda y: y),
                   partial(_codes, clip=lambda y: np.minimum(y, 255))),
        ),
        Mutant(
            "zero-point-forgotten",
            partial(_codes, shift=0),
            forms=(partial(_codes, shift=-1),),
        ),
        Mutant("clipped-first", partial(_codes, first=True)),
        Mutant("signed-codes", partial(_codes, clip=lambda y: np.clip(y, -128, 127))),
        Mutant("not-normalised", partial(_codes, fixed=_plain)),
        Mutant("factor-too-large", partial(_codes, fixed=partial(_fixed, carry=False))),
    ),
    banned=(
        "minicomp.kernels.int8.requantize:multiplier",
        "minicomp.kernels.int8.requantize:requantizer",
        "minicomp.kernels.int8.requantize:requantize",
        "minicomp.kernels.int8.requantize:requantize_ref",
    ),
    reference=requantize,
    rtol=0.0,
    atol=0.0,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_sums(acc, m, zero_point) -> str | None:
    acc = np.asarray(acc)
    if acc.ndim != 1 or not is_finite(acc, "iu", most=20) or abs(acc.astype(float)).max() > 2**30:
        return "acc is an array of 1 to 20 integers, of magnitude up to 2^30"
    if not isinstance(m, int | float) or isinstance(m, bool) or not 2.0**-20 <= m <= 2.0**20:
        return "m is a number, from 2^-20 to 2^20"
    if isinstance(zero_point, bool) or not isinstance(zero_point, int) or not 0 <= zero_point < 256:
        return "zero_point is a code: a whole number from 0 to 255"
    return None


LESSON = LessonChecks(
    number="11",
    name="calibration",
    exercises=(_BIAS, _KL, _REQUANTIZE),
    diagnosis=Diagnosis(
        id="11.broken",
        of=_REQUANTIZE,
        shown_by={
            "narrow-product": (np.array([1000]), 0.01, 0),
            "another-tie": (np.array([1]), 0.5, 0),
            "not-saturated": (np.array([-1]), 0.75, 0),
            "zero-point-forgotten": (np.array([1]), 0.75, 3),
        },
        valid=_valid_sums,
        agreeing=(np.array([1]), 0.75, 0),
        several=((np.array([1]), 0.5, 3), (np.array([1000, -1]), 0.01, 0),
                 (np.array([-1, 1000]), 0.75, 0)),
        invalid=(np.array([1]), 0.0, 0),
    ),
    predictions=(
        Prediction("11.p1", unit="%"),
        Prediction("11.p2", unit="times"),
    ),
    reflections=(Reflection("11.r1"),),
    numbers=(
        Number("error_dense", "error of the float net", "%", 2),
        Number("rounded_4", "4-bit weights, a scale a layer", "%", 2),
        Number("corrected_4", "the same, biases corrected", "%", 2),
        Number("channel_4", "4-bit weights, a scale a channel", "%", 2),
        Number("channel_corrected_4", "the same, biases corrected", "%", 2),
        Number("min_max_4", "4-bit activations, min-max", "%", 2),
        Number("mse_4", "4-bit activations, MSE", "%", 2),
        Number("kl_8", "8-bit activations, KL", "%", 2),
        Number("js_8", "8-bit activations, JS", "%", 2),
        Number("js_cut", "JS's threshold behind the stem", "% of the peak", 1),
        Number("int8", "all integers, calibrated", "%", 2),
        Number("int8_flips", "predictions that flip, all integers", "", 0),
        Number("trained", "float, trained on", "%", 2),
        Number("qat", "all integers, trained on the grid", "%", 2),
        Number("bytes_dense", "file, float32", "kB", 1),
        Number("bytes_half", "file, float16", "kB", 1),
        Number("bytes_int8", "file, all integers", "kB", 1),
        Number("faster_1", "float / all integers, ms of one image", "", 1),
        Number("faster_64", "float / all integers, ms of 64 images", "", 1),
        Number("slower_dynamic", "dynamic / float, ms of one image", "", 1),
        Number("bits", "bits of an activation", "", 0),
        Number("min_max", "error, min-max", "%", 2),
        Number("mse", "error, MSE", "%", 2),
        Number("kl", "error, KL", "%", 2),
        Number("js", "error, JS", "%", 2),
        Number("counts", "histogram behind the stem", "", 0),
        Number("at", "thresholds", "of the peak", 3),
        Number("kl_curve", "KL at each threshold", "nats", 4),
        Number("js_curve", "JS at each threshold", "nats", 4),
        Number("mse_curve", "MSE at each threshold", "of the peak squared", 8),
    ),
)
