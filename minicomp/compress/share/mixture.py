"""A mixture of Gaussians over weights: its likelihood with all gradients in one pass, and what to
do with it when it has settled. Component 0 is the one of mean 0.

J components, mu_j their means, lam_j = 1 / sigma_j^2 their precisions, pi_j their shares.
"""

from __future__ import annotations

import math

import numpy as np

from ... import ops
from ...tensor import Array, fused

_BLOCK = 1 << 12  # weights looked at together: J times as many floats stay in a cache


def log_densities(w: Array, mu: Array, log_lam: Array, log_pi: Array) -> Array:
    """Returns log pi_j N(w_i | mu_j, 1 / lam_j), (n, J), in w's dtype.   w : (n,), others (J,)"""
    lead = (log_pi + 0.5 * log_lam - 0.5 * math.log(2 * math.pi)).astype(w.dtype)
    return lead - np.square(w[:, None] - mu.astype(w.dtype)) * (np.exp(log_lam) / 2).astype(w.dtype)


def _composite(w, mu, log_lam, log_pi):
    d = ops.reshape(w, shape=(-1, 1)) - ops.reshape(mu, shape=(1, -1))
    lead = log_pi + log_lam * 0.5 - 0.5 * math.log(2 * math.pi)
    each = ops.reshape(lead, shape=(1, -1)) - d * d * ops.reshape(
        ops.exp(log_lam) * 0.5, shape=(1, -1))
    return -ops.logsumexp(each, axis=1).sum()


def _backward(g, saved, wanted, w, mu, log_lam, log_pi):
    return tuple(g * s if want else None for s, want in zip(saved, wanted))


@fused(backward=_backward, composite=_composite)
def mixture_nll(w, mu, log_lam, log_pi, *, save):
    """Returns -sum_i log sum_j pi_j N(w_i | mu_j, 1 / lam_j), one number of w's dtype.

    w : (n,)        mu, log_lam, log_pi : (J,)        Source: Ullrich et al. 2017, eq. (3)
    With r_ij the part of component j in the density at w_i (its responsibility) the slopes are
        w_i : sum_j r_ij lam_j (w_i - mu_j)             mu_j : sum_i r_ij lam_j (mu_j - w_i)
        log lam_j : sum_i r_ij (lam_j (w_i - mu_j)^2 - 1) / 2        log pi_j : -sum_i r_ij
    """
    lam, total = np.exp(log_lam.astype(np.float64)), 0.0
    of_w, sums = np.empty_like(w), np.zeros((3, len(mu)))  # sums of r, r w, r w^2
    for at in range(0, len(w), _BLOCK):
        x = w[at:at + _BLOCK]
        each = log_densities(x, mu, log_lam, log_pi)
        top = each.max(axis=1, keepdims=True)
        r = np.exp(each - top)
        norm = r.sum(axis=1, keepdims=True)
        total -= float((top + np.log(norm)).sum(dtype=np.float64))
        if save:
            r /= norm
            of_w[at:at + _BLOCK] = x * (r @ lam.astype(x.dtype)) - r @ (lam * mu).astype(x.dtype)
            sums += np.stack([np.ones_like(x), x, x * x]) @ r
    s0, s1, s2 = sums
    of_mu, square = lam * (mu * s0 - s1), s2 - 2 * mu * s1 + mu * mu * s0
    saved = (of_w, of_mu.astype(mu.dtype), (0.5 * (lam * square - s0)).astype(log_lam.dtype),
             (-s0).astype(log_pi.dtype))
    return np.asarray(total, w.dtype), saved


def gaussian_kl(mu: Array, log_lam: Array) -> Array:
    """Returns KL(component i || component j), (J, J), nats.   mu, log_lam : (J,)"""
    lam = np.exp(log_lam)
    square = np.square(mu[:, None] - mu)
    return 0.5 * (log_lam[:, None] - log_lam) + 0.5 * lam * (1 / lam[:, None] + square) - 0.5


def merged(mu: Array, log_lam: Array, pi: Array, limit: float) -> tuple[Array, Array, Array]:
    """Returns (mu, log_lam, pi) of the components left when those nearer than `limit` are one.

    limit : nats of KL in both directions; nearness is handed on from one to the next
    A merged component has the shares' sum, and means and precisions by shares; that of component 0
    keeps its mean, 0, and is the first.
    Source: Ullrich et al. 2017, section 4.4
    """
    kl = gaussian_kl(mu, log_lam)
    near, group = np.maximum(kl, kl.T) < limit, np.arange(len(mu))
    for i, j in zip(*np.nonzero(near)):
        group[group == max(group[i], group[j])] = min(group[i], group[j])
    found = []
    for first in np.unique(group):
        at = group == first
        share = pi[at].sum()
        by = pi[at] / share
        mean = 0.0 if first == 0 else float((by * mu[at]).sum())
        found.append((mean, float(np.log((by * np.exp(log_lam[at])).sum())), float(share)))
    return tuple(np.array(a) for a in zip(*found))


def assigned(w: Array, mu: Array, log_lam: Array, pi: Array) -> Array:
    """Returns the component of largest responsibility for each weight, int64 of w's shape."""
    flat, out = w.reshape(-1), np.empty(w.size, np.int64)
    for at in range(0, w.size, _BLOCK):
        each = log_densities(flat[at:at + _BLOCK], mu, log_lam, np.log(pi))
        out[at:at + _BLOCK] = each.argmax(axis=1)
    return out.reshape(w.shape)
