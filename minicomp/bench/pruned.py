"""Races of pruned nets: zeros masked, zeros skipped, channels removed."""

from __future__ import annotations

from collections.abc import Iterator
from operator import truediv

import numpy as np

from ..compress.prune.filters import Filters
from ..compress.prune.magnitude import Magnitude
from ..compress.share.kmeans import KMeans
from ..deploy import Plan, lower
from ..models import MODELS
from ..nn.forms import Dense
from ..nn.graph import Model
from .race import Log, Row, race, row
from ..compress.technique import Run

SPARSITY, BITS = 0.92, 5  # of the weights, as in Han et al. 2015; and of the shared ones
HALF = 0.5  # of the channels and units


def removal(peers: bool, log: Log) -> Iterator[Row]:
    """Yields pruned LeNets beside their dense selves: one image, and a batch of 64.

    Shapes and zeros decide the time, not training: weights are as drawn.
    """
    skipped = f"{100 * SPARSITY:g} % zeros skipped"
    for name in ("lenet300", "lenet5"):
        for batch in (1, 64):
            rng = np.random.default_rng(0)
            nets = contestants(name, rng)
            x = rng.normal(size=(batch, *nets["masked"].input_shape)).astype(np.float32)
            times = race({key: lambda f=f: f(x) for key, f in plans(nets, batch).items()})
            shape = f"{name}, {batch} image{'s' if batch > 1 else ''}"
            macs = (sum(nets[key].macs().values()) for key in ("masked", "removed"))
            fewer = "{:.1f} x fewer MACs".format(truediv(*macs))
            for title, ours, peer, note in (
                ("half of the units removed", "removed", "masked", fewer),
                (skipped, "zeros skipped", "zeros multiplied", ""),
                (f"{skipped}, {BITS}-bit codes", "codes skipped", "codes multiplied", ""),
            ):
                yield row(title, shape, {"ours": times[ours], peer: times[peer]}, peer, note)


def contestants(name: str, rng: np.random.Generator) -> dict[str, Model]:
    """Returns nets by what was done to them; "removed" computes what "masked" does.

    Units are masked, so that the net keeps its shape, or removed; single weights are pruned, and
    then shared.
    """
    model = MODELS[name](rng=rng)
    masked = _emptied(model)
    pruned = Magnitude(sparsity=SPARSITY).apply(model, None, Run(rng))
    shared = KMeans(bits=BITS).apply(pruned, None, Run(rng))
    return {
        "masked": masked,
        "removed": Filters(sparsity=HALF).apply(masked, None, Run(rng)),
        "zeros": pruned,
        "codes": shared,
    }


def plans(nets: dict[str, Model], batch: int) -> dict[str, Plan]:
    """Returns what races: zeros of single weights are multiplied by dense BLAS, or skipped."""
    programs = {key: lower(net) for key, net in nets.items()}
    dense = {key: p.plan(batch, skip_zeros=False) for key, p in programs.items()}
    return {
        "masked": dense["masked"],
        "removed": dense["removed"],
        "zeros multiplied": dense["zeros"],
        "zeros skipped": programs["zeros"].plan(batch),
        "codes multiplied": dense["codes"],
        "codes skipped": programs["codes"].plan(batch),
    }


def _emptied(model: Model) -> Model:
    # Half of the units of every layer but the last have weights and bias 0.
    model = model.copy()
    layers = [n.name for n in model.nodes if "weight" in n.layer.forms]
    for name in layers[:-1]:
        for part in ("weight", "bias"):
            form = model.forms()[f"{name}.{part}"]
            mask = np.zeros(form.shape, bool)
            mask[len(mask) // 2 :] = True
            model.set_form(f"{name}.{part}", Dense(form.dense().data, mask))
    return model
