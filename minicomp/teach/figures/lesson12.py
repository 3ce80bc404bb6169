"""Lesson 12's plot: a weight trapped on a staircase, the straight-through path, error by bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...report.palette import GREY, LABEL
from ...report.plots import LINES, MARKERS, style
from ..asking.shown import Figure
from .drawing import axes, draw_errors, errors_in_words, picture


def trapped(
    stuck: Sequence[float],
    through: Sequence[float],
    target: float,
    bits: Sequence[float],
    errors: Mapping[str, Sequence[float]],
    dense: float,
    guesses: Sequence[float | None] = (),
) -> Figure:
    """Draws two walks of a weight behind a rounding, step by step, and test errors in % by bits.

    stuck, through : the latent weight before each step, by the true gradient and by the
        straight-through one, of the same length        target : what the rounded weight should be
    errors : for each way to quantize, one a width        guesses : of the errors at the last width
    """
    with style():
        ax = axes((9.8, 4.4))
        grid = ax.figure.add_gridspec(1, 2)
        ax.set_subplotspec(grid[0])
        _draw_walks(ax, np.asarray(stuck), np.asarray(through), target)
        draw_errors(ax.figure.add_subplot(grid[1]), bits, errors, dense,
                    dict(zip(("rounded", "trained"), guesses)),
                    what="a weight and of an activation",
                    title="Rounded afterwards, and trained for it")
        tail = np.rint(through)[-10:]
        return picture(
            ax,
            f"Left: a weight behind a rounding, target {target:g}, over {len(through)} steps. By"
            f" the true gradient, 0, it stays at {stuck[-1]:g}, rounded {np.rint(stuck[-1]):g}."
            f" Straight through it climbs from {through[0]:g} and ends between the codes"
            f" {tail.min():g} and {tail.max():g}. Right:"
            f" {errors_in_words(bits, errors, dense)}.",
        )


def _draw_walks(ax, stuck, through, target: float) -> None:
    steps = np.arange(len(through))
    for code in range(int(np.rint(through.max())) + 1):
        ax.axhline(code + 0.5, color=GREY, linewidth=0.8, linestyle=":")
    ax.axhline(target, color="black", linestyle="--", linewidth=1)
    ax.annotate(
        f"target {target:g}", (0, target), (0, 4), textcoords="offset points", fontsize=9.5,
        bbox=LABEL,
    )
    for i, (name, w) in enumerate((("true gradient: 0", stuck), ("straight through", through))):
        ax.plot(
            steps, np.rint(w), color=LINES[i], drawstyle="steps-post", linewidth=1, alpha=0.7,
            label=f"{name}, rounded",
        )
        ax.plot(
            steps, w, color=LINES[i], marker=MARKERS[i], markersize=4, linestyle="none",
            label=f"{name}, the weight behind",
        )
    ax.set_ylim(-0.4, max(target, through.max()) + 1.6)
    ax.set_xlabel("step")
    ax.set_ylabel("weight (dotted: borders of codes)")
    ax.set_title("Trapped on a step, and carried over it")
    ax.legend(loc="upper left", fontsize=9)


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    named = (("rounded", "rounded"), ("trained (QAT)", "trained"), ("steps learnt (LSQ)", "learnt"))
    errors = {name: r[key] for name, key in named}
    return trapped(r["stuck"], r["through"], 1.7, r["bits"], errors, r["error_dense"])
