"""Pruning by a score per weight: what the importance criteria share, so that they can be drawn on one plot.

A criterion says how much each weight matters; everything else (scope, exact sparsity, ties, masks) is the same
for all. `importance` gives every criterion's scores of one model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UserError
from ..nn.graph import Model
from ..nn.losses import cross_entropy
from ..tensor import Array, Tensor, grad
from .scores import global_masks, smallest_mask
from .technique import Run, Technique, kept, knob, masked, weights


@dataclass(frozen=True)
class ScorePruning(Technique):
    """Drops the weights of least score; a criterion defines `scores`."""

    sparsity: float = knob(0.9, "fraction of zeros, exactly round(s n)", lo=0, hi=1, below=True, per_layer=True)
    scope: str = knob("global", "what is ranked together", choices=("global", "local"))
    samples: int = knob(500, "training examples that the scores are computed on", lo=1)

    def __post_init__(self):
        super().__post_init__()
        if self.scope == "global" and not isinstance(self.sparsity, float):
            raise UserError(f"{self.word}: scope global needs one sparsity for all layers, got one by pattern")

    def scores(self, model: Model, data, *, rng: np.random.Generator) -> dict[str, Array]:
        """Returns one score per weight, by node name; larger is more important.

        model : trainable; it is not changed        data : has `calibration(n, rng)`
        """
        raise NotImplementedError

    def change(self, model, data, run):
        names = weights(model)
        scores = self.scores(model.thawed(), data, rng=run.rng)
        for node, s in scores.items():
            if np.isnan(s).any():
                raise UserError(f"{self.word}: the scores of {node} must be numbers, got NaN; are its gradients finite?")
        # what is pruned already ranks below everything else
        scores = {node: np.where(model.forms()[names[node]].dense().data != 0, s, -np.inf)
                  for node, s in scores.items()}
        if self.scope == "global":
            masks = dict(zip(scores, global_masks(list(scores.values()), self.sparsity)))
        else:
            masks = {node: smallest_mask(s, self.at("sparsity", node)) for node, s in scores.items()}
        return masked(model, {names[node]: mask for node, mask in masks.items()})

    def sketch(self, model, *, rng):
        # As many zeros, of least magnitude: the scores themselves would need data.
        sizes = {name: model.forms()[name].dense().data for name in weights(model).values()}
        if self.scope == "global":
            sizes = {name: np.abs(w) for name, w in sizes.items()}
            return masked(model, dict(zip(sizes, global_masks(list(sizes.values()), self.sparsity))))
        return masked(model, {name: smallest_mask(np.abs(sizes[name]), self.at("sparsity", node))
                              for node, name in weights(model).items()})


def loss_gradients(model: Model, batch, *, batch_size: int = 500) -> dict[str, Array]:
    """Returns the gradient of the mean cross-entropy by form name, float64 sums over batches.

    batch : a split, x and y
    """
    names = list(model.parameters())
    total = {name: 0.0 for name in names}
    for i in range(0, len(batch.y), batch_size):
        x, y = batch.x[i:i + batch_size], batch.y[i:i + batch_size]
        loss = cross_entropy(model(x), y, reduction="sum")
        for name, g in zip(names, grad(loss, list(model.parameters().values()))):
            total[name] = total[name] + g.data.astype(np.float64) / len(batch.y)
    return total


def layer_inputs(model: Model, batch, *, batch_size: int = 500) -> dict[str, Array]:
    """Returns the L2 norm of every input of each Linear and Conv2d over the examples (and positions).

    result : by node name, (I,) or (C,), float64
    """
    nodes = [n for n in model.nodes if n.layer.kind in ("Linear", "Conv2d")]
    total = {n.name: 0.0 for n in nodes}
    taps = {n.inputs[0] for n in nodes} - {"x"}
    for i in range(0, len(batch.y), batch_size):
        x = Tensor(batch.x[i:i + batch_size])
        seen = {"x": x} | (model(x, taps=tuple(taps))[1] if taps else {})
        for n in nodes:
            a = seen[n.inputs[0]].data.astype(np.float64)
            axes = (0,) if n.layer.kind == "Linear" else (0, 2, 3)
            total[n.name] = total[n.name] + np.square(a).sum(axis=axes)
    return {name: np.sqrt(t) for name, t in total.items()}


def importance(model: Model, data, criteria: Sequence[Technique], *, rng: np.random.Generator,
               evaluate: Callable[[Model], float], sparsities: Sequence[float],
               log: Callable[[dict], None] | None = None) -> list[dict]:
    """Returns rows {criterion, sparsity, zeros, error}: every criterion at every sparsity, without retraining.

    criteria : techniques with a knob `sparsity` that mask and do not train (`criteria.CRITERIA`)
    evaluate : model -> error, 0..1        zeros : fraction of the weights that are 0 then, 0..1
    At every sparsity a criterion sees the same examples. Its rows end before the first sparsity but the least that
    it refuses: where whole filters go, a small layer does not stand every sparsity.
    """
    rows, sparsities, log = [], sorted(sparsities), log or (lambda row: None)
    for i, (criterion, stream) in enumerate(zip(criteria, rng.spawn(len(criteria)))):
        for j, s in enumerate(sparsities):
            try:
                pruned = replace(criterion, sparsity=s).apply(model, data, Run(deepcopy(stream)))
            except UserError as e:
                if j == 0:
                    raise
                log({"event": "say", "text": f"importance: {criterion.word} ends before {s:g}: {e}"})
                break
            rows.append({"criterion": criterion.word, "sparsity": s, "zeros": 1 - kept(pruned),
                         "error": evaluate(pruned)})
            log({"event": "progress", "name": "importance", "done": i * len(sparsities) + j + 1,
                 "total": len(criteria) * len(sparsities)})
    return rows
