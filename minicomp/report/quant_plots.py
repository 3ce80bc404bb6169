"""Pictures of quantization: where a tensor's range is cut, and what every criterion says to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import printable
from .palette import LIGHT, LINES, MARKERS
from .plots import axes, styled

Array = np.ndarray
DASHES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)))
ROW = 13  # points between two labels


@styled
def plot_thresholds(histogram, curves: Mapping[str, tuple[Array, Array]], ax=None,
                    unit: str = "unit of x"):
    """Draws the histogram of |x|, the criterion of each method over T, and the T that it chooses.

    histogram : of `compress.quant.ranges`, or anything with `magnitudes() -> (counts, width)`
    curves : {method: (T, criterion)} as of `threshold_curves`; one T alone is a line
    unit : of x, for the axes
    A label names each method and its T, in its colour, on a row of its own above the axes. Returns
    the axes of the counts.
    """
    ax, unit = axes(ax, (6.4, 4.6)), printable(unit)
    counts, width = histogram.magnitudes()
    end = len(counts) * width
    ax.stairs(counts, width * np.arange(len(counts) + 1), fill=True, color=LIGHT)
    ax.set_yscale("log")
    ax.set_ylim(0.5, 2 * counts.max())
    ax.set_xlim(0, end)
    ax.set_xlabel(f"|x| and threshold T, {unit}")
    ax.set_ylabel(f"numbers in a bin of {width:.3g} {unit}")
    over = ax.twinx()
    over.spines["right"].set_visible(True)
    over.set_yscale("log")
    over.set_ylabel(f"divergence, nats; mse, ({unit})²")
    chosen = {}
    for i, (name, (T, values)) in enumerate(curves.items()):
        T, values = np.asarray(T), np.asarray(values)
        chosen[name] = float(T[np.argmin(values)]), LINES[i % len(LINES)]
        if len(T) > 1:
            _draw(over, T, values, i)
    _label(ax, chosen, end)
    return ax


def _draw(ax, T: Array, values: Array, i: int) -> None:
    # The curve where it is finite and above 0, which a logarithmic axis needs, and its least value.
    colour, at = LINES[i % len(LINES)], int(np.argmin(values))
    shown = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    ax.plot(T, shown, linewidth=1.3, color=colour, linestyle=DASHES[i % len(DASHES)])
    ax.plot(T[at], shown[at], MARKERS[i % len(MARKERS)], color=colour, markersize=6,
            markeredgecolor="white")


def _label(ax, chosen: Mapping[str, tuple[float, str]], end: float) -> None:
    # A row each, so that no label lies on another; to the side of the line on which there is more
    # room, and the rows in the order in which no line runs through a label.
    left = np.mean([T for T, _ in chosen.values()] or [0]) > end / 2
    rows = sorted(chosen.items(), key=lambda item: item[1][0], reverse=not left)
    for row, (name, (T, colour)) in enumerate(rows):
        up = 8 + ROW * row
        ax.axvline(T, color=colour, linewidth=0.9)
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
        at = {"xy": (T, 1), "xycoords": ("data", "axes fraction"), "annotation_clip": False,
              "textcoords": "offset points"}
        ax.annotate("", xytext=(0, up + 4), arrowprops=line, **at)
        ax.annotate(f"{printable(name)} {T:.3g}", xytext=(-4 if left else 4, up), va="center",
                    ha="right" if left else "left", color=colour, fontsize=9.5, **at)
