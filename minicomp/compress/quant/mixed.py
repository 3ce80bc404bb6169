"""Mixed precision (HAWQ-V2: Dong, Yao, Cai, Arfeen, Gholami, Mahoney, Keutzer 2020, arXiv
1911.03852): bits for each layer under a budget of bytes.

Layers differ in what few bits cost them. With a cost of each layer at each number of bits, and
costs that add up, the best choice is an integer programme,

    min sum_l cost_l(b_l)     under     sum_l bytes_l(b_l) <= budget

small enough to be solved exactly, layer by layer: of all choices so far only those are kept which
no other one beats in bytes and in cost. The cost is one of

    hessian   Omega_l = tr(H_l) / n_l  |Q(w_l) - w_l|^2,  H_l the layer's block of the Hessian of
              the loss, its trace by Hutchinson's draws (section 3.1, 3.2)
    sqnr      measured: noise over signal of the logits when this layer alone is quantized

Where we leave the paper: the trace is clipped at 0, below which only a net that is not trained to
the end has it. Bytes are those of codes, scales and zero points, without entropy coding. Weights go
to the nearest code; to round them otherwise take the bits that are told for `gptq:bits@...`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...grid import code_range
from ...nn.graph import Model
from ...nn.taps import fitting
from ...tensor import Array, no_grad
from ..allocation import allocate
from ..curvature.hessian import check_loss, float64, hutchinson_trace
from ..examples import calibration
from ..technique import Run, knob, weights
from .schemes import Scheme, WeightQuantizer

LOSS = "cross-entropy"


def code_bytes(shape: tuple[int, ...], scheme: Scheme) -> int:
    """Returns the bytes of a weight's codes, its scales (4 each) and zero points, not coded."""
    scales = scheme.blocks(np.zeros(shape, np.int8)).shape[0]
    bits = math.prod(shape) * scheme.bits + scales * scheme.bits * scheme.zero_point
    return math.ceil(bits / 8) + 4 * scales


@dataclass(frozen=True)
class MixedBits(WeightQuantizer):
    """Chooses the bits of each layer's weights, and puts the weights on their grids."""

    word: ClassVar[str] = "mixed-bits"
    title: ClassVar[str] = "Mixed precision"
    source: ClassVar[str] = ("Dong, Yao, Cai, Arfeen, Gholami, Mahoney & Keutzer 2020, HAWQ-V2: "
                             "Hessian Aware trace-Weighted Quantization of Neural Networks, "
                             "arXiv:1911.03852")

    bits: int = knob(8, "most bits of a weight", lo=1, hi=16, per_layer=True)
    least: int = knob(2, "fewest bits of a weight", lo=1, hi=16, per_layer=True)
    mean_bits: float | None = knob(None, "budget as bits of a weight on average, scales included",
                                   type=float, lo=1, hi=32, optional=True)
    bytes: int | None = knob(None, "budget as bytes of all codes and scales", type=int, lo=1,
                             optional=True)
    cost: str = knob("sqnr", "what a layer costs: measured at the logits, or by the trace of the "
                             "Hessian",
                     choices=("sqnr", "hessian"))
    draws: int = knob(20, "cost hessian: draws of the trace", lo=1)
    samples: int = knob(500, "training examples drawn; all where there are fewer", lo=1)

    def __post_init__(self):
        super().__post_init__()
        if (self.mean_bits is None) == (self.bytes is None):
            raise UserError(f"{self.word}: mean_bits or bytes must be given, and not both")

    def reads(self):
        return ("train",)

    def check(self, model):
        super().check(model)
        for node in self.targets(model):
            least, most = self.at("least", node), self.at("bits", node)
            try:
                code_range(least, self.at("grid", node))
            except ValueError as e:
                raise UserError(f"{self.word}: least: {node}: {e}") from None
            if least > most:
                raise UserError(f"{self.word}: {node} must have least at most bits, got {least} "
                                f"and {most}")
        if self.cost == "hessian":
            check_loss(self.word, model, LOSS)

    def check_shapes(self, model):
        self.allocated(model, None)

    def tried(self, node: str) -> list[Scheme]:
        """Returns the schemes that a layer may have, fewest bits first."""
        return [replace(self.scheme(node), bits=b)
                for b in range(self.at("least", node), self.at("bits", node) + 1)]

    def budget(self, model: Model) -> int:
        """Returns the bytes allowed."""
        if self.bytes is not None:
            return self.bytes
        return int(sum(math.prod(model.forms()[name].shape) for name in weights(model).values())
                   * self.mean_bits / 8)

    def allocated(self, model: Model, costs: dict[str, list[float]] | None) -> dict[str, Scheme]:
        """Returns the scheme of each layer; UserError where none are within the budget.

        costs : of each layer at each of `tried`; None: a quarter for each bit more
        """
        forms, names = model.forms(), weights(model)
        tried = {node: self.tried(node) for node in names}
        if costs is None:
            costs = {node: [math.prod(forms[names[node]].shape) * 4.0**-s.bits for s in schemes]
                     for node, schemes in tried.items()}
        sizes = [[code_bytes(forms[names[node]].shape, s) for s in schemes]
                 for node, schemes in tried.items()]
        try:
            chosen = allocate([costs[node] for node in tried], sizes, self.budget(model))
        except ValueError as e:
            numbers = sum(math.prod(forms[name].shape) for name in names.values())
            least = sum(min(size) for size in sizes)
            said = f"the {e} bytes" if self.mean_bits is None else (
                f"mean_bits must be at least {8 * least / max(numbers, 1):.4g}, got "
                f"{self.mean_bits:g}: {e} bytes")
            raise UserError(f"{self.word}: {said}") from None
        return {node: schemes[i] for (node, schemes), i in zip(tried.items(), chosen)}

    def change(self, model, data, run):
        split = calibration(self, data, run)
        found = self.costs(model, split, run) if self.cost == "sqnr" else self.omegas(
            model, split, run)
        if not np.isfinite([cost for costs in found.values() for cost in costs]).all():
            raise UserError(f"{self.word}: costs must be finite, got NaN or infinity: the logits "
                            "overflow")
        chosen = self.allocated(model, found)
        said = ", ".join(f"{node} {s.bits}" for node, s in chosen.items())
        run.log({"event": "say", "text": f"{self.word}: bits {said}"})
        return quantized(model, chosen)

    def sketch(self, model, *, rng):
        self.check(model)
        return quantized(model.copy(), self.allocated(model, None))

    def costs(self, model: Model, split, run: Run) -> dict[str, list[float]]:
        """Returns noise over signal of the logits with one layer at each of `tried`, by node."""
        reference, found = logits(model, split.x), {}
        signal = float(np.square(reference).sum()) or 1.0
        for node in weights(model):
            found[node] = []
            for scheme in self.tried(node):
                z = logits(quantized(model.copy(), {node: scheme}), split.x)
                found[node].append(float(np.square(z - reference).sum()) / signal)
            run.log({"event": "progress", "name": self.word, "done": len(found),
                     "total": len(weights(model))})
        return found

    def omegas(self, model: Model, split, run: Run) -> dict[str, list[float]]:
        """Returns tr(H) / n |Q(w) - w|^2 of each layer at each of `tried`, by node."""
        names, forms = weights(model), model.forms()
        traces = hutchinson_trace(float64(model), split.x, split.y, list(names.values()), LOSS,
                                  draws=self.draws, rng=run.rng)
        found = {}
        for node, name in names.items():
            with no_grad():
                w = forms[name].dense().data.astype(np.float64)
                noise = [float(np.square(s.form(forms[name]).dense().data - w).sum())
                         for s in self.tried(node)]
            found[node] = [max(traces[name], 0.0) / w.size * e for e in noise]
        return found


def logits(model: Model, x: Array) -> Array:
    """Returns what the model gives, float64."""
    batch = fitting(model, 500)
    with no_grad():
        return np.concatenate([model(x[i:i + batch]).data.astype(np.float64)
                               for i in range(0, len(x), batch)])


def quantized(model: Model, schemes: dict[str, Scheme]) -> Model:
    """Returns the model, changed in place, with the weights of the named nodes on their grids."""
    forms, names = model.forms(), weights(model)
    model.set_forms({names[node]: s.form(forms[names[node]]) for node, s in schemes.items()})
    return model
