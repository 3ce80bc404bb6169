"""Masks from scores: which entries stay when the smallest scores go.

A score is larger where an entry matters more. `sparsity` s of n entries means exactly round(s n)
zeros (half to even), ties by lowest index. What a mask has taken already goes before everything
else and counts: entries outside `mask` rank below all others, whatever their score.

`drop_smallest` is the one ranking: of a tensor, a row, or every block of m. Scopes of a technique:
"local" ranks a layer by itself, "row" each output's own weights, "kernel" each K x K slice of a
convolution (of a matrix each row), "global" all layers together. Where all are ranked together a
layer of small scores could lose everything, and the net with it: a floor is what every layer keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..errors import UserError

Array = np.ndarray


def zeros_of(sparsity: float, n: int) -> int:
    """Returns round(sparsity n), the number of zeros among n entries.

    Raises ValueError for a sparsity outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be in [0, 1), got {sparsity}")
    return round(sparsity * n)


def drop_smallest(scores: Array, drop: int, *, width: int | None = None,
                  mask: Array | None = None) -> Array:
    """Returns the mask that drops the `drop` smallest of every `width` scores that follow one
    another, ties by lowest index.

    scores : any shape, taken in C order        width : divides their number; None: all of them
    mask : bool of their shape, what earlier pruning kept; what it dropped goes first
    result : bool of their shape, True where kept
    Raises ValueError for a NaN.
    """
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers, got NaN")
    ranked = scores if mask is None else np.where(mask, scores, -np.inf)
    ranked = ranked.reshape(-1, scores.size if width is None else width) if scores.size else (
        ranked.reshape(1, 0))
    keep = np.ones(ranked.shape, bool)
    order = np.argsort(ranked, axis=1, kind="stable")
    np.put_along_axis(keep, order[:, :drop], False, axis=1)
    return keep.reshape(scores.shape)


def smallest_mask(scores: Array, sparsity: float, *, width: int | None = None,
                  mask: Array | None = None) -> Array:
    """Returns `drop_smallest` of round(sparsity n) scores: n is the width, or that of all."""
    drop = zeros_of(sparsity, scores.size if width is None else width)
    return drop_smallest(scores, drop, width=width, mask=mask)


def global_masks(scores: Sequence[Array], sparsity: float, *,
                 masks: Sequence[Array | None] | None = None,
                 least: Sequence[int] | None = None) -> list[Array]:
    """Returns one mask per array: the round(sparsity n) smallest of all n scores together go.

    masks : of each array what earlier pruning kept, or None
    least : how many entries each array keeps in any case, its largest, if it has as many; others
        go in their place. None: none
    Raises ValueError where round(sparsity n) cannot go then.
    """
    masks = masks or [None] * len(scores)
    live = [np.ones(s.size, bool) if m is None else m.ravel() for s, m in zip(scores, masks)]
    flat = [s.ravel() for s in scores]
    drop = zeros_of(sparsity, sum(s.size for s in flat))
    if least is not None:
        safe = [drop_smallest(s, max(s.size - n, 0), mask=m) & m
                for s, n, m in zip(flat, least, live)]
        most = sum(np.count_nonzero(~s) for s in safe)
        if drop > most:
            raise ValueError(f"sparsity must be at most {most / sum(s.size for s in flat):.4g} for "
                             f"every layer to keep what it must, got {sparsity:g}")
        flat = [np.where(s, np.inf, a) for a, s in zip(flat, safe)]
    flat = drop_smallest(np.concatenate(flat), drop, mask=np.concatenate(live))
    parts = np.split(flat, np.cumsum([s.size for s in scores])[:-1])
    return [part.reshape(s.shape) for part, s in zip(parts, scores)]


def scoped_masks(word: str, scores: Mapping[str, Array], masks: Mapping[str, Array | None],
                 sparsity: Callable[[str], float], scope: str, *,
                 least: Mapping[str, int] | None = None) -> dict[str, Array]:
    """Returns the mask of every layer's scores under a technique's scope, by node.

    word : of the technique, for messages        masks : what earlier pruning kept, by node
    sparsity : of a node; under scope "global" the same for all
    scope : "local", "global", "row" or "kernel"
    least : under scope "global" how many entries each keeps in any case, by node; None: none
    Raises UserError, naming technique and layer, for a score that is NaN, and for a sparsity that
    leaves a layer less than that.
    """
    for node, s in scores.items():
        if np.isnan(s).any():
            raise UserError(f"{word}: the scores of {node} must be numbers, got NaN; are its "
                            "weights, inputs and gradients finite?")
    if scope == "global":
        old = [masks[node] for node in scores]
        try:
            found = global_masks(list(scores.values()), sparsity(next(iter(scores))), masks=old,
                                 least=None if least is None else [least[n] for n in scores])
        except ValueError as e:
            raise UserError(f"{word}: {e}") from None
        return dict(zip(scores, found))
    return {node: smallest_mask(s, sparsity(node), mask=masks[node], width=width_of(s.shape, scope))
            for node, s in scores.items()}


def width_of(shape: tuple[int, ...], scope: str) -> int:
    """Returns how many entries of a weight are ranked together under a scope within a layer."""
    first = {"local": 0, "row": 1, "kernel": 2 if len(shape) > 2 else 1}[scope]
    return math.prod(shape[first:])


def channels_last(shape: tuple[int, ...]) -> Array:
    """Returns the order of a row's entries (C K K,) in which the channels of one place of a kernel
    follow one another: that of (kh, kw, c). Of a matrix it is the order there is.

    shape : (O, I) or (O, C, K, K), of the weight
    """
    return np.moveaxis(np.arange(math.prod(shape[1:])).reshape(shape[1:]), 0, -1).ravel()


def block_mask(scores: Array, n: int, m: int, *, mask: Array | None = None) -> Array:
    """Returns the mask that keeps the n largest of every m scores along the inputs: columns of a
    matrix, channels of a convolution at each place of its kernel. Of equals those of lowest index
    go.

    scores : (O, I) or (O, C, K, K)        mask : what earlier pruning kept; the rest goes first
    Raises ValueError where m does not divide the inputs, or n is not in [1, m].
    Source: Mishra et al. 2021, section 3; convolutions permuted as in the authors' code
    """
    if not 1 <= n <= m:
        raise ValueError(f"n must be in [1, {m}], got {n}")
    if scores.shape[1] % m:
        raise ValueError(f"m must divide the {scores.shape[1]} inputs, got {m}")
    order, rows = channels_last(scores.shape), (len(scores), -1)
    kept = np.empty((len(scores), len(order)), bool)
    kept[:, order] = drop_smallest(
        scores.reshape(rows)[:, order], m - n, width=m,
        mask=None if mask is None else mask.reshape(rows)[:, order])
    return kept.reshape(scores.shape)


def magnitudes(w: Array) -> Array:
    """Returns |w| as scores; ValueError for a NaN weight."""
    if np.isnan(w).any():
        raise ValueError("w must hold numbers, got NaN")
    return np.abs(w)


def magnitude_mask(w: Array, sparsity: float, *, mask: Array | None = None) -> Array:
    """Returns the mask that drops the round(sparsity n) weights of least |w|, ties by lowest index.

    w : float, any shape        sparsity : fraction of zeros in [0, 1)
    mask : what earlier pruning kept, or None; what it dropped goes first
    result : bool, True where kept
    Raises ValueError for a sparsity outside [0, 1) or a NaN weight.
    Source: Han et al. 2015 (arXiv 1506.02626), section 3
    """
    return smallest_mask(magnitudes(w), sparsity, mask=mask)


def kernel_mask(w: Array, sparsity: float, *, mask: Array | None = None) -> Array:
    """Returns `magnitude_mask` of each K x K slice w[o, c]; of a matrix, of each row w[o]."""
    return smallest_mask(magnitudes(w), sparsity, width=width_of(w.shape, "kernel"), mask=mask)


def quality_threshold(w: Array, quality: float) -> float:
    """Returns quality x std(w): weights of |w| at or below it go (Han et al. 2015, section 3.1).

    w : float, any shape; its non-zero entries count: a second round goes on where the first ended
    """
    live = w[w != 0]
    return float(quality * live.std(dtype=np.float64)) if live.size else 0.0


def percentile_threshold(w: Array, percentile: float) -> float:
    """Returns the |w| below which `percentile` (0..1) of the entries lie, linearly interpolated."""
    return float(np.quantile(np.abs(w), percentile))
