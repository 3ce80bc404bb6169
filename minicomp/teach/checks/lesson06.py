"""Lesson 6: one percentile over all scales, a channel and all that belongs to it, flattened maps.

O channels of the first convolution, C that it reads, P that the second computes; keep True where a
channel stays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..catalog import LessonChecks, Number, Reflection
from ...reference.draw import Draw, seed_of
from ..asking.exercise import Diagnosis, Exercise, Mutant, Part, Prediction
from ..asking.judge import Message, difference, equal_to, is_sparsity, show

Array = np.ndarray
ROUNDING = 1e-10  # relative, of sums of at most a hundred float64 products
EPS = 1e-5  # batch norm's
_PARTS = ("w1", "b1", "gamma", "beta", "mean", "var", "w2")

# ------------------------------------------------------------------- one percentile over all layers


def global_keep(gammas: tuple[Array, ...], sparsity: float) -> tuple[Array, ...]:
    """Returns a mask per layer: of all n scales the round(sparsity n) least |gamma| are False."""
    return _ranked(gammas, sparsity)


def _ranked(gammas, sparsity, *, score=np.abs, count=round, ties=False) -> tuple[Array, ...]:
    # One ranking over all layers; the switches are how the mutants slip.
    worth = score(np.concatenate(gammas))
    n = count(sparsity * worth.size)
    keep = np.ones(worth.size, bool)
    keep[np.argsort(worth, kind="stable")[:n]] = False
    if ties and n:
        keep = worth > np.sort(worth)[n - 1]
    return tuple(np.split(keep, np.cumsum([len(g) for g in gammas])[:-1]))


def _each_layer(gammas, sparsity) -> tuple[Array, ...]:
    return tuple(_ranked((g,), sparsity)[0] for g in gammas)


def _layers(*rows) -> tuple[Array, ...]:
    return tuple(np.array(row, float) for row in rows)


def _global_tiny(draw):
    yield {"gammas": _layers([0.5, 0.125], [0.25, 1.0]), "sparsity": 0.25}
    yield {"gammas": _layers([3, 2], [0.25, 0.5, 5]), "sparsity": 0.4}
    yield {"gammas": _layers([-3, 1], [2]), "sparsity": 0.4}
    yield {"gammas": _layers([1, 1], [1, 2]), "sparsity": 0.4}


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
    right = global_keep(**case[0])
    told = ("the result", "the result for -gamma", "the result for 8 gamma")
    return next(filter(None, (difference(right, r, where=w) for r, w in zip(results, told))), None)


_GLOBAL = Exercise(
    id="06.global_keep",
    title="One percentile over all layers",
    minutes=7,
    parts=(
        Part("tiny", 1, _global_tiny, equal_to(global_keep)),
        Part("property", 2, _global_property, equal_to(global_keep), hidden=True),
        Part("invariance", 1, _global_signs, _signs_do_not_count, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
                {
                    "gammas": _layers([4, -1, 3, 8], [-6, 2], [7, 1, -5, 9, -2]),
                    "sparsity": 0.33,
                }
            ],
            equal_to(global_keep),
        ),
    ),
    mutants=(
        Mutant(
            "sign-forgotten",
            lambda gammas, sparsity: _ranked(gammas, sparsity, score=lambda g: g),
            "The most negative scales went, however large. A channel is switched off when |gamma|"
            " is small.",
        ),
        Mutant(
            "each-layer",
            _each_layer,
            "Every layer lost the same part. One percentile ranks the channels of all layers"
            " together, so a layer of small scales loses more.",
        ),
        Mutant(
            "rounded-down",
            lambda gammas, sparsity: _ranked(gammas, sparsity, count=int),
            "The number of channels that go is s x n rounded to the nearest integer (round), not"
            " cut off (int).",
        ),
        Mutant(
            "ties-together",
            lambda gammas, sparsity: _ranked(gammas, sparsity, ties=True),
            "All scales up to a threshold went, so equal ones went together and too many are gone."
            " Of equal scales the first ones go, until the count is reached.",
        ),
        Mutant(
            "keeps-the-small",
            lambda gammas, sparsity: tuple(~k for k in _ranked(gammas, sparsity)),
            "The mask is turned round: it is True where a channel stays.",
        ),
    ),
    hints=(
        "Which channel goes first, if you forget which layer it is in?",
        "concatenate all |gamma|; n = round(s x their number); the n smallest are False; split.",
        (
            "flat = abs of the concatenated gammas; order = stable argsort of flat; keep = all"
            " True; keep at the first n of order = False; split keep at the ends of the layers"
        ),
    ),
    tolerance="equality: a channel stays or goes",
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
    yield _eighths(draw, [False, True], 2, 2, 1)
    yield _eighths(draw, [True, False, True], 1, 2, 1)
    yield _eighths(draw, [True, True], 1, 1, 1)


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
    expected = remove_channels(**case)
    if not isinstance(result, tuple | list) or len(result) != len(expected):
        return difference(expected, result)
    for name, e, r in zip(_PARTS, expected, result):
        # numbers of any size: what they compute is compared below
        wrong = difference(e, r, atol=np.inf, where=name)
        if wrong:
            return wrong
    o, c, k, _ = case["w1"].shape
    x = Draw(seed_of("minicomp lesson 06", "image")).normal(2, c, k + 2, k + 3)
    masked = _forward(x, *[case[name] for name in _PARTS], keep=case["keep"])
    small = _forward(x, *[np.asarray(r, np.float64) for r in result])
    wrong = difference(masked, small, rtol=ROUNDING)
    return wrong and Message(
        "wrong-value",
        "the smaller net does not compute what the net with those channels at 0 computes",
        f"expected {show(expected)}\ngot      {show(tuple(result))}",
    )


def _leaves_no_trace(case, results) -> Message | None:
    return (
        _equals_masked(case[0], results[0])
        or _equals_masked(case[1], results[1])
        or difference(
            tuple(map(np.asarray, results[0])),
            results[1],
            where="the result for other numbers in the channels that go",
        )
    )


def _slip(change: Callable[[Array, dict], dict]) -> Callable:
    # A wrong answer: the right one, but for the arrays that `change` takes from the whole ones.
    def answer(keep, w1, b1, gamma, beta, mean, var, w2):
        whole = dict(zip(_PARTS, (w1, b1, gamma, beta, mean, var, w2)))
        right = dict(zip(_PARTS, remove_channels(keep, *whole.values())))
        return tuple((right | change(keep, whole)).values())

    return answer


_REMOVE = Exercise(
    id="06.remove_channels",
    title="Remove channels from conv, batch norm, next conv",
    minutes=14,
    parts=(
        Part("tiny", 1, _remove_tiny, _equals_masked),
        Part("property", 3, _remove_property, _equals_masked, hidden=True),
        Part("no trace", 1, _remove_no_trace, _leaves_no_trace, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [
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
            _equals_masked,
        ),
    ),
    mutants=(
        Mutant(
            "next-layer-forgotten",
            _slip(lambda keep, a: {"w2": a["w2"]}),
            "The next convolution still has a column for every old channel. What nobody computes,"
            " nobody may read: its inputs go too.",
        ),
        Mutant(
            "rows-and-columns",
            _slip(lambda keep, a: {"w2": a["w2"][keep]}),
            "Rows and columns are confused. Axis 0 of a weight is what it computes, axis 1 what it"
            " reads: the next convolution reads less, so it loses columns.",
        ),
        Mutant(
            "statistics-forgotten",
            _slip(lambda keep, a: {"mean": a["mean"], "var": a["var"]}),
            "Batch norm kept the running mean and variance of every old channel. They are no"
            " weights, but each belongs to a channel and goes with it.",
        ),
        Mutant(
            "first-statistics",
            _slip(
                lambda keep, a: {
                    name: a[name][: int(keep.sum())] for name in ("beta", "mean", "var")
                }
            ),
            "The sizes are right, but batch norm took the entries of the first channels, not of"
            " those that stay. Index every array with the same mask.",
        ),
        Mutant(
            "bias-forgotten",
            _slip(lambda keep, a: {"b1": a["b1"]}),
            "The first convolution's bias still has an entry for every old channel.",
        ),
        Mutant(
            "keeps-the-removed",
            _slip(lambda keep, a: dict(zip(_PARTS, remove_channels(~keep, **a)))),
            "The wrong half stayed: keep is True where a channel stays.",
        ),
    ),
    hints=(
        "Follow one channel: who computes it, who scales it, who reads it? Count the arrays.",
        (
            "w1 (O, C, K, K) loses rows; b1, gamma, beta, mean, var (O,) lose entries; w2 (P, O, K,"
            " K) loses columns: axis 1."
        ),
        (
            "index w1, b1, gamma, beta, mean, var with keep; index w2 with everything on axis 0 and"
            " keep on axis 1; return the seven in that order"
        ),
    ),
    tolerance=(
        "exact shapes; outputs within 1e-10 of the largest: both nets add the same float64"
        " products, the masked one some zeros more"
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


def flatten_columns(keep: Array, height: int, width: int) -> Array:
    """Returns which columns behind a Flatten of (C, height, width) stay, rising."""
    return _columns(keep, height * width)


def _columns(keep: Array, block: int, used: int | None = None) -> Array:
    places = np.arange(block if used is None else used)
    return (np.flatnonzero(keep)[:, None] * block + places).ravel()


def _flatten_tiny(draw):
    yield {"keep": np.array([False, True]), "height": 1, "width": 2}
    yield {"keep": np.array([True, False, True]), "height": 2, "width": 1}
    yield {"keep": np.array([False, True, True]), "height": 2, "width": 3}


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
            return Message(
                wrong.slug,
                "the columns of some channels and those of all others are not all columns, each"
                " once",
                wrong.detail,
            )
    return wrong or difference(flatten_columns(**case[1]), results[1])


_FLATTEN = Exercise(
    id="06.flatten_columns",
    title="Columns behind a Flatten",
    minutes=6,
    parts=(
        Part("tiny", 1, _flatten_tiny, equal_to(flatten_columns)),
        Part("property", 2, _flatten_property, equal_to(flatten_columns), hidden=True),
        Part("halves", 1, _flatten_halves, _halves_make_all, hidden=True),
        Part(
            "golden",
            1,
            lambda draw: [{"keep": np.arange(50) % 17 == 3, "height": 4, "width": 4}],
            equal_to(flatten_columns),
        ),
    ),
    mutants=(
        Mutant(
            "one-column-each",
            lambda keep, height, width: np.flatnonzero(keep),
            "Each channel got one column. A channel is a map of height x width pixels, and each of"
            " them has a column of its own.",
        ),
        Mutant(
            "first-pixel-only",
            lambda keep, height, width: _columns(keep, height * width, used=1),
            "The blocks start at the right places, but only the first pixel of each map was taken.",
        ),
        Mutant(
            "interleaved",
            lambda keep, height, width: np.flatnonzero(np.tile(keep, height * width)),
            "The channels were taken in turn, pixel by pixel. Here a map is flattened as a whole:"
            " the columns of a channel stand in one block.",
        ),
        Mutant(
            "as-if-square",
            lambda keep, height, width: _columns(keep, height * height),
            "A block was taken as height x height. Maps need not be square.",
        ),
        Mutant(
            "the-removed",
            lambda keep, height, width: _columns(~keep, height * width),
            "These are the columns that go. Return those that stay.",
        ),
    ),
    hints=(
        "Write down np.arange(12).reshape(3, 2, 2). Which numbers are in channel 1?",
        "Channel c has the columns c H W, c H W + 1, ..., c H W + H W - 1.",
        (
            "starts = kept channels times H * W, as a column vector; add 0, ..., H * W - 1 as a"
            " row; flatten. Or repeat each entry of keep H * W times and ask where it is True"
        ),
    ),
    tolerance="equality: columns are integers",
    banned=(
        "minicomp.compress.channels.removal:removal",
        "minicomp.compress.channels.removal:removed",
    ),
    reference=flatten_columns,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_scales(gammas, sparsity) -> str | None:
    rows = [np.asarray(g) for g in gammas]
    if not rows or not all(
        g.ndim == 1 and g.dtype.kind == "f" and 1 <= g.size <= 1000 and np.isfinite(g).all()
        for g in rows
    ):
        return "gammas is a tuple of float vectors of 1 to 1,000 finite numbers"
    return None if is_sparsity(sparsity) else "sparsity is a number in [0, 1)"


LESSON = LessonChecks(
    number="06",
    name="channels",
    title="Channels: L1, slimming, dependency groups",
    exercises=(_GLOBAL, _REMOVE, _FLATTEN),
    diagnosis=Diagnosis(
        id="06.broken",
        of=_GLOBAL,
        slugs=("sign-forgotten", "each-layer", "rounded-down", "ties-together"),
        valid=_valid_scales,
        agreeing=lambda: (_layers([1.0, 4.0], [2.0, 3.0]), 0.0),
        invalid=lambda: (_layers([1.0, 4.0], [2.0, 3.0]), 1.5),
        hints=(
            (
                "What do the two calls above have in common? Positive scales, no two equal, layers"
                " alike, a round number of channels."
            ),
            "The answer is a tuple (gammas, sparsity); gammas is a tuple of float arrays.",
            (
                "try scales of both signs, equal scales at the cut, one layer of small scales only,"
                " and s * n = 1.6; return the pair for which broken and global_keep differ"
            ),
        ),
    ),
    predictions=(
        Prediction(
            "06.p1",
            "Test error after 80 % of the neurons are removed, without fine-tuning?",
            "%",
            lo=0,
            hi=100,
        ),
        Prediction(
            "06.p2",
            "80 % of the neurons are set to 0: how many times faster?",
            "times",
            lo=0.1,
            hi=100,
        ),
    ),
    reflections=(
        Reflection(
            "06.r1",
            "A colleague trains with the penalty, sets gamma and beta of 80 % of the channels to 0"
            " and saves the net: same shapes, many zeros. What has he gained in time, what does it"
            " take to gain more, and which channels of a residual net could he not choose freely?"
            " Use the numbers of your run.",
            (
                (
                    3,
                    (
                        "no time: zeros are multiplied; rows, batch norm entries and the readers'"
                        " columns must go (own milliseconds quoted); channels joined by an addition"
                        " go together or not at all"
                    ),
                ),
                (2, "no time and why, and one of: all arrays that must shrink, the addition"),
                (1, "no time, without a reason"),
                (0, "claims that the net is faster as it is"),
            ),
        ),
    ),
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
