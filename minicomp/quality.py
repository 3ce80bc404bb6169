"""What a net says beside another one: predictions that flip, and the divergence of the logits.

Errors alone hide what quantization does: a net can be right where the float one was wrong and wrong
where it was right, and count the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .errors import UserError
from .nn.graph import Model
from .nn.taps import fitting
from .tensor import Array, no_grad, raw


@dataclass(frozen=True)
class Agreement:
    """flips : examples, of size, of which a net predicts another class than the reference
    kl : mean over examples of KL(p || q), nats, p of the reference; None without examples
    """

    flips: int
    size: int
    kl: float | None


def kl_of_logits(z: Array, reference: Array) -> Array:
    """Returns KL(p || q) = sum_c p_c log(p_c / q_c) of each example, (N,) float64, nats, >= 0.

    z, reference : logits (N, C); q = softmax(z), p = softmax(reference)
    """
    log_q, log_p = (_log_softmax(a) for a in (z, reference))
    return np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=1), 0.0)


def _log_softmax(z: Array) -> Array:
    z = np.asarray(z, np.float64)
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def agreement(model, reference, split, *, batch_size: int = 500) -> Agreement:
    """Returns how a net agrees with another one on a split.

    model, reference : Models, or what gives logits (N, classes) for x (N, ...), such as a Program
    split : has x (N, ...); labels are not looked at
    Raises UserError where the two take other inputs or give another number of classes.
    """
    nets, flips, kl = (model, reference), 0, 0.0
    shapes = [getattr(net, "input_shape", split.x.shape[1:]) for net in nets]
    if shapes[0] != shapes[1]:
        raise UserError(f"the nets must take the same input, got {shapes[0]} and {shapes[1]}")
    batch_size = min(fitting(net, batch_size) for net in nets) if all(
        hasattr(net, "activation_bytes") for net in nets) else batch_size
    calls = [_ready(net) for net in nets]
    for i in range(0, len(split.x), batch_size):
        z, was = (call(split.x[i:i + batch_size]) for call in calls)
        if z.shape != was.shape:
            raise UserError(f"the nets must give the same classes, got {z.shape[1:]} and "
                            f"{was.shape[1:]}")
        flips += int((z.argmax(axis=1) != was.argmax(axis=1)).sum())
        kl += float(kl_of_logits(z, was).sum())
    return Agreement(flips, len(split.x), kl / len(split.x) if len(split.x) else None)


def predicted(net, x: Array, *, batch_size: int = 500) -> Array:
    """Returns the class that a net predicts for each example, (N,) int64; net as in `agreement`."""
    if hasattr(net, "activation_bytes"):
        batch_size = fitting(net, batch_size)
    call, starts = _ready(net), range(0, len(x), batch_size)
    found = [call(x[i:i + batch_size]).argmax(axis=1) for i in starts]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _ready(net) -> Callable[[Array], Array]:
    # What gives logits; a model's weights are decoded once.
    weights = {}
    if isinstance(net, Model):
        with no_grad():
            weights = {"weights": net.decode()}

    def call(x):
        with no_grad():
            return np.asarray(raw(net(x, **weights)))
    return call
