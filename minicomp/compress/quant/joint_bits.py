"""Bits of weights and of activations chosen together, layer by layer, under a budget of bits.

A layer multiplies b_w-bit weights with b_a-bit activations. What that costs goes with the product
(bit operations of a multiplier array) or with the sum (bits kept); which of the two is worth more
depends on the layer and on what all others have:

    min over (b_w, b_a) of E(b_w, b_a),    E = |y^ - y|^2 / |y|^2 of the net's outputs          (1)

    sum over layers  MACs b_w b_a   <=  budget sum MACs              cost "operations"          (2)
    sum n_w b_w + sum n_a b_a       <=  budget (sum n_w + sum n_a)   cost "storage"             (3)

n_w weights of a layer, n_a numbers of an activation of one example. E is measured, all layers
quantized at once: errors of layers neither add nor stay where they arise. There are (bits)^(layers)
points, so the search goes by coordinates, which has no paper of its own: from the most bits
everywhere the coordinate that costs least error for what it saves is lowered by one, until the
budget is met. Then, as long as it helps, one coordinate is changed by one and the others are made
to fit: lowered as before, raised where that lowers the error most. The same is done from equal bits
everywhere, and the better end counts: equal bits are never better.

Ranges of activations come from one pass over the calibration examples, for all widths at once.
Nahshan et al. 2019 (Loss Aware Post-training Quantization, arXiv:1911.07190) search step sizes
jointly in place of bits; that is not done here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...grid import code_range
from ...nn.forms import Form
from ...nn.graph import INPUT, Model
from ...nn.layers import ActQuant
from ...nn.taps import observe
from ...tensor import Array, Tensor, no_grad
from ..examples import calibration
from ..technique import knob, weights
from .nodes import places, with_grids, without_grids
from .ranges import METHODS, observed
from .ranges.observers import MOST_KL_BITS
from .schemes import WeightQuantizer

Bits = tuple[int, ...]


def choose_bits(error: Callable[[Bits], float], cost: Callable[[Bits], float], budget: float,
                least: Sequence[int], most: Sequence[int]) -> Bits:
    """Returns the bits, one for each coordinate, that the search ends with.

    error, cost : of a tuple of bits; cost never falls with one
    least, most : of each coordinate
    The result costs at most `budget`, and equal bits that do have no smaller error. Ties by lowest
    index. Raises ValueError where `least` costs more than the budget.
    """
    if cost(tuple(least)) > budget:
        raise ValueError(f"budget must be at least {cost(tuple(least)):g}, got {budget:g}")
    walk = _Walk(cache(error), cost, budget, tuple(least), tuple(most))
    equal = (tuple(int(b) for b in np.clip(n, least, most)) for n in range(max(most), -1, -1))
    starts = walk.into(walk.most), next(b for b in equal if cost(b) <= budget)
    return min((walk.descended(walk.filled(start)) for start in starts), key=walk.error)


@dataclass(frozen=True)
class _Walk:
    # The moves of the search; `fixed` is a coordinate that a move leaves alone.
    error: Callable[[Bits], float]
    cost: Callable[[Bits], float]
    budget: float
    least: Bits
    most: Bits

    def descended(self, bits: Bits) -> Bits:
        # One coordinate changed, the others made to fit, as long as that lowers the error.
        while True:
            near = (self.filled(self.into(b, at), at) for at in range(len(bits))
                    for b in self.moved(bits, at, -1) + self.moved(bits, at, 1))
            best = min(filter(self.fits, near), key=self.error, default=bits)
            if not self.error(best) < self.error(bits):
                return bits
            bits = best

    def into(self, bits: Bits, fixed: int = -1) -> Bits:
        # Lowers what costs least error for what it saves, until the budget is met, if it can be.
        while not self.fits(bits):
            lower = [b for b in self.steps(bits, -1, fixed) if self.cost(b) < self.cost(bits)]
            if not lower:
                break
            bits = min(lower, key=lambda b: (self.error(b) - self.error(bits)) / (
                self.cost(bits) - self.cost(b)))
        return bits

    def filled(self, bits: Bits, fixed: int = -1) -> Bits:
        # Raises what lowers the error most, while something within the budget does.
        while True:
            best = min(filter(self.fits, self.steps(bits, 1, fixed)), key=self.error, default=bits)
            if not self.error(best) < self.error(bits):
                return bits
            bits = best

    def fits(self, bits: Bits) -> bool:
        return self.cost(bits) <= self.budget

    def steps(self, bits: Bits, by: int, fixed: int) -> list[Bits]:
        return [b for at in range(len(bits)) if at != fixed for b in self.moved(bits, at, by)]

    def moved(self, bits: Bits, at: int, by: int) -> list[Bits]:
        # Of one entry, or none where it would leave its limits.
        here = bits[at] + by
        inside = self.least[at] <= here <= self.most[at]
        return [bits[:at] + (here,) + bits[at + 1:]] if inside else []


@dataclass(frozen=True)
class Widths:
    """What there is to choose in a net: layers with weights, and values that get a grid.

    layers : names        values : of the activations
    reads : (layer, value) as indices, for each value that a layer reads
    macs, numbers, activations : of the layers, their weights, and of the values; 1 example
    """

    layers: tuple[str, ...]
    values: tuple[str, ...]
    reads: tuple[tuple[int, int], ...]
    macs: Array
    numbers: Array
    activations: Array

    @classmethod
    def of(cls, model: Model) -> Widths:
        """Returns what there is to choose in a model without grids."""
        named, values, shapes = weights(model), places(model), model.shapes()
        layers, forms, macs = tuple(named), model.forms(), model.macs()
        sources = _sources(model, values)
        return cls(layers, tuple(values),
                   tuple((i, values.index(v)) for i, node in enumerate(layers)
                         for v in sorted(sources[node])),
                   np.array([macs[node] for node in layers], np.float64),
                   np.array([np.prod(forms[name].shape) for name in named.values()], np.float64),
                   np.array([np.prod(model.input_shape if v == INPUT else shapes[v])
                             for v in values], np.float64))

    def operations(self, bits: Bits) -> float:
        """Returns bit operations a MAC: eq. (2), both sides divided by sum MACs."""
        n, acts = len(self.layers), [[] for _ in self.layers]
        for i, j in self.reads:
            acts[i].append(bits[n + j])
        each = [b * sum(a) / len(a) for b, a in zip(bits, acts)]  # of several values their mean
        return float(self.macs @ each / self.macs.sum())

    def storage(self, bits: Bits) -> float:
        """Returns the mean bits of a number: eq. (3), both sides divided."""
        numbers = np.concatenate((self.numbers, self.activations))
        return float(numbers @ np.array(bits) / numbers.sum())


def _sources(model: Model, values: Sequence[str]) -> dict[str, set[str]]:
    # By node, the values with a grid that it reads, through whatever lies between.
    gives: dict[str, set[str]] = {INPUT: {INPUT} & set(values)}
    reads = {}
    for node in model.nodes:
        reads[node.name] = set().union(*(gives[name] for name in node.inputs))
        gives[node.name] = {node.name} if node.name in values else reads[node.name]
    return reads


@dataclass(frozen=True)
class JointBits(WeightQuantizer):
    """Chooses the bits of every layer's weights and inputs together, under a budget."""

    word: ClassVar[str] = "joint-bits"
    title: ClassVar[str] = "Joint choice of weight and activation bits"

    act_bits: int = knob(8, "most bits of an activation", lo=1, hi=16)
    least: int = knob(2, "least bits of weights and activations", lo=1, hi=16)
    budget: float = knob(16.0, "cost operations: mean of bits times act_bits over all MACs, 16 is "
                               "4 by 4; cost storage: mean bits of a weight or activation",
                         lo=1.0, hi=256.0)
    cost: str = knob("operations", "what the budget is of", choices=("operations", "storage"))
    method: str = knob("mse", "how ranges of activations are chosen", choices=METHODS)
    clip: str = knob("mse", "what decides a scale: the largest weight, or the least squared error",
                     choices=("max", "mse"), per_layer=True)
    samples: int = knob(200, "training examples for ranges and errors", lo=1)

    def reads(self):
        return ("train",)

    def resizes(self):
        return True

    def check(self, model):
        super().check(model)
        if not weights(model):
            raise UserError(f"{self.word}: the model has no Linear or Conv2d layer")
        if self.method in ("kl", "symmetric-kl", "js") and self.act_bits > MOST_KL_BITS:
            raise UserError(f"{self.word}: act_bits must be at most {MOST_KL_BITS} for method "
                            f"{self.method}, got {self.act_bits}")
        widths = Widths.of(without_grids(model))
        widths_of = [(f"bits@{node}", self.at("bits", node), self.at("grid", node))
                     for node in widths.layers] + [("act_bits", self.act_bits, "unsigned")]
        for name, most, grid in widths_of:
            if self.least > most:
                raise UserError(f"{self.word}: least must be at most {name}, {most}, "
                                f"got {self.least}")
            try:
                code_range(self.least, grid)
            except ValueError as e:
                raise UserError(f"{self.word}: least: {e}") from None
        least, _ = self.limits(widths)
        if self.price(widths)(least) > self.budget:
            raise UserError(f"{self.word}: budget must be at least {self.price(widths)(least):g}, "
                            f"that of {self.least} bits everywhere, got {self.budget:g}")

    def price(self, widths: Widths) -> Callable[[Bits], float]:
        """Returns the cost of bits, in the unit of the budget."""
        return widths.operations if self.cost == "operations" else widths.storage

    def limits(self, widths: Widths) -> tuple[Bits, Bits]:
        """Returns the least and the most bits of each layer, then of each value."""
        most = (*(self.at("bits", node) for node in widths.layers),
                *(self.act_bits for _ in widths.values))
        return (self.least,) * len(most), most

    def change(self, model, data, run):
        model, x = without_grids(model), calibration(self, data, run).x
        widths, named = Widths.of(model), weights(model)
        form, act = self.forms(model, widths), self.acts(model, widths, x)
        floats, decoded = model.decode(), cache(lambda i, b: form(i, b).dense())
        y = _outputs(model, x, floats)
        scale = max(float(np.square(y).sum()), 1e-300)

        def error(bits: Bits) -> float:  # eq. (1)
            w = {named[node]: decoded(i, bits[i]) for i, node in enumerate(widths.layers)}
            got = _outputs(_with_acts(model, widths, act, bits), x, floats | w)
            return float(np.square(got - y).sum()) / scale

        with no_grad():
            bits = choose_bits(error, self.price(widths), self.budget, *self.limits(widths))
        said = ", ".join(f"{name} {b}" for name, b in zip(widths.layers + widths.values, bits))
        run.log({"event": "say", "text": f"{self.word}: bits of weights, then of activations: "
                                         f"{said}; {self.price(widths)(bits):.4g} of "
                                         f"{self.budget:g}, error {error(bits):.3g}"})
        return _quantized(model, widths, form, act, bits)

    def forms(self, model: Model, widths: Widths) -> Callable[[int, int], Form]:
        """Returns the weight of a layer, by its index, on a grid of so many bits."""
        named, forms = weights(model), model.forms()

        @cache
        def form(i: int, bits: int) -> Form:
            node = widths.layers[i]
            return replace(self.scheme(node), bits=bits).form(forms[named[node]])

        return form

    def acts(self, model: Model, widths: Widths, x: Array) -> Callable[[int, int], ActQuant]:
        """Returns the grid of a value, by its index, of so many bits: from one pass over x."""
        seen = observed(model, x, widths.values, method=self.method)

        @cache
        def act(j: int, bits: int) -> ActQuant:
            layer = ActQuant(bits, "unsigned", zero_point=True)
            layer.set_range(*seen[widths.values[j]].range(bits, "unsigned"))
            return layer

        return act

    def sketch(self, model, *, rng):
        self.check(model)
        model = without_grids(model.copy())
        widths = Widths.of(model)
        least, most = self.limits(widths)
        bits = choose_bits(lambda b: -float(sum(b)), self.price(widths), self.budget, least, most)
        return _quantized(model, widths, self.forms(model, widths),
                          lambda j, b: ActQuant(b, "unsigned", zero_point=True), bits)


def _quantized(model: Model, widths: Widths, form, act, bits: Bits) -> Model:
    named, model = weights(model), model.copy()
    model.set_forms({named[node]: form(i, bits[i]) for i, node in enumerate(widths.layers)})
    return _with_acts(model, widths, act, bits)


def _with_acts(model: Model, widths: Widths, act, bits: Bits) -> Model:
    n = len(widths.layers)
    return with_grids(model, {v: act(j, bits[n + j]) for j, v in enumerate(widths.values)})


def _outputs(model: Model, x: Array, w: dict[str, Tensor]) -> Array:
    last = model.nodes[-1].name
    return np.concatenate([out[last] for out in observe(model, x, [last], weights=w)]).astype(
        np.float64)
