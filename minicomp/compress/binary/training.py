"""What trainings of weights of few values share: floats behind them, and which layers.

While it trains a weight is a form with a float latent w: the forward pass decodes what w becomes,
the backward pass says what of dL/dw^ reaches w, and the optimizer moves w, as Courbariaux, Bengio &
David 2015 (arXiv 1511.00363, algorithm 1) have it. Masks, distillation, learning rates by pattern
and checkpoints see a parameter like any other, "fc1.weight.latent". When the training ends signs or
codes are left, and their scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...errors import UserError
from ...nn.forms import MASK, Binary, Form, Part, Ternary
from ...nn.forms.binary import combined, threefold
from ...nn.graph import Model
from ...tensor import Array, primitive, raw, rules
from ...train import Hook
from ..finetune import Trained
from ..technique import knob, weights

LATENT = {"latent": Part("latent", moves=True, optional=True), "q": Part("code", optional=True),
          "mask": MASK}


@primitive
def through(w, *, value, back):
    """Returns `value`, an array of w's shape; what reaches w of a cotangent g is back(g)."""
    return value


rules(through, lambda g, y, w, value, back: back(g))


class _Latent:
    # The form while its codes train: `found` makes them, and their scales, of the latent.

    ranged = False  # its scales are no ranges that a training of grids would follow
    scales: str     # the part that holds them
    combine: Any    # of scales and codes
    wide = 1        # scales a row

    def __init__(self, w: Array, by_row: bool):
        self.shape, self.by_row, self.pruned = w.shape, by_row, False
        self._hold({"latent": w, self.scales: np.ones((self.rows, self.wide), w.dtype)}, True)

    def found(self, w: Array) -> tuple[Array, Array]:
        """Returns (codes of w's shape, scales (rows, scales a row)) of a latent, 0 where masked."""
        raise NotImplementedError

    def back(self, g, w: Array, scale: Array):
        """Returns what reaches the latent w of dL/dw^: here all of it, straight through."""
        return g

    def plain(self) -> Form:
        """Returns the frozen form without a latent."""
        raise NotImplementedError

    def kept(self) -> Array:
        """Returns which entries are not masked, (rows, entries a row)."""
        kept = np.ones(self.shape, bool) if self.mask is None else self.mask
        return kept.reshape(self.rows, -1)

    def parameters(self):
        found = super().parameters()
        if self.latent is not None:
            found.pop(self.scales, None)
        return found

    def decode(self, *, training=False, rng=None):
        if self.latent is None:
            return super().decode()
        w = self.visible()
        q, scale = self.found(w)
        scale = scale.astype(w.dtype, copy=False)
        return through(self.latent, value=raw(type(self).combine(scale, q, self.shape)),
                       back=lambda g: self.back(g, w, scale))

    def frozen_parts(self):
        if self.latent is None:
            return {}
        q, scale = self.found(self.visible())
        return {"q": q, self.scales: scale.astype(self.latent.dtype), "latent": None}

    def thawed_parts(self):
        return {"q": None, "latent": self.dense().data}


class Signed(_Latent, Binary):
    """sum_i alpha_i sign_i of a latent.

    w : the latent, copied        by_row : whether each of axis 0 has scales of its own
    """

    parts = {**LATENT, "alpha": Binary.parts["alpha"]}
    scales, combine = "alpha", staticmethod(combined)

    def __init__(self, w: Array, by_row: bool = False, bases: int = 1):
        self.bases = self.wide = bases
        super().__init__(w, by_row)

    def plain(self):
        alpha = self.alpha.data if self.by_row else self.alpha.data[0]
        return Binary(self.signs(), alpha, mask=self.mask)


class Threefold(_Latent, Ternary):
    """Wp, 0 or -Wn of a latent.

    w : the latent, copied        by_row : whether each of axis 0 has scales of its own
    equal : whether Wp and Wn are one
    """

    parts = {**LATENT, "scale": Ternary.parts["scale"]}
    scales, combine = "scale", staticmethod(threefold)

    def __init__(self, w: Array, by_row: bool = False, equal: bool = True):
        self.equal, self.wide = equal, 2 - equal
        super().__init__(w, by_row)

    def plain(self):
        scale = self.scale.data if self.by_row else self.scale.data[0]
        return Ternary(self.q, *np.moveaxis(scale, -1, 0), mask=self.mask)


def latent_of(form: Form) -> Array:
    """Returns the floats with which the training of a form begins; with a mask behind, what it
    hides too."""
    return form.values() if form.behind else form.dense().data


def with_mask_of(form: Form, made: Form) -> Form:
    """Returns `made` with the mask of `form`, behind it where it was behind."""
    return made if form.mask is None else made.masked(form.mask, behind=form.behind)


def kept_mean(a: Array, kept: Array) -> Array:
    """Returns the mean of what is kept of each row, (rows,) in a's dtype; 1 where nothing is.

    a : (rows, n), 0 where not kept        kept : bool of its shape
    """
    n = kept.sum(axis=1)
    total = a.sum(axis=1, dtype=np.float64)
    return np.where(n > 0, total / np.maximum(n, 1), 1.0).astype(a.dtype)


def refuse_zeros(word: str, name: str, form: Form) -> None:
    """Raises UserError where a scale of a `Signed` or `Threefold` would be that of zeros alone.

    word : of the technique        name : of the form
    """
    w, kept = form.visible().reshape(form.rows, -1), form.kept()
    zero = np.flatnonzero(kept.any(axis=1) & ~w.any(axis=1))
    if len(zero):
        what = f"filter {zero[0]} holds" if form.by_row else "it holds"
        raise UserError(f"{word}: {name} must have a weight that is not 0 wherever a scale is "
                        f"found, but {what} zeros alone; remove such units by dead-units, or keep "
                        "the layer in floats")


@dataclass(frozen=True)
class Latents(Trained):
    """A training whose weights have few values, with floats behind them."""

    quantizes: ClassVar[bool] = True
    by_scales: ClassVar[bool] = True  # whether weights alone decide how large they are

    real: bool = knob(False, "layers whose weights stay floats, by pattern: real@fc3=true",
                      per_layer=True)

    def targets(self, model):
        return list(weights(model))

    def chosen(self, model: Model) -> dict[str, str]:
        """Returns {node: form name} of the weights that take few values."""
        return {node: name for node, name in weights(model).items() if not self.at("real", node)}

    def check(self, model):
        super().check(model)
        if not self.chosen(model):
            raise UserError(f"{self.word}: real must leave a layer whose weights take few values, "
                            "got none")

    def placed(self, node: str, form: Form) -> Form:
        """Returns the form, trainable, of a layer's weight; UserError where it has none."""
        raise NotImplementedError

    def hooks(self, model, data, run):
        forms, made = model.forms(), {}
        for node, name in self.chosen(model).items():
            made[name] = with_mask_of(forms[name], self.placed(node, forms[name]))
            if self.by_scales:
                refuse_zeros(self.word, name, made[name])
        model.set_forms(made)
        return [self.hook(model, data, run)]

    def hook(self, model: Model, data, run) -> Hook:
        """Returns what takes part in the training of the model, whose forms are in place."""
        return Rates(self.word, {})

    def finish(self, model, run):
        made = {}
        for name, form in model.forms().items():
            if isinstance(form, _Latent):
                try:
                    made[name] = form.plain()
                except ValueError as e:  # a scale of 0 or infinity
                    raise UserError(f"{self.word}: {name} has no such form: {e}") from None
        model.set_forms(made)
        return model


class Rates(Hook):
    """Multiplies learning rates before the first step.

    name : of the technique        factors : by parameter
    """

    def __init__(self, name: str, factors: dict[str, float]):
        super().__init__()
        self.name, self.factors, self.optimizer = name, factors, None

    def before_batch(self, state):
        if self.optimizer is not state.optimizer:  # of a run that goes on too
            self.optimizer = state.optimizer
            for name, factor in self.factors.items():
                state.optimizer.scale_rate(name, factor)
