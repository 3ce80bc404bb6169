"""The over-quantization guard: a layer is quantized, the drop is measured, what was too much is
taken back.

Known as over-quantization suppression and as accuracy-aware tuning. Layers are quantized one after
the other, from the input to the output. After each step the rise of the error on validation data is
measured; it may not be above

    theta_k = theta k / L        after k of L layers, so that late layers get a share as well

While it is, the worst layer is restored by a step: of the layers quantized so far the one whose
restoring lowers the loss most gets `raise_by` bits more, and beyond `most` bits goes back to
floats. What earlier steps have not used is there for later ones. The net of floats has no drop, so
the end is always within theta; bits of a layer never fall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from ...errors import UserError
from ...nn.forms import Form
from ...nn.graph import Model
from ...train import evaluate
from ..technique import knob, weights
from .schemes import WeightQuantizer

Measure = Callable[[dict[str, int | None]], tuple[float, float]]


def guarded(layers: list[str], start: dict[str, int], measure: Measure, theta: float, *,
            most: int, raise_by: int = 1,
            log: Callable[[dict], None] = lambda row: None) -> dict[str, int | None]:
    """Returns the bits of each layer, None for floats, at which the drop is at most theta.

    layers : in the order in which they are quantized        start : bits of each at first
    measure : of bits by layer, (drop, loss); a layer that is absent is float
    most : bits beyond which a layer goes back to floats
    log : called after each measurement of a step, with its bits, drop and threshold
    """
    bits: dict[str, int | None] = {}
    for k, layer in enumerate(layers, start=1):
        bits[layer] = start[layer]
        allowed = theta * k / len(layers)
        while True:
            drop, _ = measure(bits)
            log({"layer": layer, "bits": dict(bits), "drop": drop, "theta": allowed})
            lower = [name for name, b in bits.items() if b is not None]
            if drop <= allowed or not lower:
                break
            more = {name: restored(bits[name], most, raise_by) for name in lower}
            worst = min(lower, key=lambda name: measure(bits | {name: more[name]})[1])
            bits[worst] = more[worst]
    return bits


def restored(bits: int | None, most: int, raise_by: int) -> int | None:
    """Returns the bits of a layer that is restored by a step; None for floats."""
    return None if bits is None or bits + raise_by > most else bits + raise_by


@dataclass(frozen=True)
class Guard(WeightQuantizer):
    """Quantizes layer by layer and takes back what costs more than is allowed."""

    word: ClassVar[str] = "guard"
    title: ClassVar[str] = "Over-quantization guard"

    bits: int = knob(4, "bits of a weight at first", lo=1, hi=16, per_layer=True)
    theta: float = knob(0.002, "most that the validation error may rise, a fraction", lo=0, hi=1)
    most: int = knob(8, "bits beyond which a layer goes back to floats", lo=1, hi=16)
    raise_by: int = knob(1, "bits that restoring adds", lo=1, hi=16)

    def reads(self):
        return ("val",)

    def check(self, model):
        super().check(model)
        for node in self.targets(model):
            if self.at("bits", node) > self.most:
                raise UserError(f"{self.word}: bits must be at most most, {self.most}, got "
                                f"{self.at('bits', node)} for {node}")

    def sketch(self, model, *, rng):
        self.check(model)
        model = model.copy()
        self.quantize_weights(model)
        return model

    def change(self, model, data, run):
        names = weights(model)
        base = evaluate(model, data.val, n_threads=run.n_threads)
        made: dict[tuple[str, int], Form] = {}

        def with_bits(bits: dict[str, int | None]) -> Model:
            found, forms = model.copy(), model.forms()
            for node, b in bits.items():
                if b is not None:
                    if (node, b) not in made:
                        scheme = replace(self.scheme(node), bits=b)
                        made[node, b] = scheme.form(forms[names[node]])
                    found.set_form(names[node], made[node, b].copy())
            return found

        def measure(bits):
            val = evaluate(with_bits(bits), data.val, n_threads=run.n_threads)
            return (val.errors - base.errors) / val.size, val.loss

        start = {node: self.at("bits", node) for node in names}
        bits = guarded(list(names), start, measure, self.theta, most=self.most,
                       raise_by=self.raise_by, log=lambda row: run.log(
                           {"event": "guard", "name": self.word, **row}))
        said = ", ".join(f"{node} {b or 'float'}" for node, b in bits.items())
        run.log({"event": "say", "text": f"{self.word}: bits {said}"})
        return with_bits(bits)
