"""Error against what a net costs, and the front of those that no other net beats."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..comparison import COSTS, Compared, Setting, front
from .palette import GREY, LIGHT, LINES, MARKERS, log_labels
from .plots import figure, styled

NAMES = {"bytes": "bytes of the file", "macs": "multiplications an image",
         "ms": "milliseconds an image", "energy": "modelled microjoules an image"}
SETTINGS = ("filled: on the front by validation errors; bars: 95 % interval; bands: least to most "
            "of the seeds")
LEGEND = 14  # lines of a column
LEAST = 0.01  # %; a logarithmic axis has no place for 0 errors


@styled
def plot_fronts(rows: Sequence[Compared], *, examples: str = "") -> list:
    """Draws the error of each file against its costs, a panel each, with intervals; returns axes.

    rows : at least one; a cost that none of them has gets no panel
    examples : on which errors were counted, "10,000 test images"
    A line joins the front; files are numbered as in the legend. Settings of a sweep have a band
    from the least to the most error of their seeds, and their front is chosen by other examples.
    """
    shown = [cost for cost in COSTS if any(row.cost(cost) is not None for row in rows)]
    columns = 1 + (len(rows) - 1) // LEGEND
    made = figure((3.6 * len(shown) + 0.4, 3.6 + 0.2 * math.ceil(len(rows) / columns)))
    panels = list(made.subplots(1, len(shown), sharey=True, squeeze=False)[0])
    for ax, cost in zip(panels, shown):
        _panel(ax, rows, cost)
    panels[0].set_yscale("log")
    log_labels(panels[0])
    panels[0].set_ylabel(f"error, % of {examples}" if examples else "error, %")
    handles, labels = panels[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower left", ncols=columns, handletextpad=0.4,
                title=SETTINGS if isinstance(rows[0], Setting) else None, alignment="left")
    return panels


def _panel(ax, rows: Sequence[Compared], cost: str) -> None:
    best = front([row.judged for row in rows], [row.cost(cost) for row in rows])
    line = sorted((_place(row, cost), _percent(row.error)) for row, on in zip(rows, best) if on)
    ax.plot([c for c, _ in line], [e for _, e in line], color=GREY, linewidth=1,
            drawstyle="steps-post", zorder=1)
    here: dict[tuple[float, float], list[str]] = {}
    for i, row in enumerate(rows):
        if row.cost(cost) is None:
            continue
        at, error = _place(row, cost), _percent(row.error)
        arms = [[error - _percent(row.low)], [_percent(row.high) - error]]
        colour = LINES[i % len(LINES)]
        ax.errorbar([at], [error], arms, color=colour, marker=MARKERS[i // len(LINES)
                    % len(MARKERS)], markersize=6, linewidth=1, capsize=2, linestyle="none",
                    markerfacecolor=colour if best[i] else "white",
                    label=f"{i + 1}  {row.title}")
        if isinstance(row, Setting):
            _seeds(ax, row, cost, colour)
        here.setdefault((at, error), []).append(str(i + 1))
    for place, numbers in here.items():
        ax.annotate(", ".join(numbers), place, (6, 4), textcoords="offset points", fontsize=9)
    ax.set_xscale("log")
    _limits(ax, [_place(row, cost) for row in rows if row.cost(cost) is not None])
    ax.set_xlabel(NAMES[cost])
    ax.grid(color=LIGHT, linewidth=0.6)


def _seeds(ax, row: Setting, cost: str, colour: str) -> None:
    # From the least to the most of its seeds, where there are several.
    if row.seeds > 1:
        ends = [_percent(error) for error in row.ranges["error"]]
        ax.plot(2 * [_place(row, cost)], ends, color=colour, linewidth=5, alpha=0.35, zorder=1.5,
                solid_capstyle="butt")


def _limits(ax, costs: Sequence[float]) -> None:
    # Room around the marks, a factor of 5 at least, labelled by numbers as they are.
    low, high = min(costs), max(costs)
    room = max(1.4, math.sqrt(5 * low / high))
    ax.set_xlim(low / room, high * room)
    digits = "25" if high * room < 20 * low / room else ""
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:,.10g}")
    ax.xaxis.set_minor_formatter(lambda v, _: f"{v:,.10g}" if f"{v:.0e}"[0] in digits else "")
    ax.tick_params(axis="x", which="minor", labelsize=9)


def _place(row: Compared, cost: str) -> float:
    return row.cost(cost) or 1  # a net of zeros multiplies nothing, and the axis is logarithmic


def _percent(error: float) -> float:
    return max(100 * error, LEAST)
