"""Lesson 16: the step of a binary layer, the product of packed signs, batch norms as thresholds.

a what the layer reads, w the real weights behind its signs, g = dC/dy, eta the learning rate
(exercise 1); x numbers, w the words of packed signs (exercise 2); y = gain s + bias behind a sum s
of K signs (exercise 3).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...deploy.binary import thresholds
from ...kernels.bits.pack import LEAST, pack_signs_ref
from ...kernels.bits.xnor import xnor_dot
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
SUM = 1e-9  # relative: sums of a few products of double precision
WORD = 64
signs = ENTRIES["binarize"].fn

# ---------------------------------------------------------------------------- a binary layer's step


def binary_step(a: Array, w: Array, g: Array, lr: float) -> tuple[Array, Array, Array]:
    """Returns y = sign(a) sign(w)', what reaches a of g = dC/dy, and w after the step.

    a : (N, C)        w : (O, C) in [-1, 1]        g : (N, O)
    """
    return _step(a, w, g, lr)


def _ends_in(x: Array) -> Array:
    return np.abs(x) <= 1


def _step(
    a, w, g, lr, *, sign=signs, forward=None, back=None, moved=None, through=_ends_in, clip=True,
    read=None
) -> tuple[Array, Array, Array]:
    # How the mutants slip. sign: of both; forward, back, moved: what becomes of w where y is
    # made, where g goes back, and before the step; through: where a sign lets g pass; read: what
    # the layer reads instead of sign(a).
    real = w.copy()
    weight = sign(w)
    a_b = sign(a) if read is None else read(a)
    y = a_b @ (weight if forward is None else forward(w)).T
    to_a = (g @ (weight if back is None else back(w))) * through(a)
    stepped = (real if moved is None else moved(w)) - lr * g.T @ a_b
    return y, to_a, np.clip(stepped, -1, 1) if clip else stepped


def _itself(x: Array) -> Array:
    return x


def _no_gradient(a, w, g, lr) -> tuple[Array, Array, Array]:
    # The derivative of a sign is 0: nothing arrives, nothing moves.
    return signs(a) @ signs(w).T, 0 * a, w.copy()


def _steps(draw):
    # Eighths: products are exact; 0 and +-1 are among them, and steps that leave -1..1.
    for _ in range(20):
        n, c, o = draw.choice((1, 3, 8)), draw.choice((2, 5, 9)), draw.choice((1, 2, 4))
        yield {"a": draw.integers(-12, 13, n, c) / 8, "w": draw.integers(-8, 9, o, c) / 8,
               "g": draw.integers(-8, 9, n, o) / 8, "lr": draw.choice((0.125, 0.5))}


def _pushed(draw):
    # The same push again and again: what is behind the sign must add up.
    for case in list(_steps(draw))[:4]:
        w, calls = case["w"] / 8, []
        for _ in range(3):
            calls.append(case | {"w": w})
            w = binary_step(**calls[-1])[2]
        yield calls


def _each_is_right(case, results) -> Message | None:
    names = tuple(f"the result of step {i + 1}" for i in range(len(case)))
    return first_difference([binary_step(**c) for c in case], results, names)


_STEP = Exercise(
    id="16.binary_step",
    minutes=8,
    parts=standard_parts(
        equal_to(binary_step, rtol=SUM, names=("y", "what reaches a", "w")),
        tiny=[
            {"a": np.array([[0.5, -2.0]]), "w": np.array([[0.25, -0.5]]), "g": np.array([[1.0]]),
             "lr": 0.5},
            {"a": np.array([[-1.0, 1.0]]), "w": np.array([[0.75, 0.5], [-0.25, -0.75]]),
             "g": np.array([[0.5, 0.25]]), "lr": 1.0},
            {"a": np.array([[0.0, 0.25]]), "w": np.array([[0.0, -0.5]]), "g": np.array([[1.0]]),
             "lr": 0.25},
        ],
        many=_steps,
        golden=[
            {"a": np.array([[0.5, -1.0, 1.25], [-0.25, 0.0, 2.0]]),
             "w": np.array([[0.5, -0.25, 0.0], [-1.0, 0.75, 1.0]]),
             "g": np.array([[0.5, -1.0], [2.0, 0.25]]), "lr": 0.5}
        ],
        more=hidden("pushed three times", _pushed, _each_is_right),
    ),
    mutants=(
        Mutant("signs-moved", partial(_step, moved=signs)),
        Mutant("not-clipped", partial(_step, clip=False)),
        Mutant("real-weights", partial(_step, forward=_itself),
               forms=(partial(_step, back=_itself), partial(_step, forward=_itself, back=_itself))),
        Mutant("real-inputs", partial(_step, read=_itself)),
        Mutant("true-gradient", _no_gradient),
        Mutant("everywhere", partial(_step, through=np.ones_like)),
        Mutant("ends-left-out", partial(_step, through=lambda a: np.abs(a) < 1)),
        Mutant("sign-of-zero", partial(_step, sign=np.sign),
               forms=(partial(_step, sign=lambda x: np.where(x > 0, 1.0, -1.0)),)),
    ),
    banned=("minicomp.grid.signs:binarize", "minicomp.grid.signs:hard_sign"),
    reference=binary_step,
    rtol=SUM,
)

# ------------------------------------------------------------------------ a product of packed signs


def packed_dot(x: Array, w: Array) -> tuple[Array, int]:
    """Returns the signs of x as words, and their product with those of w.

    x : (n,) float        w : (ceil(n / 64),) uint64; its bits behind the last sign may be anything
    """
    words, n = pack_signs_ref(x), len(x)
    return words, int(xnor_dot(words, _kept(w, n), n))


def _kept(w: Array, n: int) -> Array:
    # Words without what stands behind bit n.
    mask = pack_signs_ref(np.ones(n))
    return w.astype(np.uint64) & mask


def _dot(
    x, w, *, bits=lambda x: x >= 0, order="little", mask=True, length=len, result=None
) -> tuple[Array, int]:
    # How the mutants slip. bits: of numbers; order: of the bits of a byte; mask: the rest of w's
    # last word is left out; length: the K of the formula; result: of length and differences.
    n, full = len(x), np.zeros(WORD * len(w), bool)
    full[:n] = bits(x)
    words = np.packbits(full, bitorder=order).view("<u8").astype(np.uint64)
    differ = int(np.bitwise_count(words ^ (_kept(w, n) if mask else w.astype(np.uint64))).sum())
    return words, (length(x) - 2 * differ if result is None else result(n, differ))


def _whole_words(x: Array) -> int:
    return WORD * -(-len(x) // WORD)


def _in_bytes(n: int, differ: int) -> int:
    # As uint8, what np.bitwise_count gives: sums and results wrap.
    return n - 2 * differ & 255


def _vectors(draw):
    # Every length up to 130, zeros among the numbers, any bits behind the last.
    for n in range(1, 131):
        yield _vector(draw, n)


def _vector(draw, n: int) -> dict:
    x = draw.integers(-3, 4, n) / 2
    w = pack_signs_ref(draw.uniform(WORD * -(-n // WORD)) - 0.5)
    return {"x": x, "w": w}


def _against_itself(draw):
    for n in (1, 63, 64, 65, 127, 128, 129, 300):
        x = draw.integers(0, 2, n) * 2.0 - 1
        yield [{"x": x, "w": pack_signs_ref(x)}, {"x": -x, "w": pack_signs_ref(x)}]


def _n_and_minus_n(case, results) -> Message | None:
    for call, result, factor in zip(case, results, (1, -1)):
        n = len(call["x"])
        wrong = difference((pack_signs_ref(call["x"]), factor * n), result,
                           names=("the words", "the product with itself" if factor == 1 else
                                  "the product with its negative"))
        if wrong:
            return wrong
    return None


def _ones(n: int) -> Array:
    return np.array([2**n - 1], np.uint64)


_DOT = Exercise(
    id="16.packed_dot",
    minutes=15,
    parts=standard_parts(
        equal_to(packed_dot, names=("the words", "the product")),
        tiny=[
            {"x": np.array([0.5, -0.5, 2.0]), "w": np.array([0b100], np.uint64)},
            {"x": np.array([-1.0, 0.0]), "w": np.array([0b01], np.uint64)},
            {"x": np.array([1.0, 1.0, -1.0, 1.0]), "w": np.array([0b1101_1001], np.uint64)},
            {"x": np.ones(64), "w": np.array([2**64 - 1], np.uint64)},
        ],
        many=_vectors,
        golden=[
            {"x": np.where(np.arange(70) % 3, 1.0, -1.0),
             "w": np.array([0x0123_4567_89AB_CDEF, 0xFFFF_FFFF_FFFF_FFF5], np.uint64)},
            {"x": -np.ones(300), "w": np.array([2**64 - 1] * 4 + [2**44 - 1], np.uint64)},
        ],
        more=hidden("with itself", _against_itself, _n_and_minus_n),
    ),
    mutants=(
        Mutant("tail-counted", partial(_dot, mask=False)),
        Mutant("whole-words", partial(_dot, length=_whole_words),
               forms=(partial(_dot, length=_whole_words, mask=False),)),
        Mutant("counted-once", partial(_dot, result=lambda n, d: n - d)),
        Mutant("turned-round", partial(_dot, result=lambda n, d: 2 * d - n),
               forms=(partial(_dot, result=lambda n, d: d),)),
        Mutant("sign-of-zero", partial(_dot, bits=lambda x: x > 0)),
        Mutant("wrapped", partial(_dot, result=lambda n, d: (n - 2 * d) % 2**64),
               forms=(partial(_dot, result=_in_bytes),)),
        Mutant("big-end-first", partial(_dot, order="big")),
    ),
    banned=(
        "minicomp.kernels.bits.pack:pack_signs",
        "minicomp.kernels.bits.pack:pack_signs_ref",
        "minicomp.kernels.bits.pack:packed",
        "minicomp.kernels.bits.xnor:xnor_dot",
        "minicomp.kernels.bits.xnor:gemm",
        "minicomp.kernels.bits.xnor:gemm_ref",
    ),
    reference=packed_dot,
    rtol=0.0,
    atol=0.0,
)

# --------------------------------------------------------------------- batch norm and sign in one


def sign_threshold(gain: Array, bias: Array, K: int) -> tuple[Array, Array]:
    """Returns t, (O,) int, and whether a bit is s <= t instead of s >= t, (O,) bool.

    gain, bias : (O,) float32 of y = s gain + bias, in float32; sums s are in -K..K
    A channel of one sign alone has t = -2^31: `below` where it is -1.
    """
    found, _ = thresholds([(gain, bias)], np.full(len(gain), -K), np.full(len(gain), K))
    return found.at, found.below


def _threshold(
    gain, bias, K, *, numbers=np.float32, positive=lambda y: y >= 0, falls=True, constant=True
) -> tuple[Array, Array]:
    # How the mutants slip. numbers: that y is made of; positive: where a bit is set; falls: a
    # falling channel is turned round; constant: one of one sign alone is known as that.
    s = np.arange(-K, K + 1)
    at, below = np.full(len(gain), LEAST), np.zeros(len(gain), bool)
    for c, (m, b) in enumerate(zip(gain.astype(numbers), bias.astype(numbers))):
        bits = positive(s.astype(numbers) * m + b)
        if bits[0] == bits[-1]:
            below[c] = constant and not bits[0]
        else:
            below[c] = falls and bits[0]
            at[c] = s[bits].max() if bits[0] else s[bits].min()
    return at, below


def _divided(gain, bias, K, *, numbers=np.float64, up=np.ceil, down=np.floor):
    # -bias / gain, rounded: the closed formula.
    at, below = _threshold(gain, bias, K)
    gain, bias = gain.astype(numbers), bias.astype(numbers)
    q = -bias / np.where(gain == 0, 1, gain)
    q = np.where(gain > 0, up(q), down(q))
    inside = np.abs(q) <= K
    t = np.where((at == LEAST) | ~inside, at, q).astype(np.int64)
    return t, below


def _zero_gain_lost(gain, bias, K, *, below=True):
    # A gain of 0 as a channel that is always -1, or always +1.
    at, turned = _threshold(gain, bias, K)
    return np.where(gain == 0, LEAST, at), np.where(gain == 0, below, turned)


def _sign_of_gain(gain, bias, K):
    # `below` says that the gain is negative, also of a channel that is constant.
    return _threshold(gain, bias, K)[0], gain < 0


def _channels(draw):
    # Tenths, whose ties are the float's; falling, level and constant channels among them.
    for _ in range(20):
        n, K = draw.choice((1, 3, 6)), draw.choice((1, 7, 40))
        gain = np.float32(draw.integers(-6, 7, n) / 10)
        bias = np.float32(draw.integers(-3 * K, 3 * K + 1, n) / 10)
        yield {"gain": gain, "bias": bias, "K": K}


def _mirrored(draw):
    # gain to -gain: s becomes -s.
    for case in list(_channels(draw))[:4]:
        yield [case, case | {"gain": -case["gain"]}]


def _mirror_is_right(case, results) -> Message | None:
    names = ("the result", "the result for -gain")
    return first_difference([sign_threshold(**c) for c in case], results, names)


def _channel(gain: float, bias: float, K: int) -> dict:
    return {"gain": np.float32([gain]), "bias": np.float32([bias]), "K": K}


_THRESHOLD = Exercise(
    id="16.sign_threshold",
    minutes=12,
    parts=standard_parts(
        equal_to(sign_threshold, names=("t", "below")),
        tiny=[
            _channel(0.5, -1.0, 3),
            _channel(-0.5, 0.75, 3),
            {"gain": np.float32([0, 0, 1, -1]), "bias": np.float32([2, -2, -9, -9]), "K": 4},
            _channel(0.1, -0.3, 5),
        ],
        many=_channels,
        golden=[
            {"gain": np.float32([0.3, -0.7, 0.1, 0.0, 0.2]),
             "bias": np.float32([-2.1, 4.9, 0.7, 0.0, -60]), "K": 30}
        ],
        more=hidden("mirrored", _mirrored, _mirror_is_right),
    ),
    mutants=(
        Mutant("divided", _divided, forms=(partial(_threshold, numbers=np.float64),)),
        Mutant("rounded-down", partial(_divided, up=np.floor),
               forms=(partial(_divided, up=np.trunc, down=np.trunc),
                      partial(_divided, up=np.rint, down=np.rint))),
        Mutant("falling-forgotten", partial(_threshold, falls=False)),
        Mutant("zero-gain", _zero_gain_lost, forms=(partial(_zero_gain_lost, below=False),)),
        Mutant("sign-of-the-gain", _sign_of_gain),
        Mutant("always-plus", partial(_threshold, constant=False)),
        Mutant("strict", partial(_threshold, positive=lambda y: y > 0)),
    ),
    banned=("minicomp.deploy.binary:thresholds",),
    reference=sign_threshold,
    rtol=0.0,
    atol=0.0,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_words(x, w) -> str | None:
    x, w = np.asarray(x), np.asarray(w)
    if x.ndim != 1 or not is_finite(x, "fiu", most=200):
        return "x is an array of 1 to 200 numbers"
    if w.shape != (-(-len(x) // WORD),) or w.dtype.kind not in "iu" or (w < 0).any():
        return f"w is an array of whole numbers from 0 to 2^64 - 1, one for {WORD} entries of x"
    return None


LESSON = LessonChecks(
    number="16",
    name="binary",
    exercises=(_STEP, _DOT, _THRESHOLD),
    diagnosis=Diagnosis(
        id="16.broken",
        of=_DOT,
        shown_by={
            "tail-counted": (np.array([-1.0]), np.array([0b10], np.uint64)),
            "sign-of-zero": (np.zeros(8), _ones(8)),
            "wrapped": (np.array([-1.0]), _ones(1)),
            "big-end-first": (np.array([1.0, -1.0]), np.array([0b01], np.uint64)),
        },
        valid=_valid_words,
        agreeing=(np.ones(64), _ones(64)),
        several=((np.array([0.0, -1.0, -1.0]), np.array([0b1110], np.uint64)),),
        invalid=(np.ones(64), np.array([], np.uint64)),
    ),
    predictions=(
        Prediction("16.p1", unit="times", hi=10_000),
        Prediction("16.p2", unit="%"),
    ),
    reflections=(Reflection("16.r1"),),
    numbers=(
        Number("error_float", "error of the float net", "%", 2),
        Number("error_signs", "BinaryConnect, signs", "%", 2),
        Number("error_real", "drawn in training: real weights", "%", 2),
        Number("error_drawn", "drawn in training: their signs", "%", 2),
        Number("error_mean", "drawn in training: mean of 10 nets", "%", 2),
        Number("error_bnn", "BNN", "%", 2),
        Number("error_bits", "BNN, the program of bits", "%", 2),
        Number("flips", "predictions that flip from net to program", "", 0),
        Number("bytes_float", "file, float", "kB", 1),
        Number("bytes_signs", "file, BinaryConnect", "kB", 1),
        Number("bytes_bnn", "file, BNN", "kB", 1),
        Number("faster_1", "float / bits, ms of one image", "", 1),
        Number("faster_64", "float / bits, ms of 64 images", "", 1),
        Number("saturated", "real weights within 10 % of an end", "%", 1),
        Number("popcount", "signs packed and multiplied, by shape", "ms", 4),
        Number("sgemm", "float32 BLAS, by shape", "ms", 4),
        Number("naive", "integers in loops, by shape", "ms", 4),
        Number("beats_sgemm", "sgemm / popcount, 256 rows", "", 1),
        Number("beats_naive", "loops / popcount, 256 rows", "", 0),
        Number("few", "sgemm / popcount, few channels", "", 2),
    ),
)
