"""Pictures of architecture search: what a search has found at what cost, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..comparison import front
from .palette import GREY, LIGHT, LINES, OKABE_ITO, legend_above, log_labels
from .plots import figure, styled

Array = np.ndarray


@styled
def plot_searches(spent: Array, runs: Mapping[str, Array], sizes: Sequence[float], errors: Array, *,
                  limit: float, best: float):
    """Draws the error of each search's best so far over its cost, and all nets with their front.

    spent : (T,), percent of the enumeration's cost        runs : search -> (runs, T) errors of the
        best net so far, %, NaN before the first
    sizes, errors : of every net, bytes and %        limit : bytes        best : error, the optimum
    A thin line is a run, a band half of the runs, the thick line their mean. Lines may rise: a net
    that was lucky takes the place of a better one. Returns the first axes.
    """
    left, right = figure((10.5, 4.4)).subplots(1, 2)
    for (name, found), colour in zip(runs.items(), LINES):
        there = ~np.isnan(found).any(axis=0)  # every run has a net
        x, y = spent[there], found[:, there]
        left.plot(x, y.T, color=colour, linewidth=0.4, alpha=0.35)
        left.fill_between(x, *np.percentile(y, [25, 75], axis=0), color=colour, alpha=0.18,
                          linewidth=0)
        left.plot(x, y.mean(axis=0), color=colour, linewidth=2, label=name)
    left.axhline(best, color=GREY, linewidth=1, linestyle="--")
    left.annotate("optimum under the limit", (spent[-1], best), (0, -4), ha="right", va="top",
                  textcoords="offset points", color=GREY, fontsize=9)
    far = max(float(np.nanmax(found[:, -1])) for found in runs.values()) - best + 0.1
    left.set_ylim(best - 0.2 * far, best + 2.5 * far)
    left.set_xlabel("cost, % of the enumeration")
    left.set_ylabel("true error of the net seen best so far, %")
    legend_above(left, 3)
    _front(right, np.asarray(sizes), errors, limit)
    return left


def _front(ax, sizes: Array, errors: Array, limit: float) -> None:
    # Every net, and the staircase of those that nothing smaller beats.
    ax.scatter(sizes, errors, s=9, color=LIGHT, edgecolors=GREY, linewidths=0.4, label="a net")
    on = np.flatnonzero(front(errors.tolist(), sizes.tolist()))
    on = on[np.argsort(sizes[on])]
    ax.step(sizes[on], errors[on], where="post", color=OKABE_ITO["black"], linewidth=1.4,
            marker="o", markersize=3.5, label="true front")
    ax.axvline(limit, color=GREY, linewidth=1, linestyle="--")
    ax.annotate("limit", (limit, 1), (3, -3), xycoords=("data", "axes fraction"), va="top",
                textcoords="offset points", color=GREY, fontsize=9)
    ax.set_xscale("log")
    ax.set_yscale("log")
    log_labels(ax)
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:,.0f}")
    ax.xaxis.set_minor_formatter(lambda v, _: f"{v:,.0f}" if f"{v:.0e}"[0] in "25" else "")
    ax.set_xlabel("bytes of the file, 8 bits a weight")
    ax.set_ylabel("validation error, mean of trainings, %")
    legend_above(ax, 2)
