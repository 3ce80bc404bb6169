"""Lesson 7's plot: three ways to lose a weight, and what deletions cost against what was said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compress.prune.obs import obs_step
from ...report.palette import GREY, LABEL
from ...report.plots import LIGHT, LINES, MARKERS, style
from ..asking.shown import Figure
from .drawing import axes, picture

Array = np.ndarray
TOY = np.array([[4.0, 2.0], [2.0, 2.0]]), np.array([2.0, 2.5])  # H and w, as in the lesson


def three_moves(
    H: Array,
    w: Array,
    obd: tuple[Sequence[float], Sequence[float]],
    obs: tuple[Sequence[float], Sequence[float]],
) -> Figure:
    """Draws a loss of two weights with the moves of magnitude, OBD and OBS; and beside it the true
    rise against the predicted one, a mark a weight of a real net.

    H : (2, 2) second derivatives        w : (2,) where the loss is least
    obd, obs : predicted and true rises of the net's weights, in the same order. A weight whose
        deletion lowers the loss has no place on a logarithmic axis: the text counts these.
    """
    with style():
        ax = axes((9.8, 4.4))
        grid = ax.figure.add_gridspec(1, 2)
        ax.set_subplotspec(grid[0])
        moves = _moves(H, w)
        _draw_moves(ax, H, w, moves)
        _draw_rises(ax.figure.add_subplot(grid[1]), obd, obs)
        priced = "; ".join(f"{name} to ({v[0]:g}, {v[1]:g}), {rise:g}" for name, v, rise in moves)
        short = [float(np.median(np.divide(true, said))) for said, true in (obd, obs)]
        helped = np.median(np.divide(obd[1], obs[1]))
        fell = [int(np.count_nonzero(np.less_equal(true, 0))) for _, true in (obd, obs)]
        return picture(
            ax,
            f"Left: contours of a loss of two weights, least at ({w[0]:g}, {w[1]:g}), and three"
            f" moves with the rise of the loss: {priced}. Right: true against predicted rise for"
            f" {len(obd[0])} weights of a net. The median true rise is {short[0]:.1f} times what"
            f" OBD predicts and {short[1]:.1f} times what OBS predicts; a weight costs"
            f" {helped:.1f} times less under OBS, in the median."
            + (f" Not drawn, as the loss fell: {fell[0]} and {fell[1]}." if any(fell) else ""),
        )


def _moves(H: Array, w: Array) -> list[tuple[str, Array, float]]:
    # Where magnitude, OBD and OBS put the weights, and the rise of the loss there.
    def zeroed(q):
        return np.where(np.arange(2) == q, 0.0, w)

    by_size, by_price = int(np.argmin(np.abs(w))), int(np.argmin(np.diag(H) * w * w))
    ends = (zeroed(by_size), zeroed(by_price), obs_step(w, np.linalg.inv(H), by_price)[0])
    return [
        (name, v, float((v - w) @ H @ (v - w) / 2))
        for name, v in zip(("magnitude", "OBD", "OBS"), ends)
    ]


def _draw_moves(ax, H: Array, w: Array, moves) -> None:
    x, y = np.meshgrid(np.linspace(-0.9, 4.6, 200), np.linspace(-0.9, 4.2, 200))
    d = np.stack([x - w[0], y - w[1]])
    E = np.einsum("ixy,ij,jxy->xy", d, H, d) / 2
    levels = sorted({0.5, 16.0, *(rise for _, _, rise in moves)})
    lines = ax.contour(x, y, E, levels=levels, colors=GREY, linewidths=0.8)
    ax.clabel(lines, fmt="%g", fontsize=9)
    ax.axhline(0, color="black", linewidth=1)
    ax.axvline(0, color="black", linewidth=1)
    ax.plot(*w, marker="*", markersize=13, color="black", linestyle="none", zorder=4)
    ax.annotate(
        "trained", w, (7, 7), textcoords="offset points", fontsize=10, bbox=LABEL, zorder=3
    )
    places = {"magnitude": ((6, 8), "left"), "OBD": ((-8, -16), "right"), "OBS": ((4, -16), "left")}
    for i, (name, v, rise) in enumerate(moves):
        ax.annotate(
            "", v, w, arrowprops={"arrowstyle": "-|>", "color": LINES[i], "linewidth": 2}, zorder=3
        )
        ax.plot(*v, marker=MARKERS[i], color=LINES[i], markersize=8, linestyle="none", zorder=4)
        offset, side = places[name]
        ax.annotate(
            f"{name}: +{rise:g}",
            v,
            offset,
            textcoords="offset points",
            ha=side,
            fontsize=10,
            color=LINES[i],
            bbox=LABEL,
            zorder=5,
        )
    ax.set_xlabel("first weight")
    ax.set_ylabel("second weight")
    ax.set_title("Three ways to lose a weight")


def _draw_rises(ax, obd, obs) -> None:
    drawn = []
    for i, name, (said, true) in (
        (1, "OBD: the others stay", obd),
        (2, "OBS: the others move", obs),
    ):
        said, true = np.asarray(said), np.asarray(true)
        up = (said > 0) & (true > 0)
        drawn += [said[up], true[up]]
        ax.plot(
            said[up],
            true[up],
            color=LINES[i],
            marker=MARKERS[i],
            markersize=5,
            linestyle="none",
            markerfacecolor="white" if i == 1 else LINES[i],
            label=name,
        )
    both = np.concatenate(drawn)
    ends = np.array([0.6 * both.min(), 1.7 * both.max()])
    ax.plot(ends, ends, color="black", linestyle="--", linewidth=1, label="true = predicted")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("predicted rise of the loss")
    ax.set_ylabel("true rise of the loss")
    ax.set_title(f"Predicted and true, {len(obd[0])} weights of a net")
    ax.legend(loc="upper left")
    ax.grid(color=LIGHT, linewidth=0.6)


def recorded(r: dict) -> Figure:
    """Draws the recorded means: every fourth weight of MONK's first net."""
    return three_moves(*TOY, (r["obd_said"], r["obd_true"]), (r["obs_said"], r["obs_true"]))
