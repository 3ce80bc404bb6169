"""Bias correction (Nagel, van Baalen, Blankevoort, Welling 2019, "Data-free quantization through
weight equalization and bias correction", arXiv 1906.04721, section 4.2).

Rounding moves weights by eps = w^ - w, and as activations are not centred the mean of each output
channel moves with it, for all examples in one direction: E[y^] = E[y] + eps E[x]. That much is
taken back,

    b <- b - E[y^ - y],     per channel, in front of the activation

empirical: E over examples, from the first layer to the last, each seeing the net corrected so far
(the paper's appendix D); it takes back what activations on grids and earlier layers moved as well.
analytic: eps E[x], E[x] from the batch norm in front, whose outputs are taken for Gaussian
(`shifts`); without data. Layers whose inputs no batch norm tells stay.

Where we leave the paper: a layer without a bias gets the correction in the running mean of the
batch norm that reads it, which is the same; the analytic form goes through averages, additions and
flattening as well.

A quantized net has no float weights inside: `against` names the net it came from. `ptq` has both
at hand, and corrects where its knob `correct` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...codec import load
from ...errors import UserError
from ...nn.graph import Model
from ..examples import calibration
from ..technique import Technique, knob, weights
from .shifts import corrected, pairs


@dataclass(frozen=True)
class BiasCorrection(Technique):
    """Takes back what quantization did to the mean of each output channel."""

    word: ClassVar[str] = "bias-correction"
    title: ClassVar[str] = "Bias correction"
    source: ClassVar[str] = ("Nagel, van Baalen, Blankevoort & Welling 2019, Data-Free "
                             "Quantization Through Weight Equalization and Bias Correction, "
                             "arXiv:1906.04721")

    how: str = knob("empirical", "empirical, on training examples, or analytic, from batch norm",
                    choices=("empirical", "analytic"))
    against: str | None = knob(None, "the .mcz file of the float net that was quantized", type=str,
                               optional=True, file=True)
    samples: int = knob(500, "training examples drawn; all where there are fewer", lo=1)

    def targets(self, model):
        return list(weights(model))

    def reads(self):
        return ("train",) if self.how == "empirical" else ()

    def check(self, model):
        super().check(model)
        pairs(self.word, model, self.reference())

    def reference(self) -> Model:
        """Returns the float net; UserError where none is named."""
        if self.against is None:
            raise UserError(f"{self.word}: against must name the .mcz file of the float net, got "
                            "none")
        return load(self.against, kind="model")

    def change(self, model, data, run):
        x = calibration(self, data, run).x if self.how == "empirical" else None
        return corrected(self.word, model, self.reference(), x, run)

    def sketch(self, model, *, rng):
        self.check(model)
        return model.copy()
