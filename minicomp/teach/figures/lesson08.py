"""Lesson 8's plot: singular values, trained and random; and from which rank factors are slower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...report.palette import GREY, LABEL
from ...report.plots import LIGHT, LINES, MARKERS, style
from ..asking.shown import Figure
from .drawing import axes, picture

SIDES = (300, 784)  # of the lesson's matrix
RANKS = (8, 27, 54, 108, 162, 216, 270)
BATCHES = (1, 64)


def crossing(ranks: Sequence[float], ms: Sequence[float], dense: float) -> float:
    """Returns the rank at which factors take as long as the layer whole: 0 where the first rank
    already does, the last rank where none does.

    ranks : rising        ms : at each, milliseconds; between two ranks they lie on a line
    dense : milliseconds of the layer whole
    """
    slower = np.flatnonzero(np.asarray(ms) >= dense)
    if not len(slower):
        return float(ranks[-1])
    i = int(slower[0])
    if i == 0:
        return 0.0
    part = (dense - ms[i - 1]) / (ms[i] - ms[i - 1])
    return float(ranks[i - 1] + part * (ranks[i] - ranks[i - 1]))


def break_even(spectra: Mapping[str, Sequence[float]], ms: Mapping[int, Sequence[float]],
               dense: Mapping[int, float], *, ranks: Sequence[int] = RANKS,
               sides: tuple[int, int] = SIDES, guess: float | None = None) -> Figure:
    """Draws singular values, and the time of two layers over that of one, against their rank.

    spectra : by name, singular values over the largest, falling: all, or evenly spaced ones from
        the first to the last
    ms : by batch, milliseconds at each of `ranks`        dense : by batch, of the layer whole
    sides : (m, k) of the matrix, whose break-even rank by count is m k / (m + k)
    guess : of the break-even rank by the clock; a dotted line
    """
    m, k = sides
    count = m * k / (m + k)
    with style():
        ax = axes((10.4, 4.0))
        grid = ax.figure.add_gridspec(1, 2, wspace=0.12)
        ax.set_subplotspec(grid[0])
        _draw_spectra(ax, spectra, sides)
        _draw_times(ax.figure.add_subplot(grid[1]), ms, dense, ranks, count, guess)
        some = np.linspace(1, min(sides), 6)
        fallen = "; ".join(
            f"{name} {', '.join(f'{v:.2f}' for v in np.interp(some, _places(s, sides), s))}"
            for name, s in spectra.items())
        said = "; ".join(
            f"{_images(b)}: {', '.join(f'{t / dense[b]:.2f}' for t in ms[b])}, break-even at rank"
            f" {crossing(ranks, ms[b], dense[b]):.0f} and {dense[b]:.3g} ms" for b in ms)
        at = ", ".join(f"{place:.0f}" for place in some)
        told = f" Your guess: {guess:g}." if guess else ""
        return picture(
            ax, f"Left: singular values over the largest, at places {at}: {fallen}. Right: time of"
                f" two layers over that of the layer whole, {m} x {k}, at ranks"
                f" {', '.join(map(str, ranks))}: {said}; by count it is {count:.0f}.{told}")


def _places(s: Sequence[float], sides: tuple[int, int]) -> np.ndarray:
    # Of singular values among all of a matrix, from 1.
    return np.linspace(1, min(sides), len(s))


def _images(batch: int) -> str:
    return "1 image" if batch == 1 else f"{batch} images"


def _draw_spectra(ax, spectra: Mapping[str, Sequence[float]], sides: tuple[int, int]) -> None:
    for i, (name, s) in enumerate(spectra.items()):
        ax.plot(_places(s, sides), s, color=LINES[i], linestyle=("-", "--")[i % 2],
                label=name)
    ax.set_ylim(0, 1.05)
    ax.set_xlabel("i")
    ax.set_ylabel("singular value i over the largest")
    ax.set_title("Trained weights are nearer to low rank")
    ax.legend(loc="upper right")
    ax.grid(color=LIGHT, linewidth=0.6)


def _draw_times(ax, ms, dense, ranks, count: float, guess: float | None) -> None:
    most = 1.15 * max(ranks)
    ax.axhline(1, color="black", linewidth=1)
    ax.plot([0, most], [0, most / count], color=GREY, linestyle="--", linewidth=1.2,
            label="by count of products")
    for i, (batch, times) in enumerate(ms.items()):
        ax.plot(ranks, np.divide(times, dense[batch]), color=LINES[i], marker=MARKERS[i],
                markersize=6, label=f"clocked, {_images(batch)}")
        at = crossing(ranks, times, dense[batch])
        ax.plot(at, 1, color=LINES[i], marker=MARKERS[i], markersize=11, markerfacecolor="none",
                linestyle="none")
        aside = (26, -20) if i else (-26, 10)
        ax.annotate(f"{at:.0f}", (at, 1), aside, textcoords="offset points", ha="center",
                    fontsize=10, color=LINES[i], bbox=LABEL)
    if guess:
        ax.axvline(guess, color=GREY, linestyle=":", linewidth=1.4)
        ax.annotate(f"your guess: {guess:g}", (guess, 0.05), (3, 0), fontsize=9.5, bbox=LABEL,
                    textcoords="offset points")
    ax.set_xlim(0, most)
    ax.set_ylim(0, None)
    ax.set_xlabel("rank t")
    ax.set_ylabel("time of two layers / of one")
    ax.set_title("Where two layers stop being faster")
    ax.legend(loc="upper left")
    ax.grid(color=LIGHT, linewidth=0.6)


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    return break_even({"trained": r["trained"], "random": r["random"]},
                      {b: r[f"ms_{b}"] for b in BATCHES}, {b: r[f"dense_{b}"] for b in BATCHES})
