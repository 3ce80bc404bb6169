"""Pruning by a score per weight: what the importance criteria share, so that they compare.

A criterion says how much each weight matters; everything else (scope, exact sparsity, ties, masks)
is the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.dataset import batches
from ..nn.graph import Model
from ..nn.losses import cross_entropy
from ..nn.taps import observe
from ..tensor import Array, Tensor, grad, no_grad
from .scores import scoped_masks
from .technique import (
    Run, Technique, check_maskable, floor_knob, knob, least_kept, masked, one_for_all, weights,
)


@dataclass(frozen=True)
class ScorePruning(Technique):
    """Drops the weights of least score; a criterion defines `scores`."""

    sparsity: float = knob(0.9, "fraction of zeros, exactly round(s n)", lo=0, hi=1, below=True,
                           per_layer=True)
    scope: str = knob("global", "what is ranked together", choices=("global", "local"))
    floor: float = floor_knob()

    def __post_init__(self):
        super().__post_init__()
        one_for_all(self.word, self.scope, self.sparsity, self.floor)

    def targets(self, model):
        return list(weights(model))

    def check(self, model):
        super().check(model)
        check_maskable(self.word, model)

    def scores(self, model: Model, data, run: Run) -> dict[str, Array]:
        """Returns one score per weight, by node name; larger is more important.

        model : trainable; it is not changed        data : has `train` and `calibration(n, rng)`
        """
        raise NotImplementedError

    def change(self, model, data, run):
        return self._masked(model, self.scores(model.thawed(), data, run))

    def sketch(self, model, *, rng):
        # As many zeros, of least magnitude: the scores themselves would need data.
        forms = model.forms()
        return self._masked(model, {node: np.abs(forms[name].dense().data)
                                    for node, name in weights(model).items()})

    def _masked(self, model: Model, scores: dict[str, Array]) -> Model:
        names, forms = weights(model), model.forms()
        least = least_kept(model, self.floor)
        masks = scoped_masks(self.word, scores, {node: forms[names[node]].mask for node in scores},
                             lambda node: self.at("sparsity", node), self.scope,
                             least={node: least[names[node]] for node in scores})
        return masked(model, {names[node]: mask for node, mask in masks.items()})


@dataclass(frozen=True)
class SampledPruning(ScorePruning):
    """One whose scores are computed on examples."""

    samples: int = knob(500, "training examples that the scores are computed on; all where there "
                             "are fewer", lo=1)

    def reads(self):
        return ("train",)


def loss_gradients(model: Model, batch, *, batch_size: int = 500) -> dict[str, Array]:
    """Returns dL / d(decoded weight) by form name, L the mean cross-entropy; sums are float64.

    batch : a split, x and y        Weights are decoded once: a form of any kind has a gradient.
    """
    with no_grad():
        decoded = model.decode()
    leaves = {name: Tensor(w.data, requires_grad=True) for name, w in decoded.items()}
    total = {name: 0.0 for name in leaves}
    for x, y in batches(batch, batch_size):
        loss = cross_entropy(model(x, weights=leaves), y, reduction="sum")
        for name, g in zip(leaves, grad(loss, list(leaves.values()))):
            total[name] = total[name] + g.data.astype(np.float64) / len(batch.y)
    return total


def layer_inputs(model: Model, batch, *, batch_size: int = 500) -> dict[str, Array]:
    """Returns the L2 norm of each input of every Linear and Conv2d over examples and positions.

    result : by node name, (I,) or (C,), float64
    """
    nodes = [n for n in model.nodes if n.layer.coupling == "mix"]
    total = {n.name: 0.0 for n in nodes}
    for seen in observe(model, batch.x, {n.inputs[0] for n in nodes}, batch_size=batch_size):
        for n in nodes:
            a = seen[n.inputs[0]].astype(np.float64)
            axes = tuple(i for i in range(a.ndim) if i != 1)
            total[n.name] = total[n.name] + np.square(a).sum(axis=axes)
    return {name: np.sqrt(t) for name, t in total.items()}
