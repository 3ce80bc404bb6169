"""Lesson 13's plot: what rounding leaves of the updates, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence

from ...report.plots import LIGHT, LINES, MARKERS, style
from ..asking.shown import Figure
from .drawing import axes, picture

Numbers = Sequence[float]
NAMES = ("nearest", "stochastic")


def updates_lost(
    lost: tuple[Numbers, Numbers],
    arrived: tuple[Numbers, Numbers],
    *,
    guess: float | None = None,
) -> Figure:
    """Draws by epoch the share of updates that rounding undid; and beside it the share of the
    movement that arrived.

    lost, arrived : of rounding to nearest, and of stochastic rounding, percent, a number an epoch
    guess : of the share lost under rounding to nearest
    """
    with style():
        ax = axes((9.2, 3.9))
        grid = ax.figure.add_gridspec(1, 2)
        ax.set_subplotspec(grid[0])
        _draw(ax, lost, "updates that rounding undid")
        beside = ax.figure.add_subplot(grid[1])
        _draw(beside, arrived, "movement that arrived")
        beside.axhline(100, color="black", linestyle="--", linewidth=1)
        beside.annotate("all of it", (1, 100), (0, 4), textcoords="offset points", fontsize=9.5)
        if guess is not None:
            ax.axhline(guess, color="black", linestyle=":", linewidth=1.6)
            ax.annotate(f"your guess: {guess:g} %", (1, guess), (0, -12),
                        textcoords="offset points", fontsize=9.5)
        ax.legend(loc="lower right")
        ends = [f"{name} {a[-1]:.1f} % and {b[-1]:.1f} %" for name, a, b in zip(
            NAMES, lost, arrived)]
        return picture(
            ax,
            f"Left, the share of weight updates that rounding undid, right, the share of the "
            f"movement that arrived, over {len(lost[0])} epochs. In the last epoch: "
            f"{'; '.join(ends)}." + (f" Your guess: {guess:g} % undone." if guess is not None
                                     else ""),
        )


def _draw(ax, series: tuple[Numbers, Numbers], title: str) -> None:
    for i, (name, values) in enumerate(zip(NAMES, series)):
        ax.plot(range(1, len(values) + 1), values, color=LINES[i], marker=MARKERS[i], label=name,
                linestyle=("-", "-.")[i])
    ax.set_ylim(0, 112)
    ax.set_xticks(range(1, len(series[0]) + 1))
    ax.set_xlabel("epoch")
    ax.set_ylabel("percent")
    ax.set_title(title)
    ax.grid(color=LIGHT, linewidth=0.6)


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    return updates_lost((r["lost"], r["lost_sr"]), (r["arrived"], r["arrived_sr"]))
