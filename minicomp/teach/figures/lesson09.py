"""Lesson 9's plot: a layer's atoms, which of them a filter looks up, and what look-ups cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...report.palette import GREY, LABEL
from ...report.plots import LIGHT, LINES, MARKERS, style
from ..asking.shown import Figure
from .drawing import axes, picture

Array = np.ndarray
LOOKUPS = (1, 2, 3, 5)
PLUS, MINUS = LINES[0], "white"  # a square's fill: a negative number is an empty one


def atoms_and_lookups(D: Array, P: Array, errors: Mapping[str, Sequence[float]], dense: float, *,
                      lookups: Sequence[int] = LOOKUPS, guess: float | None = None) -> Figure:
    """Draws a dictionary, the look-ups of one filter, and test errors against look-ups.

    D : (k, C), the atoms        P : (K, L, k), coefficients by place of one filter
    errors : by name, percent, one for each of `lookups`        dense : of the net before, percent
    guess : of the last name's error with two look-ups; a dotted line
    """
    k, C = D.shape
    places = P.reshape(-1, k)
    with style():
        ax = axes((13.2, 3.3))
        grid = ax.figure.add_gridspec(1, 3, width_ratios=(C, len(places), 18))
        ax.set_subplotspec(grid[0])
        _squares(ax, D / np.abs(D).max(axis=1, keepdims=True))
        ax.set_xlabel("channel")
        ax.set_ylabel("atom")
        ax.set_title(f"{k} atoms of {C} channels")
        _draw_map(ax.figure.add_subplot(grid[1]), P)
        _draw_errors(ax.figure.add_subplot(grid[2]), errors, dense, lookups, guess)
        used = ", ".join(map(str, np.count_nonzero(places, axis=0)))
        largest = ", ".join(map(str, np.abs(D).argmax(axis=1)))
        return picture(
            ax, f"Left: {k} atoms of {C} channels; largest in size are channels {largest}. Middle:"
                f" of one filter's {len(places)} places {np.count_nonzero(places)} look-ups, by"
                f" atom {used}; {int((places < 0).sum())} coefficients are negative, drawn as empty"
                f" squares. Right: {_in_words(errors, dense, lookups, guess)}")


def accuracy_by_lookups(errors: Mapping[str, Sequence[float]], dense: float, *,
                        lookups: Sequence[int] = LOOKUPS, guess: float | None = None) -> Figure:
    """Draws the right part of `atoms_and_lookups` alone."""
    with style():
        ax = axes((6.4, 4.0))
        _draw_errors(ax, errors, dense, lookups, guess)
        said = _in_words(errors, dense, lookups, guess)
        return picture(ax, said[0].upper() + said[1:])


def _in_words(errors, dense: float, lookups, guess: float | None) -> str:
    said = "; ".join(f"{name} " + ", ".join(f"{e:.2f}" for e in each)
                     for name, each in errors.items())
    told = f" Your guess for 2: {guess:g} %." if guess else ""
    return (f"test error in % with {', '.join(map(str, lookups))} look-ups of a vector: {said}; the"
            f" net before {dense:.2f}.{told}")


def _squares(ax, values: Array) -> None:
    # Area by size, filled where positive: rows from the top, largest size 1.
    rows, columns = values.shape
    row, column = np.nonzero(values)
    v = values[row, column]
    side = 0.92 * np.sqrt(np.minimum(1, np.abs(v)))
    ax.bar(column, side, side, bottom=row - side / 2, linewidth=0.8, edgecolor=PLUS,
           color=np.where(v > 0, PLUS, MINUS).tolist())
    ax.set_xlim(-0.7, columns - 0.3)
    ax.set_ylim(rows - 0.3, -0.7)
    ax.set_aspect("equal")
    ax.set_yticks(range(rows))
    ax.tick_params(length=0)


def _draw_map(ax, P: Array) -> None:
    K, L, k = P.shape
    _squares(ax, P.reshape(-1, k).T / max(np.abs(P).max(), 1e-12))
    for r in range(1, K):
        ax.axvline(r * L - 0.5, color=LIGHT, linewidth=1)
    ax.set_xticks([r * L + (L - 1) / 2 for r in range(K)], [f"row {r}" for r in range(K)])
    ax.set_xlabel(f"place of the kernel, {L} in each row")
    ax.set_ylabel("atom looked up")
    ax.set_title("One filter's look-ups (empty: negative)")


def _draw_errors(ax, errors, dense: float, lookups, guess: float | None) -> None:
    for i, (name, each) in enumerate(errors.items()):
        ax.plot(lookups, each, color=LINES[i], marker=MARKERS[i], markersize=7, label=name,
                linestyle=("-", "--", "-.")[i % 3])
    ax.axhline(dense, color="black", linewidth=1, label=f"net before: {dense:.2f} %")
    if guess:
        ax.axhline(guess, color=GREY, linestyle=":", linewidth=1.4)
        ax.annotate(f"your guess: {guess:g} %", (lookups[-1], guess), (0, 3), ha="right",
                    textcoords="offset points", fontsize=9.5, bbox=LABEL)
    ax.set_yscale("log")
    ax.set_xticks(list(lookups))
    low, high = ax.get_ylim()
    ax.set_yticks([y for y in (0.5, 1, 2, 5, 10, 20, 50, 90) if low < y < high])
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    ax.yaxis.set_minor_formatter(lambda y, _: "")
    ax.set_xlabel("look-ups of a vector")
    ax.set_ylabel("test error, %")
    ax.set_title("Accuracy against look-ups")
    ax.legend(frameon=True, facecolor="white", edgecolor="none")
    ax.grid(color=LIGHT, linewidth=0.6)


def recorded(r: dict) -> Figure:
    """Draws the recorded means: of errors alone, as atoms are others in every run."""
    errors = {"looked up": r["cut"], "trained on": r["tuned"]}
    return accuracy_by_lookups(errors, r["error_dense"])
