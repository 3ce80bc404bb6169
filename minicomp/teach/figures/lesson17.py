"""Lesson 17's plot: the file's bytes after each stage."""

from __future__ import annotations

from collections.abc import Sequence

from ...report.plots import GREY, kilobytes, plot_waterfall, style
from ..asking.shown import Figure
from .drawing import axes, picture


def waterfall(stages: Sequence[tuple[str, float]], guess: float | None = None) -> Figure:
    """Draws the file's bytes after each stage; guess : kB."""
    with style():
        ax = plot_waterfall(stages, ax=axes((5.4, 3.4)))
        if guess:
            ax.axvline(1000 * guess, color=GREY, linestyle=":", linewidth=1.2)
            ax.annotate(
                f"your guess: {guess:g} kB",
                (1000 * guess, 1),
                (3, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=9.5,
                color=GREY,
            )
        steps = ", ".join(f"{name} {kilobytes(n)}" for name, n in stages)
        return picture(
            ax,
            f"Bytes of the file after each stage: {steps}; {stages[0][1] / stages[-1][1]:.0f} times"
            " smaller in all.",
        )


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    stages = {"float32": "dense", "pruned": "pruned", "shared": "shared", "Huffman": "coded"}
    return waterfall([(name, r[f"bytes_{key}"]) for name, key in stages.items()])
