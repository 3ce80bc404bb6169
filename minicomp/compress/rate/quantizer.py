"""What the techniques share that choose codes of a trained net by error and bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...nn.forms import Affine, Form
from ...tensor import Array
from ..examples import calibration
from ..quant.tables import FormQuantizer
from ..technique import Run, knob, weights
from .pricing import mean_squares
from .scalar import rd_quantize


@dataclass(frozen=True)
class RateQuantizer(FormQuantizer):
    """One that weighs what the code of a weight costs against the error it makes."""

    lam: float = knob(0.1, "lambda: squared steps of error that a bit is worth", lo=0.0,
                      per_layer=True)
    bits: int = knob(6, "bits of the grid, whose last code is the largest weight", lo=2, hi=8,
                     per_layer=True)
    weigh: str = knob("none", "errors: all alike, or by the mean square of the loss's gradient",
                      choices=("none", "fisher"))
    samples: int = knob(200, "weigh fisher: training examples that it is computed on", lo=1)
    iterations: int = knob(20, "at most so many times codes, prices and step are fitted in turn",
                           lo=1)

    def reads(self):
        return ("train",) if self.weigh == "fisher" else ()

    def change(self, model, data, run):
        held = {}
        if self.weigh == "fisher" and data is not None:
            held = mean_squares(model.thawed(), calibration(self, data, run))
        names = {name: node for node, name in weights(model).items()}
        made = {}
        for name, node in names.items():
            form = model.forms()[name]
            h = held.get(name)
            made[name] = self.coded(node, form, np.ones(form.shape) if h is None else h)
            run.log({"event": "progress", "name": self.word, "done": len(made),
                     "total": len(names)})
        model.set_forms(made)
        return model

    def coded(self, node: str, form: Form, h: Array) -> Form:
        """Returns the form that a layer's weight becomes.   h : of the weight's shape"""
        raise NotImplementedError

    def scalar(self, node: str, form: Form, h: Array) -> Affine:
        """Returns the form of scalar codes of least error and bits."""
        w = form.dense().data.astype(np.float64)
        mask = np.ones(w.shape, bool) if form.mask is None else form.mask
        most, step = self.grid(node, w)
        k = np.zeros(w.shape, np.int64)
        k[mask], scale = rd_quantize(
            w[mask], step, self.at("lam", node) * step * step, most=most, h=h[mask],
            zeros=int(w.size - mask.sum()), iterations=self.iterations)
        return Affine(k, scale, bits=self.at("bits", node), mask=form.mask)

    def grid(self, node: str, w: Array) -> tuple[int, float]:
        """Returns the last code of a layer and the step that brings it to the largest weight."""
        most = 2 ** (self.at("bits", node) - 1) - 1
        reach = float(np.abs(w).max(initial=0.0))
        return most, reach / most if reach else 1.0

    def sketch(self, model, *, rng):
        # Nothing but weigh fisher needs examples.
        return self.change(model.copy(), None, Run(rng))
