"""A picture of channels: how unlike the ranges of a layer's channels are, before and after."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import UserError, printable
from .palette import GREY, LINES, legend_above, name_rows
from .plots import axes, styled, write

Array = np.ndarray
APART = 0.19  # of a row: where the first and the second of two lines lie


@styled
def plot_channel_ranges(ranges: Mapping[str, Mapping[str, Array]], ax=None):
    """Draws, for each layer a row, how max |w| of its channels is spread: from the least to the
    largest a thin line, the middle half a bar, the median a tick.

    ranges : {label: {layer: (O,)}}, one or two of equal layers, as "before" and "after"; first to
        last from top to bottom. Channels of zeros are left out and counted.
    Behind a line stands the largest over the least: 1 would be a layer that one scale suits.
    Returns the axes; UserError where the layers differ or there are none.
    """
    layers = [*next(iter(ranges.values()), {})]
    if not layers or any([*found] != layers for found in ranges.values()):
        raise UserError("ranges must hold the same layers under each label, at least one, got "
                        + "; ".join(printable(", ".join(found), 80) for found in ranges.values()))
    ax = axes(ax, (6.4, 1.2 + 0.46 * len(layers)))
    ax.set_xscale("log")
    for i, (label, found) in enumerate(ranges.items()):
        shift = (2 * i - 1) * APART if len(ranges) > 1 else 0.0
        for row, layer in enumerate(layers):
            _spread(ax, np.asarray(found[layer], np.float64), row + shift, LINES[i])
        ax.plot([], [], color=LINES[i], linewidth=5, label=printable(label))
    low, high = ax.get_xlim()
    ax.set_xlim(low, high * (high / low) ** 0.12)  # room for the factors
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    between = "25" if high < 100 * low else ""  # over more decades there is no room
    ax.xaxis.set_minor_formatter(lambda v, _: f"{v:g}" if f"{v:.0e}"[0] in between else "")
    ax.tick_params(axis="x", which="both", length=3.5)
    ax.set_xlabel("largest |w| of a channel, unit of the weights")
    ax.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
    name_rows(ax, [printable(layer, 40) for layer in layers])
    legend_above(ax, len(ranges))
    return ax


def _spread(ax, peaks: Array, y: float, colour: str) -> None:
    alive = peaks[peaks > 0]
    gone = f", {len(peaks) - len(alive)} of 0" if len(alive) < len(peaks) else ""
    if not len(alive):
        ax.text(0.01, y, f"all {len(peaks)} of 0", color=colour, va="center", fontsize=9.5,
                transform=ax.get_yaxis_transform())
        return
    least, lower, median, upper, largest = np.quantile(alive, (0, 0.25, 0.5, 0.75, 1))
    ax.plot([least, largest], [y, y], color=colour, linewidth=1.2, solid_capstyle="butt")
    ax.plot([lower, upper], [y, y], color=colour, linewidth=5, solid_capstyle="butt")
    ax.plot([median], [y], "|", color="black", markersize=9, markeredgewidth=1.5)
    factor = largest / least
    said = f"{factor:,.0f}" if factor >= 100 else f"{factor:.3g}"
    write(ax, f"×{said}{gone}", (largest, y), (5, 0), color=colour)
