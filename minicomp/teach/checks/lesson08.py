"""Lesson 8: the nearest matrix of a rank, ranks under a budget, a filter as three 1-D convolutions.

w (m, k) and t of its singular values kept (exercise 1); spectra, of each matrix its singular
values, falling, and shapes, of each (m, k) (exercise 2); x (C, H, W) images and the filter
w[j, u, v] = a_j b_u c_v (exercise 3).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from ...compress.lowrank.ranks import BYTES, paying_rank
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
SOLVED = 1e-9  # relative: rounding moves W_t by some eps |W| over the relative gap, here above 0.05
GAP = 0.05  # of the largest singular value: at least so far lie the kept from the dropped
FEWEST = 3  # rows and columns: from there on rank 1 holds fewer numbers than the matrix
PARTS = (4, 8, 16, 32)  # of a layer's weights, one of so many
WAYS = (("whole", "whole"), ("weight", "weight-SVD"), ("spatial", "spatial-SVD"), ("cp", "CP"),
        ("flat", "flattened"), ("start", "flattened from the start"))
_dropped = ENTRIES["eckart_young"].fn

# ------------------------------------------------------------------------------- the nearest matrix


def low_rank(w: Array, t: int) -> tuple[Array, float, int]:
    """Returns W_t (m, k), |W - W_t|_F^2, and how many numbers two factors of W_t hold.

    w : (m, k)        t : in 1..min(m, k)
    """
    return ENTRIES["low_rank"].fn(w, t), _dropped(w, t), t * sum(w.shape)


def _low_rank(
    w, t, *, kept=slice, dropped=None, power=2, root=False, scale=True, numbers=None
) -> tuple[Array, float, int]:
    # How the mutants slip. kept: which triplets, of t; dropped: those of the error; power, root: of
    # its singular values; scale: W_t has them; numbers: of m, k and t.
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    of = kept(t)
    gone = s[t:] if dropped is None else s[dropped(t)]
    error = float(np.sum(gone**power))
    w_t = (u[:, of] * s[of] if scale else u[:, of]) @ vt[of]
    held = t * sum(w.shape) if numbers is None else numbers(*w.shape, t)
    return w_t, math.sqrt(error) if root else error, held


def _columns_of_v(w, t):
    # vt is taken for V: its columns instead of its rows.
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    return u[:, :t] * s[:t] @ vt[:, :t].T, *_low_rank(w, t)[1:]


def _right_matrix(case, result) -> Message | None:
    """Compares the parts; the error on the scale of |W|^2, as it may be 0."""
    right, names = low_rank(**case), ("W_t", "the error", "the count of numbers")
    if not isinstance(result, tuple | list) or len(result) != len(right):
        return difference(right, result, names=names)
    within = ({"rtol": SOLVED}, {"atol": SOLVED * float(np.sum(case["w"] ** 2))}, {})
    each = zip(right, result, within, names)
    found = (difference(e, g, where=name, **limit) for e, g, limit, name in each)
    return next(filter(None, found), None)


def _matrix(draw, m: int, k: int) -> dict:
    # Odd eighths: w is not 0. W_t is unique, and steady under rounding, where sigma_t and
    # sigma_t+1 lie apart.
    w = (2 * np.rint(4 * draw.normal(m, k)) + 1) / 8
    s = np.append(np.linalg.svd(w, compute_uv=False), 0.0)
    apart = [t for t in range(1, len(s)) if s[t - 1] - s[t] > GAP * s[0]]
    return {"w": w, "t": draw.choice(apart)}


def _matrices(draw):
    for _ in range(20):
        yield _matrix(draw, draw.choice((1, 2, 3, 5, 8)), draw.choice((1, 2, 4, 7)))


def _small(draw):
    return [_matrix(draw, *sides) for sides in ((3, 4), (4, 3), (5, 5), (2, 6))]


def _nothing_is_nearer(case, result) -> Message | None:
    """Looks at the matrix alone: its rank, its distance, and the distance that was said."""
    w, t = case["w"], case["t"]
    if wrong := difference(low_rank(**case)[0].shape, np.shape(result[0]), where="W_t's shape"):
        return wrong
    near, whole = np.asarray(result[0], float), float(np.sum(w * w))
    rank = int(np.linalg.matrix_rank(near, tol=1e-6 * math.sqrt(whole)))
    if rank > t:
        return Message("rank", "W_t has more than t independent rows", f"got {rank}, t is {t}")
    distance, least = float(np.sum((w - near) ** 2)), _dropped(w, t)
    if distance > least + SOLVED * whole:
        told = f"|W - W_t|^2 is {distance:.6g}; the least is {least:.6g}"
        return Message("not-nearest", "there is a nearer matrix of rank t", told)
    return difference(distance, result[1], atol=SOLVED * whole, where="the error")


_MATRIX = Exercise(
    id="08.low_rank",
    minutes=8,
    parts=standard_parts(
        _right_matrix,
        tiny=[
            {"w": np.array([[3.0, 0.0], [0.0, 2.0]]), "t": 1},
            {"w": np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]), "t": 1},
            {"w": np.array([[0.0, 5.0], [4.0, 0.0], [0.0, 0.0]]), "t": 2},
            {"w": np.diag([4.0, 3.0, 1.0, 0.5]), "t": 2},
        ],
        many=_matrices,
        golden=[{"w": np.array([[4.0, 1.0, 0.0], [1.0, -3.0, 2.0], [0.0, 2.0, 1.0],
                                [2.0, 0.0, 5.0]]), "t": 2}],
        more=hidden("nothing is nearer", _small, _nothing_is_nearer),
    ),
    mutants=(
        Mutant("sigma-forgotten", partial(_low_rank, scale=False)),
        Mutant("smallest-kept", partial(_low_rank, kept=lambda t: slice(-t, None)),
               forms=(partial(_low_rank, kept=lambda t: slice(-t, None),
                              dropped=lambda t: slice(None, -t)),)),
        Mutant("columns-of-v", _columns_of_v),
        Mutant("one-off", partial(_low_rank, kept=lambda t: slice(t + 1)),
               forms=(partial(_low_rank, kept=lambda t: slice(t - 1)),
                      partial(_low_rank, dropped=lambda t: slice(t + 1, None)),
                      partial(_low_rank, dropped=lambda t: slice(t - 1, None)))),
        Mutant("error-of-the-kept", partial(_low_rank, dropped=slice)),
        Mutant("not-squared", partial(_low_rank, power=1)),
        Mutant("rooted", partial(_low_rank, root=True)),
        Mutant("sigma-stored", partial(_low_rank, numbers=lambda m, k, t: t * (m + k + 1)),
               forms=(partial(_low_rank, numbers=lambda m, k, t: t * (m + k + t)),)),
        Mutant("product-stored", partial(_low_rank, numbers=lambda m, k, t: m * k)),
    ),
    banned=(
        "minicomp.compress.lowrank.factors:low_rank",
        "minicomp.compress.lowrank.factors:eckart_young",
        "minicomp.compress.lowrank.factors:truncated",
        "minicomp.compress.lowrank.factors:balanced",
        "minicomp.compress.lowrank.randomized:randomized_svd",
    ),
    reference=low_rank,
    rtol=SOLVED,
    atol=SOLVED,
)

# ----------------------------------------------------------------------------- ranks under a budget

Spectra, Shapes = tuple[Array, ...], tuple[tuple[int, int], ...]


def choose_ranks(spectra: Spectra, shapes: Shapes, budget: int) -> list[int]:
    """Returns the rank of each matrix when all together take at most `budget` bytes; min(m, k) of
    one that stays whole.

    spectra : of each (min(m, k),), falling        shapes : of each (m, k)
    """
    return ENTRIES["ranks_under_bytes"].fn(spectra, shapes, budget)


def _ranks(
    spectra, shapes, budget, *, gain=np.square, per=lambda gain, cost: gain / cost, number=BYTES,
    whole=True, pays=True, waits=True, first=True, start=1, share=lambda s: 1.0
) -> list[int]:
    # How the mutants slip. gain: of singular values; per: gain and cost to what is compared;
    # number: its bytes; whole: from the last rank that pays there is a step; pays: ranks end there;
    # waits: what does not fit is passed over; first: of equal ones; start: the first rank; share:
    # of a spectrum, what its gains are divided by.
    ranks, left = [start] * len(shapes), budget / number - start * sum(map(sum, shapes))
    while True:
        steps = []
        for i, (s, (m, k), t) in enumerate(zip(spectra, shapes, ranks)):
            last = paying_rank(m + k, m * k) if pays else len(s)
            if t < last:
                step, cost = t + 1, m + k
            elif t < len(s) and whole:
                step, cost = len(s), m * k - last * (m + k)
            else:
                continue
            worth = per(float(np.sum(gain(s[t:step]))) / share(s), cost)
            steps.append((-worth, i if first else -i, i, step, cost))
        steps = [s for s in steps if s[-1] <= left] if waits else steps
        if not steps or min(steps)[-1] > left:
            return ranks
        _, _, i, step, cost = min(steps)
        ranks[i], left = step, left - cost


def _equal_shares(spectra, shapes, budget):
    # Every matrix is cut to the same part of its bytes.
    part = min(1.0, budget / BYTES / sum(m * k for m, k in shapes))
    return [min(m, k) if part == 1 else max(1, int(part * m * k) // (m + k)) for m, k in shapes]


def _spectrum(draw, n: int) -> Array:
    # Multiples of 1/4, whose squares and their sums are exact: equal gains are equal everywhere.
    return np.sort(draw.integers(1, 40, n))[::-1] / 4


def _layers(draw, count: int) -> dict:
    shapes = tuple((draw.integer(FEWEST, 9), draw.integer(FEWEST, 9)) for _ in range(count))
    least, most = sum(map(sum, shapes)), sum(m * k for m, k in shapes)
    budget = BYTES * draw.integer(least, most + 3) + draw.integer(0, BYTES)
    return {"spectra": tuple(_spectrum(draw, min(sides)) for sides in shapes), "shapes": shapes,
            "budget": budget}


def _budgets(draw):
    for i in range(40):
        yield _layers(draw, 1 + i % 4)


def _scaled(draw):
    # Gains are compared with each other alone: four times all singular values changes nothing.
    for i in range(4):
        case = _layers(draw, 2 + i % 2)
        yield [case, case | {"spectra": tuple(4 * s for s in case["spectra"])}]


def _same_ranks(case, results) -> Message | None:
    names = ("the result", "the result for 4 sigma")
    return first_difference([choose_ranks(**c) for c in case], results, names)


def _one(s, shape: tuple[int, int], budget: int) -> dict:
    return {"spectra": (np.array(s),), "shapes": (shape,), "budget": budget}


_RANKS = Exercise(
    id="08.choose_ranks",
    minutes=16,
    parts=standard_parts(
        equal_to(choose_ranks),
        tiny=[
            _one([4.0, 3.0, 1.0], (3, 8), 4 * 22),
            _one([4.0, 3.0, 1.0], (3, 8), 4 * 24),
            {"spectra": (np.array([4.0, 3.0, 2.0]), np.array([9.0, 4.0, 1.0])),
             "shapes": ((3, 4), (3, 9)), "budget": 4 * 31},
            {"spectra": (np.array([5.0, 2.0, 1.0]), np.array([5.0, 2.0, 1.0])),
             "shapes": ((3, 8), (8, 3)), "budget": 4 * 33},
        ],
        many=_budgets,
        golden=[
            {"spectra": (np.array([2.0, 2.0, 1.0]), np.array([6.0, 6.0, 3.0]),
                         np.array([5.0, 5.0, 3.0, 2.0])),
             "shapes": ((4, 3), (3, 9), (5, 4)), "budget": 4 * 49 + 3}
        ],
        more=hidden("scaled", _scaled, _same_ranks),
    ),
    mutants=(
        Mutant("energy-alone", partial(_ranks, per=lambda gain, cost: gain)),
        Mutant("not-squared", partial(_ranks, gain=np.abs)),
        Mutant("numbers-for-bytes", partial(_ranks, number=1)),
        Mutant("never-whole", partial(_ranks, whole=False)),
        Mutant("past-break-even", partial(_ranks, pays=False)),
        Mutant("stops-early", partial(_ranks, waits=False)),
        Mutant("last-of-equals", partial(_ranks, first=False)),
        Mutant("from-zero", partial(_ranks, start=0)),
        Mutant("own-energy", partial(_ranks, share=lambda s: float(s @ s))),
        Mutant("equal-shares", _equal_shares),
    ),
    banned=(
        "minicomp.compress.lowrank.ranks:ranks_under_bytes",
        "minicomp.compress.lowrank.ranks:ranks_under_budget",
    ),
    reference=choose_ranks,
    rtol=0.0,
    atol=0.0,
)

# ------------------------------------------------------------------------ three 1-D convolutions


def flattened_conv(x: Array, a: Array, b: Array, c: Array) -> tuple[Array, int]:
    """Returns the map (H - K + 1, W - L + 1) of the filter a_j b_u c_v, and the products of its
    three 1-D convolutions: over channels, down, across.

    x : (C, H, W)        a : (C,)        b : (K,)        c : (L,)
    """
    y = ENTRIES["flattened_conv"].fn(x, a[None], b[None], c[None])[0]
    return y, _products(*x.shape, len(b), len(c))


def _products(C: int, H: int, W: int, K: int, L: int) -> int:
    return C * H * W + K * (H - K + 1) * W + L * (H - K + 1) * (W - L + 1)


def _slid(x: Array, taps: Array, axis: int, flip: bool = False) -> Array:
    # x (H, W) under taps along an axis, each sum where all taps lie on x.
    span = x.shape[axis] - len(taps) + 1
    parts = [np.take(x, range(i, i + span), axis) for i in range(len(taps))]
    return np.tensordot(taps[::-1] if flip else taps, np.stack(parts), 1)


def _chain(
    x, a, b, c, *, flip=False, swapped=False, pad=False, weighted=True, products=_products
) -> tuple[Array, int]:
    # How the mutants slip. flip: taps run backward; swapped: b across, c down; pad: zeros around,
    # so that the map has the image's size; weighted: channels by a; products: counted from sizes.
    C, H, W = x.shape
    K, L = len(b), len(c)
    y = np.tensordot(a, x, 1) if weighted else x.sum(axis=0)
    if pad:
        y = np.pad(y, [((n - 1) // 2, n // 2) for n in (K, L)])
    y = _slid(_slid(y, b, int(swapped), flip), c, 1 - int(swapped), flip)
    return y, products(C, H, W, K, L)


def _added(x, a, b, c):
    # The three responses are added instead of chained.
    C, H, W = x.shape
    h, w = H - len(b) + 1, W - len(c) + 1
    flat = x.sum(axis=0)
    y = (np.tensordot(a, x, 1)[:h, :w] + _slid(flat, b, 0)[:, :w] + _slid(flat, c, 1)[:h])
    return y, _products(*x.shape, len(b), len(c))


def _whole_filter(C, H, W, K, L):
    return C * K * L * (H - K + 1) * (W - L + 1)


def _full_size(C, H, W, K, L):
    return (C + K + L) * H * W


def _last_size(C, H, W, K, L):
    return (C + K + L) * (H - K + 1) * (W - L + 1)


def _image(draw, C: int, K: int, L: int) -> dict:
    # Whole numbers: sums are exact. Taps differ from their mirror image.
    H, W = K + draw.integer(1, 5), L + draw.integer(1, 5)
    return {"x": draw.integers(-4, 5, C, H, W) * 1.0, "a": draw.integers(1, 5, C) * 1.0,
            "b": 1.0 + np.arange(K) * draw.choice((1, 2)), "c": 2.0 - np.arange(L)}


def _images(draw):
    for _ in range(20):
        yield _image(draw, draw.choice((1, 2, 3, 5)), draw.choice((1, 2, 3, 5)),
                     draw.choice((1, 2, 3, 4)))


def _turned(draw):
    # The image on its side, b and c exchanged: the same map on its side.
    for case in list(_images(draw))[:4]:
        yield [case, case | {"x": case["x"].transpose(0, 2, 1).copy(), "b": case["c"],
                             "c": case["b"]}]


def _turned_is_right(case, results) -> Message | None:
    names = ("the result", "the result on its side")
    return first_difference([flattened_conv(**c) for c in case], results, names, rtol=SOLVED)


_FLAT = Exercise(
    id="08.flattened_conv",
    minutes=12,
    parts=standard_parts(
        equal_to(flattened_conv, rtol=SOLVED, names=("the map", "the count of products")),
        tiny=[
            {"x": np.array([[[1.0, 2.0], [3.0, 5.0]]]), "a": np.array([2.0]),
             "b": np.array([1.0, -1.0]), "c": np.array([1.0])},
            {"x": np.array([[[1.0, 2.0], [3.0, 5.0]]]), "a": np.array([1.0]),
             "b": np.array([1.0]), "c": np.array([1.0, 3.0])},
            {"x": np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), "a": np.array([3.0, 2.0]),
             "b": np.array([1.0]), "c": np.array([1.0])},
            {"x": np.arange(9.0).reshape(1, 3, 3), "a": np.array([1.0]),
             "b": np.array([1.0, 2.0]), "c": np.array([1.0, 0.0])},
        ],
        many=_images,
        golden=[
            {"x": (np.arange(2 * 4 * 5) * 7 % 11).reshape(2, 4, 5) * 1.0,
             "a": np.array([1.0, -2.0]), "b": np.array([1.0, 3.0]),
             "c": np.array([2.0, 0.5, -1.0])}
        ],
        more=hidden("turned", _turned, _turned_is_right),
    ),
    mutants=(
        Mutant("flipped", partial(_chain, flip=True)),
        Mutant("axes-swapped", partial(_chain, swapped=True)),
        Mutant("padded", partial(_chain, pad=True),
               forms=(partial(_chain, pad=True, products=_full_size),)),
        Mutant("channels-unweighted", partial(_chain, weighted=False)),
        Mutant("added", _added),
        Mutant("whole-filter-counted", partial(_chain, products=_whole_filter)),
        Mutant("one-size-counted", partial(_chain, products=_full_size),
               forms=(partial(_chain, products=_last_size),)),
    ),
    banned=(
        "minicomp.compress.lowrank.flattened:flattened_conv",
        "minicomp.conv:conv2d",
        "minicomp.kernels.maps.conv:conv2d",
        "minicomp.kernels.maps.conv:conv2d_ref",
    ),
    reference=flattened_conv,
    rtol=SOLVED,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_layers(spectra, shapes, budget) -> str | None:
    if not isinstance(shapes, tuple) or not 1 <= len(shapes) <= 4 or len(spectra) != len(shapes):
        return "there are 1 to 4 spectra, and as many shapes"
    for s, shape in zip(spectra, shapes):
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in shape)
        if len(shape) != 2 or not whole or not FEWEST <= min(shape) <= max(shape) <= 99:
            return f"a shape is a pair of whole numbers from {FEWEST} to 99"
        s = np.asarray(s)
        if s.shape != (min(shape),) or not is_finite(s, "fiu"):
            return "the spectrum of an (m, k) matrix has min(m, k) numbers"
        if s[-1] <= 0 or (s[1:] > s[:-1]).any() or s[0] > 1e6:
            return "singular values are above 0, at most 1e6, and fall"
    if isinstance(budget, bool) or not isinstance(budget, int):
        return "budget is a whole number of bytes"
    least = BYTES * sum(map(sum, shapes))
    return None if budget >= least else f"rank 1 everywhere takes {least} bytes"


LESSON = LessonChecks(
    number="08",
    name="lowrank",
    exercises=(_MATRIX, _RANKS, _FLAT),
    diagnosis=Diagnosis(
        id="08.broken",
        of=_RANKS,
        shown_by={
            "energy-alone": (
                (np.array([8.0, 6.0, 6.0, 2.0, 2.0, 1.0]), np.array([8.0, 6.0, 6.0, 5.0])),
                ((6, 6), (7, 4)), 144),
            "not-squared": ((np.array([5.0, 4.0, 3.0]), np.array([8.0, 8.0, 7.0])),
                            ((5, 3), (7, 3)), 112),
            "never-whole": ((np.array([6.0, 6.0, 5.0]),), ((3, 4),), 48),
            "stops-early": ((np.array([8.0, 4.0, 4.0, 2.0]), np.array([8.0, 8.0, 3.0])),
                            ((4, 5), (3, 7)), 112),
        },
        valid=_valid_layers,
        agreeing=((np.array([4.0, 3.0, 1.0]),), ((3, 8),), 88),
        several=(
            ((np.array([3.0, 2.0, 1.0]), np.array([6.0, 5.0, 2.0])), ((3, 4), (3, 7)), 128),
            ((np.array([8.0, 8.0, 1.0]), np.array([7.0, 6.0, 3.0, 2.0])), ((3, 7), (4, 4)), 116),
        ),
        invalid=((np.array([1.0, 2.0, 3.0]),), ((3, 8),), 88),
    ),
    predictions=(
        Prediction("08.p1", unit="rank", hi=300),
        Prediction("08.p2", unit="%"),
    ),
    reflections=(Reflection("08.r1"),),
    numbers=(
        Number("trained", "singular values over the largest, trained"),
        Number("random", "singular values over the largest, random"),
        Number("energy_trained", "energy in 54 of 300, trained", "%", 0),
        Number("energy_random", "energy in 54 of 300, random", "%", 0),
        Number("ms_1", "two layers, 1 image, by rank", "ms", 4),
        Number("ms_64", "two layers, 64 images, by rank", "ms", 3),
        Number("dense_1", "the layer whole, 1 image", "ms", 4),
        Number("dense_64", "the layer whole, 64 images", "ms", 3),
        Number("even_1", "break-even rank by the clock, 1 image", "", 0),
        Number("even_64", "break-even rank by the clock, 64 images", "", 0),
        Number("error_dense", "error of LeNet-300-100", "%", 2),
        *(Number(f"cut_{n}", f"fc1 at 1/{n}, nothing trained", "%", 2) for n in PARTS),
        *(Number(f"tuned_{n}", f"fc1 at 1/{n}, fine-tuned", "%", 2) for n in PARTS),
        Number("narrow_8", "fewer neurons, numbers of 1/8", "%", 2),
        Number("narrow_32", "fewer neurons, numbers of 1/32", "%", 2),
        *(Number(f"conv_{key}", f"LeNet-5, conv2 {name}", "%", 2) for key, name in WAYS),
        Number("cut_flat", "LeNet-5, conv2 flattened, nothing trained", "%", 2),
        *(Number(f"fast_{key}", f"conv2 whole / {name}, ms of 64 images", "", 2)
          for key, name in WAYS[1:-1]),
        Number("fewer_flat", "conv2 whole / flattened, products", "", 1),
    ),
)
