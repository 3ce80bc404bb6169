"""Where a quantized net loses what it loses: each layer beside the float net's, on the same data.

Three errors of a layer, each as a `Gap`:

    weights       of the weight itself
    alone         of its output where this layer alone is quantized: it reads the float net's values
    accumulated   of its output in the quantized net, all that went before included

A layer with a bad `alone` is one to give more bits; where `alone` is good and `accumulated` bad,
the damage was done earlier. A grid of activations is a layer too, without a weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..compress.quant.nodes import without_grids
from ..errors import UserError, printable
from ..nn.graph import INPUT, Model
from ..nn.layers import ActQuant
from ..nn.taps import fitting, observe
from ..tensor import Array, Tensor, no_grad


@dataclass(frozen=True)
class Gap:
    """sqnr : 10 log10(sum x^2 / sum (x - y)^2), dB, inf where y is x
    cosine : of the angle between x and y        largest : max |x - y|
    """

    sqnr: float
    cosine: float
    largest: float


class Sums:
    """What a `Gap` is made of, over batches: `add` them, then `gap()`."""

    def __init__(self):
        self.x = self.y = self.xy = self.noise = self.largest = 0.0

    def add(self, x: Array, y: Array) -> Sums:
        """Takes in float values x and what became of them, y, of one shape."""
        x, y = (np.asarray(a, np.float64).ravel() for a in (x, y))
        self.x, self.y, self.xy = self.x + x @ x, self.y + y @ y, self.xy + x @ y
        self.noise += (x - y) @ (x - y)
        self.largest = max(self.largest, float(np.abs(x - y).max(initial=0.0)))
        return self

    def gap(self) -> Gap:
        """Returns the Gap of all that was taken in; a cosine with 0 alone is 0, of two such 1."""
        sqnr = math.inf
        if self.noise:
            sqnr = 10 * math.log10(self.x / self.noise) if self.x else -math.inf
        size = math.sqrt(self.x * self.y)
        cosine = self.xy / size if size else float(self.x == self.y)
        return Gap(float(sqnr), min(float(cosine), 1.0), float(self.largest))


@dataclass(frozen=True)
class LayerGap:
    """A layer's gaps; those that it has not are None."""

    name: str
    kind: str
    bits: int | None
    weights: Gap | None
    alone: Gap | None
    accumulated: Gap

    def to_dict(self) -> dict:
        """Returns everything as a dict; -inf and inf are for `as_json` to write as null."""
        return asdict(self)


def check_pair(model: Model, reference: Model) -> None:
    """Raises UserError where two nets are not one, apart from grids of activations and numbers."""
    for node in reference.nodes:
        if isinstance(node.layer, ActQuant):
            raise UserError("the net to compare with must be the float one, got one with grids of "
                            f"activations ({node.name}); are the two the wrong way round?")
    a, b = without_grids(model), reference
    if a.input_shape != b.input_shape:
        raise UserError(f"the nets do not belong together: inputs of shape {a.input_shape} and "
                        f"{b.input_shape}")
    mine, others = ({n.name: n for n in net.nodes} for net in (a, b))
    alone = [(node, "the float net") for name, node in mine.items() if name not in others]
    alone += [(node, "the quantized net") for name, node in others.items() if name not in mine]
    for node, where in alone:
        folded = "; compare with the float net whose batch norms are folded as well"
        raise UserError(f"the nets do not belong together: {node.name} ({node.layer.kind}) is not "
                        f"in {where}{folded * node.layer.normalises}")
    for name in mine:
        now, was = _said(mine[name]), _said(others[name])
        if now != was:
            raise UserError(f"the nets do not belong together: {name} is {printable(now, 200)} "
                            f"and, in the float net, {printable(was, 200)}")
        for part in mine[name].layer.per_channel:
            now, was = (getattr(net[name].layer, part) for net in (mine, others))
            if now != was:
                raise UserError(f"the nets do not belong together: {part} of {name} is "
                                f"{printable(now, 80)} and, in the float net, {printable(was, 80)}")


def _said(node) -> str:
    shapes = ", ".join(f"{part} {' x '.join(map(str, form.shape))}"
                       for part, form in node.layer.forms.items())
    return f"{node.layer.kind} of {', '.join(node.inputs)}" + f" with {shapes}" * bool(shapes)


def layer_gaps(model: Model, reference: Model, x: Array, *, batch_size: int = 250
               ) -> list[LayerGap]:
    """Returns the gaps of each layer with a weight and each grid, in order, and of the output.

    model : quantized        reference : the float net it came from
    x : (N, *input_shape), at least one example
    Raises UserError where the two are not one net, or there is no example.
    """
    check_pair(model, reference)
    if not len(x):
        raise UserError("examples must be at least one, got none")
    shown = [n for n in model.nodes if "weight" in n.layer.forms or isinstance(n.layer, ActQuant)]
    last = model.nodes[-1].name
    # Which value of the float net each value of the quantized one stands for.
    origin = {INPUT: INPUT}
    for node in model.nodes:
        grid = isinstance(node.layer, ActQuant)
        origin[node.name] = origin[node.inputs[0]] if grid else node.name
    names = {last, *(n.name for n in shown)}
    wanted = {origin[name] for name in names} | {origin[i] for n in shown for i in n.inputs}
    size = min(fitting(net, batch_size) for net in (model, reference))
    alone, total = ({name: Sums() for name in names} for _ in range(2))
    with no_grad():
        decoded = {node.name: node.layer.decode() for node in shown}
    both = zip(observe(model, x, names, batch_size=size),
               observe(reference, x, wanted, batch_size=size))
    for now, was in both:
        for name in names:
            total[name].add(was[origin[name]], now[name])
        for node in shown:
            with no_grad():
                y = node.layer(*(Tensor(was[origin[i]]) for i in node.inputs),
                               weights=decoded[node.name]).data
            alone[node.name].add(was[origin[node.name]], y)
    rows = [_row(node, reference, alone[node.name].gap(), total[node.name].gap())
            for node in shown]
    return [*rows, LayerGap("output", "", None, None, None, total[last].gap())]


def _row(node, reference: Model, alone: Gap, total: Gap) -> LayerGap:
    form = node.layer.forms.get("weight")
    if form is None:
        return LayerGap(node.name, node.layer.kind, node.layer.bits, None, alone, total)
    with no_grad():
        was = reference.node(node.name).layer.forms["weight"].dense().data
        gap = Sums().add(was, form.dense().data).gap()
    bits = getattr(form, "bits", None)
    return LayerGap(node.name, node.layer.kind, bits, gap, alone, total)


HEADERS = ["layer", "kind", "bits", *(f"{what} {unit}" for what in ("weights", "alone", "all")
                                      for unit in ("dB", "cosine", "largest"))]


def table(gaps: Sequence[LayerGap]) -> list[list]:
    """Returns a row a layer of texts under `HEADERS`, "all" being what has accumulated."""
    return [[g.name, g.kind, g.bits or "", *_cells(g.weights), *_cells(g.alone),
             *_cells(g.accumulated)] for g in gaps]


def _cells(gap: Gap | None) -> list[str]:
    if gap is None:
        return ["", "", ""]
    if not gap.largest:
        return ["exact", "1", "0"]
    return [f"{gap.sqnr:.1f}", f"{gap.cosine:.5f}", f"{gap.largest:.3g}"]
