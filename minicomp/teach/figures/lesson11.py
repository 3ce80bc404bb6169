"""Lesson 11's plot: a histogram with the moving threshold of three criteria, and a net's error by
bits of an activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...report.palette import legend_above
from ...report.plots import style
from ...report.quant_plots import plot_thresholds
from ..asking.shown import Figure
from .drawing import axes, draw_errors, errors_in_words, picture

Numbers = Sequence[float]


@dataclass(frozen=True)
class _Counts:
    # What `plot_thresholds` asks of a histogram; bins fill 0..1.
    counts: np.ndarray

    def magnitudes(self) -> tuple[np.ndarray, float]:
        return self.counts, 1 / len(self.counts)


def moving_threshold(
    counts: Numbers,
    at: Numbers,
    curves: Mapping[str, Numbers],
    bits: Numbers,
    errors: Mapping[str, Numbers],
    dense: float,
) -> Figure:
    """Draws a histogram of magnitudes with each criterion over the threshold, and beside it test
    errors in % by bits.

    counts : of bins from 0 to the peak        at : thresholds, parts of the peak
    curves : by method, the criterion at each threshold, or its least near it
    errors : by method, one a width; min-max, whose threshold is the peak, and the methods of
        `curves`, in the same order
    """
    cut = {"min-max": (np.ones(1), np.ones(1))}
    cut |= {name: (np.asarray(at), np.asarray(v)) for name, v in curves.items()}
    with style():
        ax = axes((10.4, 4.8))
        grid = ax.figure.add_gridspec(1, 2)
        ax.set_subplotspec(grid[0])
        plot_thresholds(_Counts(np.asarray(counts)), cut, ax, unit="peaks")
        beside = ax.figure.add_subplot(grid[1])
        draw_errors(beside, bits, errors, dense, {}, what="an activation", title="")
        legend_above(beside, 3)  # any corner may hold a mark
        cuts = ", ".join(f"{name} {T[np.argmin(v)]:.2f}" for name, (T, v) in cut.items())
        return picture(
            ax,
            f"Left: histogram of what the first layer gives, {len(counts)} bins up to the peak,"
            f" the fullest with {max(counts):.0f} numbers, and three criteria over the threshold."
            f" Chosen, in parts of the peak: {cuts}. Right:"
            f" {errors_in_words(bits, errors, dense)}.",
        )


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    curves = {name: r[f"{name}_curve"] for name in ("mse", "kl", "js")}
    errors = {name: r[name.replace("-", "_")] for name in ("min-max", *curves)}
    return moving_threshold(r["counts"], r["at"], curves, r["bits"], errors, r["error_dense"])
