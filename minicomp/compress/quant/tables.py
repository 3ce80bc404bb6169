"""What techniques share that put each weight of a layer into a form of its own kind."""

from __future__ import annotations

import numpy as np

from ...nn.forms import Codebook, Form
from ...tensor import Array, no_grad
from ..technique import Run, Technique, unmasked, weights


class FormQuantizer(Technique):
    """A technique that replaces the form of each layer's weight; biases stay."""

    def targets(self, model):
        return list(weights(model))

    def change(self, model, data, run):
        forms, made, names = model.forms(), {}, weights(model)
        with no_grad():
            for node, name in names.items():
                made[name] = self.form(node, forms[name], run)
                run.log({"event": "progress", "name": self.word, "done": len(made),
                         "total": len(names)})
        model.set_forms(made)
        return model

    def form(self, node: str, form: Form, run: Run) -> Form:
        """Returns what becomes of a layer's weight; what its mask dropped decodes to 0."""
        raise NotImplementedError


class WholeQuantizer(FormQuantizer):
    """One whose forms store nothing by place: they cannot carry a mask."""

    def check(self, model):
        super().check(model)
        unmasked(self.word, model, weights(model).values())


def kept_values(form: Form) -> Array:
    """Returns the weights that a mask keeps, or all, (n,) float32 in C order."""
    w = form.dense().data
    return w.reshape(-1) if form.mask is None else w[form.mask]


def coded(form: Form, levels: Array, codes: Array) -> Codebook:
    """Returns the codebook of a form's weights; of a masked one code 0 is a pinned 0.

    levels : (k,) float32        codes : (n,) integers below k, of `kept_values(form)`
    """
    if form.mask is None:
        return Codebook(codes.reshape(form.shape), levels)
    index = np.zeros(form.shape, np.int64)
    index[form.mask] = codes.astype(np.int64) + 1
    return Codebook(index, np.concatenate([np.zeros(1, np.float32), levels]), pinned_zero=True)
