"""Lesson 6: one percentile over all scales, a channel and all that belongs to it, flattened maps.

O channels of the first convolution, C that it reads, P that the second computes; keep True where a
channel stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from ...reference.draw import Draw, seed_of
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
from .inputs import is_finite, is_sparsity

Array = np.ndarray
ROUNDING = 1e-10  # relative, of sums of at most a hundred float64 products
EPS = 1e-5  # batch norm's
_PARTS = ("w1", "b1", "gamma", "beta", "mean", "var", "w2")

# ------------------------------------------------------------------- one percentile over all layers


def global_keep(
    gammas: tuple[Array, ...], sparsity: float,
    *, score=np.abs, count=round, ties=False, low=False, kind="stable",
) -> tuple[Array, ...]:
    """Returns a mask per layer: of all n scales the round(sparsity n) least |gamma| are False.

    The switches are how the mutants slip.
    """
    worth = score(np.concatenate(gammas))
    n = count(sparsity * worth.size)
    keep = np.ones(worth.size, bool)
    keep[np.argsort(worth, kind=kind)[:n]] = False
    if ties and n:
        keep = worth > np.sort(worth)[n - 1]
    keep = ~keep if low else keep
    return tuple(np.split(keep, np.cumsum([len(g) for g in gammas])[:-1]))


def _each_layer(gammas, sparsity) -> tuple[Array, ...]:
    return tuple(global_keep((g,), sparsity)[0] for g in gammas)


def _percentile_of_each(gammas, sparsity) -> tuple[Array, ...]:
    return tuple(_by_percentile((g,), sparsity)[0] for g in gammas)


def _part_of_the_largest(gammas, sparsity) -> tuple[Array, ...]:
    largest = np.abs(np.concatenate(gammas)).max()
    return tuple(np.abs(g) > sparsity * largest for g in gammas)


def _by_percentile(gammas, sparsity) -> tuple[Array, ...]:
    cut = np.percentile(np.abs(np.concatenate(gammas)), 100 * sparsity)
    return tuple(np.abs(g) >= cut for g in gammas)


def _above_percentile(gammas, sparsity) -> tuple[Array, ...]:
    cut = np.quantile(np.abs(np.concatenate(gammas)), sparsity)
    return tuple(np.abs(g) > cut for g in gammas)


def _from_threshold(gammas, sparsity) -> tuple[Array, ...]:
    worth = np.sort(np.abs(np.concatenate(gammas)))
    return tuple(np.abs(g) >= worth[round(sparsity * worth.size)] for g in gammas)


def _last_of_equals(gammas, sparsity) -> tuple[Array, ...]:
    # Keeps the largest, as a stable sort of -|gamma| orders them.
    worth = np.abs(np.concatenate(gammas))
    keep = np.zeros(worth.size, bool)
    keep[np.argsort(-worth, kind="stable")[: worth.size - round(sparsity * worth.size)]] = True
    return tuple(np.split(keep, np.cumsum([len(g) for g in gammas])[:-1]))


def _layers(*rows) -> tuple[Array, ...]:
    return tuple(np.array(row, float) for row in rows)


def _global_property(draw):
    for i in range(20):
        gammas = []
        for _ in range(draw.integer(1, 5)):
            g = draw.normal(draw.choice([1, 2, 3, 5, 7, 9])) * draw.choice([0.25, 1.0, 4.0])
            g = np.abs(g) + 0.25 if i % 4 == 1 else np.rint(2 * g) / 2 if i % 4 == 2 else g
            gammas.append(g)  # one-sided; with ties
        yield {"gammas": tuple(gammas), "sparsity": draw.choice([0.0, 0.1, 0.33, 0.5, 0.8, 0.9])}


def _global_signs(draw):
    for _ in range(4):
        a, b = draw.normal(5), 0.5 * draw.normal(4)
        yield [{"gammas": g, "sparsity": 0.5} for g in ((a, b), (-a, b), (8 * a, 8 * b))]


def _signs_do_not_count(case, results) -> Message | None:
    names = ("the result", "the result for -gamma", "the result for 8 gamma")
    return first_difference([global_keep(**case[0])] * 3, results, names)


_GLOBAL = Exercise(
    id="06.global_keep",
    minutes=7,
    parts=standard_parts(
        equal_to(global_keep),
        tiny=[
            {"gammas": _layers([0.5, 0.125], [0.25, 1.0]), "sparsity": 0.25},
            {"gammas": _layers([3, 2], [0.25, 0.5, 5]), "sparsity": 0.5},  # 2.5 are 2
            {"gammas": _layers([-3, 1], [2]), "sparsity": 0.4},
            {"gammas": _layers([1, 1], [1, 2]), "sparsity": 0.4},
        ],
        many=_global_property,
        golden=[{"gammas": _layers([4, -1, 3, 8], [-6, 2], [7, 1, -5, 9, -2]), "sparsity": 0.33}],
        more=hidden("invariance", _global_signs, _signs_do_not_count),
    ),
    mutants=(
        Mutant("sign-forgotten", partial(global_keep, score=lambda g: g)),
        Mutant("each-layer", _each_layer, forms=(_percentile_of_each,)),
        Mutant("rounded-down", partial(global_keep, count=int)),
        Mutant("half-up", partial(global_keep, count=lambda n: int(n + 0.5))),
        Mutant("rounded-up", partial(global_keep, count=math.ceil)),
        Mutant("percentile", _by_percentile, forms=(_above_percentile,)),
        Mutant("ties-together", partial(global_keep, ties=True), forms=(_from_threshold,)),
        Mutant("last-of-equals", _last_of_equals, perhaps=(partial(global_keep, kind=None),)),
        Mutant("part-of-the-largest", _part_of_the_largest),
        Mutant(
            "sparsity-as-threshold",
            lambda gammas, sparsity: tuple(np.abs(g) > sparsity for g in gammas),
            forms=(lambda gammas, sparsity: tuple(np.abs(g) >= sparsity for g in gammas),),
        ),
        Mutant("keeps-the-small", partial(global_keep, low=True)),
        Mutant("sparsity-is-kept", lambda gammas, sparsity: global_keep(gammas, 1 - sparsity)),
    ),
    banned=(
        "minicomp.compress.channels.choosing:overall",
        "minicomp.compress.channels.groups:choose_units",
        "minicomp.compress.scores:global_masks",
        "minicomp.compress.scores:smallest_mask",
        "minicomp.compress.prune.slimming:Slimming",
    ),
    reference=global_keep,
)

# ------------------------------------------------------------------ a channel and all that is of it


def remove_channels(
    keep: Array, w1: Array, b1: Array, gamma: Array, beta: Array, mean: Array, var: Array, w2: Array
) -> tuple[Array, ...]:
    """Returns (w1, b1, gamma, beta, mean, var, w2) of the net without the channels not kept."""
    return w1[keep], b1[keep], gamma[keep], beta[keep], mean[keep], var[keep], w2[:, keep]


def _conv(x: Array, w: Array) -> Array:
    # x (N, C, H, W), w (O, C, K, K), no padding -> (N, O, H', W')
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, w)


def _forward(x: Array, w1, b1, gamma, beta, mean, var, w2, keep=None) -> Array:
    # conv, batch norm, ReLU, conv; channels that are not kept are 0 before the second.
    row = (1, -1, 1, 1)
    y = _conv(x, w1) + b1.reshape(row)
    y = gamma.reshape(row) * (y - mean.reshape(row)) / np.sqrt(var.reshape(row) + EPS)
    y = np.maximum(y + beta.reshape(row), 0)
    return _conv(y if keep is None else y * keep.reshape(row), w2)


def _block(draw, keep: Array, c: int, p: int, k: int) -> dict:
    o = len(keep)
    return {
        "keep": keep,
        "w1": draw.normal(o, c, k, k),
        "b1": draw.normal(o),
        "gamma": draw.normal(o),
        "beta": draw.normal(o) + 0.5,
        "mean": draw.normal(o),
        "var": draw.uniform(o, lo=0.25, hi=4.0),
        "w2": draw.normal(p, o, k, k),
    }


def _some(draw, o: int) -> Array:
    keep = draw.uniform(o) < draw.choice([0.3, 0.5, 0.8])
    keep[draw.integer(0, o)] = True
    return keep


def _eighths(draw, keep, *sizes) -> dict:
    # A block whose numbers can be read.
    case = _block(draw, np.array(keep), *sizes)
    return {
        name: a if name == "keep" else np.maximum(np.rint(8 * a) / 8, 0.125)
        for name, a in case.items()
    }


def _remove_tiny(draw):
    shapes = (([False, True], 1, 2, 1), ([True, False, True], 1, 2, 1), ([True, True], 1, 1, 1))
    return [_eighths(draw, *shape) for shape in shapes]


def _remove_property(draw):
    for _ in range(18):
        o = draw.choice([1, 2, 3, 5, 7])
        c, p, k = (int(n) for n in draw.integers(1, 4, 3))
        yield _block(draw, _some(draw, o), c, p, k)


def _remove_no_trace(draw):
    # Twice the same net, but for the channels that go: their numbers are others.
    for _ in range(3):
        one = _block(draw, np.array([False, True, True, False, True]), 2, 3, 2)
        other, kept = _block(draw, one["keep"], 2, 3, 2), remove_channels(**one)
        places = [one["keep"]] * 6 + [(slice(None), one["keep"])]
        for name, at, value in zip(_PARTS, places, kept):
            other[name][at] = value
        yield [one, other]


def _equals_masked(case, result) -> Message | None:
    """Equality of all arrays: what stays is copied. The message says what the smaller net does."""
    expected = remove_channels(**case)
    wrong = difference(expected, result, names=_PARTS)
    if wrong is None or wrong.slug != "wrong-value":
        return wrong
    _, c, k, _ = case["w1"].shape
    x = Draw(seed_of("minicomp lesson 06", "image")).normal(2, c, k + 2, k + 3)
    masked = _forward(x, *[case[name] for name in _PARTS], keep=case["keep"])
    try:
        with np.errstate(invalid="ignore"):  # a variance may be negative by now
            small = _forward(x, *[np.asarray(r, np.float64) for r in result])
    except (TypeError, ValueError):  # another array has the wrong shape
        return wrong
    if difference(masked, small, rtol=ROUNDING) is None:
        told = "the smaller net computes the same, but its arrays are not copies of what stays"
        if _permuted(expected, result):
            told = "the smaller net computes the same, but the channels are in another order"
        return replace(wrong, text=f"{told}: {wrong.text}")
    told = "the smaller net does not compute what the net with those channels at 0 computes"
    return replace(wrong, text=f"{told}: {wrong.text}")


def _permuted(expected, result) -> bool:
    # Whether each channel of the right arrays is one of the result's, whole.
    def channels(arrays) -> list[tuple]:
        *own, w2 = (np.asarray(a) for a in arrays)
        each = zip(*own, np.moveaxis(w2, 1, 0), strict=True)
        return sorted(tuple(np.concatenate([np.ravel(p) for p in parts])) for parts in each)

    return channels(expected) == channels(result)


def _leaves_no_trace(case, results) -> Message | None:
    return _equals_masked(case[0], results[0]) or _equals_masked(case[1], results[1])


def _slip(change: Callable[[Array, dict], dict]) -> Callable:
    # A wrong answer: the right one, but for the arrays that `change` takes from the whole ones.
    def answer(keep, w1, b1, gamma, beta, mean, var, w2):
        whole = dict(zip(_PARTS, (w1, b1, gamma, beta, mean, var, w2)))
        right = dict(zip(_PARTS, remove_channels(keep, *whole.values())))
        return tuple((right | change(keep, whole)).values())

    return answer


def _whole(*names: str) -> Callable:
    # These arrays keep an entry for every old channel.
    return _slip(lambda keep, a: {name: a[name] for name in names})


def _first(*names: str) -> Callable:
    # These are taken from the first channels, as many as stay.
    return _slip(lambda keep, a: {name: a[name][: int(keep.sum())] for name in names})


def _first_channels(keep, *arrays) -> tuple[Array, ...]:
    *own, w2 = arrays
    n = int(keep.sum())
    return *(a[:n] for a in own), w2[:, :n]


def _zeroed(*names: str) -> Callable:
    # Nothing is removed: of these arrays the channels that go are 0.
    def answer(keep, *arrays):
        row = {"w1": (-1, 1, 1, 1), "w2": (1, -1, 1, 1)}
        return tuple(
            a * keep.reshape(row.get(name, -1)) if name in names else a
            for name, a in zip(_PARTS, arrays)
        )

    return answer


def _nothing_removed(call: dict, result) -> bool:
    # Whether all arrays have their old shapes, although channels go, and those are 0 in some array.
    if not isinstance(result, tuple | list) or len(result) != len(_PARTS) or call["keep"].all():
        return False
    if any(np.shape(r) != call[name].shape for name, r in zip(_PARTS, result)):
        return False
    gone = ~call["keep"]
    *own, w2 = (np.asarray(r) for r in result)
    return any(not a[gone].any() for a in own) or not w2[:, gone].any()


_ZEROED = (_zeroed("w1"), _zeroed("gamma", "beta"), _zeroed("w1", "b1"), _zeroed("w1", "w2"))


def _reversed(keep, *arrays) -> tuple[Array, ...]:
    # The channels that stay from the last to the first, in all arrays alike.
    *own, w2 = remove_channels(keep, *arrays)
    return *(a[::-1] for a in own), w2[:, ::-1]


def _reversed_entries(keep, *arrays) -> tuple[Array, ...]:
    # Only those of the first convolution and batch norm.
    *own, w2 = remove_channels(keep, *arrays)
    return *(a[::-1] for a in own), w2


_REMOVE = Exercise(
    id="06.remove_channels",
    minutes=14,
    parts=standard_parts(
        _equals_masked,
        tiny=_remove_tiny,
        many=_remove_property,
        golden=[
            {
                "keep": np.array([True, False, True]),
                "w1": np.arange(1, 7).reshape(3, 2, 1, 1) / 4,
                "b1": np.array([0.5, 1.0, -0.5]),
                "gamma": np.array([1.0, 0.0, -2.0]),
                "beta": np.array([0.25, 1.0, 4.0]),
                "mean": np.array([1.0, 2.0, 0.5]),
                "var": np.array([1.0, 4.0, 0.25]),
                "w2": np.arange(1, 7).reshape(2, 3, 1, 1) / 2,
            }
        ],
        more=hidden("no trace", _remove_no_trace, _leaves_no_trace),
        points=(1, 3, 1),
    ),
    mutants=(
        Mutant("zeroed-not-removed", _zeroed(*_PARTS), forms=_ZEROED, seen=_nothing_removed),
        Mutant("next-layer-forgotten", _whole("w2")),
        Mutant("rows-and-columns", _slip(lambda keep, a: {"w2": a["w2"][keep]})),
        Mutant(
            "statistics-forgotten", _whole("mean", "var"), forms=(_whole("var"), _whole("mean"))
        ),
        Mutant(
            "first-statistics",
            _first("mean", "var"),
            forms=(
                _first("beta", "mean", "var"),
                _first("gamma", "beta", "mean", "var"),
                _first("mean"),
                _first("var"),
                _first("b1", "gamma", "beta", "mean", "var"),
            ),
        ),
        Mutant("first-channels", _first_channels),
        Mutant(
            "bias-forgotten",
            _whole("b1"),
            forms=(_whole("b1", "gamma", "beta", "mean", "var"), _whole("b1", "mean", "var")),
        ),
        Mutant("scales-forgotten", _whole("gamma", "beta"), forms=(_whole("beta"),)),
        Mutant("order-reversed", _reversed, forms=(_reversed_entries,)),
        Mutant(
            "keeps-the-removed",
            _slip(lambda keep, a: dict(zip(_PARTS, remove_channels(~keep, **a)))),
        ),
    ),
    banned=(
        "minicomp.compress.channels.removal:removal",
        "minicomp.compress.channels.removal:Removal",
        "minicomp.compress.channels.removal:removed",
    ),
    reference=remove_channels,
    rtol=ROUNDING,
)

# --------------------------------------------------------------------------------- flattened maps


def flatten_columns(keep: Array, height: int, width: int, *, used: int | None = None) -> Array:
    """Returns which columns behind a Flatten of (C, height, width) stay, rising.

    used : of the columns of a channel, the first so many; None: all
    """
    block = height * width
    places = np.arange(block if used is None else used)
    return (np.flatnonzero(keep)[:, None] * block + places).ravel()


def _flatten_property(draw):
    for _ in range(20):
        h, w = draw.choice([1, 2, 3, 5]), draw.choice([1, 2, 3, 4, 7])
        yield {"keep": _some(draw, draw.choice([1, 2, 3, 5, 9])), "height": h, "width": w}


def _flatten_halves(draw):
    for _ in range(4):
        keep = np.array([True, *(draw.uniform(5) < 0.5), False])
        h, w = draw.integer(2, 5), draw.integer(5, 8)
        yield [{"keep": k, "height": h, "width": w} for k in (keep, ~keep)]


def _halves_make_all(case, results) -> Message | None:
    wrong = difference(flatten_columns(**case[0]), results[0])
    if wrong and wrong.slug == "wrong-value":
        n = len(case[0]["keep"]) * case[0]["height"] * case[0]["width"]
        both = np.concatenate([np.asarray(r).ravel() for r in results])
        if not np.array_equal(np.sort(both), np.arange(n)):
            told = (
                "the columns of some channels and those of all others are not all columns, each"
                " once"
            )
            return Message(wrong.slug, told, wrong.detail)
    return wrong or difference(flatten_columns(**case[1]), results[1])


_FLATTEN = Exercise(
    id="06.flatten_columns",
    minutes=6,
    parts=standard_parts(
        equal_to(flatten_columns),
        tiny=[
            {"keep": np.array([False, True]), "height": 1, "width": 2},
            {"keep": np.array([True, False, True]), "height": 2, "width": 1},
            {"keep": np.array([False, True, True]), "height": 2, "width": 3},
        ],
        many=_flatten_property,
        golden=[{"keep": np.arange(50) % 17 == 3, "height": 4, "width": 4}],
        more=hidden("halves", _flatten_halves, _halves_make_all),
    ),
    mutants=(
        Mutant("one-column-each", lambda keep, height, width: np.flatnonzero(keep)),
        Mutant("first-pixel-only", partial(flatten_columns, used=1)),
        Mutant(
            "interleaved", lambda keep, height, width: np.flatnonzero(np.tile(keep, height * width))
        ),
        Mutant(
            "as-if-square",
            lambda keep, height, width: flatten_columns(keep, height, height),
            forms=(lambda keep, height, width: flatten_columns(keep, width, width),),
        ),
        Mutant("the-removed", lambda keep, height, width: flatten_columns(~keep, height, width)),
    ),
    banned=(
        "minicomp.compress.channels.removal:removal",
        "minicomp.compress.channels.removal:removed",
    ),
    reference=flatten_columns,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_scales(gammas, sparsity) -> str | None:
    rows = [np.asarray(g) for g in gammas]
    if not rows or not all(g.ndim == 1 and is_finite(g, most=1000) for g in rows):
        return "gammas is a tuple of float vectors of 1 to 1,000 finite numbers"
    return None if is_sparsity(sparsity) else "sparsity is a number in [0, 1)"


LESSON = LessonChecks(
    number="06",
    name="channels",
    exercises=(_GLOBAL, _REMOVE, _FLATTEN),
    diagnosis=Diagnosis(
        id="06.broken",
        of=_GLOBAL,
        shown_by={
            "sign-forgotten": (_layers([-2, 1]), 0.5),
            "each-layer": (_layers([1, 2], [3, 4]), 0.5),
            "rounded-down": (_layers([1, 2, 3]), 0.3),
            "half-up": (_layers([1]), 0.5),
            "ties-together": (_layers([1, 1]), 0.5),
        },
        valid=_valid_scales,
        agreeing=(_layers([1.0, 4.0], [2.0, 3.0]), 0.0),
        several=(
            (_layers([-5, 1, 1], [1, 9]), 0.35),
            (_layers([-5, 1, 1], [1, 9]), 0.5),
        ),
        invalid=(_layers([1.0, 4.0], [2.0, 3.0]), 1.5),
    ),
    predictions=(
        Prediction("06.p1", unit="%"),
        Prediction("06.p2", unit="times", lo=0.1, hi=100),
    ),
    reflections=(Reflection("06.r1"),),
    numbers=(
        Number("error_plain", "error of the net trained without penalty", "%", 2),
        Number("error_slim", "error of the net trained with the largest lambda", "%", 2),
        Number("cut_plain", "80 % cut, no penalty", "%", 1),
        Number("cut_l1", "80 % cut by L1 norm, no penalty", "%", 1),
        Number("cut_slim", "80 % cut, largest lambda", "%", 1),
        Number("tuned_plain", "then fine-tuned, no penalty", "%", 2),
        Number("tuned_l1", "then fine-tuned, L1 norm", "%", 2),
        Number("tuned_slim", "then fine-tuned, largest lambda", "%", 2),
        Number("error_global", "80 % cut by one percentile, largest lambda", "%", 1),
        Number("first_global", "neurons it leaves in the first layer", "", 0),
        Number("ratio", "dense bytes / file bytes of the slimmed net", "x", 1),
        Number("cuts", "80 % cut, by lambda", "%", 1),
        Number("lams", "lambda", "", 4),
        Number("edges", "edges of the histograms' bins", "", 3),
        *(
            Number(f"{what}_{i}", f"{what} channels by |gamma|, lambda {i}", "", 0)
            for what in ("all", "kept")
            for i in range(3)
        ),
        Number("ms", "64 images: whole, zeroed, removed", "ms", 3),
    ),
)
