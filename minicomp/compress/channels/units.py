"""Units: which channel of which node is the same one.

A *unit* is a channel as some layer computes it. Nodes pass units on, each as its coupling says
(`couplings.py`): a layer that mixes channels reads units and computes others; a depthwise
convolution hands on those it gets; a flattening makes of each a block of H W features; an addition
*ties* the units that it adds: they go together or not at all. The model's inputs and outputs are
*pinned*.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from ...nn.graph import INPUT, Model
from ...tensor import Array
from .couplings import couplings


@dataclass(frozen=True)
class Units:
    """The units of a model.

    of : node -> (C,) the unit in each channel of its output; tied units have one number; "x" is the
        input
    origin : unit -> (node, channel) that computes it, of tied ones the first
    pinned : unit -> what it is of the model, "input" or "output"
    ties : unit before tying -> [(another, the node that adds them)]
    raw : as `of`, before tying
    """

    of: dict[str, Array]
    origin: dict[int, tuple[str, int]]
    pinned: dict[int, str]
    ties: dict[int, list[tuple[int, str]]]
    raw: dict[str, Array]


def units(model: Model) -> Units:
    """Returns which channel of which node is the same unit.

    Raises UserError for a layer that does not say what becomes of channels.
    """
    raw, origin, ties = {}, {}, {}
    ways = couplings(model)

    def fresh(node: str, n: int) -> Array:
        ids = np.arange(len(origin), len(origin) + n)
        origin.update((int(u), (node, c)) for c, u in enumerate(ids))
        return ids

    raw[INPUT] = fresh(INPUT, model.input_shape[0])
    for name, way in ways.items():
        ins = [raw[i] for i in way.inputs]
        raw[name] = fresh(name, way.channels) if way.ends else way.pass_on(ins)
        for other in ins[1:] if way.ties else ():
            for a, b in zip(ins[0].tolist(), other.tolist()):
                ties.setdefault(a, []).append((b, name))
                ties.setdefault(b, []).append((a, name))
    root = np.arange(len(origin))
    for start in origin:
        if root[start] == start:
            for u in _reached(start, ties):
                root[u] = start
    last = model.nodes[-1].name if model.nodes else INPUT
    pinned = {int(root[u]): "input" for u in raw[INPUT]} | {
        int(root[u]): "output" for u in raw[last]
    }
    return Units({name: root[ids] for name, ids in raw.items()}, origin, pinned, ties, raw)


def _reached(start: int, ties) -> dict[int, tuple[int, str] | None]:
    # Every unit tied to `start`, with the step by which it was reached; breadth first, so that
    # paths are shortest.
    seen, queue = {start: None}, deque([start])
    while queue:
        u = queue.popleft()
        for v, node in ties.get(u, ()):
            if v not in seen:
                seen[v] = (u, node)
                queue.append(v)
    return seen


def tied_by(found: Units, start: int, ends: set[int]) -> list[str]:
    """Returns the nodes whose additions tie unit `start` to the nearest of `ends`, in order."""
    seen = _reached(start, found.ties)
    u = next((u for u in seen if u in ends), start)
    via = []
    while seen[u] is not None:
        u, node = seen[u]
        via.insert(0, node)
    return list(dict.fromkeys(via))
