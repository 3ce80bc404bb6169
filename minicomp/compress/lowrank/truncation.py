"""What the techniques have in common that cut one matrix of a layer into two: how ranks are chosen.

One of six knobs says how far: `rank` of a layer, `energy` of its squares, `ratio` of its weights;
or, over the net, a budget of `bytes`, of `macs`, or of measured milliseconds, `ms`. Budgets in
bytes and MACs are filled by `ranks.ranks_under_budget`, with the energy of each layer as a fraction
of its own; that in milliseconds by what was clocked (`clocked.py`). Wherever the factors would not
cost less than the layer, it stays as it is; only a `rank` that was asked for is always made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...nn.graph import Model, Node
from ...nn.layers import Layer
from ...tensor import Array
from ..technique import Run, Technique, knob
from . import chains
from .clocked import ranks_within
from .cuts import Cut
from .factors import svd
from .ranks import BYTES, energy_rank, paying_rank, ranks_under_budget
from .ways import LinearWay

HOW = ("rank", "energy", "ratio", "bytes", "macs", "ms")


@dataclass(frozen=True)
class Truncation(Technique):
    """The knobs, the choice and the replacement of techniques that cut a layer into two."""

    rank: int | None = knob(None, "rank of a layer, of each of its groups", type=int, lo=1,
                            optional=True, per_layer=True)
    energy: float | None = knob(None, "instead of rank: fraction of the squared singular values "
                                      "that stays", type=float, lo=0.01, hi=1, optional=True)
    ratio: float | None = knob(None, "instead of rank: weights of the factors over those of the "
                                     "layer, at most", type=float, lo=0.001, hi=1, optional=True)
    bytes: int | None = knob(None, "instead of rank: bytes of the net, 4 a number, at most",
                             type=int, lo=1, optional=True)
    macs: int | None = knob(None, "instead of rank: multiply-accumulates of the net, at most",
                            type=int, lo=1, optional=True)
    ms: float | None = knob(None, "instead of rank: measured milliseconds of the net for `batch` "
                                  "images, at most", type=float, lo=0.0001, optional=True)
    batch: int = knob(1, "ms: images at a time", lo=1, hi=4096)
    skip: bool = knob(False, "leave such a layer as it is", per_layer=True)

    def __post_init__(self):
        super().__post_init__()
        said = [name for name in HOW if getattr(self, name) is not None]
        if len(said) != 1:
            raise UserError(f"{self.word}: one of {', '.join(HOW)} must be given, got "
                            f"{' and '.join(said) or 'none'}")

    def way(self, node: Node) -> LinearWay | None:
        """Returns how a node is read as a matrix; None for one that is left alone."""
        raise NotImplementedError

    def targets(self, model):
        return [node.name for node in model.nodes if self.way(node) is not None]

    def wanted(self, model: Model) -> list[Node]:
        """Returns the nodes that may be replaced."""
        return [model.node(name) for name in self.targets(model)
                if not self.at("skip", name)
                and (self.rank is None or self.at("rank", name) is not None)]

    def resizes(self):
        return self.rank is None and self.ratio is None

    def check(self, model):
        if not self.targets(model):
            raise UserError(f"{self.word}: the model has no layer that it can factor")
        super().check(model)
        if not (nodes := self.wanted(model)):
            raise UserError(f"{self.word}: skip must leave a layer to factor, got one that skips "
                            f"{', '.join(self.targets(model))}")
        chains.check_plain(self.word, model, [node.name for node in nodes])

    def check_shapes(self, model):
        for node in self.wanted(model):
            rank = None if self.rank is None else self.at("rank", node.name)
            most = min(self.way(node).matrix(node.layer).shape[1:])
            if rank is not None and rank > most:
                raise UserError(f"{self.word}: rank of {node.name} must be in 1..{most}, got {rank}"
                                f"; its factors pay up to {self.way(node).paying(node.layer)}")
        if self.bytes is not None or self.macs is not None:
            self.budgets(model)

    def cuts(self, model: Model, data, run: Run) -> dict[str, Cut]:
        """Returns the `wanted` layers factored, by node."""
        return self.plain_cuts(model)

    def plain_cuts(self, model: Model) -> dict[str, Cut]:
        """Returns the SVDs of the weights themselves, by node."""
        found = {}
        for node in self.wanted(model):
            way = self.way(node)
            found[node.name] = Cut(node.layer, way, svd(way.matrix(node.layer)))
        return found

    def budgets(self, model: Model) -> tuple[list[int], list[int], int]:
        """Returns what a rank of each wanted node costs, what the node costs as it is, and what
        they may cost together, in numbers or MACs; UserError where rank 1 everywhere is more."""
        nodes, shapes = self.wanted(model), model.shapes()

        def cost(node: Node, layers: Sequence[Layer]) -> int:
            if self.macs is None:
                return chains.numbers(layers)
            return chains.macs(layers, shapes[node.inputs[0]])

        each = [cost(node, self.way(node).empty(node.layer, 1)) for node in nodes]
        whole = [cost(node, [node.layer]) for node in nodes]
        if self.macs is None:
            unit, given, net = BYTES, self.bytes, model.dense_bytes()
        else:
            unit, given, net = 1, self.macs, sum(model.macs().values())
        left = given - (net - unit * sum(whole))
        least = sum(map(min, zip(each, whole))) * unit
        if left < least:
            name = "bytes" if self.macs is None else "macs"
            raise UserError(f"{self.word}: {name} must be at least {given - left + least}, got "
                            f"{given}")
        return each, whole, left // unit

    def chosen(self, model: Model, cuts: dict[str, Cut], run: Run) -> dict[str, int]:
        """Returns the ranks of the nodes that are replaced."""
        if self.rank is not None:
            return {name: self.at("rank", name) for name in cuts}
        nodes = [model.node(name) for name in cuts]
        paying = {node.name: self.way(node).paying(node.layer) for node in nodes}
        if self.ratio is not None:
            wanted = {node.name: self.rank_of_ratio(node) for node in nodes}
        elif self.energy is not None:
            wanted = {name: energy_rank(cut.spectrum, self.energy) for name, cut in cuts.items()}
        elif self.ms is not None:
            return ranks_within(self.word, model, cuts, self.ms, self.batch, run)
        else:
            spectra = [relative(cut.spectrum) for cut in cuts.values()]
            each, whole, left = self.budgets(model)
            found = ranks_under_budget(spectra, each, whole, left)
            wanted = dict(zip(cuts, found))
            paying = {name: paying_rank(e, w) for name, e, w in zip(cuts, each, whole)}
        return {name: rank for name, rank in wanted.items() if rank <= paying[name]}

    def rank_of_ratio(self, node: Node) -> int:
        """Returns the rank whose factors hold `ratio` of the node's weights, at least 1."""
        each = chains.numbers(self.way(node).empty(node.layer, 1))
        return max(1, int(self.ratio * chains.numbers([node.layer]) / each))

    def change(self, model, data, run):
        return self.cut(model, self.cuts(model, data, run), run)

    def sketch(self, model, *, rng):
        self.check(model)
        self.check_shapes(model)
        model = model.copy()
        return self.cut(model, self.plain_cuts(model), Run(rng))

    def cut(self, model: Model, cuts: dict[str, Cut], run: Run) -> Model:
        """Returns the model with the cut layers at their chosen ranks, and logs them."""
        ranks = self.chosen(model, cuts, run)
        for name, cut in cuts.items():
            run.log(self.told(model.node(name), cut, ranks.get(name)))
        return chains.replaced(model, {name: cuts[name].layers(t) for name, t in ranks.items()})

    def told(self, node: Node, cut: Cut, rank: int | None) -> dict:
        """Returns the row of a log that says what becomes of a layer."""
        pays, full = cut.way.paying(cut.layer), min(cut.way.matrix(cut.layer).shape[1:])
        before = chains.numbers([node.layer])
        row = {"event": "say", "layer": node.name, "rank": rank, "break_even": pays,
               "full": full, "weights": before}
        if rank is None:
            return row | {"text": f"{self.word}: {node.name} stays as it is, {before:,} weights; "
                                  f"factors pay up to rank {pays} of {full}"}
        after, error = chains.numbers(cut.way.empty(node.layer, rank)), cut.error(rank)
        return row | {"factors": after, "error": error, "text":
                      f"{self.word}: {node.name} at rank {rank} of {full}, which pays up to "
                      f"{pays}: {before:,} weights become {after:,}, relative error {error:.3g}"}


def relative(s: Array) -> Array:
    """Returns singular values over the root of their sum of squares."""
    return s / max(float(np.sqrt(np.square(s).sum())), np.finfo(float).tiny)
