"""Masks from scores: which entries stay when the smallest scores go.

A score is larger where an entry matters more. `sparsity` s of n entries means exactly round(s n) zeros (half to
even), ties by lowest index. Scopes: "local" a layer by itself, "kernel" each output's own row, "global" one
ranking over all layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def zeros_of(sparsity: float, n: int) -> int:
    """Returns round(sparsity n), the number of zeros among n entries.

    Raises ValueError for a sparsity outside [0, 1).
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be in [0, 1), got {sparsity}")
    return round(sparsity * n)


def smallest_mask(scores: Array, sparsity: float) -> Array:
    """Returns the mask that drops the round(sparsity n) smallest scores, ties by lowest index.

    scores : any shape        sparsity : fraction of zeros in [0, 1)        result : bool, True where kept
    """
    mask = np.ones(scores.size, bool)
    drop = zeros_of(sparsity, scores.size)
    mask[np.argsort(scores, axis=None, kind="stable")[:drop]] = False
    return mask.reshape(scores.shape)


def magnitudes(w: Array, mask: Array | None = None) -> Array:
    """Returns |w| as scores, and -1 where `mask` is False: what is pruned already goes before a weight of 0.

    w : float, any shape        mask : bool of w's shape, True where kept, or None
    Raises ValueError for a NaN weight.
    """
    if np.isnan(w).any():
        raise ValueError("w must hold numbers, got NaN")
    return np.abs(w) if mask is None else np.where(mask, np.abs(w), w.dtype.type(-1))


def magnitude_mask(w: Array, sparsity: float, *, mask: Array | None = None) -> Array:
    """Returns the mask that drops exactly round(sparsity n) weights of least |w|, ties by lowest index.

    w : float, any shape        sparsity : fraction of zeros in [0, 1)        result : bool, True where kept
    mask : what earlier pruning kept, or None; what it dropped goes first
    Raises ValueError for a sparsity outside [0, 1) or a NaN weight.
    Source: Han et al. 2015 (arXiv 1506.02626), section 3
    """
    return smallest_mask(magnitudes(w, mask), sparsity)


def kernel_mask(w: Array, sparsity: float, *, mask: Array | None = None) -> Array:
    """Returns `magnitude_mask` of each output's own row: every w[o] gets round(sparsity n) zeros."""
    scores = magnitudes(w, mask)
    return np.stack([smallest_mask(row, sparsity) for row in scores])


def global_masks(scores: Sequence[Array], sparsity: float) -> list[Array]:
    """Returns one mask per array: the round(sparsity n) smallest of all n scores together go."""
    flat = np.concatenate([s.ravel() for s in scores])
    ends = np.cumsum([s.size for s in scores])[:-1]
    return [m.reshape(s.shape) for m, s in zip(np.split(smallest_mask(flat, sparsity), ends), scores)]


def quality_threshold(w: Array, quality: float) -> float:
    """Returns quality x std(w): weights of |w| at or below it go (Han et al. 2015, section 3.1).

    w : float, any shape; its non-zero entries count, so that a second round goes on where the first ended
    """
    live = w[w != 0]
    return float(quality * live.std(dtype=np.float64)) if live.size else 0.0


def percentile_threshold(w: Array, percentile: float) -> float:
    """Returns the |w| below which `percentile` (0..1) of the entries lie, linearly interpolated."""
    return float(np.quantile(np.abs(w), percentile))
