"""Lesson 16's plot: milliseconds of a product of signs, as bits, as floats and as integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...report.palette import GREY, LINES, name_rows
from ...report.plots import style
from ..asking.shown import Figure
from .drawing import axes, picture

NAMES = ("popcount", "sgemm", "naive")
SHAPES = ((256, 1024, 1024), (1, 1024, 1024), (4096, 9, 16))  # rows, inner, out
Shape = tuple[int, int, int]


def speed_bars(ms: Mapping[str, Sequence[float]], *, shapes: Sequence[Shape] = SHAPES,
               guess: float | None = None) -> Figure:
    """Draws bars of milliseconds by shape, on logarithmic axes of their own.

    ms : by NAMES, a number a shape
    guess : how many times as fast as sgemm popcount is at the first shape; a line where that is
    """
    titles = [" x ".join(f"{side:,}" for side in shape) for shape in shapes]
    with style():
        ax = axes((10.4, 2.9))
        grid = ax.figure.add_gridspec(1, len(titles), wspace=0.12)
        for i, title in enumerate(titles):
            if i:
                ax = ax.figure.add_subplot(grid[i])
            else:
                ax.set_subplotspec(grid[0])
            _bars(ax, [ms[name][i] for name in NAMES], title, named=i == 0)
            if guess and i == 0:
                at = ms["sgemm"][0] / guess
                ax.axvline(at, color=GREY, linestyle=":", linewidth=1.6)
                ax.annotate(f"your guess: {at:.2g} ms", (at, -0.5), (3, 0), va="center",
                            textcoords="offset points", fontsize=9)
        said = "; ".join(
            f"{title}: " + ", ".join(f"{name} {ms[name][i]:.3g}" for name in NAMES)
            for i, title in enumerate(titles))
        told = f" Your guess: {guess:g} times as fast as sgemm." if guess else ""
        return picture(ax, f"Milliseconds of products of signs, rows x inner x out. {said}.{told}")


def _bars(ax, values: Sequence[float], title: str, *, named: bool) -> None:
    ax.barh(range(len(values)), values, color=LINES[: len(values)], height=0.6)
    for row, value in enumerate(values):
        ax.annotate(f"{value:.3g}", (value, row), (4, 0), textcoords="offset points", va="center",
                    fontsize=9.5)
    name_rows(ax, NAMES if named else [""] * len(values))
    ax.set_xscale("log")
    ax.set_xlim(min(values) / 3, max(values) * 5)
    ax.set_xlabel("ms")
    ax.set_title(title, fontsize=10.5)


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    return speed_bars({name: r[name] for name in NAMES})
