"""Lesson 3: what a separable convolution costs, channels shuffled, a block as one convolution.

M channels in, N out, h x w pixels of the input, windows of k x k, k odd, padded by k // 2 (exercise
1); C channels in g groups (exercise 2); an inverted residual of E inner channels without its
activations and batch norms, and the one convolution that computes the same (exercise 3).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...kernels.maps.conv import conv2d_ref
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

Array = np.ndarray
SHARE = 1e-9  # relative: one division of exact integers
SUM = 1e-9  # relative: sums of at most 40 products of double precision

# ---------------------------------------------------------------------------------- separable cost


def separable_cost(
    m: int, n: int, h: int, w: int, k: int, stride: int,
    *, filters=None, taps=None, square=False, early=False, places=True, share=None,
) -> tuple[int, int, float]:
    """Returns (params, macs, share) of depthwise k x k and pointwise 1 x 1, without bias.

    share : its MACs as a fraction of those of the convolution k x k from m to n: 1/n + 1/k^2
    The switches are how the mutants slip: filters of the depthwise step and weights of each; the
    width not looked at; the pointwise step before the stride; each weight used once; the share.
    """
    ho, wo = (h - 1) // stride + 1, ((h if square else w) - 1) // stride + 1
    deep = (filters or (lambda m, n: m))(m, n) * (taps or (lambda k: k * k))(k)
    point = m * n
    out = ho * wo if places else 1
    macs = deep * out + point * (h * (h if square else w) if early else out)
    full = m * n * k * k * out
    return deep + point, macs, (share or (lambda macs, full, *_: macs / full))(macs, full, m, n, k)


def _layer(m, n, h, w, k, stride=1) -> dict:
    return dict(m=m, n=n, h=h, w=w, k=k, stride=stride)


def _layers(draw):
    for _ in range(20):
        m, n = draw.integer(1, 65), draw.integer(1, 65)
        h, w = draw.integer(2, 33), draw.integer(2, 33)
        yield _layer(m, n, h, w, draw.choice((1, 3, 5, 7)), draw.integer(1, 4))


def _only_outputs_count(draw):
    for _ in range(4):
        n, k = draw.integer(2, 65), draw.choice((3, 5))
        yield [_layer(draw.integer(1, 33), n, draw.integer(5, 30), draw.integer(5, 30), k, s)
               for s in (1, 2)]


def _share_stays(case, results) -> Message | None:
    # Neither the channels that come in nor the map nor the stride changes the share.
    rights = [1 / c["n"] + 1 / c["k"] ** 2 for c in case]
    shares = [float(r[2]) for r in results]
    return first_difference(rights, shares, ("the share", "the share of another m, h, w, stride"),
                            rtol=SHARE)


_COST = ("params", "macs", "share")
_SEPARABLE = Exercise(
    id="03.separable_cost",
    minutes=8,
    parts=standard_parts(
        equal_to(separable_cost, rtol=SHARE, names=_COST),
        tiny=[
            _layer(1, 2, 1, 1, 3),
            _layer(2, 1, 3, 3, 1),
            _layer(2, 3, 3, 4, 3),
            _layer(2, 3, 4, 4, 3, 2),
        ],
        many=_layers,
        golden=[_layer(512, 512, 14, 14, 3)],
        more=hidden("invariance", _only_outputs_count, _share_stays),
    ),
    mutants=(
        Mutant("filter-per-output", partial(separable_cost, filters=lambda m, n: n)),
        Mutant("all-channels", partial(separable_cost, filters=lambda m, n: m * m)),
        Mutant("filter-per-pair", partial(separable_cost, filters=lambda m, n: m * n)),
        Mutant("one-side", partial(separable_cost, taps=lambda k: k)),
        Mutant("before-the-stride", partial(separable_cost, early=True)),
        Mutant("square-map", partial(separable_cost, square=True)),
        Mutant("one-place", partial(separable_cost, places=False)),
        Mutant("upside-down", partial(separable_cost, share=lambda macs, full, *_: full / macs)),
        Mutant("inputs-for-outputs",
               partial(separable_cost, share=lambda macs, full, m, n, k: 1 / m + 1 / k**2)),
    ),
    banned=(
        "minicomp.nn.layers:Conv2d",
        "minicomp.models.mobilenet:separable",
        "minicomp.nn.graph:Model.macs",
        "minicomp.nn.graph:Model.count",
    ),
    reference=separable_cost,
    rtol=SHARE,
)

# --------------------------------------------------------------------------------- channel shuffle


def channel_shuffle(x: Array, groups: int) -> tuple[Array, Array]:
    """Returns (y, source), y[i] = x[source[i]]: channel j of group i moves to place j g + i.

    x : (C, H, W), C a multiple of groups
    """
    source = np.arange(len(x)).reshape(groups, -1).T.ravel()
    return x[source], source


def _moved(x: Array, groups: int, source, told=None) -> tuple[Array, Array]:
    # How the mutants slip: other sources, as a function of (C, groups); told: those returned.
    order = source(len(x), groups)
    return x[order], order if told is None else told(order)


def _shuffled(c: int, g: int) -> Array:
    return np.arange(c).reshape(g, -1).T.ravel()


def _with_pixels(x: Array, groups: int) -> tuple[Array, Array]:
    return x.reshape(groups, -1).T.reshape(x.shape), _shuffled(len(x), groups)


def _pixels_as_channels(x: Array, groups: int) -> tuple[Array, Array]:
    # Groups and channels swapped by a transpose of all axes.
    y = x.reshape(groups, -1, *x.shape[1:]).T.reshape(x.shape)
    return y, _shuffled(len(x), groups)


def _maps(draw, g: int, n: int) -> dict:
    return {"x": draw.normal(g * n, draw.integer(1, 4), draw.integer(1, 4)), "groups": g}


def _grouped(draw):
    for _ in range(20):
        yield _maps(draw, draw.integer(1, 6), draw.integer(1, 6))


def _squares(draw):
    for g in (2, 3, 4):
        yield _maps(draw, g, g * draw.integer(1, 3))


def _mixes(case, result) -> Message | None:
    """Judges what a shuffle is for: a permutation, and every group reads of every group alike."""
    x, g = case["x"], case["groups"]
    y, source = result
    n = len(x) // g
    if wrong := difference(np.arange(len(x)), np.sort(source), where="source, sorted"):
        return wrong
    if wrong := difference(x[np.asarray(source)], y, where="y"):
        return wrong
    read = np.asarray(source).reshape(g, n) // n
    each = np.stack([np.bincount(row, minlength=g) for row in read])
    return difference(np.full((g, g), n // g), each,
                      where="the number of channels that a group reads of each group")


def _tiny_maps(g: int, n: int, side: int) -> dict:
    x = np.arange(float(g * n * side)).reshape(g * n, 1, side)
    return {"x": x, "groups": g}


_SHUFFLE = Exercise(
    id="03.channel_shuffle",
    minutes=9,
    parts=standard_parts(
        equal_to(channel_shuffle, names=("y", "source")),
        tiny=[_tiny_maps(2, 1, 1), _tiny_maps(2, 3, 1), _tiny_maps(2, 2, 2), _tiny_maps(3, 2, 1)],
        many=_grouped,
        golden=[_tiny_maps(3, 80, 1)],  # ShuffleNet's stage 2
        more=hidden("mixes", _squares, _mixes),
    ),
    mutants=(
        Mutant("nothing-moved", partial(_moved, source=lambda c, g: np.arange(c))),
        Mutant("turned-round", partial(_moved, source=lambda c, g: _shuffled(c, c // g))),
        Mutant("target-for-source", partial(_moved, source=_shuffled, told=np.argsort)),
        Mutant("groups-reversed",
               partial(_moved, source=lambda c, g: np.arange(c).reshape(g, -1)[::-1].ravel())),
        Mutant("channels-reversed",
               partial(_moved, source=lambda c, g: np.arange(c).reshape(g, -1).T[::-1].ravel()),
               forms=(partial(_moved, source=lambda c, g: np.arange(c)[::-1]),)),
        Mutant("pixels-too", _with_pixels, forms=(_pixels_as_channels,)),
    ),
    banned=(
        "minicomp.nn.layers:ChannelShuffle",
        "minicomp.nn.layers.wiring:ChannelShuffle.permutation",
        "minicomp.nn.layers.wiring:ChannelShuffle.forward",
    ),
    reference=channel_shuffle,
)

# -------------------------------------------------------------------- a block as one convolution


def merged(e: Array, d: Array, p: Array) -> Array:
    """Returns the kernel of 1 x 1 by e, depthwise by d, 1 x 1 by p: w[n, m] = sum_i p_ni d_i e_im.

    e : (E, M)        d : (E, k, k)        p : (N, E)        returns (N, M, k, k)
    """
    return np.einsum("ni,ikl,im->nmkl", p, d, e)


def _apart(e: Array, d: Array, p: Array) -> Array:
    # Each factor summed by itself.
    return np.einsum("n,kl,m->nmkl", p.sum(1), d.sum(0), e.sum(0))


def _unexpanded(e: Array, d: Array, p: Array) -> Array:
    # As if every input channel were the inner one of its number.
    return merged(np.eye(*e.shape), d, p)


def _block(draw, m: int, inner: int, n: int, k: int) -> dict:
    return {"e": draw.normal(inner, m), "d": draw.normal(inner, k, k), "p": draw.normal(n, inner)}


def _blocks(draw):
    for i in range(20):
        inner = draw.integer(2, 6)
        yield _block(draw, draw.integer(1, 4), inner, draw.integer(1, 4), 3 if i % 2 else 1)


def _separables(draw):
    for m in (2, 3, 4):
        yield _block(draw, m, m, draw.integer(2, 5), 3) | {"e": np.eye(m)}


def _as_run(case, result) -> Message | None:
    """Judges by the maps: one convolution by the result gives what depthwise and pointwise give."""
    d, p = case["d"], case["p"]
    m, k = len(d), d.shape[-1]
    x = np.sin(1.0 + np.arange(m * 30.0)).reshape(1, m, 5, 6)
    result = np.asarray(result, float)
    if result.shape != (len(p), m, k, k):
        return difference(merged(**case), result)
    at = ((1, 1), (k // 2, k // 2))
    deep = conv2d_ref(x, d[:, None], *at, m)
    right = conv2d_ref(deep, p[:, :, None, None], (1, 1), (0, 0), 1)
    return difference(right, conv2d_ref(x, result, *at, 1), rtol=SUM,
                      where="what one convolution by the result makes of a map")


_E1 = {"e": np.array([[2.0]]), "d": np.array([[[1.0, 2, 3], [4, 5, 6], [7, 8, 10]]]),
       "p": np.array([[3.0]])}
_E2 = {"e": np.array([[1.0], [2.0]]), "d": np.array([[[3.0]], [[5.0]]]), "p": np.array([[1.0, 1]])}
_E3 = {"e": np.array([[1.0, 3], [2, 0]]), "d": np.array([[[1.0]], [[2.0]]]),
       "p": np.array([[1.0, 2]])}

_MERGED = Exercise(
    id="03.merged",
    minutes=12,
    parts=standard_parts(
        equal_to(merged, rtol=SUM),
        tiny=[_E1, _E2, _E3],
        many=_blocks,
        golden=[{
            "e": np.array([[1.0, 0.5], [-1, 2], [0.25, 1]]),
            "d": np.arange(27.0).reshape(3, 3, 3) / 8 - 1,
            "p": np.array([[1.0, 2, -1], [0.5, -2, 4]]),
        }],
        more=hidden("run", _separables, _as_run),
        points=(1, 2, 1),
    ),
    mutants=(
        Mutant("summed-apart", _apart),
        Mutant("expansion-forgotten", _unexpanded),
        Mutant("flipped", lambda e, d, p: merged(e, d[:, ::-1, ::-1], p)),
        Mutant("rows-for-columns", lambda e, d, p: merged(e, d.swapaxes(1, 2), p)),
        Mutant("averaged", lambda e, d, p: merged(e, d, p) / len(d)),
        Mutant("axes-swapped", lambda e, d, p: merged(e, d, p).swapaxes(0, 1)),
        Mutant("kernel-first", lambda e, d, p: np.moveaxis(merged(e, d, p), (2, 3), (0, 1))),
    ),
    reference=merged,
    rtol=SUM,
)

# --------------------------------------------------------------------------------------- the lesson


def _valid_layer(m, n, h, w, k, stride) -> str | None:
    whole = (m, n, h, w, k, stride)
    if any(isinstance(v, bool) or not isinstance(v, int | np.integer) for v in whole):
        return "all six are whole numbers"
    if min(whole) < 1 or max(whole) > 10_000:
        return "sizes are at least 1, none above 10,000"
    return None if k % 2 else "k is odd"


LESSON = LessonChecks(
    number="03",
    name="blocks",
    exercises=(_SEPARABLE, _SHUFFLE, _MERGED),
    diagnosis=Diagnosis(
        id="03.broken",
        of=_SEPARABLE,
        shown_by={
            "filter-per-output": (1, 2, 3, 3, 1, 1),
            "one-side": (2, 2, 3, 3, 3, 1),
            "before-the-stride": (2, 2, 3, 3, 1, 2),
            "square-map": (2, 2, 3, 4, 1, 1),
        },
        valid=_valid_layer,
        agreeing=(4, 4, 8, 8, 1, 1),
        several=((2, 3, 4, 6, 3, 2),),
        invalid=(2, 3, 4, 4, 2, 1),
    ),
    predictions=(
        Prediction("03.p1", unit="times", lo=0.1, hi=20),
        Prediction("03.p2", options=("full", "pointwise", "depthwise")),
    ),
    reflections=(Reflection("03.r1"),),
    numbers=(
        Number("times_fewer", "MACs: full 3 x 3 over separable", "times", 1),
        Number("times_faster", "time: full 3 x 3 over separable", "times", 1),
        Number("rate_full", "full 3 x 3", "GMAC/s", 0),
        Number("rate_pointwise", "pointwise 1 x 1", "GMAC/s", 0),
        Number("rate_depthwise", "depthwise 3 x 3", "GMAC/s", 0),
        Number("error_separable", "error of the separable net", "%", 2),
        Number("error_full", "error of the same net with full convolutions", "%", 2),
        Number("kb_separable", "file of the separable net", "kB", 1),
        Number("kb_full", "file of the net with full convolutions", "kB", 1),
        Number("net_fewer", "MACs: full net over separable net", "times", 1),
        Number("net_faster", "time of an image: full net over separable net", "times", 1),
        *(Number(f"mmac_{kind}", f"{kind}, by shape", "MMAC") for kind in
          ("full", "pointwise", "depthwise", "separable", "inverted", "fire", "shuffle",
           "xception")),
        *(Number(f"ms_{kind}", f"{kind}, by shape", "ms", 4) for kind in
          ("full", "pointwise", "depthwise", "separable", "inverted", "fire", "shuffle",
           "xception")),
    ),
)
