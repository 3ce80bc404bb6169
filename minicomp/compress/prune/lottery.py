"""The lottery ticket: prune, rewind, train again (Frankle, Carbin 2019, arXiv 1803.03635; with rewinding to an
early epoch, Frankle et al. 2020, arXiv 1912.05671).

A dense net holds a sparse one that, *from its own initial weights*, trains to the same accuracy. It is found by

    repeat rounds times:  train  ->  prune p % of the smallest surviving weights of each layer
                          ->  rewind the survivors to the weights they had at `rewind`

with p = 1 - (1 - sparsity)^(1 / rounds), and a last training of the ticket.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...codec import load
from ...errors import UserError
from ...nn.graph import Model
from ...train import evaluate
from ..technique import FineTune, knob, masked, sparsity, thawed, weights
from .scores import magnitude_mask


@dataclass(frozen=True)
class Lottery(FineTune):
    """Rounds of training, pruning and rewinding; ends with the trained ticket."""

    word: ClassVar[str] = "lottery"
    title: ClassVar[str] = "Lottery ticket with rewinding"
    source: ClassVar[str] = "Frankle & Carbin 2019, The Lottery Ticket Hypothesis, arXiv:1803.03635"

    sparsity: float = knob(0.8, "final fraction of zeros of a layer", lo=0, hi=1, below=True, per_layer=True)
    rounds: int = knob(3, "times that pruning and rewinding are repeated", lo=1)
    rewind: str | None = knob(None, "a .mcz file with the weights to rewind to; none draws LeCun's initial weights",
                              type=str, optional=True)

    def apply(self, model, data, *, rng, log=None, checkpoint=None, n_threads=1):
        self.check_patterns(model)
        log, start = log or (lambda row: None), self.start(model, rng)
        masks = {name: np.ones(model.forms()[name].shape, bool) for name in weights(model).values()}
        current = thawed(model)
        for r, stream in enumerate(rng.spawn(self.rounds), start=1):
            for node, name in weights(current).items():
                keep = (1 - self.at("sparsity", node)) ** (r / self.rounds)
                w = np.where(masks[name], current.forms()[name].dense().data, 0)
                masks[name] &= magnitude_mask(w, 1 - keep)
            current = masked(thawed(start), masks)
            inner = None if checkpoint is None else Path(checkpoint) / f"round-{r}"
            self.fit(current, data, rng=stream, log=log, checkpoint=inner, n_threads=n_threads)
            log({"event": "round", "round": r, "rounds": self.rounds, "sparsity": sparsity(current),
                 "errors": evaluate(current, data.val, n_threads=n_threads).errors})
        return current

    def start(self, model: Model, rng) -> Model:
        """Returns the net that survivors are rewound to; UserError where the file holds another architecture."""
        if self.rewind is None:
            from ...nn.init import lecun_uniform

            fresh = model.dense()
            for name in weights(fresh).values():
                fresh.forms()[name].value.data[:] = lecun_uniform(fresh.forms()[name].shape, rng=rng)
            for name, form in fresh.forms().items():
                if name.endswith(".bias"):
                    form.value.data[:] = 0
            return fresh
        start = load(self.rewind)
        if {n: f.shape for n, f in start.forms().items()} != {n: f.shape for n, f in model.forms().items()}:
            raise UserError(f"lottery: rewind {self.rewind} must hold a net of the same layers and shapes")
        return start

    def sketch(self, model, *, rng):
        return masked(thawed(model), {name: magnitude_mask(model.forms()[name].dense().data, self.at("sparsity", node))
                                      for node, name in weights(model).items()})
