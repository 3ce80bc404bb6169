"""Several nets into one by averaging their weights: model soups (Wortsman, Ilharco, Gadre et al.
2022, "Model Soups: Averaging Weights of Multiple Fine-Tuned Models Improves Accuracy without
Increasing Inference Time", arXiv 2203.05482).

Nets that were trained on from the same weights often lie in one basin of the loss, where the mean
of their weights is better than each of them, at the cost of one. Of nets that were not it is worth
nothing: there distil the ensemble.

    uniform   the mean of all
    greedy    nets from fewest to most validation errors; each is added to those already in
              where the mean then errs no more (recipe 1 of the paper)

Means are of decoded weights and of batch norm's running statistics; the mask of the net given
stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import UserError
from ...nn.graph import Model
from ...tensor import Array
from ...train import evaluate
from ..technique import Technique, knob, masked, masks
from .places import leading
from .teaching import file_knob, loaded, paths


def read(model: Model) -> dict[str, Array]:
    """Returns the decoded weights and statistics on which the output depends, by name."""
    nodes = {*leading(model), model.nodes[-1].name}
    return {name: a for name, a in model.dense().state_dict().items()
            if name.rsplit(".", 1)[0] in nodes}


def mean_model(models: Sequence[Model]) -> Model:
    """Returns the first net, its weights and statistics the means of those of nets of one shape;
    weights dense, of the first net's masks."""
    made, states = models[0].dense(), [read(model) for model in models]
    means = {name: np.mean([s[name] for s in states], axis=0, dtype=np.float64).astype(a.dtype)
             for name, a in states[0].items()}
    made.load_state_dict(made.state_dict() | means)
    return masked(made, masks(models[0]))


@dataclass(frozen=True)
class Soup(Technique):
    """Puts in place of the net's weights their mean with those of other nets."""

    word: ClassVar[str] = "soup"
    title: ClassVar[str] = "Model soup: averaged weights"
    source: ClassVar[str] = (
        "Wortsman, Ilharco, Gadre, Roelofs, Gontijo-Lopes, Morcos, Namkoong, Farhadi, Carmon, "
        "Kornblith & Schmidt 2022, Model Soups: Averaging Weights of Multiple Fine-Tuned Models "
        "Improves Accuracy without Increasing Inference Time, arXiv:2203.05482")

    others: str | None = file_knob("each other net")
    recipe: str = knob("uniform", "uniform, all; greedy, those that add no validation errors",
                       choices=("uniform", "greedy"))

    def files(self):
        return paths(self.others)

    def reads(self):
        return ("val",) if self.recipe == "greedy" else ()

    def nets(self, model: Model) -> list[Model]:
        """Returns the other nets; UserError where there are none, or one of other shapes."""
        if self.others is None:
            raise UserError(f"{self.word}: others must name a .mcz file, got none")
        shapes = {n: a.shape for n, a in read(model).items()}
        found = loaded(f"{self.word}: others", self.others)
        for path, net in zip(paths(self.others), found):
            if {n: a.shape for n, a in read(net).items()} != shapes:
                raise UserError(f"{self.word}: others must hold nets of the same layers and shapes,"
                                f" {path} does not")
        return found

    def check(self, model):
        super().check(model)
        self.nets(model)

    def change(self, model, data, run):
        nets = [model, *self.nets(model)]
        if self.recipe == "greedy":
            nets = self.greedy(nets, data, run)
        made = mean_model(nets)
        return masked(made, masks(model)).frozen()

    def greedy(self, nets: list[Model], data, run) -> list[Model]:
        """Returns the nets whose mean errs least, added one after the other."""
        def errors(some):
            return evaluate(mean_model(some), data.val, n_threads=run.n_threads).errors

        ranked = sorted(nets, key=lambda net: errors([net]))
        chosen, least = ranked[:1], errors(ranked[:1])
        for net in ranked[1:]:
            if (found := errors([*chosen, net])) <= least:
                chosen, least = [*chosen, net], found
        run.log({"event": "say", "text": f"{self.word}: {len(chosen)} of {len(nets)} nets are in"})
        return chosen

    def sketch(self, model, *, rng):
        return mean_model([model, *self.nets(model)]).frozen()
