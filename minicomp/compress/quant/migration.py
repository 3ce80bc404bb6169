"""What SmoothQuant and AWQ have in common: scales that move from activations into weights."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...nn.graph import Model
from ...nn.layers import Layer
from ...nn.taps import observe
from ...tensor import Array, no_grad
from ..technique import Run
from .rescaling import Site, rescaled, sites


def weight_peaks(layer: Layer) -> Array:
    """Returns the largest |w| that reads each input channel of a mixing layer, (C,)."""
    with no_grad():
        w = np.abs(layer.forms["weight"].dense().data)
    G = layer.groups
    return w.reshape(G, len(w) // G, w.shape[1], -1).max(axis=(1, 3)).reshape(-1)


def input_peaks(model: Model, x: Array, readers: Iterable[str]) -> dict[str, Array]:
    """Returns the largest |X_j| over examples and places of each channel that nodes read, by node.
    """
    read = {name: model.node(name).inputs[0] for name in readers}
    peaks: dict[str, Array] = {}
    for taps in observe(model, x, set(read.values())):
        for name, a in taps.items():
            a = np.abs(a).max(axis=(0, *range(2, a.ndim)))
            peaks[name] = np.maximum(a, peaks.get(name, 0))
    return {name: peaks[value] for name, value in read.items()}


def input_means(model: Model, x: Array, readers: Iterable[str]) -> dict[str, Array]:
    """Returns the mean |X_j| over examples and places of each channel that nodes read, by node."""
    read = {name: model.node(name).inputs[0] for name in readers}
    sums: dict[str, Array] = {}
    for taps in observe(model, x, set(read.values())):
        for name, a in taps.items():
            a = np.abs(a).mean(axis=tuple(range(2, a.ndim)), dtype=np.float64).sum(axis=0)
            sums[name] = a + sums.get(name, 0)
    return {name: sums[value] / len(x) for name, value in read.items()}


def all_readers(found: list[Site]) -> list[str]:
    """Returns the nodes that read channels of any of the sites, each once."""
    return list(dict.fromkeys(name for site in found for name in site.readers))


def joined(divisors: dict[str, Array], more: dict[str, Array]) -> dict[str, Array]:
    """Returns both: where a node is in both, its channels are of one site or the other."""
    return divisors | {name: s * divisors.get(name, 1.0) for name, s in more.items()}


def migrated(word: str, model: Model, divisors: dict[str, Array], run: Run) -> Model:
    """Returns the model whose channels are divided, see `rescaled`; says so where none can be."""
    if not divisors:
        run.log({"event": "say", "text": f"{word}: no channels of this net can be divided"})
    return rescaled(model, divisors, word)


def halved(word: str, model: Model) -> Model:
    """Returns the model, every channel that can be divided by 2: a sketch of any migration."""
    divisors: dict[str, Array] = {}
    for site in sites(model):
        divisors = joined(divisors, site.divisors(np.full(site.n, 2.0)))
    return rescaled(model, divisors, word)
