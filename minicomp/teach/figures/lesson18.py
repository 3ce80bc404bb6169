"""Lesson 18's plot: what a teacher says of one digit at rising temperatures, and what is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...report.palette import GREY, LABEL, LIGHT, LINES
from ...report.plots import style
from ..asking.shown import Figure
from .drawing import axes, picture


def soft_bars(
    bars: Mapping[int, Sequence[float]], errors: Sequence[float], *, alone: float, teacher: float,
    guess: float | None = None, digit: int = 2,
) -> Figure:
    """Draws the teacher's probabilities of the ten classes at each temperature, and test errors of
    the students that were taught with it.

    bars : {T: (10,) percent} of one image of `digit`        errors : percent, one a temperature
    alone, teacher : errors of the student from labels alone, and of the teacher, percent
    guess : of the error of the best student, percent
    """
    with style():
        ax = axes((10.2, 4.2))
        grid = ax.figure.add_gridspec(len(bars), 2, width_ratios=(1.15, 1))
        ax.set_subplotspec(grid[0, 0])
        for i, (T, each) in enumerate(bars.items()):
            if i:
                ax = ax.figure.add_subplot(grid[i, 0])
            _draw_bars(ax, each, f"T = {T:g}", digit)
            ax.tick_params(labelbottom=i == len(bars) - 1)
        ax.set_xlabel("class; bars are percent")
        first = ax.figure.axes[0]
        first.set_title(f"What the teacher says of one {digit}")
        _draw_errors(ax.figure.add_subplot(grid[:, 1]), list(bars), errors, alone, teacher, guess)
        return picture(ax, _in_words(bars, errors, alone, teacher, guess, digit))


def _draw_bars(ax, percent: Sequence[float], name: str, digit: int) -> None:
    colours = [LINES[0] if k == digit else LINES[1] for k in range(len(percent))]
    ax.bar(range(len(percent)), percent, color=colours, width=0.7)
    for k, value in enumerate(percent):
        if value >= 0.05:
            ax.annotate(f"{value:.3g}", (k, value), (0, 1), ha="center", fontsize=8,
                        textcoords="offset points")
    ax.set_ylim(0, 128)
    ax.set_yticks([])
    ax.set_xticks(range(len(percent)))
    ax.spines["left"].set_visible(False)
    ax.annotate(name, (0.995, 0.72), xycoords="axes fraction", ha="right", fontsize=9.5)


def _draw_errors(ax, temperatures, errors, alone, teacher, guess) -> None:
    ax.plot(temperatures, errors, color=LINES[0], marker="o", label="distilled")
    for y, name, line in ((alone, "labels alone", "--"), (teacher, "teacher", "-.")):
        ax.axhline(y, color="black", linestyle=line, linewidth=1, label=f"{name}: {y:.2f} %")
    if guess:
        ax.axhline(guess, color=GREY, linestyle=":", linewidth=1.2)
        ax.annotate(f"your guess: {guess:g} %", (temperatures[-1], guess), (0, 3), ha="right",
                    textcoords="offset points", fontsize=9.5, bbox=LABEL)
    ax.set_xscale("log")
    ax.set_xticks(temperatures, [f"{T:g}" for T in temperatures])
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.set_xlabel("temperature T")
    ax.set_ylabel("test error, %")
    ax.set_title("What the student learns from it")
    ax.grid(color=LIGHT, linewidth=0.6)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 0.12))


def _in_words(bars, errors, alone, teacher, guess, digit: int) -> str:
    said = "; ".join(
        f"T = {T:g}: " + ", ".join(f"{k} {v:.3g}" for k, v in enumerate(each) if v >= 0.05)
        for T, each in bars.items())
    learnt = ", ".join(f"{e:.2f} at T = {T:g}" for T, e in zip(bars, errors))
    told = f" Your guess: {guess:g}." if guess else ""
    return (f"Left: what the teacher says of one {digit}, percent by class. {said}. Right: test"
            f" error in % of the distilled student: {learnt}; from labels alone {alone:.2f},"
            f" teacher {teacher:.2f}.{told}")


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    bars = {int(T): r[f"bars_{T:.0f}"] for T in r["temperatures"]}
    return soft_bars(bars, r["errors"], alone=r["error_alone"], teacher=r["error_teacher"])
