"""Lesson 14: a step of centroids, the bytes of product quantization, a decoder of arithmetic code.

c the centroids of a layer, W = c[index], g = dL/dW (exercise 1); O rows and I columns in blocks of
d, k codewords a block and stage, t stages, numbers of b bits (exercise 2); p how likely a 1 is, in
2^-16 (exercise 3).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from ...compress.share.blocks import product_bits, product_break_even
from ...reference import ENTRIES
from ...reference.judges import each_equal_to, equal_to
from ..asking.exercise import (
    Diagnosis,
    Exercise,
    Mutant,
    Prediction,
    hidden,
    standard_parts,
)
from ..asking.lesson import LessonChecks, Number, Reflection

Array = np.ndarray
SUM = 1e-9  # relative: sums of a few products of double precision
summed = ENTRIES["centroid_gradient"].fn
coded = ENTRIES["encode_bits"].fn
decoded = ENTRIES["decode_bits"].fn

# ---------------------------------------------------------------------------- a step of centroids


def centroid_step(c: Array, index: Array, g: Array, lr: float) -> tuple[Array, Array]:
    """Returns dL/dc, (k,), and c after a step, whose first stays.

    c : (k,), centroid 0 that of pruned weights        index : (O, I) of 0..k-1        g : dL/dW
    """
    return _step(c, index, g, lr)


def _last(g: Array, index: Array, k: int) -> Array:
    # What out[index] += g gives: of equal indices one is written.
    out = np.zeros(k)
    out[index] += g
    return out


def _mean(g: Array, index: Array, k: int) -> Array:
    return summed(g, index, k) / np.maximum(np.bincount(index.ravel(), minlength=k), 1)


def _as_long_as_used(g: Array, index: Array, k: int) -> Array:
    return np.bincount(index.ravel(), g.ravel())


def _own(c: Array) -> Array:
    return np.arange(len(c)) > 0


def _step(c, index, g, lr, *, gathered=summed, free=_own, factor=None, towards=-1):
    # How the mutants slip. gathered: what becomes of a centroid's members; free: which centroids
    # move; factor: of the members' gradients; towards: where the step goes.
    found = gathered(g * (1 if factor is None else factor(c, index)), index, len(c))
    moved, n = c.astype(np.float64), len(found)
    moved[:n] += towards * lr * np.where(free(c)[:n], found, 0)
    return found, moved


def _pruned_left_out(c, index, g, lr):
    found, moved = _step(c, index, g, lr)
    return np.where(_own(c), found, 0), moved


def _weights(c: Array, index: Array) -> Array:
    return c[index]


def _layers(draw):
    # Eighths: sums are exact. Some centroids have no member.
    for _ in range(20):
        shape, k = (draw.choice((1, 2, 4)), draw.choice((1, 3, 6))), draw.choice((2, 3, 5, 30))
        c = np.append(0.0, np.sort(draw.integers(-16, 17, k - 1) / 8))
        yield {"c": c, "index": draw.integers(0, k, *shape), "g": draw.integers(-8, 9, *shape) / 8,
               "lr": draw.choice((0.5, 0.25, 1.0))}


def _in_halves(draw):
    # Gradients add up: those of two batches, and their sum.
    for case in list(_layers(draw))[:6]:
        other = draw.integers(-8, 9, *case["g"].shape) / 8
        yield [case, case | {"g": other}, case | {"g": case["g"] + other}]


def _row(c, index, g, lr=0.5) -> dict:
    return {"c": np.array(c, float), "index": np.array([index]), "g": np.array([g], float),
            "lr": lr}


_STEP = Exercise(
    id="14.centroid_step",
    minutes=8,
    parts=standard_parts(
        equal_to(centroid_step, rtol=SUM, names=("dL/dc", "the centroids after")),
        tiny=[
            _row((0, 2, 4), (1, 1, 2), (1, 2, 5)),
            _row((0, 2, 4), (0, 1, 0), (1, 3, 1)),
            _row((0, 2, 4), (1, 1, 1), (1, -1, 4)),
            _row((0, -1, 1, 3), (2, 0, 2), (3, 2, 1), 1.0),
        ],
        many=_layers,
        golden=[
            # Figure 3 of Han, Mao & Dally 2016, but for its centroid 0, which moves there.
            {"c": np.array([-1.0, 0.0, 1.5, 2.0]),
             "index": np.array([[3, 0, 2, 1], [1, 1, 0, 3], [0, 3, 1, 0], [3, 1, 2, 2]]),
             "g": np.array([[-3, -1, 3, 2], [-1, 1, -2, 12], [-1, 2, 4, 1], [-7, -2, 1, -2]]) / 128,
             "lr": 1.0},
        ],
        more=hidden("two batches", _in_halves, each_equal_to(
            centroid_step, ("the first batch", "the second batch", "both"), rtol=SUM)),
    ),
    mutants=(
        Mutant("last-wins", partial(_step, gathered=_last)),
        Mutant("averaged", partial(_step, gathered=_mean)),
        Mutant("short", partial(_step, gathered=_as_long_as_used)),
        Mutant("pruned-moves", partial(_step, free=np.ones_like)),
        Mutant("pruned-left-out", _pruned_left_out),
        Mutant("value-left-in", partial(_step, factor=_weights)),
        Mutant("uphill", partial(_step, towards=1)),
    ),
    banned=(
        "minicomp.compress.share.kmeans:centroid_gradient",
        "minicomp.kernels.codebook.buckets:add",
        "minicomp.kernels.codebook.buckets:add_ref",
        "minicomp.nn.forms.shared:gathered",
        "minicomp.nn.forms.shared:spread",
    ),
    reference=centroid_step,
    rtol=SUM,
)

# ------------------------------------------------------------------------- bytes of codes and books


def product_bytes(O: int, I: int, d: int, k: int, t: int, b: int) -> tuple[int, int]:
    """Returns the bytes of an (O, I) layer, and from how many rows on they are fewer than floats'.

    d : columns of a block, the last filled up        k : codewords a block and stage
    t : stages        b : bits of a codebook's number        rows : 0 where none are enough
    """
    how = {"block": d, "k": k, "stages": t, "float_bits": b}
    return -(-product_bits(O, I, **how) // 8), product_break_even(I, **how)


def _whole(k: int) -> int:
    return (k - 1).bit_length()


def _up(I: int, d: int) -> int:
    return -(-I // d)


def _first(fixed, saved) -> int:
    return int(fixed // saved) + 1 if saved > 0 else 0


def _bytes(
    O, I, d, k, t, b, *, code=_whole, blocks=_up, books=lambda t, s: t * s, rows=_first,
    number=None, unit=8
):
    # How the mutants slip. code: bits that name one of k; blocks: of I columns; books: how many;
    # rows: the break-even of bits once and bits saved by a row; number: bits of a number; unit:
    # what bits are counted in.
    s = blocks(I, d)
    fixed = books(t, s) * k * d * (b if number is None else number)
    row = t * s * code(k)
    return math.ceil((O * row + fixed) / unit), rows(fixed, 32 * I - row)


def _at_equality(fixed, saved) -> int:
    return math.ceil(fixed / saved) if saved > 0 else 0


def _never_asked(fixed, saved) -> int:
    return math.floor(fixed / saved) + 1 if saved else 0


def _layers_to_count(draw):
    for _ in range(20):
        d, I = draw.choice((1, 3, 4, 8)), draw.choice((8, 10, 27, 64))
        yield {"O": draw.integer(1, 500), "I": I, "d": min(d, I),
               "k": draw.choice((2, 5, 16, 100, 256)), "t": draw.choice((1, 2, 5)),
               "b": draw.choice((16, 32))}


def _of_rows(draw):
    # One row and ten: the break-even is the same, and codebooks are paid once.
    for case in list(_layers_to_count(draw))[:6]:
        yield [case | {"O": 1}, case | {"O": 10}]


def _size(O, I, d, k, t=1, b=32) -> dict:
    return {"O": O, "I": I, "d": d, "k": k, "t": t, "b": b}


_BYTES = Exercise(
    id="14.product_bytes",
    minutes=12,
    parts=standard_parts(
        equal_to(product_bytes, names=("the bytes", "the rows")),
        tiny=[
            _size(100, 8, 4, 16),
            _size(100, 10, 4, 5, 1, 16),
            _size(8, 8, 2, 15, 1, 16),
            _size(10, 1, 1, 256, 5),
        ],
        many=_layers_to_count,
        golden=[_size(300, 784, 4, 256), _size(4096, 9216, 4, 256, 2, 16), _size(100, 4, 2, 58)],
        more=hidden("one row, ten rows", _of_rows,
                    each_equal_to(product_bytes, ("one row", "ten rows"))),
    ),
    mutants=(
        Mutant("codebooks-free", partial(_bytes, books=lambda t, s: 0)),
        Mutant("one-codebook", partial(_bytes, books=lambda t, s: t)),
        Mutant("one-stage-of-codebooks", partial(_bytes, books=lambda t, s: s)),
        Mutant("rounded-down", partial(_bytes, code=lambda k: int(math.log2(k)))),
        Mutant("part-of-a-bit", partial(_bytes, code=math.log2)),
        Mutant("block-lost", partial(_bytes, blocks=lambda I, d: I // d)),
        Mutant("always-floats", partial(_bytes, number=32)),
        Mutant("in-bits", partial(_bytes, unit=1)),
        Mutant("equal-is-fewer", partial(_bytes, rows=_at_equality)),
        Mutant("never-forgotten", partial(_bytes, rows=_never_asked)),
    ),
    banned=(
        "minicomp.compress.share.blocks:product_bits",
        "minicomp.compress.share.blocks:product_break_even",
    ),
    reference=product_bytes,
    rtol=0.0,
    atol=0.0,
)

# -------------------------------------------------------------------------------- arithmetic coding


def decode_bits(data: Array, p: Array) -> Array:
    """Returns the bits of a message of arithmetic coding, (N,) 0 or 1.

    data : (B,) uint8        p : (N,) of 1..65535, how likely each bit is 1, in 2^-16
    """
    return decoded(data, p)


def _read(
    data, p, *, begin=None, one=lambda code, bound: code < bound, rest=True, shifts=None, low=0,
    label=0
) -> Array:
    # How the mutants slip. begin: the number of the first four bytes; one: is it a 1; rest: the
    # part of a 1 is taken off; shifts: at most so many a bit; low: what a byte leaves below; label:
    # turns bits round.
    stream = [*data.tolist(), 0, 0, 0, 0]
    code = int.from_bytes(stream[:4], "big") if begin is None else begin(data)
    width, at, out = 2**32 - 1, 4, []
    for likely in p.tolist():
        bound, times = width * likely >> 16, 0
        bit = one(code, bound)
        if bit:
            width = bound
        else:
            code, width = code - bound * rest, width - bound
        while width < 2**24 and (shifts is None or times < shifts):
            byte = stream[at] if at < len(data) and not low else 0
            code, width, at, times = code << 8 | byte, width << 8, at + 1, times + 1
        out.append(int(bit) ^ label)
    return np.array(out)


def _little(data: Array) -> int:
    return int.from_bytes([*data[:4].tolist(), 0, 0, 0, 0][:4], "little")


def _as_it_is(data: Array) -> int:
    return int.from_bytes(data[:4].tolist(), "big")


def _ends_with_the_data(data, p):
    # Stops where a byte behind the end would be needed.
    whole = decoded(data, p)
    for n in range(len(p), 0, -1):
        if _bytes_read(data, p[:n]) <= len(data):
            return whole[:n]
    return whole[:0]


def _bytes_read(data, p) -> int:
    width, used = 2**32 - 1, 4
    for bit, likely in zip(decoded(data, p).tolist(), p.tolist()):
        bound = width * likely >> 16
        width = bound if bit else width - bound
        while width < 2**24:
            width, used = width << 8, used + 1
    return used


def _message(bits, p) -> dict:
    p = np.full(len(bits), p) if np.isscalar(p) else np.array(p)
    return {"data": coded(np.array(bits), p), "p": p}


def _messages(draw):
    # As likely as p says, and bits that p took for improbable, each of which shifts twice.
    for n in (1, 2, 3, 7, 8, 20, 33, 64, 65, 120):
        p = draw.integers(1, 65536, n)
        yield _message((draw.integers(0, 65536, n) < p).astype(int), p)
        yield _message(draw.integers(0, 2, n), draw.integers(1, 100, n))


def _told_otherwise(draw):
    # The same bits under other probabilities are other bytes.
    for n in (5, 40, 90):
        bits = draw.integers(0, 2, n)
        yield [_message(bits, draw.integers(1, 65536, n)) for _ in range(2)]


_DECODE = Exercise(
    id="14.decode_bits",
    minutes=15,
    parts=standard_parts(
        equal_to(decode_bits, names=("the bits",)),
        tiny=[
            _message((0, 0, 1), 32768),
            _message((1, 0, 1, 1, 0), 16384),
            _message((1, 1, 1, 0), (1, 1, 1, 32768)),
            _message((1, 1, 0, 1) * 5, 20000),
        ],
        many=_messages,
        golden=[_message((0,) * 40 + (1,) * 3, (1,) * 40 + (65535,) * 3),
                _message((1, 0) * 30, (65535, 1) * 30), _message((0, 1, 1) * 20, 60000)],
        more=hidden("other probabilities", _told_otherwise, each_equal_to(
            decode_bits, ("the bits", "the bits under other probabilities"))),
    ),
    mutants=(
        Mutant("ones-above", partial(_read, label=1)),
        Mutant("not-taken-off", partial(_read, rest=False)),
        Mutant("never-shifted", partial(_read, shifts=0)),
        Mutant("shifted-once", partial(_read, shifts=1)),
        Mutant("little-end-first", partial(_read, begin=_little)),
        Mutant("short-message", partial(_read, begin=_as_it_is)),
        Mutant("no-byte-comes-in", partial(_read, low=1)),
        Mutant("ends-with-the-data", _ends_with_the_data),
    ),
    banned=(
        "minicomp.codec.arithmetic:decode_bits",
        "minicomp.kernels.coding.range_coder:Decoder",
    ),
    reference=decode_bits,
    rtol=0.0,
    atol=0.0,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_size(O, I, d, k, t, b) -> str | None:
    if any(isinstance(n, bool) or not isinstance(n, int) for n in (O, I, d, k, t, b)):
        return "all six are whole numbers"
    if not (1 <= O <= 10**6 and 1 <= d <= I <= 10**6 and 2 <= k <= 65536 and 1 <= t <= 64):
        return "O and I are from 1 to 10^6, d from 1 to I, k from 2 to 65536, t from 1 to 64"
    if b not in (16, 32):
        return "b is 16 or 32"
    return None


LESSON = LessonChecks(
    number="14",
    name="codebooks",
    exercises=(_STEP, _BYTES, _DECODE),
    diagnosis=Diagnosis(
        id="14.broken",
        of=_BYTES,
        shown_by={
            "rounded-down": (100, 8, 4, 5, 1, 32),
            "block-lost": (100, 10, 4, 16, 1, 32),
            "always-floats": (100, 8, 4, 16, 1, 16),
            "never-forgotten": (10, 1, 1, 256, 5, 32),
        },
        valid=_valid_size,
        agreeing=(100, 8, 4, 16, 1, 32),
        several=((100, 10, 4, 5, 1, 16), (10, 1, 1, 256, 5, 16)),
        invalid=(100, 8, 9, 16, 1, 32),
    ),
    predictions=(
        Prediction("14.p1", unit="bits", hi=64),
        Prediction("14.p2", options=("linear", "density", "random")),
    ),
    reflections=(Reflection("14.r1"),),
    numbers=(
        Number("error_dense", "error of the float net", "%", 2),
        Number("error_pruned", "a tenth of the weights left", "%", 2),
        Number("linear_before", "3 bits, linear", "%", 2),
        Number("linear", "3 bits, linear, trained", "%", 2),
        Number("density_before", "3 bits, density", "%", 2),
        Number("density", "3 bits, density, trained", "%", 2),
        Number("random_before", "3 bits, random", "%", 2),
        Number("random", "3 bits, random, trained", "%", 2),
        Number("optimal_before", "3 bits, least squared error", "%", 2),
        Number("optimal", "3 bits, least squared error, trained", "%", 2),
        Number("naive", "256 codewords of 4: a weight", "bits", 1),
        Number("pays", "rows from which on these pay", "", 0),
        Number("product", "fc1 at 2 bits: product", "%", 2),
        Number("residual", "fc1 at 2 bits: residual", "%", 2),
        Number("kmeans", "fc1 at 2 bits: k-means", "%", 2),
        Number("sign", "fc1 at 1 bit: sign", "%", 2),
        Number("svd", "fc1 at 2 bits: SVD", "%", 2),
        Number("one_codebook", "fc1 at 2 bits: one codebook", "%", 2),
        Number("one_p", "pattern, one p: a weight", "bits", 3),
        Number("by_column", "pattern, p of the column: a weight", "bits", 3),
        Number("of_file", "pattern, the file's coder: a weight", "bits", 3),
        Number("kb_0", "file, lambda 0", "kB", 1),
        Number("error_0", "error, lambda 0", "%", 2),
        Number("kb_8", "file, lambda 0.8", "kB", 1),
        Number("error_8", "error, lambda 0.8", "%", 2),
        Number("kb_3_bits", "file, 3 bits, nearest", "kB", 1),
        Number("error_3_bits", "error, 3 bits, nearest", "%", 2),
        Number("kb_4_bits", "file, 4 bits, nearest", "kB", 1),
        Number("error_4_bits", "error, 4 bits, nearest", "%", 2),
        Number("far", "15 centroids, linear: squared error over the least", "", 2),
        Number("rows", "4 bits, by start: squared error, error, trained", "", 3),
        Number("counts", "histogram of the weights left", "", 0),
        Number("edges", "its edges", "", 3),
        Number("starts", "where centroids start", "", 3),
        Number("centroids", "where k-means ends", "", 3),
    ),
)
