"""The lottery ticket: prune, rewind, train again (Frankle, Carbin 2019, arXiv 1803.03635; with
rewinding to an early epoch, Frankle et al. 2020, arXiv 1912.05671).

A dense net holds a sparse one that, *from its own initial weights*, trains to the same accuracy.
It is found by

    repeat rounds times:  train  ->  prune p % of the smallest surviving weights of each layer
                          ->  rewind the survivors to the weights they had at `rewind`

with p = 1 - (1 - sparsity)^(1 / rounds), and a last training of the ticket. With `rewind` the net
that is given was trained from those weights, and the first training is left out; without, the first
training starts from initial weights drawn here, to which every rewinding returns.

Of the output layer each round takes `output` p %: half, as in the paper (its figure 2), so that it
ends denser than the others. A sparsity by pattern is each layer's own, the output's too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...codec import load
from ...errors import UserError
from ...nn.graph import Model
from ...nn.init import lecun_uniform
from ...tensor import Array
from ...train import evaluate
from ..finetune import Rounds
from ..technique import feeding, knob, masked, sparsity, weights
from ..technique import masks as masks_of
from ..scores import magnitude_mask


@dataclass(frozen=True)
class Lottery(Rounds):
    """Rounds of training, pruning and rewinding; ends with the trained ticket."""

    word: ClassVar[str] = "lottery"
    title: ClassVar[str] = "Lottery ticket with rewinding"
    source: ClassVar[str] = "Frankle & Carbin 2019, The Lottery Ticket Hypothesis, arXiv:1803.03635"

    sparsity: float = knob(0.8, "final fraction of zeros of a layer",
                           lo=0, hi=1, below=True, per_layer=True)
    rounds: int = knob(3, "times that pruning and rewinding are repeated", lo=1)
    output: float = knob(0.5, "part of a round's rate at which the output layer is pruned, where "
                              "sparsity is one number", lo=0.0, hi=1.0)
    rewind: str | None = knob(
        None, "a .mcz file with the weights to rewind to; none draws LeCun's initial weights",
        type=str, optional=True, file=True)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        if self.rewind is not None:
            self.start(model, None)

    def at_round(self, model: Model, node: str, r: int) -> float:
        """Returns the sparsity of a layer after r rounds."""
        s = self.at("sparsity", node)
        outputs = feeding(model)[model.nodes[-1].name]
        if node in outputs and not isinstance(self.sparsity, Mapping) and self.output < 1:
            rate = self.output * (1 - (1 - s) ** (1 / self.rounds))
            return 1 - (1 - rate) ** r
        # s itself at the end: exact
        return s if r == self.rounds else 1 - (1 - s) ** (r / self.rounds)

    def change(self, model, data, run):
        start = self.start(model, run.rng)
        masks = {name: np.ones(model.forms()[name].shape, bool) for name in weights(model).values()}
        masks |= masks_of(model)  # what is pruned already, biases too, stays so
        first, *streams = run.rng.spawn(self.rounds + 1)

        def trained(stream, r: int) -> Model:
            ticket = masked(start, masks)
            self.train.fit(ticket, data, run.child(f"round-{r}", stream))
            return ticket

        current = model if self.rewind else trained(first, 0)
        for r, stream in enumerate(streams, start=1):
            for node, name in weights(current).items():
                w, s = current.forms()[name].dense().data, self.at_round(model, node, r)
                masks[name] = masks[name] & magnitude_mask(w, s, mask=masks[name])
            current = trained(stream, r)
            run.log({"event": "round", "round": r, "rounds": self.rounds,
                     "sparsity": sparsity(current),
                     "errors": evaluate(current, data.val, n_threads=run.n_threads).errors})
        return current.frozen()

    def start(self, model: Model, rng) -> Model:
        """Returns the net that survivors are rewound to; UserError for another architecture."""
        start = model.dense()  # its origin is the model's own
        if self.rewind is None:
            for name, form in start.forms().items():
                form.value.data[:] = initial(name, form.shape, rng)
            for name, value in start.buffers().items():
                value[...] = 1 if name.endswith("running_var") else 0
            return start
        kept = load(self.rewind, kind="model").dense()
        if {n: f.shape for n, f in kept.forms().items()} != {
            n: f.shape for n, f in model.forms().items()
        }:
            raise UserError(
                f"lottery: rewind {self.rewind} must hold a net of the same layers and shapes"
            )
        start.load_state_dict(kept.state_dict())
        return start

    def sketch(self, model, *, rng):
        return masked(model, {
            name: magnitude_mask(form.dense().data, self.at_round(model, node, self.rounds),
                                 mask=form.mask)
            for node, name, form in ((n, f, model.forms()[f]) for n, f in weights(model).items())})


def initial(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array | float:
    """Returns LeCun's initial weights for two axes or more, else batch norm's 1, or a bias's 0.

    name : "conv1.weight"        shape : of the parameter
    Two axes or more give an array of `shape`, float32; one axis gives one float for all entries.
    """
    if len(shape) > 1:
        return lecun_uniform(shape, rng=rng)
    return 1.0 if name.endswith(".weight") else 0.0
