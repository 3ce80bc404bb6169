"""Lesson 14's plots: centroids on the density of the weights, and error against bytes by lambda."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...report.palette import GREY, LINES, MARKERS, name_rows
from ...report.plots import LIGHT, style
from ..asking.shown import Figure
from .drawing import axes, picture

INITS = ("linear", "density", "random")


def centroids_on_density(
    counts: Sequence[float], edges: Sequence[float], starts: Mapping[str, Sequence[float]],
    centroids: Mapping[str, Sequence[float]], rows: Mapping[str, Sequence[float]], *,
    guess: str | None = None,
) -> Figure:
    """Draws a histogram of weights, and below it where centroids start and where k-means ends.

    counts, edges : (n,), (n + 1,), of weights that were not pruned
    starts, centroids : by initialisation        rows : of each, the squared error over the least
        there is, and the net's error before and after centroids are trained, percent
    guess : the initialisation that was guessed
    """
    with style():
        ax = axes((9.4, 5.2))
        grid = ax.figure.add_gridspec(2, 1, height_ratios=(1.1, 1), hspace=0.08)
        ax.set_subplotspec(grid[0])
        ax.stairs(counts, edges, fill=True, color=LIGHT, edgecolor=GREY)
        ax.set_ylabel("weights")
        k = len(next(iter(starts.values())))
        ax.set_title(f"{k} centroids: where they start (|), and where k-means takes them")
        ax.tick_params(labelbottom=False)
        below = ax.figure.add_subplot(grid[1], sharex=ax)
        _rows(below, starts, centroids, rows, guess)
        said = "; ".join(
            f"{name} at {_list(starts[name])}, by k-means to {_list(centroids[name])}, "
            f"{_told(rows[name])}" for name in starts)
        told = f" Your guess: {guess}." if guess else ""
        return picture(ax, f"Centroids under a histogram of the weights that are left, from "
                           f"{edges[0]:.2f} to {edges[-1]:.2f}: {said}.{told}")


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.2f}" for v in values)


def _told(row: Sequence[float]) -> str:
    off, before, after = row
    return f"squared error {off:.2f} times the least, errs on {before:.2f} %, trained {after:.2f} %"


def _rows(ax, starts, centroids, rows, guess) -> None:
    for row, name in enumerate(starts):
        ax.axhline(row, color=LIGHT, linewidth=0.8, zorder=0)
        ax.plot(starts[name], [row] * len(starts[name]), "|", color="black", markersize=17,
                markeredgewidth=1.2)
        ax.plot(centroids[name], [row] * len(centroids[name]), MARKERS[row], color=LINES[row],
                markersize=7)
        ax.annotate(_told(rows[name]), (0, row), (4, 14), xycoords=("axes fraction", "data"),
                    textcoords="offset points", va="center", fontsize=9)
    name_rows(ax, [f"{name}\n(your guess)" if name == guess else name for name in starts])
    ax.set_ylim(len(starts) - 0.6, -0.7)
    ax.set_xlabel("weight")


def rate_curve(curve: Mapping[float, tuple[float, float]],
               rounded: Sequence[tuple[int, float, float]], dense: float) -> Figure:
    """Draws test errors, percent, against kilobytes of a file, by lambda and by bits of a grid.

    curve : (kilobytes, error) by lambda, of one grid
    rounded : (bits, kilobytes, error) of grids whose nearest code is taken        dense : of floats
    """
    with style():
        ax = axes((8.4, 4.0))
        ax.plot(*zip(*curve.values()), color=LINES[0], marker="o", label="one grid, lambda rises")
        ax.plot(*zip(*[(kb, error) for _, kb, error in rounded]), color=LINES[1], marker="s",
                linestyle="--", label="coarser grids, nearest code")
        for lam, (kb, error) in curve.items():
            ax.annotate(f"{lam:g}", (kb, error), (0, -12), textcoords="offset points",
                        ha="center", fontsize=9, color=LINES[0])
        for bits, kb, error in rounded:
            ax.annotate(f"{bits} bits", (kb, error), (0, 7), textcoords="offset points",
                        ha="center", fontsize=9, color=LINES[1])
        ax.axhline(dense, color="black", linewidth=1, label=f"float: {dense:.2f} %")
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        ax.yaxis.set_minor_formatter(lambda y, _: f"{y:g}" if f"{y:.0e}"[0] in "25" else "")
        ax.set_xlabel("file, kB")
        ax.set_ylabel("test error, %")
        ax.legend(frameon=True, facecolor="white", edgecolor="none")
        ax.grid(color=LIGHT, linewidth=0.6)
        said = "; ".join(f"{lam:g}: {kb:.1f} kB, {error:.2f} %"
                         for lam, (kb, error) in curve.items())
        others = "; ".join(f"{bits} bits: {kb:.1f} kB, {error:.2f} %"
                           for bits, kb, error in rounded)
        return picture(ax, f"Test error against file size by lambda: {said}. Nearest code of "
                           f"coarser grids: {others}. Float: {dense:.2f} %.")


def recorded(r: dict) -> Figure:
    """Draws the recorded means of `centroids_on_density`."""
    starts, centroids, rows = (
        dict(zip(INITS, np.reshape(r[key], (len(INITS), -1)).tolist()))
        for key in ("starts", "centroids", "rows"))
    return centroids_on_density(r["counts"], r["edges"], starts, centroids, rows)
