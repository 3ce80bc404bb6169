"""Lesson 5's plot: life lines of 200 weights, in the net, cut, spliced back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...report.plots import GREY, LIGHT, LINES, style
from ..asking.shown import Figure
from .drawing import axes, picture

Array = np.ndarray
GAP = 8  # rows between the two groups


def life_lines(
    survivors: Array, lost: Array, *, epochs: float, stop: float, guess: float | None = None
) -> Figure:
    """Draws one line a weight while it is in the net: survivors above, those cut in the end below.

    survivors, lost : (weights, T) bool, True while in the net, at T even times of the training
    stop : the part of the training after which masks stay, 0..1
    guess : of the survivors, the percentage that was cut at some time
    """
    never = survivors.all(1)
    first_cut = np.where(never, survivors.shape[1], np.argmin(survivors, 1))
    last_seen = lost.shape[1] - np.argmax(lost[:, ::-1], 1)
    up, down = np.argsort(-first_cut, kind="stable"), np.argsort(-last_seen, kind="stable")
    with style():
        ax = axes((6.4, 5.2))
        _runs(ax, survivors[up], 0, epochs)
        _runs(ax, lost[down], len(up) + GAP, epochs)
        _frame(ax, len(up), len(down), epochs, stop)
        n, back = len(up), int((~never).sum())
        _beside(ax, 0, n - back, f"{n - back} never\ncut")
        _beside(ax, n - back, n, f"{back} cut and\nspliced\nback")
        _beside(ax, n + GAP, n + GAP + len(down), f"{len(down)} cut for\ngood")
        if guess is not None:
            at = n * (1 - guess / 100) - 0.5
            ax.axhline(at, color="black", linestyle=":", linewidth=1.6)
            ax.annotate(
                f"your guess: {guess:g} % below this line",
                (0, at),
                (4, 3),
                textcoords="offset points",
                fontsize=9.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            )
        again = int((np.diff(lost.astype(np.int8), axis=1) == 1).any(1).sum())
        return picture(
            ax,
            f"Life lines of {n + len(down)} weights over {epochs:g} epochs. Of {n} survivors"
            f" {n - back} were never seen cut, {back} were cut and spliced back. Of {len(down)}"
            f" that are cut in the end, {again} had come back for a while.",
        )


def life_shares(
    survivors: Sequence[float],
    lost: Sequence[float],
    *,
    returned: float,
    epochs: float,
    stop: float,
) -> Figure:
    """Draws how many of 100 weights of each group are in the net, at even times.

    survivors, lost : percentages        returned : of the survivors, the percentage once cut
    """
    rows = np.arange(100)[:, None]
    with style():
        ax = axes((6.4, 5.2))
        for share, top in ((survivors, 0), (lost, 100 + GAP)):
            _runs(ax, rows < np.rint(share), top, epochs)
        _frame(ax, 100, 100, epochs, stop)
        _beside(ax, 0, 100, f"{returned:.0f} of 100\nwere cut and\nspliced\nback")
        _beside(ax, 100 + GAP, 200 + GAP, "100 cut for\ngood")
        ax.set_title("recorded runs: how many of 100 are in the net")
        return picture(
            ax,
            f"Of 100 survivors, at the least {min(survivors):.0f} are in the net at one time, and"
            f" {survivors[-1]:.0f} at the last look; {returned:.0f} were cut at some time. Of 100"
            f" that are cut in the end, {lost[0]:.0f} are in it at the start, {lost[-1]:.0f} at"
            " the last look.",
        )


def _runs(ax, alive: Array, top: int, epochs: float) -> None:
    # A line for every run of True; thin before the first cut of a weight, thick after a splice.
    _, T = alive.shape
    padded = np.pad(alive.astype(np.int8), ((0, 0), (1, 1)))
    change = np.diff(padded, axis=1)
    (row, start), end = np.nonzero(change == 1), np.nonzero(change == -1)[1]
    first = start == 0
    scale = epochs / T
    for which, colour, width in ((first, LINES[0], 0.7), (~first, LINES[1], 1.35)):
        ax.hlines(
            top + row[which],
            scale * start[which],
            scale * end[which],
            color=colour,
            linewidth=width,
        )


def _frame(ax, n: int, m: int, epochs: float, stop: float) -> None:
    bottom = n + GAP + m
    ax.set_xlim(0, epochs)
    ax.set_ylim(bottom, -1)
    ax.set_yticks([(n - 1) / 2, n + GAP + (m - 1) / 2])
    ax.set_yticklabels([f"{n} survivors", f"{m} others"], rotation=90, va="center")
    ax.tick_params(axis="y", length=0)
    ax.axvline(stop * epochs, color=GREY, linestyle="--", linewidth=1)
    ax.annotate(
        "masks stay",
        (stop * epochs, n + GAP / 2 - 0.5),
        (4, 0),
        textcoords="offset points",
        va="center",
        fontsize=9.5,
    )
    ax.set_xlabel("epochs of surgery")
    ax.grid(axis="x", color=LIGHT, linewidth=0.6)


def _beside(ax, top: int, end: int, text: str) -> None:
    # A bracket with a text at the right of rows top..end - 1.
    if end <= top:
        return
    line = {"color": "black", "linewidth": 1, "clip_on": False}
    place = ax.get_yaxis_transform()
    ax.plot([1.015, 1.03, 1.03, 1.015], [top, top, end - 1, end - 1], transform=place, **line)
    ax.text(1.045, (top + end - 1) / 2, text, transform=place, va="center", fontsize=9.5)


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    return life_shares(
        r["share_survivors"], r["share_lost"], returned=r["returned"], epochs=8, stop=0.7
    )
