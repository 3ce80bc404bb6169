"""Architecture searches beside an enumerated space (small LeNets on MNIST).

All 384 nets of `lenets` are trained with three seeds, 10,000 images each seen once: what is best
under a limit of bytes is known, and every search can be told how far from it its winner is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..nn.graph import Model
from ..optim import Adam, cosine
from ..search import Space, lenets
from ..train import evaluate, fit
from .journal import Journal

IMAGES, BATCH, LR = 10_000, 50, 0.012  # of a training: each image is seen once


def code_of(space: Space, choice) -> str:
    """Returns a net's code as the name of its arm: "012100"."""
    return "".join(map(str, space.encode(choice)))


def trained(model: Model, data, rng: np.random.Generator) -> dict:
    """Returns the errors of a net on validation and test images after its training, in place."""
    few = replace(data, train=data.train.take(slice(IMAGES)))
    history = fit(model, few, epochs=1, optimizer=Adam(model.parameters(), lr=LR), batch_size=BATCH,
                  schedule=cosine(), rng=rng)
    return {"val": history[-1]["val_errors"], "test": evaluate(model, data.test).errors}


def enumerate_nets(space: Space, data, seed: int, journal: Journal, log) -> None:
    """Trains every net of a space with a seed, unless the journal knows it."""
    for done, choice in enumerate(space, start=1):
        arm, rng = code_of(space, choice), np.random.default_rng([seed, *space.encode(choice)])
        if journal.get(arm, seed) is None:
            journal.take(arm, seed, lambda: trained(space.build(choice, rng=rng), data, rng))
        log({"event": "progress", "name": f"nets, seed {seed}", "done": done, "total": space.size})
