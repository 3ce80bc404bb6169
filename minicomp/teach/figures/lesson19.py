"""Lesson 19's plot: the best so far of 20 searches each, and the space's true Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...comparison import front
from ...report.palette import GREY, LABEL
from ...report.plots import LIGHT, LINES, figure, style
from ..asking.shown import Figure
from .drawing import picture

Array = np.ndarray


def searches(
    curves: Mapping[str, Array],
    optimum: float,
    sizes: Sequence[float],
    truth: Sequence[float],
    inside: Sequence[bool],
    *,
    guess: float | None = None,
) -> Figure:
    """Draws what searches saw against nets trained, and every net's error against its bytes.

    curves : by name (searches, nets trained) or (nets trained,), the best error so far, %
    optimum : the least error that a search can see, %
    sizes, truth, inside : of every net its bytes, error on images not seen in %, and whether it is
        within the limit
    guess : how many of the first curve's searches find the optimum
    """
    with style():
        left, right = figure((9.4, 4.0)).subplots(1, 2)
        said = _best_so_far(left, curves, optimum)
        on = _space(right, np.asarray(sizes), np.asarray(truth), np.asarray(inside, bool))
        told = "" if guess is None else f" Your guess: {guess:g} of 20 find it."
        if guess is not None:
            left.annotate(f"your guess: {guess:g} of 20 find it", (0.98, 0.66), ha="right",
                          xycoords="axes fraction", fontsize=9, color=GREY, bbox=LABEL)
        return picture(left, f"Best error so far in %, mean of the searches, after the first net, "
                             f"half of them and all: {said}; the least there is {optimum:.2f}. "
                             f"{len(sizes)} nets, {int(np.sum(inside))} within the limit; "
                             f"the true front: {on}.{told}")


def _best_so_far(ax, curves: Mapping[str, Array], optimum: float) -> str:
    said = []
    for i, (name, each) in enumerate(curves.items()):
        each = np.atleast_2d(each)
        mean, t = each.mean(0), np.arange(1, each.shape[1] + 1)
        ax.plot(t, mean, color=LINES[i], linestyle=("-", "--", ":")[i % 3], linewidth=2, label=name)
        if len(each) > 1 and i < 2:
            ax.fill_between(t, *np.quantile(each, (0.1, 0.9), axis=0), color=LINES[i], alpha=0.15,
                            linewidth=0)
        said.append(f"{name} {mean[0]:.1f}, {mean[len(mean) // 2]:.1f}, {mean[-1]:.1f}")
    ax.axhline(optimum, color="black", linewidth=1, linestyle="--")
    ax.annotate("the least there is", (1, optimum), (-3, -11), ha="right", fontsize=8.5,
                xycoords=("axes fraction", "data"), textcoords="offset points")
    ax.set_xticks([1, *range(5, len(t) + 1, 5)])
    ax.set_xlabel("nets trained")
    ax.set_ylabel("best error seen so far, %")
    ax.set_title("What a search sees")
    ax.legend(frameon=False, fontsize=9)
    ax.grid(color=LIGHT, linewidth=0.6)
    return "; ".join(said)


def _space(ax, sizes: Array, truth: Array, inside: Array) -> str:
    on = np.array(front(truth.tolist(), sizes.tolist()))
    for chosen, face, label in ((inside, LINES[0], "within the limit"),
                                (~inside, "white", "not within")):
        ax.plot(sizes[chosen] / 1000, truth[chosen], "o", color=LINES[0], markerfacecolor=face,
                markersize=4.5, linestyle="none", label=label)
    line = sorted(zip(sizes[on] / 1000, truth[on]))
    ax.plot(*zip(*line), color=GREY, drawstyle="steps-post", linewidth=1.2, label="true front")
    ax.set_xscale("log")
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.set_yticks([t for t in (1, 2, 5, 10, 20, 50, 90) if low < t < high])
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.set_xticks([t for t in (1, 2, 5, 10, 20) if 900 * t < sizes.max() * 1.3
                   and 1000 * t > sizes.min() * 0.8])
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.minorticks_off()
    ax.set_xlabel("kB of the file, 8 bits a weight")
    ax.set_ylabel("error on images not seen, %")
    ax.set_title("What there is")
    ax.legend(frameon=False, fontsize=9)
    ax.grid(color=LIGHT, linewidth=0.6)
    return ", ".join(f"{e:.1f} % at {kb:.1f} kB" for kb, e in line)


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    curves = {name: np.array(r[f"curve_{key}"]) for name, key in
              (("evolution", "oldest"), ("random", "random"), ("the worst dies", "worst"))}
    return searches(curves, r["optimum"], r["sizes"], r["truth"], np.array(r["inside"]) > 0.5)
