"""What trainings on grids share: where grids stand, how wide they are, when they are in.

A training of this kind sees weights and activations as they will be stored. Weights are forms with
a float latent behind their codes; what has a codebook keeps it. Activations get nodes `ActQuant`
(nodes.py), which calibration sets before the first step.

`act_bits` at a layer is the width of what the layer reads; a value that several read, also through
an addition or a pooling, has the largest of theirs. A value that is never below 0, as behind ReLU,
has codes from 0 on; any other has the grid of `signed`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ...errors import UserError
from ...nn.forms import Affine, Form
from ...nn.graph import Model
from ...nn.layers import ActQuant
from ...tensor import Array
from ...train import Hook
from ..examples import calibration
from ..finetune import Trained
from ..technique import knob, weights
from .nodes import nonnegative, places, readers, with_grids, without_grids
from .ranges import METHODS, observed
from .schemes import Scheme

BATCH = 64  # examples of a calibration's batch, for methods that go by batches


@dataclass(frozen=True)
class OnGrid(Trained):
    """A training whose weights and activations lie on grids."""

    quantizes: ClassVar[bool] = True
    signed: ClassVar[dict] = {"grid": "unsigned", "zero_point": True}  # of what may be below 0

    bits: int = knob(8, "bits of a weight", lo=2, hi=16, per_layer=True)
    act_bits: int = knob(8, "bits of what a layer reads, 0: floats", lo=0, hi=16, per_layer=True)
    bias_bits: int = knob(0, "bits of a bias, one scale a layer, 0: floats", lo=0, hi=16)
    freeze: float = knob(1.0, "part of the training after which ranges and batch norm's statistics "
                              "stay, 0..1", lo=0.0, hi=1.0)
    samples: int = knob(512, "training examples of the calibration", lo=1)

    def __post_init__(self):
        super().__post_init__()
        of_grids = {"samples", "method", "decay", "delay", "alpha", "lam"} & set(self.knobs())
        for name in sorted(of_grids) if self.act_bits == 0 else ():
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise UserError(f"{self.word}: {name} does not go with act_bits 0, which leaves "
                                "activations floats")

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        for node in self.targets(model):
            if self.at("act_bits", node) == 1 and self.signed["grid"] != "unsigned":
                raise UserError(f"{self.word}: act_bits@{node} must be 0 or in [2, 16], got 1")
        if self.bias_bits == 1:
            raise UserError(f"{self.word}: bias_bits must be 0 or in [2, 16], got 1")

    def prepared(self, model, data, run):
        model = without_grids(model)  # those of an earlier technique
        layers = self.layers(model)
        if data is not None and layers:
            self.start(layers, model, calibration(self, data, run).x)
        return with_grids(model, layers)

    def layers(self, model: Model) -> dict[str, ActQuant]:
        """Returns the layers to put behind values, by the values' names."""
        above, reading, made = nonnegative(model), readers(model), {}
        for name in places(model):
            bits = max(self.at("act_bits", node) for node in reading[name] or [""])
            if bits:
                made[name] = ActQuant(bits, **({} if above[name] else self.signed))
        return made

    def start(self, layers: dict[str, ActQuant], model: Model, x: Array) -> None:
        """Sets the grids of values, by their names, in place; x : examples (N, ...)."""
        raise NotImplementedError

    def scheme(self, node: str) -> Scheme:
        """Returns how the weight of a layer lies on its grid at the start."""
        raise NotImplementedError

    def placed(self, form: Form, scheme: Scheme) -> Form:
        """Returns the trainable form of a form whose codes are those of the scheme."""
        return on_grid(form, scheme)

    def schemes(self, model: Model) -> dict[str, Scheme]:
        """Returns the schemes of the forms to put on grids, by name: those that are no codebooks.
        """
        found = {name: self.scheme(node) for node, name in weights(model).items()}
        return {name: s for name, s in (found | self.of_biases(model)).items()
                if model.forms()[name].kind != "codebook"}

    def of_biases(self, model: Model) -> dict[str, Scheme]:
        """Returns the schemes of biases beside weights, by name."""
        held = [f"{node}.bias" for node in weights(model)] if self.bias_bits else []
        bias = Scheme(self.bias_bits, per="tensor")
        return {name: bias for name, form in model.forms().items()
                if name in held and form.kind != "codebook"}

    def hooks(self, model, data, run):
        return [Ranges(self, model)]

    def finish(self, model, run):
        for node in model.nodes:
            layer = node.layer
            if isinstance(layer, ActQuant):
                layer.on, layer.observing, layer.learns = True, None, None
            elif layer.tracks:
                layer.still = False
        return model


@dataclass(frozen=True)
class Calibrated(OnGrid):
    """One whose activations begin with the ranges that an observer finds."""

    method: str = knob("min-max", "of the first ranges of activations", choices=tuple(METHODS))

    def start(self, layers, model, x):
        seen = observed(model, x, layers, method=self.method, batch_size=BATCH)
        for name, layer in layers.items():
            try:
                layer.set_range(*seen[name].range(layer.bits, layer.grid))
            except ValueError as e:
                raise UserError(f"{self.word}: method {self.method} behind {name}: {e}") from None


@dataclass(frozen=True)
class OnRanges(Calibrated):
    """A training whose weights lie on grids over their own ranges."""

    grid: str = knob("narrow", "codes of weights: narrow -(2^(b-1)-1)..2^(b-1)-1, full from "
                               "-2^(b-1), unsigned 0..2^b-1 with a zero point",
                     choices=("narrow", "full", "unsigned"), per_layer=True)
    per: str = knob("channel", "what shares a scale: the tensor, or an output channel",
                    choices=("tensor", "channel"), per_layer=True)

    def scheme(self, node):
        grid = self.at("grid", node)
        return Scheme(self.at("bits", node), grid, self.at("per", node),
                      zero_point=grid == "unsigned")


class Ranges(Hook):
    """Puts weights on grids and takes their ranges anew after each step, where nothing else moves
    them, until they are frozen; then batch norms keep their statistics too."""

    def __init__(self, technique: OnGrid, model: Model):
        super().__init__()
        self.name, self.technique = technique.word, technique
        forms, schemes = model.forms(), technique.schemes(model)
        made = {name: technique.placed(forms[name], s) for name, s in schemes.items()}
        model.set_forms(made)
        self.ranged = {name: schemes[name] for name, form in made.items() if form.ranged}

    def begun(self, state, part: float) -> bool:
        """Returns whether this part of the training is behind a step."""
        return state.step >= math.ceil(part * state.steps)

    def settled(self, steps):
        freeze = self.technique.freeze
        return math.ceil(freeze * steps) if freeze < 1 else 0

    def before_batch(self, state):
        still = self.begun(state, self.technique.freeze)
        for node in state.model.nodes:
            if node.layer.tracks:
                node.layer.still = still

    def after_step(self, state):
        if not self.begun(state, self.technique.freeze):
            forms = state.model.forms()
            for name, scheme in self.ranged.items():
                forms[name].rescale(*scheme.params(forms[name].visible()))


def on_grid(form: Form, scheme: Scheme) -> Affine:
    """Returns the trainable Affine of a form, with its values as the latent, and its mask: behind
    it where it was behind."""
    w = form.values() if form.behind else form.dense().data
    scale, zero_point = scheme.params(form.dense().data)
    made = Affine.of(w, scale, zero_point, bits=scheme.bits, grid=scheme.grid, group=scheme.group,
                     trainable=True)
    return made if form.mask is None else made.masked(form.mask, behind=form.behind)
