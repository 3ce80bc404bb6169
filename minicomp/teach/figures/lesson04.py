"""Lesson 4's plot: error against weights kept, for three ways to prune."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...report.plots import LIGHT, LINES, MARKERS, style
from ..asking.shown import Figure
from .drawing import axes, picture


def pruning_curves(
    keeps: Sequence[float],
    cut: Sequence[float],
    once: Sequence[float],
    iterative: Sequence[float],
    dense: float,
    guesses: Sequence[float | None] = (),
) -> Figure:
    """Draws test error in % against weights kept, for three ways to prune.

    guesses : errors at 10 % kept, cut only and retrained; None where there is none
    """
    with style():
        ax = axes((5.4, 3.8))
        x = 100 * np.asarray(keeps)
        named = (
            ("pruned only", cut),
            ("pruned, retrained once", once),
            ("pruned and retrained in rounds", iterative),
        )
        for i, (name, y) in enumerate(named):
            ax.plot(x, y, color=LINES[i], marker=MARKERS[i], markersize=5, label=name)
        ax.axhline(dense, color="black", linestyle="--", linewidth=1)
        ax.annotate(
            f"dense: {dense:.2f} %",
            (x.max(), dense),
            (0, -4),
            textcoords="offset points",
            ha="left",
            va="top",
            fontsize=9.5,
        )
        for name, guess in zip(("cut", "retrained"), guesses):
            if guess:
                ax.plot(
                    10, guess, marker="*", markersize=13, color="black", markerfacecolor="white"
                )
                ax.annotate(
                    f"guess, {name}: {guess:g} %",
                    (10, guess),
                    (8, 0),
                    va="center",
                    textcoords="offset points",
                    fontsize=9.5,
                )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.invert_xaxis()
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda v, _: f"{v:g}")
            axis.set_minor_formatter(lambda v, _: f"{v:g}" if f"{v:.0e}"[0] in "25" else "")
        ax.tick_params(which="minor", labelsize=10)
        ax.set_ylim(0.6 * min(dense, *iterative), 115)
        ax.set_xlabel("weights kept, %")
        ax.set_ylabel("test error, %")
        ax.legend(loc="upper left")
        ax.grid(color=LIGHT, linewidth=0.6)
        i = int(np.argmin(np.abs(np.asarray(keeps) - 0.1)))
        return picture(
            ax,
            f"Test error against weights kept. Dense {dense:.2f} %. At {x[i]:.0f} % kept: pruned"
            f" only {cut[i]:.1f} %, retrained once {once[i]:.2f} %, in rounds {iterative[i]:.2f} %."
            f" At {x[-1]:.1f} %: {cut[-1]:.1f}, {once[-1]:.2f} and {iterative[-1]:.2f} %.",
        )


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    return pruning_curves(
        r["keeps"], r["curve_cut"], r["curve_once"], r["curve_iterative"], r["error_dense"]
    )
