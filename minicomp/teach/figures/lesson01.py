"""Lesson 1's plot: the error of a difference against its step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...report.plots import GREY, LIGHT, LINES, MARKERS, style
from ..asking.shown import Figure
from .drawing import axes, picture


def v_curve(
    steps: Sequence[float], curves: dict[str, Sequence[float]], guess: float | None = None
) -> Figure:
    """Draws the error of the central difference against its step, both as powers of ten.

    steps : log10 of the steps        curves : log10 of the relative error at each, by name
    """
    with style():
        ax = axes((5.6, 3.9))
        told = []
        for i, (name, y) in enumerate(curves.items()):
            best = int(np.argmin(y))
            ax.plot(steps, y, color=LINES[i], marker=MARKERS[i], markersize=4.5, label=name)
            ax.plot(
                steps[best],
                y[best],
                marker=MARKERS[i],
                markersize=11,
                color=LINES[i],
                fillstyle="none",
            )
            told.append(f"{name} is lowest at h = 1e{steps[best]:.0f} with error 1e{y[best]:.1f}")
        low, high = (f(f(c) for c in curves.values()) for f in (min, max))
        ax.set_ylim(low - 1.6, high + 0.6)
        ax.text(0.02, 0.03, "rounding grows as 1 / h", transform=ax.transAxes, color=GREY)
        ax.text(0.98, 0.03, "cut-off grows as h²", transform=ax.transAxes, color=GREY, ha="right")
        if guess is not None:
            ax.axvline(guess, color=GREY, linestyle=":", linewidth=1.2)
            ax.annotate(
                f"your guess 1e{guess:g}",
                (guess, high),
                (4, 0),
                textcoords="offset points",
                fontsize=9.5,
                color=GREY,
            )
        ax.set_xlabel("step h, as a power of ten")
        ax.set_ylabel("relative error, as a power of ten")
        ax.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2, columnspacing=1.2
        )
        ax.grid(color=LIGHT, linewidth=0.6)
        return picture(
            ax,
            f"Gradient error against step h, both in powers of ten, V-shaped: {'; '.join(told)}.",
        )


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    return v_curve(
        r["steps"],
        {
            "smooth net, float64": r["curve64"],
            "smooth net, float32": r["curve32"],
            "ReLU net, float64": r["curve_relu"],
        },
    )
