"""Lesson 2's plot: bytes per layer beside MACs per layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...report.plots import plot_bytes_and_macs, style
from ..asking.shown import Figure
from .drawing import axes, picture


def bars_swap(names: Sequence[str], sizes: Sequence[float], macs: Sequence[int]) -> Figure:
    """Draws each layer's share of the bytes beside its share of the MACs."""
    with style():
        ax = plot_bytes_and_macs(names, sizes, macs, ax=axes((5.4, 3.3)))
        both = ", ".join(
            f"{n} {100 * s / sum(sizes):.0f} % and {100 * m / sum(macs):.0f} %"
            for n, s, m in zip(names, sizes, macs)
        )
        return picture(ax, f"Share of the bytes and share of the MACs by layer: {both}.")


def recorded(r: dict) -> Figure:
    """Draws LeNet-5's bars, which are the same in every run."""
    from ...models import LeNet5

    model = LeNet5()
    layers = [n.name for n in model.nodes if n.layer.forms]
    sizes = [
        4 * sum(int(np.prod(f.shape)) for f in model.node(n).layer.forms.values()) for n in layers
    ]
    return bars_swap(layers, sizes, [model.macs()[n] for n in layers])
