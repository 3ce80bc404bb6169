"""Robustness probes of weights: noise, dropout and blur. They compress nothing.

A net that stands noise of a given strength on its weights may be stored that coarsely, one that
stands the loss of a part of them may be pruned, one whose kernels may be blurred has smooth ones. A
probe measures that; no model comes of it. Noise and blur leave as many numbers of as many bits as
before, and the file as long as it was. Dropout sets weights to 0, but draws them: it is the
baseline that every score of pruning must beat, and after training with it, as is usual, all
weights are there again. Taking a probe for a technique of compression is a mistake found in several
texts; it is kept apart here for that reason.

    noise     w <- w + N(0, (sigma std(w))^2)
    dropout   w <- w / (1 - p) with probability 1 - p, else 0
    blur      each kernel convolved with a Gaussian of standard deviation sigma pixels, cut off
              at 4 sigma, the kernel mirrored at its border
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ...errors import UserError
from ...nn.forms import Dense
from ...nn.graph import Model
from ...tensor import Array, no_grad
from ...train import evaluate
from ..technique import weights


def noisy(w: Array, sigma: float, *, rng: np.random.Generator) -> Array:
    """Returns w + N(0, (sigma std(w))^2), in the dtype of w.   sigma : in std(w)"""
    return (w + sigma * w.std(dtype=np.float64) * rng.standard_normal(w.shape)).astype(w.dtype)


def dropped(w: Array, p: float, *, rng: np.random.Generator) -> Array:
    """Returns w with each entry 0 with probability p, the others over 1 - p: the mean stays."""
    return np.where(rng.random(w.shape) >= p, w / (1 - p), 0).astype(w.dtype)


def blurred(w: Array, sigma: float, *, rng: np.random.Generator | None = None) -> Array:
    """Returns kernels blurred by a Gaussian along their last two axes, in the dtype of w.

    w : (O, C, K, K)        sigma : in pixels        rng is not used: probes have one signature
    """
    if sigma == 0 or w.ndim < 4:
        return w.copy()
    radius = int(4 * sigma + 0.5)
    g = np.array([math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)])
    g /= g.sum()
    out = w.astype(np.float64)
    for axis in (2, 3):
        n = w.shape[axis]
        at = np.arange(n)[:, None] + np.arange(-radius, radius + 1)  # (K, 2 radius + 1) places
        at %= 2 * n
        at = np.where(at < n, at, 2 * n - 1 - at)  # mirrored, border repeated
        out = np.moveaxis(np.moveaxis(out, axis, -1)[..., at] @ g, -1, axis)
    return out.astype(w.dtype)


# name -> (function, its knob, the values allowed, what it is); none of them compresses
PROBES: dict[str, tuple[Callable, str, tuple[float, float], str]] = {
    "noise": (noisy, "sigma", (0, math.inf), "Gaussian noise on the weights (compresses nothing)"),
    "dropout": (dropped, "p", (0, 1), "dropout of weights (compresses nothing)"),
    "blur": (blurred, "sigma", (0, math.inf), "Gaussian blur of kernels (compresses nothing)"),
}


def probed(model: Model, name: str, level: float, *, rng: np.random.Generator) -> Model:
    """Returns the model with every weight of two axes or more changed by a probe, unmasked Dense.

    name : "noise", "dropout" or "blur"        level : its strength
    Raises UserError for an unknown probe, a level out of range, or blur of a model without kernels.
    """
    if name not in PROBES:
        raise UserError(f"a probe must be one of {', '.join(PROBES)}, got {name!r}")
    change, letter, (lo, hi), _ = PROBES[name]
    if not lo <= level < hi:
        raise UserError(f"{name}: {letter} must be in [{lo:g}, {hi:g}), got {level!r}")
    forms = {form: model.forms()[form] for form in weights(model).values()}
    if name == "blur" and not any(
        len(f.shape) == 4 and f.shape[2] * f.shape[3] > 1 for f in forms.values()
    ):
        raise UserError("blur: the model has no kernels larger than one pixel")
    model = model.copy()
    for form, old in forms.items():
        with no_grad():
            model.set_form(form, Dense(change(old.dense().data, level, rng=rng)))
    return model


def robustness(model: Model, split, name: str, levels: Sequence[float], *, rng: np.random.Generator,
               draws: int = 3, n_threads: int = 1) -> list[dict]:
    """Returns one row per level.

    A row has probe, what, level, errors (mean over draws), least, most, size, compresses (False).
    split : on which errors are counted
    draws : times each level is drawn; blur draws nothing, once is enough
    """
    rows = []
    for level in levels:
        errors = [
            evaluate(probed(model, name, level, rng=rng), split, n_threads=n_threads).errors
            for _ in range(1 if name == "blur" else draws)
        ]
        rows.append({"probe": name, "what": PROBES[name][3], "level": level,
                     "errors": sum(errors) / len(errors), "least": min(errors), "most": max(errors),
                     "size": len(split.y), "compresses": False})
    return rows
