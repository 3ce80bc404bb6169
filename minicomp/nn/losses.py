"""Losses and regularisers.

N batch, K classes; z (N, K) are logits. `reduction` is "mean", "sum" or "none". Cross-entropy
averages over examples; the elementwise losses average over entries, as PyTorch does. A logit of
-inf is a class that cannot be: it adds nothing to a loss but where the target asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .. import ops
from ..kernels.maps import softmax
from ..tensor import Array, Tensor, fused, raw

REDUCTIONS = ("mean", "sum", "none")


def _ce_composite(z, *, target):
    # where: 0 log 0 is 0, where a class cannot be and the target does not ask for it
    logs = ops.where(target != 0, ops.log_softmax(z), z.dtype.type(0))
    return -ops.sum(logs * target, axis=1)


def _ce_backward(g, saved, wanted, z, *, target):
    # d/dz of -sum_k t_k log softmax(z)_k = softmax(z) sum_k t_k - t
    return ((saved * target.sum(axis=1, keepdims=True) - target) * g[:, None],)


@fused(backward=_ce_backward, composite=_ce_composite)
def soft_cross_entropy(z, *, target, save):
    """Returns -sum_k target_k log softmax(z)_k, (N,);  z, target : (N, K)."""
    shifted = z - z.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    loss = -(np.where(target != 0, shifted - np.log(total), 0) * target).sum(axis=1)
    return loss, (e / total if save else None)


def _label_composite(z, *, labels, smoothing, reduction):
    target = (
        one_hot(labels, z.shape[1], z.dtype) * float(1 - smoothing) + float(smoothing / z.shape[1])
    )
    return _reduce(_ce_composite(z, target=target.astype(z.dtype)), reduction)


def _label_backward(g, p, wanted, z, *, labels, smoothing, reduction):
    if reduction != "none":
        g = np.full(len(z), g / float(len(z)) if reduction == "mean" else g, z.dtype)
    return (softmax.cross_entropy_dz(g, p, labels, smoothing=smoothing),)


@fused(backward=_label_backward, composite=_label_composite)
def label_cross_entropy(z, *, labels, smoothing, reduction, save):
    """Returns soft_cross_entropy with smoothing / K everywhere, 1 - smoothing more at the labels.

    z : (N, K)        labels : (N,) integers in 0..K-1
    """
    losses, p = softmax.cross_entropy(z, labels, smoothing=smoothing)
    if reduction == "none":
        return losses, p
    total = losses.sum(dtype=np.float64) / (len(z) if reduction == "mean" else 1)
    return np.asarray(total, z.dtype), p


def cross_entropy(
    z: Tensor, target: Array, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Returns the cross-entropy between softmax(z) and the target.

    z : (N, K) logits        target : (N,) integer labels, or (N, K) probabilities
    label_smoothing : the part of the target spread evenly over the K classes, in [0, 1)
    Raises ValueError for labels out of range or a target of another shape.
    Source: Szegedy et al. 2016 (arXiv 1512.00567), section 7, for the smoothing.
    """
    n, k = z.shape
    target = np.asarray(raw(target))
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    if target.ndim == 1:
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
        return label_cross_entropy(z, labels=target, smoothing=label_smoothing, reduction=reduction)
    if target.shape != (n, k):
        raise ValueError(f"target must have shape ({n},) or ({n}, {k}), got {target.shape}")
    target = target.astype(z.dtype, copy=False)
    if label_smoothing:
        target = target * float(1 - label_smoothing) + float(label_smoothing / k)
    return _reduce(soft_cross_entropy(z, target=target), reduction)


def mse(x: Tensor, target, *, reduction: str = "mean") -> Tensor:
    """Returns (x - target)^2; x and target have one shape."""
    d = _difference(x, target)
    return _reduce(d * d, reduction)


def huber(x: Tensor, target, *, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """Returns e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), for e = x - target.

    Source: Huber 1964.
    """
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}")
    e = ops.absolute(_difference(x, target))
    inner = ops.minimum(e, float(delta))
    return _reduce(inner * (e - 0.5 * inner), reduction)


def squared_hinge(z: Tensor, target: Array, *, reduction: str = "mean") -> Tensor:
    """Returns max(0, 1 - t z)^2 with t = +1 for the label's class and -1 for the others.

    z : (N, K)        target : (N,) integer labels
    Source: Courbariaux et al. 2015, section 3.1 (L2-SVM)
    Raises ValueError for labels out of range.
    """
    t = 2 * one_hot(softmax.checked(np.asarray(target), *z.shape), z.shape[1], z.dtype) - 1
    margin = ops.relu(1 - z * t)
    return _reduce(margin * margin, reduction)


def l1(params: Iterable[Tensor]) -> Tensor:
    """Returns the sum of |w| over all entries of all parameters."""
    return _total(ops.sum(ops.absolute(p)) for p in params)


def l2(params: Iterable[Tensor]) -> Tensor:
    """Returns half the sum of w^2, whose gradient is w: weight decay."""
    return _total(ops.sum(p * p) * 0.5 for p in params)


def one_hot(labels: Array, k: int, dtype=np.float32) -> Array:
    """Returns (N, k) with 1 at each label, else 0."""
    out = np.zeros((labels.size, k), dtype)
    out[np.arange(labels.size), labels] = 1
    return out


def _difference(x: Tensor, target):
    if np.shape(raw(target)) != x.shape:
        raise ValueError(f"target must have shape {x.shape}, got {np.shape(raw(target))}")
    return x - target


def _reduce(loss: Tensor, reduction: str) -> Tensor:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def _total(terms: Iterable[Tensor]) -> Tensor:
    total = None
    for term in terms:
        total = term if total is None else total + term
    return Tensor(np.zeros((), np.float32)) if total is None else total
