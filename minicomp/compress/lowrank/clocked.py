"""Ranks by the clock: what a layer's factors take in milliseconds, and ranks within a limit.

Fewer multiplications are not as much less time: two small products read and write more than one,
and a narrow matrix keeps fewer lanes busy. So each layer is run alone at a few ranks and as it is,
in turn, and the choice is that of least relative error whose times, and those of the rest of the
net, stay within the limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ...deploy import lower
from ...errors import UserError
from ...kernels.threads import blas
from ...nn.graph import Model, chain
from ...nn.layers import Layer
from ...tensor import Array
from ...timing import race
from ..allocation import allocate
from ..technique import Run

LADDER = 10  # ranks of a layer that are clocked, at most
SECONDS = 0.4  # that the options of a layer are clocked, about; and the net
SHORTEST = 2e-3  # seconds of one timing
TICK = 1e-5  # of the limit: times are whole numbers of it, so that equal ones are equal


def ladder(most: int) -> list[int]:
    """Returns at most LADDER ranks from 1 to `most`, in equal ratios, ascending; none where it is
    0."""
    if most < 1:
        return []
    return sorted({int(t) for t in np.rint(np.geomspace(1, most, LADDER))})


def milliseconds(nets: Mapping[int, Model], batch: int, seconds: float = SECONDS
                 ) -> dict[int, float]:
    """Returns the median milliseconds in which each net's program runs `batch` examples, in turn,
    on one thread.

    nets : of the same input
    """
    plans = {key: lower(net).plan(batch) for key, net in nets.items()}
    x = np.random.default_rng(0).random((batch, *next(iter(nets.values())).input_shape), np.float32)
    calls = {key: lambda plan=plan: plan(x) for key, plan in plans.items()}
    with blas(1):
        times = race(calls, seconds=seconds, shortest=SHORTEST)
    return {key: 1e3 * t for key, t in times.items()}


def alone(layers: Sequence[Layer], shape: tuple[int, ...]) -> Model:
    """Returns a net of layers in a row alone.   shape : of the input, without N"""
    return Model(chain(*((f"layer{i}", layer.copy()) for i, layer in enumerate(layers))),
                 input_shape=shape)


def rank_times(cut, shape: tuple[int, ...], ranks: Iterable[int], batch: int) -> dict[int, float]:
    """Returns the milliseconds of a layer at each rank, and at 0 those of the layer as it is.

    cut : a `cuts.Cut`        shape : of its input, without N
    """
    nets = {0: alone([cut.layer], shape)}
    return milliseconds(nets | {t: alone(cut.layers(t), shape) for t in ranks}, batch)


def ranks_within(word: str, model: Model, cuts: Mapping, limit: float, batch: int, run: Run
                 ) -> dict[str, int]:
    """Returns the ranks of least relative error, summed, with which the net stays in the limit.

    word : of the technique, for messages        cuts : by node, a `cuts.Cut`
    limit : milliseconds of the net for `batch` images        run : its log
    Nodes that stay as they are have no entry. Raises UserError where no choice is fast enough.
    """
    net, times = layer_times(word, model, cuts, batch, run)
    if net <= limit:
        return {}
    rest = max(0.0, net - sum(t[0] for t in times.values()))
    least = rest + sum(min(t.values()) for t in times.values())
    if limit < least:
        raise UserError(f"{word}: ms must be at least {least:.3g}, measured here, for {batch} "
                        f"images, got {limit:g}")
    ranks = {name: list(t) for name, t in times.items()}
    errors = [[dropped(cuts[name].spectrum, t) for t in tried] for name, tried in ranks.items()]
    ticks = [[int(ms / (TICK * limit)) for ms in times[name].values()] for name in ranks]
    found = allocate(errors, ticks, (limit - rest) / (TICK * limit))
    chosen = {name: tried[i] for (name, tried), i in zip(ranks.items(), found)}
    taken = rest + sum(times[name][t] for name, t in chosen.items())
    run.log({"event": "say", "net_ms": net, "ms": taken, "times": times, "text":
             f"{word}: a batch of {batch} took {net:.3g} ms and takes about {taken:.3g}"})
    return {name: t for name, t in chosen.items() if t}


def layer_times(word: str, model: Model, cuts: Mapping, batch: int, run: Run
                ) -> tuple[float, dict[str, dict[int, float]]]:
    """Returns the milliseconds of the net, and of each layer by rank as `rank_times`.

    Layers alone may seem slower than the net that has them, when the machine was slower then: their
    times are brought down to that of the net in all.
    """
    shapes, times = model.shapes(), {}
    net = milliseconds({0: model}, batch)[0]
    for done, (name, cut) in enumerate(cuts.items(), start=1):
        most = min(cut.way.paying(cut.layer), len(cut.spectrum))
        times[name] = rank_times(cut, shapes[model.node(name).inputs[0]], ladder(most), batch)
        run.log({"event": "progress", "name": word, "done": done, "total": len(cuts)})
    scale = min(1.0, net / sum(t[0] for t in times.values()))
    return net, {name: {t: scale * ms for t, ms in each.items()} for name, each in times.items()}


def dropped(spectrum: Array, rank: int) -> float:
    """Returns the fraction of energy that a rank drops; 0 for rank 0, the layer as it is."""
    squares = np.square(spectrum)
    return float(squares[rank:].sum() / max(squares.sum(), np.finfo(float).tiny)) if rank else 0.0
