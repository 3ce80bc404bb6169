"""Lesson 9: filters from a dictionary, convolutions by look-ups, orthogonal matching pursuit.

D (k, C) the atoms, rows; I which of them are looked up and c with which coefficients, s at each
place of a kernel K x L, (O, K, L, s); S the maps of the atoms (exercises 1, 2); p the coefficients
of one vector, x what they shall make (exercise 3).
"""

from __future__ import annotations

from functools import partial

import numpy as np

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
from .inputs import is_finite

Array = np.ndarray
SUM = 1e-9  # relative: sums of a few products of double precision
SOLVED = 1e-6  # relative: least squares by any road, of atoms that are not nearly the same
MOST_ATOMS = 16  # that a student's input may have

# ------------------------------------------------------------------------- filters of a dictionary


def decode(D: Array, I: Array, c: Array) -> tuple[Array, Array]:
    """Returns the filters W, (O, C, K, L), and P, (O, K, L, k), the coefficients of all atoms.

    D : (k, C)        I : (O, K, L, s) of 0 .. k - 1        c : (O, K, L, s)
    """
    return _weights(D, I, c), np.moveaxis(_weights(np.eye(len(D)), I, c), 1, -1)


def _weights(D: Array, I: Array, c: Array) -> Array:
    O, K, L, s = I.shape
    counts = np.full(O * K * L, s)
    shape = (O, D.shape[1], K, L)
    return ENTRIES["dictionary_weights"].fn(D, counts, I.reshape(-1), c.reshape(-1), shape)


def _decoded(
    D, I, c, *, over=lambda terms: terms.sum(axis=3), placed=lambda w: np.moveaxis(w, -1, 1),
    sparse=None
) -> tuple[Array, Array]:
    # How the mutants slip. over: the terms of a place, (O, K, L, s, C), become one vector; placed:
    # the vectors (O, K, L, C) become filters; sparse: P, of the zeros that it begins with.
    W, P = placed(over(c[..., None] * D[I])), np.zeros((*I.shape[:3], len(D)))
    at = (*np.indices(I.shape)[:3], I)
    if sparse is None:
        np.add.at(P, at, c)
    else:
        sparse(P, at, c)
    return W, P


def _last_wins(P: Array, at: tuple, c: Array) -> None:
    P[at] = c


def _read_once(P: Array, at: tuple, c: Array) -> None:
    # What P[at] += c does: of equal places the last one is written.
    P[at] += c


def _ones(P: Array, at: tuple, c: Array) -> None:
    np.add.at(P, at, 1.0)


def _no_coefficient(D, I, c) -> tuple[Array, Array]:
    return _decoded(D, I, np.ones(c.shape))[0], _decoded(D, I, c)[1]


def _relabelled(w: Array) -> Array:
    # The right shape, the numbers where they were.
    O, K, L, C = w.shape
    return w.reshape(O, C, K, L)


def _eighths(draw, *shape: int) -> Array:
    return draw.integers(-8, 9, *shape) / 8


def _dictionary(draw, O: int, C: int, K: int, L: int, k: int, s: int) -> dict:
    # Eighths: products and sums are exact. Few atoms: some are looked up twice at a place.
    return {"D": _eighths(draw, k, C), "I": draw.integers(0, k, O, K, L, s),
            "c": _eighths(draw, O, K, L, s)}


def _sizes(draw) -> tuple[int, ...]:
    return (draw.choice((1, 2, 4)), draw.choice((1, 3, 5)), draw.choice((1, 2, 3)),
            draw.choice((1, 2, 3)), draw.choice((1, 2, 6)), draw.choice((1, 2, 4)))


def _dictionaries(draw):
    for _ in range(20):
        yield _dictionary(draw, *_sizes(draw))


def _other_order(draw):
    # The order in which atoms are looked up at a place does not matter.
    for case in list(_dictionaries(draw))[:6]:
        yield [case, case | {name: case[name][..., ::-1].copy() for name in ("I", "c")}]


def _whole(*rows) -> Array:
    return np.array(rows)


TWO = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, -1.0]])  # atoms of three channels

_DECODE = Exercise(
    id="09.decode",
    minutes=8,
    parts=standard_parts(
        equal_to(decode, rtol=SUM, names=("the filters", "P")),
        tiny=[
            {"D": TWO, "I": np.array([[[[0, 1]]]]), "c": np.array([[[[2.0, -1.0]]]])},
            {"D": TWO, "I": np.array([[[[1, 1]]]]), "c": np.array([[[[2.0, 0.5]]]])},
            {"D": TWO, "I": np.array([[[[0], [1]], [[1], [0]]]]),
             "c": np.array([[[[1.0], [2.0]], [[3.0], [4.0]]]])},
        ],
        many=_dictionaries,
        golden=[
            {"D": np.array([[0.5, -1.0], [2.0, 0.25], [1.0, 1.0]]),
             "I": np.array([[[[0, 2], [1, 1], [2, 0]]], [[[2, 2], [0, 1], [1, 0]]]]),
             "c": np.array([[[[1.0, 0.5], [-2.0, 4.0], [0.0, 1.0]]],
                            [[[0.25, 0.5], [3.0, -1.0], [8.0, 2.0]]]])},
        ],
        more=hidden("in another order", _other_order,
                    each_equal_to(decode, ("one order", "the other order"), rtol=SUM)),
    ),
    mutants=(
        Mutant("one-look-up", partial(_decoded, over=lambda terms: terms[:, :, :, -1]),
               forms=(partial(_decoded, over=lambda terms: terms[:, :, :, 0]),)),
        Mutant("no-coefficient", _no_coefficient),
        Mutant("channels-last", partial(_decoded, placed=lambda w: w),
               forms=(partial(_decoded, placed=_relabelled),)),
        Mutant("kernel-turned", partial(_decoded, placed=lambda w: w.transpose(0, 3, 2, 1))),
        Mutant("twice-is-once", partial(_decoded, sparse=_last_wins),
               forms=(partial(_decoded, sparse=_read_once),)),
        Mutant("which-not-how-much", partial(_decoded, sparse=_ones)),
    ),
    banned=("minicomp.nn.forms.dictionary:dictionary_weights",),
    reference=decode,
    rtol=SUM,
)

# ------------------------------------------------------------------------ convolution by look-ups


def lookup_conv(x: Array, D: Array, I: Array, c: Array) -> tuple[Array, int]:
    """Returns y, (O, H - K + 1, W - L + 1), of one image, and how many products were taken.

    x : (C, H, W)        D : (k, C)        I, c : (O, K, L, s)
    """
    (O, K, L, s), C = I.shape, D.shape[1]
    y = ENTRIES["lookup_conv"].fn(x[None], D, np.full(O * K * L, s), I.reshape(-1), c.reshape(-1),
                                  (O, C, K, L))[0]
    return y, D.size * x[0].size + c.size * y[0].size


def _looked_up(
    x, D, I, c, *, shift=lambda r, q, K, L: (r, q), used=lambda c: c,
    counted=lambda D, x, c, y: D.size * x[0].size + c.size * y[0].size
) -> tuple[Array, int]:
    # How the mutants slip. shift: of the map that place (r, q) reads; used: of the coefficients;
    # counted: the products.
    (O, K, L, s), (_, H, W) = I.shape, x.shape
    S, left = np.tensordot(D, x, 1), used(c)
    y = np.zeros((O, H - K + 1, W - L + 1))
    for o, r, q, t in np.ndindex(O, K, L, s):
        i, j = shift(r, q, K, L)
        y[o] += left[o, r, q, t] * S[I[o, r, q, t], i : i + H - K + 1, j : j + W - L + 1]
    return y, counted(D, x, c, y)


def _turned(r: int, q: int, K: int, L: int) -> tuple[int, int]:
    return K - 1 - r, L - 1 - q


def _last_only(c: Array) -> Array:
    kept = np.zeros(c.shape)
    kept[..., -1] = c[..., -1]
    return kept


def _first_only(c: Array) -> Array:
    return _last_only(c[..., ::-1])[..., ::-1]


def _of_dense(D, x, c, y) -> int:
    O, K, L, _ = c.shape
    return len(x) * K * L * y.size


def _atoms_in_windows(D, x, c, y) -> int:
    # Atoms multiplied anew at every place of the kernel.
    return (D.size * c.shape[1] * c.shape[2] + c.size) * y[0].size


def _atoms_at_look_ups(D, x, c, y) -> int:
    # An atom multiplied whenever it is looked up.
    return c.size * (len(x) + 1) * y[0].size


def _as_often_as_outputs(D, x, c, y) -> int:
    return (D.size + c.size) * y[0].size


def _atoms_alone(D, x, c, y) -> int:
    return D.size * x[0].size


def _image(draw, C: int, K: int, L: int) -> Array:
    return _eighths(draw, C, K + draw.integer(0, 4), L + draw.integer(0, 4))


def _images(draw):
    for _ in range(20):
        made = _dictionary(draw, *_sizes(draw))
        yield {"x": _image(draw, made["D"].shape[1], *made["I"].shape[1:3])} | made


def _twice_as_bright(draw):
    for case in list(_images(draw))[:6]:
        yield [case, case | {"x": 2 * case["x"]}]


_CONV = Exercise(
    id="09.lookup_conv",
    minutes=15,
    parts=standard_parts(
        equal_to(lookup_conv, rtol=SUM, names=("y", "the number of products")),
        tiny=[
            {"x": np.arange(12.0).reshape(3, 2, 2), "D": TWO, "I": np.array([[[[0, 1]]]]),
             "c": np.array([[[[2.0, -1.0]]]])},
            {"x": np.array([[[1.0, 2.0, 4.0]]]), "D": np.array([[1.0], [3.0]]),
             "I": np.array([[[[0], [1]]]]), "c": np.array([[[[1.0], [2.0]]]])},
            {"x": np.array([[[0.0, 1.0], [2.0, 5.0], [3.0, 4.0]]]), "D": np.array([[2.0]]),
             "I": np.zeros((1, 2, 1, 1), int), "c": np.array([[[[1.0]], [[-1.0]]]])},
        ],
        many=_images,
        golden=[
            {"x": np.arange(24.0).reshape(2, 3, 4) % 7 - 3,
             "D": np.array([[0.5, -1.0], [2.0, 0.25], [1.0, 1.0]]),
             "I": np.array([[[[0, 2], [1, 1]], [[2, 0], [0, 1]]]]),
             "c": np.array([[[[1.0, 0.5], [-2.0, 4.0]], [[0.0, 1.0], [0.25, 3.0]]]])},
        ],
        more=hidden("twice as bright", _twice_as_bright,
                    each_equal_to(lookup_conv, ("y and products", "those of 2 x"), rtol=SUM)),
    ),
    mutants=(
        Mutant("not-shifted", partial(_looked_up, shift=lambda r, q, K, L: (0, 0))),
        Mutant("flipped", partial(_looked_up, shift=_turned)),
        Mutant("one-look-up", partial(_looked_up, used=_last_only),
               forms=(partial(_looked_up, used=_first_only),)),
        Mutant("counted-dense", partial(_looked_up, counted=_of_dense)),
        Mutant("atoms-again", partial(_looked_up, counted=_atoms_in_windows),
               forms=(partial(_looked_up, counted=_atoms_at_look_ups),)),
        Mutant("atoms-per-output", partial(_looked_up, counted=_as_often_as_outputs)),
        Mutant("look-ups-are-free", partial(_looked_up, counted=_atoms_alone)),
    ),
    banned=(
        "minicomp.compress.share.lcnn:lookup_conv",
        "minicomp.conv:conv2d",
        "minicomp.kernels.codebook.lookups:lookups",
        "minicomp.kernels.codebook.lookups:lookups_ref",
    ),
    reference=lookup_conv,
    rtol=SUM,
)

# ------------------------------------------------------------------------------- matching pursuit


def pursuit(x: Array, D: Array, s: int) -> Array:
    """Returns p, (k,), at most s entries not 0, so that p D is near x: orthogonal pursuit.

    x : (C,)        D : (k, C), rows that are not 0        s : 1 .. min(k, C)
    """
    return ENTRIES["orthogonal_pursuit"].fn(x[None], D, s)[0]


def _pursued(
    x, D, s, *, length=lambda D: np.linalg.norm(D, axis=1), size=np.abs, again=True, unit=False,
    left=True, stop=True
) -> Array:
    # How the mutants slip. length: by which agreement is divided; size: of an agreement; again:
    # all coefficients are solved for again; unit: coefficients are those of atoms of length 1;
    # left: what is left is looked at, else x itself; stop: where nothing is left.
    p, chosen, rest = np.zeros(len(D)), [], x
    for _ in range(s):
        if stop and left and rest @ rest <= 1e-12 * (x @ x):
            break
        score = size((rest if left else x) @ D.T) / length(D)
        if not left:
            score[chosen] = -1
        j = int(np.argmax(score))
        chosen.append(j)
        if again:
            p[:] = 0
            p[chosen] = np.linalg.lstsq(D[chosen].T, x, rcond=None)[0]
        else:
            p[j] += rest @ D[j] / (D[j] @ D[j])
        rest = x - p @ D
    return p * np.linalg.norm(D, axis=1) if unit else p


def _all_at_once(x: Array, D: Array, s: int) -> Array:
    return _pursued(x, D, s, left=False)


def _no_length(D: Array) -> Array:
    return np.ones(len(D))


def _squared_length(D: Array) -> Array:
    return np.square(D).sum(axis=1)


def _atoms(draw):
    # Atoms of other lengths, and fewer look-ups than channels: one answer.
    for _ in range(20):
        C, k = draw.choice((4, 5, 7)), draw.choice((3, 5, 9))
        yield {"x": draw.normal(C), "D": draw.normal(k, C) * draw.integers(1, 5, k)[:, None],
               "s": draw.choice((1, 2, 3))}


def _scaled(draw):
    # x of twice the length, and atoms turned round: coefficients follow.
    for case in list(_atoms(draw))[:6]:
        yield [case, case | {"x": 2 * case["x"]}, case | {"D": -0.5 * case["D"]}]


_PURSUIT = Exercise(
    id="09.pursuit",
    minutes=15,
    parts=standard_parts(
        equal_to(pursuit, rtol=SOLVED, names=()),
        tiny=[
            {"x": np.array([2.0, 0.5]), "D": np.array([[1.0, 0.0], [3.0, 3.0]]), "s": 1},
            {"x": np.array([1.0, 1.0]), "D": np.array([[1.0, 0.0], [0.6, 0.8]]), "s": 2},
            {"x": np.array([-3.0, 0.0, 1.0]),
             "D": np.array([[2.0, 0.0, 0.0], [1.6, 1.2, 0.0], [0.0, 0.0, 2.0]]), "s": 2},
            {"x": np.array([3.0, 0.0]), "D": np.array([[1.0, 0.0], [0.0, 1.0]]), "s": 2},
        ],
        many=_atoms,
        golden=[
            {"x": np.array([1.0, -2.0, 3.0, 0.5]),
             "D": np.array([[1.0, 1.0, 0.0, 0.0], [0.0, -4.0, 4.0, 1.0], [1.0, 0.0, 1.0, 0.0],
                            [0.0, 0.5, 0.0, 0.5], [-2.0, 0.0, 0.0, 1.0]]), "s": 3},
            {"x": np.zeros(3), "D": np.eye(3)[:2], "s": 1},
        ],
        more=hidden("scaled", _scaled, each_equal_to(
            pursuit, ("p", "p of 2 x", "p of -D / 2"), rtol=SOLVED)),
    ),
    mutants=(
        Mutant("long-atoms-win", partial(_pursued, length=_no_length),
               forms=(partial(_pursued, length=_squared_length),)),
        Mutant("sign-counts", partial(_pursued, size=lambda a: a)),
        Mutant("not-solved-again", partial(_pursued, again=False)),
        Mutant("all-at-once", _all_at_once),
        Mutant("unit-atoms", partial(_pursued, unit=True)),
        Mutant("goes-on", partial(_pursued, stop=False)),
    ),
    banned=("minicomp.compress.share.lcnn:pursuit",
            "minicomp.compress.share.lcnn:first_dictionary"),
    reference=pursuit,
    rtol=SOLVED,
)

# -------------------------------------------------------------------------------------- the lesson


def _valid_atoms(x, D, s) -> str | None:
    x, D = np.asarray(x), np.asarray(D)
    if x.ndim != 1 or D.ndim != 2 or D.shape[1] != len(x) or len(D) > MOST_ATOMS:
        return f"x is (C,), D is (k, C), k at most {MOST_ATOMS}"
    if not all(is_finite(a, "fiu", most=200) for a in (x, D)) or not x.any():
        return "x and D hold 1 to 200 finite numbers each, and x is not 0"
    if not D.any(axis=1).all():
        return "no row of D is 0"
    if isinstance(s, bool) or not isinstance(s, int) or not 1 <= s <= min(D.shape):
        return "s is a whole number from 1 to min(k, C)"
    return None


def _input(x, D, s: int) -> tuple:
    return np.array(x, float), np.array(D, float), s


LESSON = LessonChecks(
    number="09",
    name="dictionaries",
    exercises=(_DECODE, _CONV, _PURSUIT),
    diagnosis=Diagnosis(
        id="09.broken",
        of=_PURSUIT,
        shown_by={
            "long-atoms-win": _input([2, 0.5], [[1, 0], [3, 3]], 1),
            "sign-counts": _input([-2, 1], [[1, 0], [0, 1]], 1),
            "not-solved-again": _input([1, 1], [[1, 0], [0.6, 0.8]], 2),
            "all-at-once": _input([3, 0, 1], [[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1]], 2),
        },
        valid=_valid_atoms,
        agreeing=_input([3, 1], [[1, 0], [0, 1]], 1),
        several=(
            _input([-2, -0.5, 1], [[1, 0, 0], [3, 3, 0], [0, 0, 1]], 1),
            _input([-1, -1, 0.1], [[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1]], 2),
            _input([-3, 0, 1], [[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1]], 2),
        ),
        invalid=_input([1, 1], [[0, 0], [1, 0]], 1),
    ),
    predictions=(
        Prediction("09.p1", unit="%"),
        Prediction("09.p2", unit="times", hi=100),
    ),
    reflections=(Reflection("09.r1"),),
    numbers=(
        Number("error_dense", "error before", "%", 2),
        Number("cut_1", "1 look-up, pursuit alone", "%", 2),
        Number("cut_2", "2 look-ups, pursuit alone", "%", 2),
        Number("tuned_1", "1 look-up, trained on", "%", 2),
        Number("tuned_2", "2 look-ups, trained on", "%", 2),
        Number("tuned_5", "5 look-ups, trained on", "%", 2),
        Number("error_threshold", "look-ups above a threshold", "%", 2),
        Number("error_low", "low rank, products of 2 look-ups", "%", 2),
        Number("left_conv", "above a threshold: of a vector of conv2", "", 1),
        Number("left_fc", "above a threshold: of a vector of fc1", "", 1),
        Number("fewer_1", "dense products / those of 1 look-up", "", 1),
        Number("fewer_2", "dense products / those of 2 look-ups", "", 1),
        Number("fewer_low", "dense products / those of low rank", "", 1),
        Number("bytes_2", "file, 2 look-ups", "kB", 0),
        Number("bytes_low", "file, low rank", "kB", 0),
        Number("bytes_dense", "file, dense", "kB", 0),
        Number("fast_2", "dense ms / 2 look-ups, 128 channels", "", 1),
        Number("fast_16", "dense ms / 16 look-ups, 128 channels", "", 1),
        Number("narrow_2", "dense ms / 2 look-ups, 64 channels", "", 1),
        Number("narrow_8", "dense ms / 8 look-ups, 64 channels", "", 1),
        Number("small_2", "dense ms / 2 look-ups, LeNet-5's conv2", "", 2),
        Number("cut", "pursuit alone, by look-ups", "%", 2),
        Number("tuned", "trained on, by look-ups", "%", 2),
        Number("fast", "dense ms / look-ups, by shape", "", 2),
        Number("products", "dense products / look-ups', by shape", "", 1),
    ),
)
