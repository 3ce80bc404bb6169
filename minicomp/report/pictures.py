"""The pictures of one net: its weights, its filters, its training.

Every function draws on `ax` (or on a figure of its own) and returns it; nothing is shown or saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .palette import GREY, LIGHT, LINES, OKABE_ITO, log_labels
from .plots import axes, filter_colours, styled

Array = np.ndarray


@styled
def plot_weights(
    weights: Array,
    rows: Sequence[tuple[str, Array, Array]] = (),
    ax=None,
    *,
    bins: int = 80,
):
    """Draws the histogram of the weights that are not 0, and below it where the centroids lie.

    weights : any shape
    rows : at most two (label, centroids (k,), how many weights each stands for (k,)), the upper
        first, of the same centroids; one that stands for no weight is hollow
    """
    ax = axes(ax, (5.2, 3.0 + 0.25 * len(rows)))
    w = np.asarray(weights, np.float64).ravel()
    kept, zeros = w[w != 0], w.size - np.count_nonzero(w)
    ax.hist(kept, bins=bins, color=OKABE_ITO["sky"], edgecolor="none")
    top = ax.get_ylim()[1]
    places = [-0.09 * top * (i + 1) for i in range(len(rows))]
    for (_, a, _), (_, b, _), y, below in zip(rows, rows[1:], places, places[1:]):
        if len(a) == len(b):
            ax.plot([a, b], [y, below], color=GREY, linewidth=0.7, zorder=1)
    for (label, c, members), y, colour in zip(rows, places, ("vermillion", "blue")):
        full = np.asarray(members) > 0
        look = {"linestyle": "", "marker": "o", "markersize": 4.5, "color": OKABE_ITO[colour]}
        ax.plot(np.asarray(c)[full], np.full(full.sum(), y), label=label, **look)
        if not full.all():
            ax.plot(np.asarray(c)[~full], np.full((~full).sum(), y), markerfacecolor="white",
                    label=f"{(~full).sum()} of them for no weight", **look)
    if rows:
        ax.legend(loc="best", handletextpad=0.1)
    ax.text(
        0.0,
        1.02,
        f"{kept.size:,} weights; {zeros:,} more are 0 ({100 * zeros / max(w.size, 1):.1f} %)",
        transform=ax.transAxes,
        fontsize=9.5,
        va="bottom",
    )
    ax.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    ax.set_ylim(-0.09 * top * (len(rows) + 1) if rows else 0, top * 1.05)
    ax.set_yticks([t for t in ax.get_yticks() if 0 <= t <= top * 1.05])
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:,.0f}")
    ax.set_xlabel("weight")
    ax.set_ylabel("number of weights")
    return ax


@styled
def plot_filters(before: Array, after: Array, ax=None, *, limit: int = 20):
    """Draws the first layer's filters before and after: orange below 0, purple above, black at 0.

    before, after : (O, C, K, K), or (O, H W) of a layer that sees a square image; the first channel
        is drawn, of at most `limit` filters; both halves share one scale
    """
    pictures = [_square(np.asarray(w, np.float64))[:limit] for w in (before, after)]
    n, size = len(pictures[0]), pictures[0].shape[-1]
    columns = min(10, n)
    rows, gap = -(-n // columns), max(1, size // 8)
    sheets = [_sheet(p, rows, columns, gap) for p in pictures]
    space = np.full((2 * gap + size // 2, sheets[0].shape[1]), np.nan)
    sheet = np.concatenate([sheets[0], space, sheets[1]])
    ax = axes(ax, (5.2, 4.8 * sheet.shape[0] / sheet.shape[1] + 0.75))
    top = max(np.abs(p).max() for p in pictures) or 1.0
    colours = filter_colours()
    image = ax.imshow(
        np.ma.masked_invalid(sheet), cmap=colours, vmin=-top, vmax=top, interpolation="nearest"
    )
    zero = np.zeros((*sheet.shape, 4))
    zero[sheet == 0] = (0, 0, 0, 1)
    ax.imshow(zero, interpolation="nearest")
    half = sheets[0].shape[0]
    for y, label in ((half / 2, "before"), (half + len(space) + half / 2, "after")):
        ax.annotate(
            label,
            (0, y),
            (-6, 0),
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="center",
            xycoords=("axes fraction", "data"),
            fontsize=10.5,
        )
    ax.set_axis_off()
    bar = ax.figure.colorbar(
        image, ax=ax, orientation="horizontal", fraction=0.05, pad=0.02, aspect=45
    )
    bar.set_label("weight (black: exactly 0)")
    bar.outline.set_visible(False)
    return ax


@styled
def plot_training(
    epochs: Sequence[Mapping], ax=None, *, quantity: str = "error", labels: bool = True
):
    """Draws training over the epochs of all stages, one after another.

    epochs : rows with stage, epoch, loss, val_errors, val_size, in order; a stage starts where its
        name changes or its epochs begin again
    quantity : "error" (on validation data, %) or "loss" (on training data)
    labels : whether the stages are named above
    Raises ValueError for another quantity.
    """
    if quantity not in ("error", "loss"):
        raise ValueError(f"quantity must be error or loss, got {quantity!r}")
    ax = axes(ax, (5.2, 2.8))
    y = np.array(
        [
            100 * e["val_errors"] / max(e["val_size"], 1) if quantity == "error" else e["loss"]
            for e in epochs
        ],
        np.float64,
    )
    starts = [
        i
        for i, e in enumerate(epochs)
        if i == 0 or epochs[i - 1]["stage"] != e["stage"] or epochs[i - 1]["epoch"] >= e["epoch"]
    ]
    x = np.arange(1, len(y) + 1)
    for i, (a, b) in enumerate(zip(starts, [*starts[1:], len(y)])):
        ax.plot(x[a:b], y[a:b], color=LINES[i % len(LINES)], marker="o", markersize=3.5)
        if a:
            ax.axvline(a + 0.5, color=LIGHT, linewidth=1, zorder=0)
        if labels:
            ax.annotate(
                epochs[a]["stage"],
                (a + 0.7, 1.0),
                (1, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color=LINES[i % len(LINES)],
                fontsize=9.5,
                rotation=30,
                fontweight="bold",
                va="bottom",
            )
    positive = y[y > 0]
    if len(positive) and positive.max() > 8 * positive.min():
        ax.set_yscale("log")
        log_labels(ax)
    else:
        ax.set_ylim(0, 1.08 * y.max() or 1.0)
    ax.set_xlim(0.4, len(y) + 0.6)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("epoch")
    ax.set_ylabel("validation error, %" if quantity == "error" else "training loss")
    ax.grid(axis="y", color=LIGHT, linewidth=0.6)
    return ax


def _square(w: Array) -> Array:
    # (O, C, K, K) or (O, H W) -> (O, K, K)
    if w.ndim == 4:
        return w[:, 0]
    side = round(w.shape[1] ** 0.5)
    if w.ndim != 2 or side * side != w.shape[1]:
        raise ValueError(f"filters must be (O, C, K, K) or (O, side * side), got {w.shape}")
    return w.reshape(-1, side, side)


def _sheet(pictures: Array, rows: int, columns: int, gap: int) -> Array:
    # (n, K, K) -> one picture, NaN between
    size = pictures.shape[-1]
    sheet = np.full((rows * (size + gap) - gap, columns * (size + gap) - gap), np.nan)
    for i, p in enumerate(pictures):
        r, c = divmod(i, columns)
        sheet[
            r * (size + gap) : r * (size + gap) + size, c * (size + gap) : c * (size + gap) + size
        ] = p
    return sheet
