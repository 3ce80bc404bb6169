"""The pictures: bytes, sensitivity, importance, weights, filters, training.

Every function draws on `ax` (or on a figure of its own) and returns it; nothing is shown or saved.
A value that matters is written beside its mark, so no picture needs its colours to be read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .passport import PARTS
from .palette import (
    GREY,
    LABEL,
    LIGHT,
    LINES,
    MARKERS,
    OKABE_ITO,
    PART_COLOURS,
    PART_NAMES,
    STYLE,
    apart,
    factor,
    ink,
    kilobytes,
    legend_above,
    log_labels,
    name_rows,
)

Array = np.ndarray


def style():
    """Returns a context in which figures take this file's fonts and lines: `with style(): ...`."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def _styled(plot: Callable) -> Callable:
    # Fonts and frames are taken when a mark is made, not when the figure is saved.
    @functools.wraps(plot)
    def drawn(*args, **kw):
        with style():
            return plot(*args, **kw)

    return drawn


def panels(rows: int, size: tuple[float, float], heights: Sequence[float] | None = None) -> list:
    """Returns axes of one figure below one another, for the functions here to draw on.

    size : width and height in inches        heights : relative, of each
    """
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(
            rows, 1, figsize=size, layout="constrained", gridspec_kw={"height_ratios": heights}
        )
    return list(axes)


def close(figure) -> None:
    """Lets go of a figure that a function here made."""
    import matplotlib.pyplot as plt

    plt.close(figure)


@_styled
def plot_waterfall(stages: Sequence[tuple[str, float]], ax=None):
    """Draws the bytes after each stage on a logarithmic axis, and by what the stage divided them.

    stages : (name, bytes > 0) in order, from top to bottom, the dense model first. On a logarithmic
        axis equal lengths are equal factors, and the grey lengths add up to the whole
    """
    ax = _axes(ax, (5.2, 0.9 + 0.34 * len(stages)))
    sizes, y = np.array([n for _, n in stages], np.float64), np.arange(len(stages))
    floor = 10.0 ** np.floor(np.log10(sizes.min() / 3))  # room for a number in the shortest bar
    ax.barh(y, sizes - floor, 0.74, left=floor, color=OKABE_ITO["blue"])
    ax.barh(y[1:], np.maximum(sizes[:-1] - sizes[1:], 0), 0.74, left=sizes[1:], color=LIGHT)
    for i, n in enumerate(sizes):
        _write(ax, kilobytes(n), (n, i), (-4, 0), ha="right", color="white")
        if i and sizes[i - 1] > 1.05 * n:
            wide = sizes[i - 1] > 1.6 * n
            at = np.sqrt(sizes[i - 1] * n) if wide else sizes[i - 1]
            text = f"÷{factor(sizes[i - 1] / n)}"
            _write(ax, text, (at, i), (0 if wide else 4, 0), ha="center" if wide else "left")
    ax.vlines(sizes[:-1], y[:-1] + 0.37, y[1:] - 0.37, color=GREY, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xlim(floor, sizes.max() * 1.25)
    ax.set_xlabel("bytes of the model")
    ax.xaxis.set_major_formatter(lambda n, _: f"{n:g} B" if n < 1000 else f"{n / 1000:,g} kB")
    ax.minorticks_off()
    name_rows(ax, [name for name, _ in stages])
    return ax


@_styled
def plot_composition(stages: Sequence[tuple[str, Mapping[str, float]]], ax=None):
    """Draws what the bytes of each stage are, as shares of the stage's own bytes.

    stages : (name, {part: bytes}) from top to bottom, parts as in passport.PARTS
    """
    ax = _axes(ax, (5.2, 1.3 + 0.34 * len(stages)))
    y, left = np.arange(len(stages)), np.zeros(len(stages))
    totals = np.array([sum(parts.values()) for _, parts in stages])
    for part in PARTS:
        share = np.array([parts.get(part, 0.0) for _, parts in stages]) / np.maximum(totals, 1)
        if not share.any():
            continue
        look = {"color": PART_COLOURS[part], "label": PART_NAMES[part]}
        ax.barh(y, 100 * share, 0.74, left=100 * left, edgecolor="white", linewidth=0.5, **look)
        for i in np.flatnonzero(share >= 0.09):
            at = (100 * (left[i] + share[i] / 2), i)
            _write(ax, f"{100 * share[i]:.0f} %", at, (0, 0), ha="center", color=ink(look["color"]))
        left += share
    ax.set_xlim(0, 100)
    ax.set_xlabel("share of the bytes, %")
    name_rows(ax, [name for name, _ in stages])
    legend_above(ax, columns=3)
    return ax


@_styled
def plot_layer_bytes(
    layers: Mapping[str, Mapping[str, float]], dense: Mapping[str, float] | None = None, ax=None
):
    """Draws the bytes of each layer by part, the layers from top to bottom.

    layers : {layer: {part: bytes}}, "" for what belongs to no layer
    dense : {layer: bytes} as float32; each layer then also says how many times smaller it is
    """
    shown = [(name, parts) for name, parts in layers.items() if sum(parts.values()) > 0]
    ax = _axes(ax, (5.2, 1.4 + 0.34 * len(shown)))
    y, left = np.arange(len(shown)), np.zeros(len(shown))
    for part in PARTS:
        n = np.array([parts.get(part, 0.0) for _, parts in shown])
        if n.any():
            look = {"color": PART_COLOURS[part], "label": PART_NAMES[part]}
            ax.barh(y, n / 1000, 0.7, left=left / 1000, edgecolor="white", linewidth=0.4, **look)
            left += n
    for i, (name, _) in enumerate(shown):
        text = kilobytes(left[i])
        if dense and dense.get(name):
            text += f", {factor(dense[name] / left[i])}x smaller"
        _write(ax, text, (left[i] / 1000, i), (4, 0))
    ax.set_xlim(0, 1.55 * left.max() / 1000)
    ax.set_xlabel("kB in the file (1 kB = 1000 bytes)")
    name_rows(ax, [name or "rest of file" for name, _ in shown])
    legend_above(ax, columns=3)
    return ax


@_styled
def plot_bytes_and_macs(names: Sequence[str], sizes: Sequence[float], macs: Sequence[int], ax=None):
    """Draws each layer's share of the bytes beside its share of the multiply-accumulates.

    names, sizes, macs : of each layer, from top to bottom
    """
    ax = _axes(ax, (5.2, 1.1 + 0.5 * len(names)))
    y = np.arange(len(names))
    for side, values, colour, label in (
        (-0.2, sizes, "blue", "bytes"),
        (0.2, macs, "orange", "MACs"),
    ):
        percent = 100 * np.asarray(values, np.float64) / max(sum(values), 1)
        ax.barh(y + side, percent, 0.38, color=OKABE_ITO[colour], label=label)
        for i, p in enumerate(percent):
            _write(ax, f"{p:.0f} %" if p >= 1 else f"{p:.1g} %", (p, i + side), (4, 0))
    ax.set_xlim(0, 108)
    ax.set_xticks(range(0, 101, 20))
    ax.set_xlabel("share of the net's total, %")
    name_rows(ax, names)
    legend_above(ax, columns=2)
    return ax


@_styled
def plot_sensitivity(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], baseline: float, ax=None
):
    """Draws the error when one layer alone is pruned, against that layer's sparsity.

    curves : {layer: (sparsities 0..1, errors 0..1)}        baseline : error of the dense net, 0..1
    """
    ax = _axes(ax, (5.2, 3.6))
    least = 0.01  # %; a logarithmic axis has no place for 0 errors
    ends = [(max(100 * baseline, least), f"dense {100 * baseline:.2f} %", "black")]
    for i, (name, (sparsities, errors)) in enumerate(curves.items()):
        percent = np.maximum(100 * np.asarray(errors, np.float64), least)
        ax.plot(
            sparsities,
            percent,
            color=LINES[i % len(LINES)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=4.5,
        )
        ends.append((percent[-1], name, LINES[i % len(LINES)]))
    ax.axhline(ends[0][0], color="black", linestyle="--", linewidth=1)
    heights = [y for line in ax.lines for y in line.get_ydata()]
    left = min(min(s) for s, _ in curves.values())
    right = max(max(s) for s, _ in curves.values())
    ax.set_ylim(0.75 * min(heights), 1.3 * max(heights))
    ax.set_yscale("log")
    ax.set_xlim(left - 0.02 * (right - left), right + 0.28 * (right - left))
    ends.sort()
    for (_, name, colour), y in zip(ends, apart(ax, [e[0] for e in ends])):
        ax.annotate(
            name,
            (right, y),
            (9, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            fontsize=10,
            bbox=LABEL,
        )
    log_labels(ax)
    ax.set_xticks([t for t in ax.get_xticks() if left - 1e-9 <= t <= 1 + 1e-9])
    ax.set_xlabel("sparsity of that layer (fraction of zeros)")
    ax.set_ylabel("error, %")
    ax.grid(axis="y", color=LIGHT, linewidth=0.6)
    return ax


@_styled
def plot_importance(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], baseline: float, ax=None
):
    """Draws the error when weights go by each importance criterion, against the fraction of zeros.

    curves : {criterion: (fractions of zeros 0..1, errors 0..1)}, the zeros rising; up to 8 differ
        in marker and colour
    baseline : error of the dense net, 0..1
    """
    ax = _axes(ax, (6.2, 3.8))
    least = 0.01  # %; a logarithmic axis has no place for 0 errors
    dense = max(100 * baseline, least)
    colours, markers = LINES[:-1], MARKERS + "*"  # black is the dense net's
    for i, (name, (zeros, errors)) in enumerate(curves.items()):
        ax.plot(
            zeros,
            np.maximum(100 * np.asarray(errors, np.float64), least),
            color=colours[i % len(colours)],
            marker=markers[i % len(markers)],
            linestyle="-" if i < len(colours) else (0, (5, 1)),
            markersize=5,
            linewidth=1.3,
            label=name,
        )
    ax.axhline(dense, color="black", linestyle="--", linewidth=1)
    heights = [y for line in ax.lines for y in line.get_ydata()]
    ax.set_yscale("log")
    ax.set_ylim(0.7 * min(heights), 1.3 * max(heights))
    _write(ax, f"dense {100 * baseline:.2f} %", (ax.get_xlim()[1], dense), (-3, -8), ha="right")
    log_labels(ax)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=2.6)
    ax.set_xlabel("fraction of weights that are 0")
    ax.set_ylabel("error, %")
    ax.grid(axis="y", color=LIGHT, linewidth=0.6)
    return ax


@_styled
def plot_weights(weights: Array, centroids: Array | None = None, ax=None, *, bins: int = 80):
    """Draws the histogram of the weights that are not 0, and where the centroids lie.

    weights : any shape        centroids : (k,) or None
    """
    ax = _axes(ax, (5.2, 3.0))
    w = np.asarray(weights, np.float64).ravel()
    kept, zeros = w[w != 0], w.size - np.count_nonzero(w)
    ax.hist(kept, bins=bins, color=OKABE_ITO["sky"], edgecolor="none")
    top = ax.get_ylim()[1]
    if centroids is not None:
        c = np.asarray(centroids, np.float64)
        c = c[c != 0]
        ax.vlines(c, 0, 0.06 * top, color=OKABE_ITO["vermillion"], linewidth=1.6)
        ax.plot(
            c,
            np.full(len(c), 0.06 * top),
            linestyle="",
            marker="o",
            markersize=4,
            color=OKABE_ITO["vermillion"],
            label=f"{len(c)} centroids",
        )
        ax.legend(loc="upper right", handletextpad=0.1)
    ax.text(
        0.0,
        1.02,
        f"{kept.size:,} weights; {zeros:,} more are 0 ({100 * zeros / max(w.size, 1):.1f} %)",
        transform=ax.transAxes,
        fontsize=9.5,
        va="bottom",
    )
    ax.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    ax.set_ylim(0, top * 1.05)
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:,.0f}")
    ax.set_xlabel("weight")
    ax.set_ylabel("number of weights")
    return ax


@_styled
def plot_filters(before: Array, after: Array, ax=None, *, limit: int = 20):
    """Draws the first layer's filters before and after: orange below 0, purple above, black where
    exactly 0.

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
    ax = _axes(ax, (5.2, 4.8 * sheet.shape[0] / sheet.shape[1] + 0.75))
    top = max(np.abs(p).max() for p in pictures) or 1.0
    colours = _filter_colours()
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


@_styled
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
    ax = _axes(ax, (5.2, 2.8))
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


def _filter_colours():
    import matplotlib

    return matplotlib.colormaps["PuOr"].with_extremes(bad="white")


def _axes(ax, size):
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _write(ax, text: str, at, offset, *, ha: str = "left", color: str = "black") -> None:
    # Text beside a mark; offset in points.
    ax.annotate(
        text, at, offset, textcoords="offset points", ha=ha, va="center", color=color, fontsize=9.5
    )
