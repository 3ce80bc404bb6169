"""Lesson 6's plot: the scales split as the penalty grows; zeroed is not removed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...report.plots import GREY, LIGHT, OKABE_ITO, panels, style
from ..asking.shown import Figure
from .drawing import picture

ROWS = ("whole", "80 % zeroed", "80 % removed")


def gamma_split(
    lams: Sequence[float],
    edges: Sequence[float],
    every: Sequence[Sequence[float]],
    kept: Sequence[Sequence[float]],
    cuts: Sequence[float],
    ms: Sequence[float],
    guesses: Sequence[float | None] = (None, None),
) -> Figure:
    """Draws a histogram of |gamma| for each lambda, and the milliseconds of three nets below.

    edges : of the bins        every, kept : (lambdas, bins), channels, and those of them that stay
    cuts : error in % after the cut, by lambda        ms : whole, zeroed, removed
    guesses : the error without penalty, %, and how many times faster zeroed is
    """
    n = len(lams)
    with style():
        rows = panels(n + 1, (5.4, 1.4 * n + 2.3), [1.0] * n + [1.05])
        for ax in rows[1:n]:
            ax.sharex(rows[0])
        for i, ax in enumerate(rows[:n]):
            guess = guesses[0] if i == 0 else None
            _histogram(ax, edges, every[i], kept[i], f"λ = {lams[i]:g}", cuts[i], guess)
            ax.tick_params(labelbottom=i == n - 1)
        rows[0].legend(loc="upper left", ncols=2, bbox_to_anchor=(0, 1.6), borderaxespad=0)
        rows[n - 1].set_xlabel("scale |γ| of a channel")
        rows[(n - 1) // 2].set_ylabel("channels")
        _bars(rows[n], ms, guesses[1])
        rows[n].figure.get_layout_engine().set(h_pad=0.06)
        return picture(
            rows[n],
            "Histograms of |gamma|. "
            + " ".join(_said(lam, edges, n_of, cut) for lam, n_of, cut in zip(lams, every, cuts))
            + " Milliseconds for 64 images: "
            + ", ".join(f"{name} {t:.2f}" for name, t in zip(ROWS, ms))
            + ".",
        )


def _said(lam: float, edges, every, cut: float) -> str:
    first, top = int(round(every[0])), max(e for e, n in zip(edges[1:], every) if n)
    return (
        f"Lambda {lam:g}: {first} of {round(sum(every))} channels below {edges[1]:g}, the largest"
        f" below {top:g}; error after the cut {cut:.1f} %."
    )


def _histogram(ax, edges, every, kept, name: str, cut: float, guess: float | None) -> None:
    edges = np.asarray(edges, np.float64)
    wide = {"width": np.diff(edges), "align": "edge", "linewidth": 0.6}
    ax.bar(edges[:-1], every, color=LIGHT, edgecolor=GREY, label="the 80 % that go", **wide)
    stay = {"color": OKABE_ITO["blue"], "edgecolor": "white", "hatch": "////"}
    ax.bar(edges[:-1], kept, label="the 20 % that stay", **stay, **wide)
    ax.set_yscale("log")
    ax.set_ylim(0.7, 1100)
    ax.set_yticks([1, 10, 100, 1000])
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.minorticks_off()
    ax.set_xlim(0, edges[-1])
    title = f"{name}: error after the cut {cut:.1f} %"
    title += f", your guess {guess:g} %" if guess is not None else ""
    ax.set_title(title, fontsize=10.5)


def _bars(ax, ms, guess: float | None) -> None:
    y = np.arange(len(ms))
    ax.barh(y, ms, 0.62, color=[LIGHT, LIGHT, OKABE_ITO["blue"]], edgecolor=GREY, linewidth=0.6)
    for i, t in enumerate(ms):
        text = f"{t:.2f} ms" + (f", {ms[0] / t:.1f}x" if i else "")
        ax.annotate(text, (t, i), (4, 0), textcoords="offset points", va="center", fontsize=9.5)
    if guess:
        x, right = ms[0] / guess, guess > 2
        ax.plot(x, 1, marker="*", markersize=12, color="black", markerfacecolor="white")
        ax.annotate(
            f"your guess: {guess:g}x",
            (x, 1),
            (9 if right else -9, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=9.5,
        )
    ax.set_yticks(y, ROWS)
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.4 * max([*ms, ms[0] / guess if guess else 0]))
    ax.set_xlabel("milliseconds for 64 images")


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    n = len(r["lams"])
    every, kept = ([r[f"{what}_{i}"] for i in range(n)] for what in ("all", "kept"))
    return gamma_split(r["lams"], r["edges"], every, kept, r["cuts"], r["ms"])
