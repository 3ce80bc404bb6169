"""Cross-entropy of labels: contract, NumPy reference, entry.

N batch, K classes, z (N, K) logits, s the smoothing; the target of an example is 1 - s at its label
plus s / K everywhere. The compiled twin is in kernels_pyx/maps.pyx, one rung of plain C for
float32: a batch has a few hundred logits, and the calls of the reference cost ten times the
arithmetic. Sums run in float64; exponentials are those of the C library, so that losses may differ
from the reference by a few roundings.
"""

from __future__ import annotations

import numpy as np

from .. import cpu
from ..doors import F32, floats, integers, number

Array = np.ndarray


def cross_entropy_ref(z: Array, labels: Array, smoothing: float) -> tuple[Array, Array]:
    """Returns (losses, p): -sum_k target_k log p_k, (N,), and p = softmax(z), (N, K)."""
    shifted = z - z.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1, keepdims=True)
    logs = shifted - np.log(total)
    losses = -float(1 - smoothing) * logs[np.arange(len(z)), labels]
    if smoothing:  # else a log of -inf would count 0 times
        losses = losses - float(smoothing / z.shape[1]) * logs.sum(axis=1)
    return losses, p / total


def cross_entropy_dz_ref(g: Array, p: Array, labels: Array, smoothing: float) -> Array:
    """Returns dz, (N, K), for the cotangent g of the losses: g (p - target)."""
    dz = p - float(smoothing / p.shape[1])
    dz[np.arange(len(p)), labels] -= float(1 - smoothing)
    return dz * g[:, None]


def cross_entropy(
    z: Array, labels: Array, *, smoothing: float = 0.0, isa: str = "auto"
) -> tuple[Array, Array]:
    """Returns (losses, p): -sum_k target_k log p_k, (N,), and p = softmax(z), (N, K).

    z : (N, K)        labels : (N,) integers in 0..K-1        smoothing : in [0, 1)
    A logit of -inf is a class that cannot be: without smoothing it adds nothing but at the label.
    Raises ValueError for other arrays, labels of another shape or out of range.
    """
    n, k, smoothing = _sizes("z", z, labels, smoothing)
    if not _compiled(isa, z):
        return cross_entropy_ref(z, checked(labels, n, k), smoothing)
    losses, p = np.empty(n, np.float32), np.empty((n, k), np.float32)
    bad = cpu.kernel_module("maps").cross_entropy(
        np.ascontiguousarray(z), np.ascontiguousarray(labels, np.int64), smoothing, losses, p)
    if bad < n:
        checked(labels, n, k)
    return losses, p


def cross_entropy_dz(
    g: Array, p: Array, labels: Array, *, smoothing: float = 0.0, isa: str = "auto"
) -> Array:
    """Returns dz, (N, K), for the cotangent g, (N,), of the losses: g (p - target).

    p, labels : what `cross_entropy` returned, and was given
    Raises ValueError for other arrays, labels of another shape or out of range.
    """
    n, k, smoothing = _sizes("p", p, labels, smoothing)
    floats("g", g, 1)
    if g.shape != (n,):
        raise ValueError(f"g must have shape ({n},), got {g.shape}")
    if not _compiled(isa, p, g):
        return cross_entropy_dz_ref(g, p, checked(labels, n, k), smoothing)
    dz = np.empty((n, k), np.float32)
    bad = cpu.kernel_module("maps").cross_entropy_dz(
        np.ascontiguousarray(g), np.ascontiguousarray(p), np.ascontiguousarray(labels, np.int64),
        smoothing, dz)
    if bad < n:
        checked(labels, n, k)
    return dz


def _sizes(name: str, z: Array, labels: Array, smoothing: float) -> tuple[int, int, float]:
    # N, K and the smoothing as a float; the labels' range is checked where they are read.
    floats(name, z, 2)
    n, k = z.shape
    if not isinstance(labels, np.ndarray):
        integers("labels", labels)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        checked(labels, n, k)
    return n, k, number("smoothing", smoothing, 0.0, 1.0)


def _compiled(isa: str, *arrays: Array) -> bool:
    if cpu.resolve(isa, "maps") == 0:
        return False
    for a in arrays:
        if a.dtype != F32 or not a.size:
            return False
    return True


def checked(labels: Array, n: int, k: int) -> Array:
    """Returns labels; ValueError where they are not n integers in 0..k-1."""
    legal = labels.shape == (n,) and labels.dtype.kind in "iu"
    if not legal or n and not (0 <= labels.min() and labels.max() < k):
        whole = labels.size and labels.dtype.kind in "iu"
        found = f", {labels.min()}..{labels.max()}" if whole else ""
        raise ValueError(f"target must hold {n} labels in [0, {k - 1}], got shape {labels.shape}, "
                         f"{labels.dtype}{found}")
    return labels
