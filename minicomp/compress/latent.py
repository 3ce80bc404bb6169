"""A weight that is cut and goes on learning: what techniques share whose masks can be taken back."""

from __future__ import annotations

import numpy as np

from ..nn.forms import Dense, Form, Part
from ..tensor import Tensor, primitive, rules


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
    parts = {"value": Part("value", moves=True), "mask": Part("mask"), "moves": Part("table", axes=())}

    def __init__(self, value, mask, trainable: bool = True, allowed=None):
        self.shape, self.behind, self.allowed = np.shape(value), True, allowed
        self._hold({"value": np.array(value, np.float32), "mask": mask, "moves": np.zeros(2, np.int64)}, trainable)

    def decode(self, *, training=False, rng=None) -> Tensor:
        return self.value

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
