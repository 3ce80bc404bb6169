"""Lesson 15's plot: test error against 1/compression, of hashing and of what competes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...report.palette import GREY
from ...report.plots import LIGHT, LINES, MARKERS, style
from ..asking.shown import Figure
from .drawing import axes, picture

NAMES = ("hashed", "smaller", "low rank", "edges removed")
RATIOS = (8, 16, 32, 64)


def error_by_size(errors: Mapping[str, Sequence[float]], dense: float, *,
                  ratios: Sequence[int] = RATIOS, guess: float | None = None) -> Figure:
    """Draws test errors, percent, against what is stored of the whole net, both logarithmic.

    errors : by name, one for each of `ratios`: 8 stores a number for 8 weights
    dense : that of the whole net        guess : of the first name's error at the last ratio
    """
    with style():
        ax = axes((8.4, 4.2))
        stored = [1 / r for r in ratios]
        for i, (name, each) in enumerate(errors.items()):
            ax.plot(stored, each, color=LINES[i], marker=MARKERS[i], markersize=7, label=name,
                    linestyle=("-", "--", "-.", ":")[i % 4])
        ax.axhline(dense, color="black", linewidth=1, label=f"whole net: {dense:.2f} %")
        if guess:
            ax.axhline(guess, color=GREY, linestyle=":", linewidth=1.6,
                       label=f"your guess: {guess:g} %")
        _scales(ax, ratios, stored)
        said = "; ".join(f"{name} " + ", ".join(f"{e:.2f}" for e in each)
                         for name, each in errors.items())
        at = ", ".join(f"1/{r}" for r in ratios)
        told = f" Your guess for {next(iter(errors))} at 1/{ratios[-1]}: {guess:g} %." if guess \
            else ""
        return picture(ax, f"Test error in % with {at} of the weights' numbers stored: {said}; "
                           f"the whole net {dense:.2f}.{told}")


def _scales(ax, ratios: Sequence[int], stored: Sequence[float]) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(stored, [f"1/{r}" for r in ratios])
    ax.minorticks_off()
    ax.set_yticks([y for y in (1, 2, 5, 10, 20, 50, 90) if ax.get_ylim()[0] < y < ax.get_ylim()[1]])
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    ax.set_xlabel("numbers stored, of the weights of the whole net")
    ax.set_ylabel("test error, %")
    ax.set_title("What a number for 8 .. 64 weights can do")
    ax.legend(frameon=True, facecolor="white", edgecolor="none")
    ax.grid(color=LIGHT, linewidth=0.6)


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    keys = ("hashed", "smaller", "low_rank", "edges")
    return error_by_size({name: r[key] for name, key in zip(NAMES, keys)}, r["error_dense"])
