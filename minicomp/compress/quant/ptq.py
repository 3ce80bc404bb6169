"""Post-training quantization: a trained net onto integers, without training it on.

Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference: a whitepaper",
arXiv 1806.08342, section 3. Weights go onto grids of their own; what is left open is the range of
the activations, and whether there are grids for them at all:

| mode        | weights   | activations                                                          |
|-------------|-----------|----------------------------------------------------------------------|
| full        | integers  | grids that a pass over calibration examples has set, for good        |
| dynamic     | integers  | grids of the batch at hand: no calibration, a search at every call   |
| weight-only | integers  | floats: smaller, not faster                                          |
| float16     | IEEE half | floats; what is beyond 65,504 saturates                              |
| bfloat16    | bfloat16  | floats: the range of float32, 3 bits of precision fewer than float16 |
| activations | as before | grids that calibration has set: weights are left to another step     |

Everything is exact in simulation: layer ActQuant stands behind each value that an integer program
would keep (`nodes`), a weight is stored at its width (`schemes`), biases stay float32. Per channel
is the whitepaper's recommendation for weights, one grid a tensor for activations.

`bits@conv1=8` is of that layer's weights, `act_bits@conv1=8` of the values that it reads; of what
several layers read the largest counts. Ranges are those of the float net. The input's is all that
was seen, whatever the method of the others (`input_method`): pixels have a range, and the spike of
a background that is not 0 leads a divergence to cut off everything brighter.

Two corrections, done here since both nets are at hand: `moments` of the mean and variance of each
channel's weights (`weight_correction`), then `correct` of the mean of each channel's output
(`bias_correction`, `shifts`).

A net with batch norm is quantized as it is, the grid behind convolution, norm and activation; in an
integer program a norm becomes a gain of each channel. Masks stay, and so do grids of weights that
were quantized before: they are decoded and quantized again. Shared weights are refused: their
indices are their codes already; mode activations leaves them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.forms import BFloat16, Half
from ...nn.graph import INPUT, Model
from ...nn.layers import ActQuant
from ...tensor import Array, no_grad
from ..examples import calibration
from ..technique import knob, weights
from .nodes import nonnegative, places, readers, with_grids, without_grids
from .ranges import METHODS, observed
from .ranges.observers import MOST_KL_BITS
from .schemes import WeightQuantizer
from .shifts import corrected, input_sums, take_back
from .weight_correction import FORMS, moments

SHORT = {"float16": Half, "bfloat16": BFloat16}
MODES = ("full", "dynamic", "weight-only", *SHORT, "activations")
CALIBRATED = ("full", "activations")
BY_DIVERGENCE = ("kl", "symmetric-kl", "js")


@dataclass(frozen=True)
class PTQ(WeightQuantizer):
    """Weights, and activations where the mode says so, on grids of few bits."""

    word: ClassVar[str] = "ptq"
    title: ClassVar[str] = "Post-training quantization"
    source: ClassVar[str] = ("Krishnamoorthi 2018, Quantizing deep convolutional networks for "
                             "efficient inference: A whitepaper, arXiv:1806.08342")

    mode: str = knob("full", "activations on grids set by calibration (full), on those of each "
                             "batch (dynamic), or floats (weight-only); float16, bfloat16: "
                             "weights of 16 bits, no grids; activations: those alone",
                     choices=MODES)
    act_bits: int = knob(8, "bits of the values that a layer reads", lo=1, hi=16, per_layer=True)
    method: str = knob("min-max", "modes full and activations: how the range of an activation "
                                  "is chosen", choices=METHODS)
    input_method: str = knob("min-max", "how that of the net's input is chosen", choices=METHODS)
    symmetric: bool = knob(False, "activations without zero points: unsigned where the net makes "
                                  "sure that none is below 0, else narrow")
    divisor: str = knob("last-code", "of a symmetric scale: the last code, 127 of 8 bits, as "
                                     "onnxruntime; half-range, 127.5, as torch",
                        choices=("last-code", "half-range"))
    rounding: str = knob("divide", "codes by w / scale, as onnxruntime, or by w (1 / scale), as "
                                   "torch: they differ at ties", choices=("divide", "reciprocal"))
    samples: int = knob(500, "training examples drawn for calibration; all where there are fewer",
                        lo=1)
    moments: str = knob("none", "keep mean and variance of each channel's weights, as printed by "
                                "Banner et al. 2019 or exactly", choices=("none", *FORMS))
    correct: str = knob("none", "bias correction: empirical, on the calibration examples, or "
                                "analytic, from batch norm",
                        choices=("none", "empirical", "analytic"))

    def __post_init__(self):
        super().__post_init__()
        of_weights = ("bits", "grid", "per", "group", "clip", "divisor", "rounding", "moments",
                      "correct")
        of_ranges = ("method", "input_method")
        idle = {**dict.fromkeys(SHORT, (*of_weights, "act_bits", "symmetric", *of_ranges)),
                "activations": of_weights,
                "weight-only": ("act_bits", "symmetric", *of_ranges),
                "dynamic": of_ranges}.get(self.mode, ())
        if not self.reads():
            idle = (*idle, "samples")
        for name in idle:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise UserError(f"{self.word}: {name} does not go with mode {self.mode}, which "
                                "has no use for it")

    def scheme(self, node):
        found = super().scheme(node)
        half = (2**found.bits - 1) / 2 if self.divisor == "half-range" else None
        return replace(found, divisor=half, rounding=self.rounding)

    def reads(self):
        read = self.mode in CALIBRATED or self.correct == "empirical" or self.moments != "none"
        return ("train",) if read else ()

    def check(self, model):
        super().check(model)
        if not weights(model):
            raise UserError(f"{self.word}: the model has no Linear or Conv2d layer")
        for name in weights(model).values():
            if self.mode != "activations" and model.forms()[name].kind == "codebook":
                raise UserError(f"{self.word}: {name} must hold numbers of its own, got a "
                                "codebook, whose indices are its codes already; quantize a net "
                                "or share its weights")
        self.layers(model)

    def layers(self, model: Model) -> dict[str, ActQuant]:
        """Returns the grids of activations by what they stand behind, not set yet; UserError where
        bits and grid do not go together."""
        if self.mode not in (*CALIBRATED, "dynamic"):
            return {}
        model, found = without_grids(model), {}
        read, above = readers(model), nonnegative(model)
        for name in places(model):
            bits = max((self.at("act_bits", node) for node in sorted(read[name]) or [""]))
            grid = "unsigned" if above[name] or not self.symmetric else "narrow"
            method = self.method_of(model, name)
            if self.mode in CALIBRATED and method in BY_DIVERGENCE and bits > MOST_KL_BITS:
                raise UserError(f"{self.word}: act_bits must be at most {MOST_KL_BITS} for method "
                                f"{method}, got {bits} behind {name}")
            try:
                found[name] = ActQuant(bits, grid, zero_point=not self.symmetric,
                                       dynamic=self.mode == "dynamic")
            except ValueError as e:
                raise UserError(f"{self.word}: act_bits: {e}") from None
        return found

    def change(self, model, data, run):
        x = calibration(self, data, run).x if self.reads() else None
        return self.quantized(model, x, run)

    def sketch(self, model, *, rng):
        self.check(model)
        return replace(self, moments="none", correct="none").quantized(model.copy(), None, None)

    def quantized(self, model: Model, x: Array | None, run) -> Model:
        """Returns the model, a copy, quantized; x : examples, None: grids are not set."""
        if self.mode in SHORT:
            return shortened(model, SHORT[self.mode])
        layers = self.layers(model)
        model = without_grids(model)
        reference = model.copy()
        if x is not None and self.mode in CALIBRATED:
            self.calibrate(reference, layers, x)
        if self.mode != "activations":
            self.quantize_weights(model)
        model = with_grids(model, layers)
        if self.moments != "none":
            self.keep_moments(model, reference, x, run)
        if self.correct != "none":
            model = corrected(self.word, model, reference, x if self.correct == "empirical"
                              else None, run)
        return model

    def calibrate(self, model: Model, layers: dict[str, ActQuant], x: Array) -> None:
        """Sets the grids of activations, in place, to ranges of the float net on examples x."""
        by_method: dict[str, list[str]] = {}
        for name in layers:
            by_method.setdefault(self.method_of(model, name), []).append(name)
        for method, names in by_method.items():
            try:
                seen = observed(model, x, names, method=method)
            except UserError as e:
                raise UserError(f"{self.word}: {e}") from None
            for name in names:
                layers[name].set_range(*seen[name].range(layers[name].bits, layers[name].grid))

    def method_of(self, model: Model, name: str) -> str:
        """Returns how the range of a value is chosen: the input's, normalised or not, by a method
        of its own."""
        given = name == INPUT or model.node(name).layer.step == "scale" and (
            model.node(name).inputs == (INPUT,))
        return self.input_method if given else self.method

    def keep_moments(self, model: Model, reference: Model, x: Array, run) -> None:
        """Multiplies the scales of each weight by xi, in place, and takes the mean of the rest
        into the bias; see `weight_correction`."""
        sums, left = input_sums(reference, [model.node(node) for node in weights(model)], x), []
        for node, total in sums:
            form, was = node.layer.forms["weight"], reference.node(node.name).layer.forms["weight"]
            xi, d = self.of_rows(form, was)
            form.rescale(form.scale.data * xi.reshape(-1, *[1] * (form.scale.data.ndim - 1)),
                         form.zero_point)
            if not take_back(model, node.name, -d * total):
                left.append(node.name)
        if left:
            run.log({"event": "say", "text": f"{self.word}: no bias for the mean of the weights "
                                             f"of {', '.join(left)}: their variance is kept alone"})

    def of_rows(self, form, was) -> tuple[Array, Array]:
        """Returns xi and d of a weight's channels, or of all as one row where they share a scale.

        form : the Affine        was : what it was
        """
        with no_grad():
            rows = [f.dense().data.astype(np.float64) for f in (was, form)]
        if was.mask is not None:  # the form's own has lost what rounds to 0, which counts
            rows = [np.where(was.mask, a, np.nan) for a in rows]
        one = not form.by_row
        return moments(*(a.reshape(1 if one else len(a), -1) for a in rows), form=self.moments)


def shortened(model: Model, form: type[Half | BFloat16]) -> Model:
    """Returns the model, changed in place, whose weights are stored as such a form; masks stay."""
    forms = model.forms()
    with no_grad():
        model.set_forms({name: form(forms[name].dense().data, forms[name].mask, trainable=False)
                         for name in weights(model).values()})
    return model
