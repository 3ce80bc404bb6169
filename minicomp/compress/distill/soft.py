"""Soft targets and what is learnt from them, as functions of logits.

N examples, K classes; z (N, K) are the student's logits, v (N, K) the teacher's, T the temperature:

    q_i = exp(z_i / T) / sum_j exp(z_j / T)                                                  (1)
    dC/dz_i = (q_i - p_i) / T             of the cross-entropy C between p and q             (2)
    dC/dz_i ~ ((z_i - z-) - (v_i - v-)) / (K T^2)          where T is large                  (4)

with p the teacher's probabilities at the same T and z-, v- the means over classes. By (4) soft
gradients shrink with T^2, so that a soft term is multiplied by T^2 to keep its weight beside the
labels' whatever T is.
Source: Hinton, Vinyals & Dean 2015, arXiv 1503.02531, section 2
"""

from __future__ import annotations

import numpy as np

from ...nn.losses import cross_entropy, one_hot
from ...tensor import Array, Tensor

MEANS = ("arithmetic", "geometric")


def soft_targets(z: Array, T: float) -> Array:
    """Returns softmax(z / T) along the last axis, in z's dtype: eq. (1).

    z : (..., K) logits        T : > 0

    >>> soft_targets(np.array([0.0, np.log(9.0)]), 2.0).round(6).tolist()
    [0.25, 0.75]
    """
    e = np.exp((z - z.max(axis=-1, keepdims=True)) / z.dtype.type(T))
    return e / e.sum(axis=-1, keepdims=True)


def mean_targets(z: Array, T: float, mean: str) -> Array:
    """Returns the probabilities of several teachers together, (N, K), rows of sum 1.

    z : (M, N, K), logits of M teachers        mean : "arithmetic" of their probabilities at T, or
        "geometric", whose rows are divided by their sums: the softmax of the mean logits
    Source: Hinton et al. 2015, section 1
    """
    if mean == "geometric":
        return soft_targets(z.mean(axis=0), T)
    return soft_targets(z, T).mean(axis=0)


def soft_gradient(z: Array, p: Array, T: float) -> Array:
    """Returns dC/dz of one example's soft cross-entropy, (N, K): eq. (2).

    z : (N, K) logits of the student        p : (N, K) targets, rows of sum 1        T : > 0
    """
    return (soft_targets(z, T) - p) / z.dtype.type(T)


def high_temperature_gradient(z: Array, v: Array, T: float) -> Array:
    """Returns what `soft_gradient` tends to as T grows, (N, K): eq. (4), without the assumption
    that logits have mean 0.

    z, v : (N, K) logits of the student and the teacher        T : > 0
    """
    d = z - v
    return (d - d.mean(axis=1, keepdims=True)) / z.dtype.type(z.shape[1] * T * T)


def distillation(z: Array, v: Array, y: Array, T: float, alpha: float) -> tuple[float, Array]:
    """Returns L = (1 - alpha) CE(y, q at 1) + alpha T^2 KL(p || q), batch mean, and dL/dz (N, K).

    z, v : (N, K) logits of the student and the teacher        y : (N,) labels
    T : > 0, of p and q        alpha : weight of the soft term, 0..1
    Source: Hinton et al. 2015, section 2, as it is commonly written; KL differs from the
        cross-entropy by a constant
    """
    n, p, hard = len(z), soft_targets(v, T), one_hot(y, z.shape[1], z.dtype)
    kl = (p * (_log_softmax(v / T) - _log_softmax(z / T))).sum(axis=1)
    ce = -(hard * _log_softmax(z)).sum(axis=1)
    dz = ((1 - alpha) * soft_gradient(z, hard, 1.0) + alpha * T * T * soft_gradient(z, p, T)) / n
    return float(((1 - alpha) * ce + alpha * T * T * kl).mean()), dz


def soft_loss(z: Tensor, p: Array, T: float) -> Tensor:
    """Returns KL(p || softmax(z / T)), the mean over examples; without the factor T^2.

    z : Tensor (N, K)        p : (N, K) targets, rows of sum 1        T : > 0
    """
    entropy = -(p * np.log(np.maximum(p, np.finfo(p.dtype).tiny))).sum(axis=1).mean()
    return cross_entropy(z * (1 / T), p) - float(entropy)


def _log_softmax(z: Array) -> Array:
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))
