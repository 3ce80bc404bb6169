"""A weight that is cut and goes on learning: what techniques share whose masks can be taken back."""

from __future__ import annotations

import numpy as np

from ..nn.forms import Dense, Form
from ..tensor import Array, Tensor, primitive, rules


@primitive
def cut(w, mask):
    """Returns w where the mask is 1, else 0; the cotangent reaches every entry of w.

    Source: Guo et al. 2016 (arXiv 1608.04493), eq. (2)
    """
    return w * mask


rules(cut, lambda g, y, w, mask: g, None)


class Latent(Form):
    """A full weight behind a mask; `finish` gives the Dense form that remains.

    allowed : bool, False where an earlier technique pruned: a technique splices back only what it cut itself
    moves : (2,) int64, how often an entry was cut, and spliced back, so far
    """

    kind = "surgery"

    def __init__(self, value, mask, trainable: bool = True, allowed=None):
        self.value = Tensor(np.array(value, np.float32), requires_grad=trainable)
        self.mask, self.allowed = np.array(mask, bool), allowed
        self.moves = np.zeros(2, np.int64)
        self.shape, self.trainable = self.value.shape, trainable

    def dense(self, *, training=False, rng=None) -> Tensor:
        return cut(self.value, self.mask.astype(np.float32))

    def parts(self) -> dict[str, Tensor]:
        return {"": self.value}

    def copy(self, trainable=None) -> Latent:
        trainable = self.trainable if trainable is None else trainable
        copy = Latent(self.value.data, self.mask, trainable, self.allowed)
        copy.moves[...] = self.moves
        return copy

    def state(self) -> dict[str, Array]:
        return {"value": self.value.data, "mask": self.mask, "moves": self.moves}

    def finish(self) -> Dense:
        """Returns the kept entries as a masked Dense; what was cut is gone."""
        return Dense(self.value.data, self.mask)


def latent(form: Form) -> Latent:
    """Returns the Latent that begins with a form's values and mask."""
    mask = np.ones(form.shape, bool) if form.mask is None else form.mask
    return Latent(form.dense().data, mask, allowed=form.mask)


def finished(model):
    """Returns the model with every Latent form replaced by the Dense that remains."""
    for name, form in model.forms().items():
        if isinstance(form, Latent):
            model.set_form(name, form.finish())
    return model
