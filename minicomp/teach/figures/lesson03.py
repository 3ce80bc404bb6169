"""Lesson 3's plot: MACs of an image against its milliseconds, by kind of layer and block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...report.palette import GREY, LABEL, LIGHT, LINES
from ...report.plots import style
from ..asking.shown import Figure
from .drawing import axes, picture

LAYERS = ("full", "pointwise", "depthwise")
NAMES = {"full": "full 3 x 3", "pointwise": "pointwise 1 x 1", "depthwise": "depthwise 3 x 3",
         "separable": "separable", "inverted": "inverted residual", "fire": "fire",
         "shuffle": "shuffle unit", "xception": "Xception block"}


def macs_and_ms(
    mmac: Mapping[str, Sequence[float]], ms: Mapping[str, Sequence[float]],
    guess: float | None = None, shape: int = 2,
) -> Figure:
    """Draws millions of MACs of an image against its milliseconds, a point a shape, on logarithmic
    axes; layers filled, blocks hollow; a line where time goes with MACs as fast as in full layers.

    mmac, ms : by NAMES, a number a shape
    guess : how many times as fast as a full layer a separable block is at the shape of number
        `shape`; None where there is none
    """
    with style():
        ax = axes((8.6, 4.8))
        rate = float(np.median(np.divide(mmac["full"], ms["full"])))
        ends = np.array([min(map(min, mmac.values())), max(map(max, mmac.values()))])
        ax.plot(ends, ends / rate, color="black", linestyle="--", linewidth=1,
                label=f"{rate:.0f} GMAC/s, full 3 x 3")
        for i, name in enumerate(mmac):
            colour = LINES[i] if name in LAYERS else GREY
            ax.plot(mmac[name], ms[name], color=colour, marker="osDv^PX*"[i], markersize=8,
                    markerfacecolor=colour if name in LAYERS else "white", linestyle="none",
                    label=NAMES[name])
        if guess:
            _draw_guess(ax, mmac["separable"][shape], ms["full"][shape] / guess, guess)
        ax.set_xscale("log")
        ax.set_yscale("log")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda v, _: f"{v:g}")
        ax.set_xlabel("MMAC of an image")
        ax.set_ylabel("ms of an image")
        ax.set_title("MACs against time")
        ax.grid(color=LIGHT, linewidth=0.6)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return picture(ax, _in_words(mmac, ms, rate, guess))


def _draw_guess(ax, x: float, y: float, guess: float) -> None:
    ax.plot([x], [y], color="black", marker="_", markersize=22, markeredgewidth=2)
    ax.annotate(f"your guess: separable {guess:g} times as fast", (x, y), (14, 0), va="center",
                textcoords="offset points", fontsize=9.5, bbox=LABEL)


def _in_words(mmac, ms, rate: float, guess: float | None) -> str:
    rates = ", ".join(
        f"{NAMES[name]} {np.median(np.divide(mmac[name], ms[name])):.1f}" for name in mmac)
    told = f" Your guess: separable {guess:g} times as fast as full." if guess else ""
    return (f"Millions of MACs of an image against milliseconds, {len(ms['full'])} shapes of each"
            f" layer and block, with a line of {rate:.0f} GMAC/s. Median GMAC/s: {rates}. The"
            f" smaller it is, the further above the line a kind lies.{told}")


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    return macs_and_ms(*({name: r[f"{key}_{name}"] for name in NAMES} for key in ("mmac", "ms")))
