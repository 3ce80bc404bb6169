"""The importance criteria by word, and `importance`, which sets them side by side.

Each is a technique that masks and does not train. Weights are ranked over all layers together, but
Wanda's within each output's row, which is what its norms are made for, and FPGM masks whole
filters. OBD is the Hessian diagonal. Movement's scores gather in a short training of a copy
(`MovementScore`): they say which weights the training moves towards 0. Of a net that has already
learned these data those may be its largest, so that movement, meant for fine-tuning on other data,
starts badly here.
"""

from __future__ import annotations

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
from ..compress.technique import Run, Technique, kept
from ..errors import UserError
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
    """
    rows, sparsities, log = [], sorted(sparsities), log or (lambda row: None)
    for i, (criterion, stream) in enumerate(zip(criteria, rng.spawn(len(criteria)))):
        for j, s in enumerate(sparsities):
            try:
                pruned = replace(criterion, sparsity=s).apply(model, data, Run(deepcopy(stream)))
            except UserError as e:
                if j == 0:
                    raise
                log({"event": "say",
                     "text": f"importance: {criterion.word} ends before {s:g}: {e}"})
                break
            rows.append({"criterion": criterion.word, "sparsity": s, "zeros": 1 - kept(pruned),
                         "error": evaluate(pruned)})
            log({"event": "progress", "name": "importance", "done": i * len(sparsities) + j + 1,
                 "total": len(criteria) * len(sparsities)})
    return rows
