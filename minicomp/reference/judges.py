"""What equal means: judges are functions (case, result) that return None, or what is wrong.

Where several answers are right, a judge tests the property that decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..codec.huffman import huffman_lengths
from ..compress.prune.sparsegpt import sparsegpt
from ..compress.share.kmeans import assign, kmeans_1d, kmeans_1d_optimal

Case = dict[str, Any]


def copied(case: Case) -> Case:
    """Returns a case whose arrays a function may write to."""
    return {k: _copy(v) for k, v in case.items()}


def _copy(value):
    if isinstance(value, list):
        return [_copy(v) for v in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def equal_to(fn: Callable, rtol: float = 0.0) -> Callable[[Case, Any], str | None]:
    """Returns the judge that compares with fn(**case), entry by entry.

    rtol : |got - expected| <= rtol max|expected|; 0 asks for equality
    """

    def judge(case: Case, result) -> str | None:
        expected = fn(**copied(case))
        several = isinstance(expected, tuple | list)
        if several and len(expected) != len(result):
            return f"{len(expected)} results are expected, got {len(result)}"
        pairs = zip(expected, result) if several else [(expected, result)]
        for e, r in pairs:
            e, r = np.asarray(e), np.asarray(r)
            if e.shape != r.shape:
                return f"shape {e.shape} is expected, got {r.shape}"
            bound = rtol * float(np.abs(e).max(initial=0)) if rtol else 0
            wrong = ~(np.abs(e - r) <= bound) if rtol else e != r
            if wrong.any():
                at = tuple(int(i[0]) for i in np.nonzero(wrong)) if e.ndim else ()
                return f"first difference at {at}: {e[at]} is expected, got {r[at]}"
        return None

    return judge


def judge_sparsegpt(case: Case, result) -> str | None:
    """The kept entries are ours, and the weights too, to 1e-9 of the largest."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        return f"(W, kept) is expected, got {type(result).__name__}"
    W, kept = sparsegpt(**copied(case))
    mine, mask = np.asarray(result[0]), np.asarray(result[1])
    if mine.shape != W.shape or mask.shape != kept.shape or mask.dtype != bool:
        return f"W and a boolean mask of shapes {W.shape} and {kept.shape} are expected"
    if (mask != kept).any():
        return f"the first difference of the masks is at {_first(mask != kept)}"
    wrong = ~(np.abs(mine - W) <= 1e-9 * np.abs(W).max(initial=0)) | (mask == 0) & (mine != 0)
    if wrong.any():
        at = _first(wrong)
        return f"first difference at {at}: {W[at]} is expected, got {mine[at]}"
    return None


def _first(wrong: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i[0]) for i in np.nonzero(wrong))


def judge_huffman(case: Case, lengths) -> str | None:
    """Equal total bits decide, not equal lengths: ties can be merged in any order."""
    freq, lengths = case["freq"], np.asarray(lengths).astype(np.int64)
    used = freq > 0
    if lengths.shape != freq.shape or (lengths[~used] != 0).any() or (lengths[used] < 1).any():
        return "symbols that occur need a length of at least 1, others 0"
    kraft = float(np.sum(2.0 ** -lengths[used]))
    if used.sum() > 1 and kraft != 1.0:
        return f"the Kraft sum must be 1, got {kraft}"
    if case["limit"] is not None and lengths.max(initial=0) > case["limit"]:
        return f"no length may pass {case['limit']}, got {lengths.max()}"
    best, bits = (
        int(np.sum(freq * m.astype(np.int64))) for m in (huffman_lengths(**case), lengths)
    )
    return None if bits == best else f"{best} bits in all are expected, got {bits}"


def judge_lloyd(case: Case, result) -> str | None:
    """The squared error decides, no larger than ours; and every x has its nearest centroid."""
    x, pinned = case["x"], case["pinned_zero"]
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        return f"(centroids, index) is expected, got {type(result).__name__}"
    centroids, index = np.asarray(result[0], np.float32), np.asarray(result[1])
    if index.shape != x.shape or index.dtype.kind not in "iu":
        return f"index must hold integers of shape {x.shape}, got {index.dtype} {index.shape}"
    if centroids.ndim != 1 or not 1 <= len(centroids) <= case["k"]:
        return f"1 to {case['k']} centroids are expected, got shape {centroids.shape}"
    if index.min() < 0 or index.max() >= len(centroids):
        return f"index must be in [0, {len(centroids) - 1}], got {index.min()}..{index.max()}"
    live = x != 0 if pinned else np.ones(x.shape, bool)
    if pinned and (centroids[0] != 0 or (index[~live] != 0).any() or (index[live] == 0).any()):
        return "centroid 0 must be 0 and belong to the x that are 0, and to them only"
    others = centroids[int(pinned) :]
    if (np.diff(others) < 0).any():
        return "centroids must ascend"
    if live.any() and (assign(x[live], others) != index[live] - int(pinned)).any():
        return "every x must have its nearest centroid, half-way the lower one"
    ours = kmeans_1d(**copied(case))
    best, error = (
        float(np.square(x - c[i].astype(np.float64)).sum()) for c, i in (ours, (centroids, index))
    )
    scale = float(np.square(x - x.mean(dtype=np.float64)).sum())
    return (
        None
        if error <= best + 1e-6 * scale
        else f"a squared error of {best} is expected, got {error}"
    )


def judge_kmeans(case: Case, result) -> str | None:
    """Equal squared error decides: centroids may differ where partitions are equally good."""
    centroids, x = np.asarray(result[0], np.float64), case["x"].astype(np.float64)
    if centroids.ndim != 1 or len(centroids) > case["k"] or not len(centroids):
        return f"1 to {case['k']} centroids are expected, got shape {centroids.shape}"
    error = float(np.square(x[:, None] - centroids).min(axis=1).sum())
    best = kmeans_1d_optimal(**case)[1]
    scale = float(np.square(x - x.mean()).sum())
    return (
        None
        if error <= best + 1e-9 * scale
        else f"a squared error of {best} is possible, got {error}"
    )
