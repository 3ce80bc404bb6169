"""The importance criteria by word, and `importance`, which sets them side by side.

Each is a technique that masks and does not train. Weights are ranked over all layers together, but
Wanda's within each output's row, which is what its norms are made for, and FPGM masks whole
filters. OBD is the Hessian diagonal. Movement's scores gather in a short training of a copy
(`MovementScore`): they say which weights the training moves towards 0. Of a net that has already
learned these data those may be its largest, so that movement, meant for fine-tuning on other data,
starts badly here.

A net may be pruned and shared already. Criteria look at the values that its weights have, each as
if it could move, and a sparsity below that which the net has is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np

from ..compress.prune.fpgm import FPGM
from ..compress.prune.lamp import LAMP
from ..compress.prune.magnitude import Magnitude
from ..compress.prune.movement import MovementScore
from ..compress.prune.obd import OBD
from ..compress.prune.snip import SNIP
from ..compress.prune.taylor import Taylor
from ..compress.prune.wanda import Wanda
from ..compress.technique import Run, Technique, kept, weights
from ..errors import UserError
from ..nn.forms import Dense
from ..nn.graph import Model

CRITERIA: dict[str, Technique] = {c.word: c for c in (
    Magnitude(sparsity=0.5, scope="global"), Taylor(), SNIP(), Wanda(), LAMP(), OBD(),
    MovementScore(), FPGM(remove=False))}


def named(words: str | Sequence[str]) -> list[Technique]:
    """Returns the criteria of those words in their order; "all" means every one.

    words : a sequence, or a text in which commas part them
    Raises UserError for an unknown word, one that stands twice, and none at all.
    """
    words = [w.strip() for w in words.split(",")] if isinstance(words, str) else list(words)
    words = list(CRITERIA) if words == ["all"] else words
    if not any(words):
        raise UserError(f"criteria must be some of {', '.join(CRITERIA)}, or all, got none")
    for word in words:
        if word not in CRITERIA:
            raise UserError(f"unknown criterion {word!r}; there are {', '.join(CRITERIA)}, or all")
        if words.count(word) > 1:
            raise UserError(f"criterion {word} is named twice")
    return [CRITERIA[word] for word in words]


def importance(model: Model, data, criteria: Sequence[Technique], *, rng: np.random.Generator,
               evaluate: Callable[[Model], float], sparsities: Sequence[float],
               log: Callable[[dict], None] | None = None) -> list[dict]:
    """Returns rows {criterion, sparsity, zeros, error}: all criteria at all sparsities, untrained.

    criteria : techniques with a knob `sparsity` that mask and do not train, as CRITERIA
    evaluate : model -> error, 0..1        zeros : fraction of the weights that are 0 then, 0..1
    At every sparsity a criterion sees the same examples. Its rows end before the first sparsity but
    the least that it refuses: where whole filters go, a small layer does not stand every sparsity.
    Sparsities below the model's own are left out and told to the log; what a criterion tells of its
    runs is told once.
    One that refuses the least too, such as OBD a layer without second derivatives, has no rows; it
    is told. Raises UserError where no sparsity is left, or no criterion has a row.
    """
    rows, told, log = [], set(), log or (lambda row: None)

    def tell(row: dict) -> None:
        if row["event"] == "say" and row["text"] not in told:
            told.add(row["text"])
            log(row)

    model, own = with_values(model), 1 - kept(model)
    n = sum(math.prod(model.forms()[name].shape) for name in weights(model).values())
    below = [s for s in sorted(sparsities) if round(s * n) < round(own * n)]
    sparsities = [s for s in sorted(sparsities) if s not in below]
    if not sparsities:
        raise UserError(
            f"importance: {own:.4g} of the weights are 0 already; a sparsity above that must be "
            f"given, got {', '.join(f'{s:g}' for s in below) or 'none'}"
        )
    if below:
        tell({"event": "say", "text": f"importance: {own:.4g} of the weights are 0 already: left "
                                      f"out {', '.join(f'{s:g}' for s in below)}"})
    for i, (criterion, stream) in enumerate(zip(criteria, rng.spawn(len(criteria)))):
        for j, s in enumerate(sparsities):
            try:
                run = Run(deepcopy(stream), tell)
                pruned = replace(criterion, sparsity=s).apply(model, data, run)
            except UserError as e:
                if j == 0 and (len(criteria) == 1 or i == len(criteria) - 1 and not rows):
                    raise
                what = f"ends before {s:g}" if j else "is left out"
                log({"event": "say", "text": f"importance: {criterion.word} {what}: {e}"})
                break
            rows.append({"criterion": criterion.word, "sparsity": s, "zeros": 1 - kept(pruned),
                         "error": evaluate(pruned)})
            log({"event": "progress", "name": "importance", "done": i * len(sparsities) + j + 1,
                 "total": len(criteria) * len(sparsities)})
    return rows


def with_values(model: Model) -> Model:
    """Returns the model in which each entry of every form can move: those of a shared form become
    plain values, masked where it is."""
    made = model.copy()
    for name, form in model.forms().items():
        if not form.movable:
            made.set_form(name, Dense(form.dense().data.copy(), form.mask))
    return made
