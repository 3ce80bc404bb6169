"""What the techniques of this room share: the price of a code, and whom an error hurts.

R(k) = -log2 p(k), p how often the code k occurs in its layer: what an ideal coder spends on it. The
adaptive coder of a file (codec/context.py) knows its neighbours as well and spends less; Huffman's
spends whole bits.
"""

from __future__ import annotations

import math

import numpy as np

from ...nn.forms import Affine, FixedPoint
from ...nn.graph import Model
from ...tensor import Array
from ..scoring import loss_gradients
from ..technique import weights

FLOOR = 0.05  # of the mean h: what a weight that no example reaches counts


def code_bits(counts: Array) -> Array:
    """Returns R = -log2 p of each code, bits, float64 (K,): inf for one that never occurs.

    counts : (K,) integers

    >>> code_bits(np.array([2, 1, 1, 0])).tolist()
    [1.0, 2.0, 2.0, inf]
    """
    with np.errstate(divide="ignore"):
        return np.log2(max(int(np.sum(counts)), 1)) - np.log2(np.asarray(counts, np.float64))


def code_counts(k: Array, most: int, zeros: int = 0) -> Array:
    """Returns how often each code -most..most occurs, int64 (2 most + 1,).

    k : integers of any shape        zeros : so many more of code 0, pruned entries
    """
    counts = np.bincount(k.reshape(-1) + most, minlength=2 * most + 1)
    counts[most] += zeros
    return counts


def price(error: Array, k: Array, lam: float, *, most: int, zeros: int = 0,
          h: Array | float = 1.0) -> float:
    """Returns J = sum h error^2 + lam sum R(k), R of the codes themselves.

    error, k : (n,)        zeros : pruned entries, whose code is 0        h : (n,) or one for all
    """
    counts = code_counts(k, most, zeros)
    there = counts > 0
    rate = float((counts[there] * code_bits(counts)[there]).sum())
    return float((h * np.square(error)).sum()) + lam * rate


def refit(w: Array, points: Array, step: float, h: Array | float = 1.0) -> float:
    """Returns the step of least sum h (w - step p)^2, the given one where all p are 0.

    w, points : (n,)
    """
    below = float((h * np.square(points, dtype=np.float64)).sum())
    return float((h * w * points).sum()) / below if below else step


def mean_squares(model: Model, examples) -> dict[str, Array]:
    """Returns h, the mean over examples of (dL/dw)^2, by form name, over its own mean in a layer,
    with FLOOR in the place of what is smaller.

    model : trainable        examples : a split
    At a minimum of cross-entropy it estimates the diagonal of the Hessian, which by examples'
    labels is their Fisher information.
    """
    total: dict[str, Array] = {}
    for i in range(len(examples.y)):
        for name, g in loss_gradients(model, examples.take(slice(i, i + 1))).items():
            total[name] = total.get(name, 0.0) + np.square(g)
    return {name: np.maximum(h / (h.mean() or 1.0), FLOOR) for name, h in total.items()}


def on_grids(technique, model: Model, learns: str | None = None) -> None:
    """Puts every weight on a grid of the technique's `bits`, trainable, in place; what an earlier
    mask dropped stays so.

    learns : how steps move, of `Affine.learning`; they begin where the last code is the largest
        weight
    """
    made = {}
    for node, name in weights(model).items():
        form, bits = model.forms()[name], technique.at("bits", node)
        w, most = form.dense().data, 2 ** (bits - 1) - 1
        step = np.float32(float(np.abs(w).max(initial=0.0)) / most) or np.float32(1)
        made[name] = Affine.of(w, step, bits=bits, trainable=True).learning(learns)
        if form.mask is not None:
            made[name] = made[name].masked(form.mask)
    model.set_forms(made)


def with_fixed_biases(model: Model, bits: int) -> Model:
    """Returns the model whose biases have a fixed point of so many bits, which no scale goes with:
    the finest that the largest of a layer fits in, of 1 integer bit at least and 24 at most."""
    made = model.copy()
    for name, form in made.forms().items():
        if name.endswith(".bias"):
            b = form.dense().data
            largest = float(np.abs(b).max(initial=0.0)) / (1 - 2.0 ** (1 - bits))
            il = 1 + max(math.ceil(math.log2(largest)), 0) if largest else 1  # the sign's is one
            il = min(il, 24)
            made.set_form(name, FixedPoint.of(b, il, bits - il, mask=form.mask))
    return made


def rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the sides of a weight as a table: a row for each entry of axis 0."""
    return shape[0], math.prod(shape[1:])
