"""Lesson 15: places of a hash, the gradient of its buckets, cells of equal population.

z a hash, 64 bits a place of a matrix; K buckets, b their values, V_ij = xi_ij b_h(i,j) the matrix
(exercises 1, 2); w weights in k cells, edges t_1 .. t_{k-1} between them (exercise 3).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...compress.quant.balanced import balanced_codes, cell_means, even_scale
from ...kernels.splitmix import splitmix64
from ...reference.judges import Message, each_equal_to, equal_to, first_difference
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
SINGLE = 1e-6  # relative: the library keeps the scale in float32
HALF = np.uint64(32)
ONE = np.uint64(1)
MOST_BUCKETS = 64  # that a student's input may have

# ---------------------------------------------------------------------------------- places by hash


def hash_map(z: Array, m: int, n: int, K: int) -> tuple[Array, Array]:
    """Returns the bucket of each entry of an (m, n) matrix and its sign, (m, n) integers each.

    z : (m n,) uint64, a hash of each place, row by row        K : how many buckets
    """
    return _map(z, m, n, K)


def _multiplied(z: Array, K: int) -> Array:
    # floor(K floor(z / 2^32) / 2^32), in 64 bits: K is below 2^32.
    return ((z >> HALF) * np.uint64(K) >> HALF).astype(np.int64)


def _lowest(z: Array) -> Array:
    return np.where(z & ONE, -1, 1)


def _map(z, m, n, K, *, bucket=_multiplied, sign=_lowest, order="C") -> tuple[Array, Array]:
    # How the mutants slip. bucket, sign: of a place; order: of places in the matrix.
    return bucket(z, K).reshape((m, n), order=order), sign(z).reshape((m, n), order=order)


def _in_floats(z: Array, K: int) -> Array:
    return np.floor(K * (z / 2.0**64)).astype(np.int64)


def _in_float32(z: Array, K: int) -> Array:
    return (K * ((z >> HALF).astype(np.float32) / np.float32(2**32))).astype(np.int64)


def _in_words(z: Array, K: int) -> Array:
    # A product of 32 bits, shifted by as many.
    return ((z >> HALF) * np.uint64(K) & np.uint64(2**32 - 1)) >> HALF


def _signed(z: Array, K: int) -> Array:
    return (z.view(np.int64) >> 32) * K >> 32


def _wrapped(z: Array) -> Array:
    # 1 - 2 (z mod 2) of numbers without sign.
    return ONE - np.uint64(2) * (z & ONE)


def _highest(z: Array) -> Array:
    return np.where(z >> np.uint64(63), -1, 1)


def _places(draw):
    for _ in range(20):
        m, n = draw.choice((1, 2, 5, 9)), draw.choice((1, 3, 4, 7))
        z = splitmix64(m * n, draw.integer(0, 2**20))
        yield {"z": z, "m": m, "n": n, "K": draw.choice((1, 2, 3, 5, 8, 12, 1000, 2**20))}


def _first_rows(draw):
    # What stands in the first rows does not depend on how many follow.
    for case in list(_places(draw))[:6]:
        z = splitmix64(3 * case["n"], draw.integer(0, 2**20))
        yield [case | {"z": z[: m * case["n"]], "m": m} for m in (1, 3)]


def _words(*numbers: int) -> Array:
    return np.array(numbers, np.uint64)


_MAP = Exercise(
    id="15.hash_map",
    minutes=8,
    parts=standard_parts(
        equal_to(hash_map, names=("the buckets", "the signs")),
        tiny=[
            {"z": _words(0, 2**62, 2**63 + 1, 3 * 2**62 + 1), "m": 1, "n": 4, "K": 4},
            {"z": _words(1, 2**63, 2**62), "m": 3, "n": 1, "K": 6},
            {"z": _words(2, 2**63 + 1, 2**62, 7), "m": 2, "n": 2, "K": 4},
            {"z": _words(2**64 - 1), "m": 1, "n": 1, "K": 3},
        ],
        many=_places,
        golden=[
            {"z": splitmix64(6, 0), "m": 2, "n": 3, "K": 10},
            {"z": _words(0x5555_5555_FFFF_FFFF, 0xAAAA_AAAA_AAAA_AAAA), "m": 1, "n": 2, "K": 3},
        ],
        more=hidden("first rows", _first_rows,
                    each_equal_to(hash_map, ("one row", "three rows"))),
    ),
    mutants=(
        Mutant("remainder", partial(_map, bucket=lambda z, K: z % np.uint64(K)),
               forms=(partial(_map, bucket=lambda z, K: (z >> HALF) % np.uint64(K)),)),
        Mutant("in-floats", partial(_map, bucket=_in_floats),
               forms=(partial(_map, bucket=_in_float32),)),
        Mutant("narrow-product", partial(_map, bucket=_in_words)),
        Mutant("signed-shift", partial(_map, bucket=_signed)),
        Mutant("sign-of-the-bucket", partial(_map, sign=_highest)),
        Mutant("wrapped-sign", partial(_map, sign=_wrapped)),
        Mutant("odd-is-plus", partial(_map, sign=lambda z: -_lowest(z))),
        Mutant("columns-first", partial(_map, order="F")),
    ),
    reference=hash_map,
    rtol=0.0,
    atol=0.0,
)

# ------------------------------------------------------------------------------ gradient of buckets


def bucket_backward(g: Array, x: Array, b: Array, bucket: Array, sign: Array
                    ) -> tuple[Array, Array]:
    """Returns dC/db, (K,), and dC/dx, (N, I), of y = x V' with V = sign b[bucket].

    g : (N, O), dC/dy        x : (N, I)        b : (K,)        bucket, sign : (O, I)
    """
    return _backward(g, x, b, bucket, sign)


def _summed(index: Array, parts: Array, K: int) -> Array:
    return np.bincount(index.reshape(-1), parts.reshape(-1), K)


def _last(index: Array, parts: Array, K: int) -> Array:
    # What out[index] += parts gives: of equal indices one is written.
    out = np.zeros(K)
    out[index] += parts
    return out


def _mean(index: Array, parts: Array, K: int) -> Array:
    return _summed(index, parts, K) / np.maximum(np.bincount(index.reshape(-1), minlength=K), 1)


def _as_long_as_used(index: Array, parts: Array, K: int) -> Array:
    return _summed(index, parts, 0)


def _backward(
    g, x, b, bucket, sign, *, gathered=_summed, down=True, up=True, factor=None
) -> tuple[Array, Array]:
    # How the mutants slip. gathered: what becomes of a bucket's entries; down, up: whether signs
    # are in dC/db and in dC/dx; factor: of the entries of dC/dV.
    plain = np.ones_like(sign)
    V = (sign if up else plain) * b[bucket]
    to_V = g.T @ x * (1 if factor is None else factor(g, V))
    return gathered(bucket, (sign if down else plain) * to_V, len(b)), g @ V


def _over_examples(g: Array, V: Array) -> float:
    return 1 / len(g)


def _itself(g: Array, V: Array) -> Array:
    return V


def _layers(draw):
    # Eighths: products and sums are exact. Few buckets, some of them empty, or more than entries.
    for _ in range(20):
        n, i, o = draw.choice((1, 2, 5)), draw.choice((1, 3, 6)), draw.choice((1, 2, 4))
        yield _layer(draw, n, i, o, draw.choice((1, 2, 5, 30)))


def _layer(draw, n: int, i: int, o: int, K: int) -> dict:
    return {"g": draw.integers(-8, 9, n, o) / 8, "x": draw.integers(-8, 9, n, i) / 8,
            "b": draw.integers(-8, 9, K) / 8, "bucket": draw.integers(0, K, o, i),
            "sign": 2 * draw.integers(0, 2, o, i) - 1}


def _buckets_of_their_own(draw):
    # A bucket an entry and no sign is the plain layer; then the same with two buckets.
    for _ in range(4):
        n, i, o = draw.choice((2, 3)), draw.choice((2, 4)), draw.choice((2, 3))
        case = _layer(draw, n, i, o, i * o)
        own = np.arange(i * o).reshape(o, i)
        yield [case | {"bucket": own, "sign": np.ones_like(own)},
               case | {"bucket": own % 2, "sign": np.ones_like(own)}]


def _one_row(x, bucket, sign, K: int) -> dict:
    # One example, one output, g = 1, values 1, 2, ..: dC/dV is x.
    return {"g": np.ones((1, 1)), "x": np.array([x], float), "b": np.arange(1.0, K + 1),
            "bucket": np.array([bucket]), "sign": np.array([sign])}


_BACKWARD = Exercise(
    id="15.bucket_backward",
    minutes=15,
    parts=standard_parts(
        equal_to(bucket_backward, rtol=SUM, names=("dC/db", "dC/dx")),
        tiny=[
            _one_row((2, 3, 5), (0, 1, 0), (1, 1, 1), 2),
            _one_row((2, 3), (0, 1), (1, -1), 2),
            _one_row((2, 3), (0, 0), (1, -1), 3),
            _one_row((2,), (1,), (1,), 2) | {"g": np.ones((2, 1)), "x": np.array([[1.0], [2.0]])},
        ],
        many=_layers,
        golden=[
            {"g": np.array([[0.5, -1.0], [2.0, 0.25]]),
             "x": np.array([[1.0, -0.5, 0.25], [0.0, 2.0, -1.0]]),
             "b": np.array([0.5, -0.25, 1.0, 0.75]), "bucket": np.array([[0, 2, 2], [1, 0, 2]]),
             "sign": np.array([[1, -1, 1], [-1, -1, 1]])}
        ],
        more=hidden("one bucket an entry", _buckets_of_their_own,
                    each_equal_to(bucket_backward, ("one bucket an entry", "two buckets"),
                                  rtol=SUM)),
    ),
    mutants=(
        Mutant("last-wins", partial(_backward, gathered=_last)),
        Mutant("sign-forgotten", partial(_backward, down=False),
               forms=(partial(_backward, down=False, up=False),)),
        Mutant("sign-not-in-v", partial(_backward, up=False)),
        Mutant("averaged", partial(_backward, gathered=_mean)),
        Mutant("short", partial(_backward, gathered=_as_long_as_used)),
        Mutant("mean-over-examples", partial(_backward, factor=_over_examples)),
        Mutant("value-left-in", partial(_backward, factor=_itself)),
    ),
    banned=(
        "minicomp.kernels.codebook.buckets:add",
        "minicomp.kernels.codebook.buckets:add_ref",
        "minicomp.compress.share.kmeans:centroid_gradient",
        "minicomp.nn.forms.shared:gathered",
        "minicomp.nn.forms.shared:spread",
    ),
    reference=bucket_backward,
    rtol=SUM,
)

# --------------------------------------------------------------------------- cells of equal numbers


def equal_cells(w: Array, k: int) -> tuple[Array, Array, float]:
    """Returns the code of each weight, the mean of each cell, and the scale of even levels.

    w : (n,) float        k : cells        codes : (n,) of 0 .. k - 1        means : (k,), 0 of none
    scale : s at which s (code - (k - 1) / 2) has the least squared error
    """
    codes = balanced_codes(w, k)
    return codes, cell_means(w, codes, k), float(even_scale(w, codes, k))


def _by_quantiles(w: Array, k: int) -> Array:
    return np.searchsorted(_edges(w, k), w, side="right")


def _edges(w: Array, k: int) -> Array:
    return np.quantile(w, np.arange(1, k) / k)


def _fitted(w: Array, codes: Array, k: int) -> float:
    u = codes - (k - 1) / 2
    return (u * w).sum() / (u * u).sum()


def _cells(w, k, *, codes=_by_quantiles, means=cell_means, scale=_fitted):
    # How the mutants slip. codes: of the weights; means: the level of each cell; scale: of even
    # levels.
    found = codes(w, k)
    return found, means(w, found, k), scale(w, found, k)


def _even_edges(w: Array, k: int) -> Array:
    edges = np.linspace(w.min(), w.max(), k + 1)
    return np.searchsorted(edges[1:-1], w, side="right")


def _lower_edge(w: Array, k: int) -> Array:
    return np.searchsorted(_edges(w, k), w, side="left")


def _by_rank(w: Array, k: int) -> Array:
    rank = np.empty(len(w), np.int64)
    rank[np.argsort(w, kind="stable")] = np.arange(len(w))
    return rank * k // len(w)


def _in_lots(w: Array, k: int) -> Array:
    # As np.array_split deals them: the first lots are the larger ones.
    codes = np.empty(len(w), np.int64)
    for i, lot in enumerate(np.array_split(np.argsort(w, kind="stable"), k)):
        codes[lot] = i
    return codes


def _middles(w: Array, codes: Array, k: int) -> Array:
    ends = np.concatenate([[w.min()], _edges(w, k), [w.max()]])
    return (ends[1:] + ends[:-1]) / 2


def _medians(w: Array, codes: Array, k: int) -> Array:
    return np.array([np.median(w[codes == i]) if (codes == i).any() else 0.0 for i in range(k)])


def _not_a_number(w: Array, codes: Array, k: int) -> Array:
    # 0 / 0 of a cell without members, as the mean of an empty array.
    return np.where(np.bincount(codes, minlength=k), cell_means(w, codes, k), np.nan)


def _as_long(w: Array, codes: Array, k: int) -> Array:
    return np.array([w[codes == i].mean() for i in np.unique(codes)])


def _of_range(w: Array, codes: Array, k: int) -> float:
    return np.ptp(w) / (k - 1)


def _of_largest(w: Array, codes: Array, k: int) -> float:
    return 2 * np.abs(w).max() / (k - 1)


def _not_centred(w: Array, codes: Array, k: int) -> float:
    return (codes * w).sum() / np.square(codes).sum()


def _samples(draw):
    # Of half of them many weights are equal, and some cells empty.
    for i in range(20):
        n, k = draw.choice((4, 7, 33, 90)), draw.choice((2, 4, 8))
        w = draw.normal(n) if i % 2 else draw.integers(-4, 5, n) / 4
        yield {"w": np.append(w, 1.25), "k": k}


def _moved(draw):
    # Weights in another order and twice as large: the codes go along.
    for case in list(_samples(draw))[:6]:
        order = draw.permutation(len(case["w"]))
        yield [case, case | {"w": 2 * case["w"][order]}]


def _rightly_moved(case, results) -> Message | None:
    names = ("the result", "the result of the weights in another order, doubled")
    return first_difference([equal_cells(**c) for c in case], results, names, rtol=SINGLE)


_CELLS = Exercise(
    id="15.equal_cells",
    minutes=12,
    parts=standard_parts(
        equal_to(equal_cells, rtol=SINGLE, names=("the codes", "the means", "the scale")),
        tiny=[
            {"w": np.array([-3.0, -1.0, 0.0, 4.0]), "k": 2},
            {"w": np.array([-1.0, 0.0, 1.0, 2.0, 8.0]), "k": 4},
            {"w": np.array([1.0, 0.0, 0.0, 0.0, 0.0, -1.0]), "k": 4},
            {"w": np.array([3.0, -1.0, -2.0, 0.0, 0.5, -6.0]), "k": 2},
        ],
        many=_samples,
        golden=[
            {"w": np.array([0.5, -0.25, 0.125, 3.0, -1.5, 0.25, -0.125, 0.75, -0.5]), "k": 4}
        ],
        more=hidden("in another order", _moved, _rightly_moved),
    ),
    mutants=(
        Mutant("even-edges", partial(_cells, codes=_even_edges)),
        Mutant("edge-below", partial(_cells, codes=_lower_edge)),
        Mutant("by-rank", partial(_cells, codes=_by_rank),
               forms=(partial(_cells, codes=_in_lots),)),
        Mutant("middle-of-the-edges", partial(_cells, means=_middles),
               forms=(partial(_cells, means=_medians),)),
        Mutant("empty-cell", partial(_cells, means=_not_a_number),
               forms=(partial(_cells, means=_as_long),),
               seen=lambda call, result: bool(np.isnan(np.asarray(result[1], float)).any())),
        Mutant("scale-of-the-range", partial(_cells, scale=_of_range),
               forms=(partial(_cells, scale=_of_largest),)),
        Mutant("codes-not-centred", partial(_cells, scale=_not_centred)),
    ),
    banned=(
        "minicomp.compress.quant.balanced:balanced_codes",
        "minicomp.compress.quant.balanced:cell_means",
        "minicomp.compress.quant.balanced:even_scale",
    ),
    reference=equal_cells,
    rtol=SINGLE,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_layer(g, x, b, bucket, sign) -> str | None:
    g, x, b, bucket, sign = map(np.asarray, (g, x, b, bucket, sign))
    if g.ndim != 2 or x.ndim != 2 or len(g) != len(x) or b.ndim != 1 or len(b) > MOST_BUCKETS:
        return f"g is (N, O), x is (N, I), b is (K,) with at most {MOST_BUCKETS} entries"
    if not all(is_finite(a, "fiu", most=400) for a in (g, x, b)):
        return "g, x and b hold 1 to 400 finite numbers each"
    shape = (g.shape[1], x.shape[1])
    if bucket.shape != shape or bucket.dtype.kind not in "iu" or not (
        0 <= bucket.min() and bucket.max() < len(b)
    ):
        return "bucket holds whole numbers from 0 to K - 1, of shape (O, I)"
    if sign.shape != shape or not np.isin(sign, (-1, 1)).all():
        return "sign holds +1 and -1, of shape (O, I)"
    return None


def _input(*args, **kw) -> tuple:
    return tuple(_one_row(*args, **kw).values())


LESSON = LessonChecks(
    number="15",
    name="hashing",
    exercises=(_MAP, _BACKWARD, _CELLS),
    diagnosis=Diagnosis(
        id="15.broken",
        of=_BACKWARD,
        shown_by={
            "last-wins": _input((1, -1), (0, 0), (1, 1), 1),
            "sign-forgotten": _input((1,), (0,), (-1,), 1),
            "averaged": _input((0, 1), (0, 0), (1, 1), 1),
            "short": _input((1,), (0,), (1,), 2),
        },
        valid=_valid_layer,
        agreeing=_input((2, 3), (0, 1), (1, 1), 2),
        several=(
            _input((1, 1), (0, 0), (1, 1), 1),
            _input((1,), (0,), (-1,), 2),
        ),
        invalid=_input((1,), (1,), (1,), 1),
    ),
    predictions=(
        Prediction("15.p1", unit="%"),
        Prediction("15.p2", unit="bits", hi=8),
    ),
    reflections=(Reflection("15.r1"),),
    numbers=(
        Number("error_dense", "error of the whole net", "%", 2),
        Number("hashed_8", "hashed to 1/8", "%", 2),
        Number("hashed_16", "hashed to 1/16", "%", 2),
        Number("hashed_64", "hashed to 1/64", "%", 2),
        Number("smaller_64", "four hidden units", "%", 2),
        Number("low_rank_64", "a drawn factor, 1/64", "%", 2),
        Number("bytes_dense", "file, whole", "kB", 1),
        Number("bytes_8", "file, hashed to 1/8", "kB", 1),
        Number("bytes_64", "file, hashed to 1/64", "kB", 1),
        Number("levels_4", "4 bits, levels of least error", "%", 2),
        Number("levels_2", "2 bits, levels of least error", "%", 2),
        Number("equal_2", "2 bits, equal cells, even levels", "%", 2),
        Number("powers_4", "4 bits, powers of two", "%", 2),
        Number("coded_even", "4 bits even, coded: a weight", "bits", 2),
        Number("coded_equal", "4 bits equal cells, coded: a weight", "bits", 2),
        Number("db_equal", "4 bits, equal cells, means", "dB", 1),
        Number("db_lloyd", "4 bits, levels of least error", "dB", 1),
        Number("hashed", "hashed, by ratio", "%", 2),
        Number("smaller", "fewer hidden units, by ratio", "%", 2),
        Number("low_rank", "low rank, by ratio", "%", 2),
        Number("edges", "edges removed, by ratio", "%", 2),
    ),
)
