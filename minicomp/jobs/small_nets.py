"""Small nets on few examples, all of them at once: trained by back-propagation, then operated on.

Squared error; labels are targets, as in the experiments of Hassibi & Stork 1993.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ..compress.curvature.hessian import mean_loss
from ..compress.technique import Run, Technique
from ..data import Split
from ..nn.graph import Model
from ..optim import SGD
from ..tensor import grad, no_grad


def backprop(model: Model, split: Split, *, steps: int, decay: float) -> Model:
    """Returns the model, trained in place on all examples at once: squared error, momentum 0.9."""
    x = split.x.astype(np.float64)
    optimizer = SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=decay)
    for _ in range(steps):
        E = mean_loss(model(x), split.y, "squared")
        gradients = grad(E, list(optimizer.params.values()))
        optimizer.step({n: g.data for n, g in zip(optimizer.params, gradients)})
    return model


def error(model: Model, split: Split) -> float:
    """Returns half the mean squared error."""
    with no_grad():
        return mean_loss(model(split.x), split.y, "squared").item()


def operated(net: Model, split: Split, technique: Technique) -> Model:
    """Returns the net after a technique that sees all of the split's examples."""
    whole = SimpleNamespace(train=split)
    return technique.apply(net, whole, Run(np.random.default_rng(0)))


def left(net: Model) -> int:
    """Returns how many weights and biases are not 0."""
    return sum(form.nonzeros() for form in net.forms().values())
