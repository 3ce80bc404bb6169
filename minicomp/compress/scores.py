"""Masks from scores: which entries stay when the smallest scores go.

A score is larger where an entry matters more. `sparsity` s of n entries means exactly round(s n)
zeros (half to even), ties by lowest index. What a mask has taken already goes before everything
else and counts: entries outside `mask` rank below all others, whatever their score.

`drop_smallest` is the one ranking: of a tensor, a row, or every block of m. Scopes of a technique:
"local" ranks a layer by itself, "row" (of magnitude: "kernel") each output's own weights, "global"
all layers together.
"""

from __future__ import annotations

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
                 masks: Sequence[Array | None] | None = None) -> list[Array]:
    """Returns one mask per array: the round(sparsity n) smallest of all n scores together go.

    masks : of each array what earlier pruning kept, or None
    """
    masks = masks or [None] * len(scores)
    live = [np.ones(s.size, bool) if m is None else m.ravel() for s, m in zip(scores, masks)]
    flat = smallest_mask(np.concatenate([s.ravel() for s in scores]), sparsity,
                         mask=np.concatenate(live))
    parts = np.split(flat, np.cumsum([s.size for s in scores])[:-1])
    return [part.reshape(s.shape) for part, s in zip(parts, scores)]


def scoped_masks(word: str, scores: Mapping[str, Array], masks: Mapping[str, Array | None],
                 sparsity: Callable[[str], float], scope: str) -> dict[str, Array]:
    """Returns the mask of every layer's scores under a technique's scope, by node.

    word : of the technique, for messages        masks : what earlier pruning kept, by node
    sparsity : of a node; under scope "global" the same for all
    scope : "local", "global", or "row" ("kernel"): each entry of axis 0 by itself
    Raises UserError, naming technique and layer, for a score that is NaN.
    """
    for node, s in scores.items():
        if np.isnan(s).any():
            raise UserError(f"{word}: the scores of {node} must be numbers, got NaN; are its "
                            "weights, inputs and gradients finite?")
    if scope == "global":
        old = [masks[node] for node in scores]
        found = global_masks(list(scores.values()), sparsity(next(iter(scores))), masks=old)
        return dict(zip(scores, found))
    return {node: smallest_mask(s, sparsity(node), mask=masks[node],
                                width=s.size if scope == "local" else s[0].size)
            for node, s in scores.items()}


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
    """Returns `magnitude_mask` of each output's own row, every w[o]."""
    return smallest_mask(magnitudes(w), sparsity, width=w[0].size, mask=mask)


def quality_threshold(w: Array, quality: float) -> float:
    """Returns quality x std(w): weights of |w| at or below it go (Han et al. 2015, section 3.1).

    w : float, any shape; its non-zero entries count: a second round goes on where the first ended
    """
    live = w[w != 0]
    return float(quality * live.std(dtype=np.float64)) if live.size else 0.0


def percentile_threshold(w: Array, percentile: float) -> float:
    """Returns the |w| below which `percentile` (0..1) of the entries lie, linearly interpolated."""
    return float(np.quantile(np.abs(w), percentile))
