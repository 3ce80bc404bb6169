"""The curves and bars: bytes, MACs, sensitivity, importance, speed; and what all pictures share.

Every function draws on `ax` (or on a figure of its own) and returns it; nothing is shown or saved.
A value that matters is written beside its mark, so no picture needs its colours to be read.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..atomic import write_atomically
from ..codec.accounting import FILE_PARTS, times
from ..errors import UserError, printable
from .palette import (
    GREY,
    LIGHT,
    LINES,
    MARKERS,
    OKABE_ITO,
    PART_COLOURS,
    PART_NAMES,
    STYLE,
    apart,
    ink,
    kilobytes,
    legend_above,
    log_labels,
    name_rows,
)

Array = np.ndarray
FORMATS = (".png", ".svg", ".pdf")


def style():
    """Returns a context in which figures take this file's fonts and lines: `with style(): ...`."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def styled(plot: Callable) -> Callable:
    """Returns `plot` drawing in `style()`: fonts are taken when a mark is made, not when saved."""

    @functools.wraps(plot)
    def drawn(*args, **kw):
        with style():
            return plot(*args, **kw)

    return drawn


def panels(rows: int, size: tuple[float, float], heights: Sequence[float] | None = None) -> list:
    """Returns axes of one figure below one another, for the functions here to draw on.

    size : width and height in inches        heights : relative, of each
    """
    with style():
        return list(figure(size).subplots(rows, 1, gridspec_kw={"height_ratios": heights}))


def figure(size: tuple[float, float]):
    """Returns an empty figure of `size`, inches, that can be saved.

    It is made without pyplot, which imports the backend that $MPLBACKEND names, be it installed or
    not, and keeps every figure until it is closed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    return FigureCanvasAgg(Figure(size, layout="constrained")).figure


def save(ax, path: str | Path) -> None:
    """Writes the axes' figure as its name's end says, one of `FORMATS`, whole or not at all."""
    out = io.BytesIO()
    ax.figure.savefig(out, format=Path(path).suffix[1:].lower(), dpi=150, bbox_inches="tight")
    write_atomically(path, out.getvalue())


def check_format(path: str | Path) -> None:
    """Raises UserError where the end of a picture's name is not one of `FORMATS`."""
    if Path(path).suffix.lower() not in FORMATS:
        raise UserError(f"a picture must end in {', '.join(FORMATS)}, got {printable(path)}")


@styled
def plot_waterfall(stages: Sequence[tuple[str, float]], ax=None):
    """Draws the bytes after each stage on a logarithmic axis, and by what the stage divided them.

    stages : (name, bytes > 0) in order, from top to bottom, the dense model first. On a logarithmic
        axis equal lengths are equal factors, and the grey lengths add up to the whole
    """
    ax = axes(ax, (5.2, 0.9 + 0.34 * len(stages)))
    sizes, y = np.array([n for _, n in stages], np.float64), np.arange(len(stages))
    floor = 10.0 ** np.floor(np.log10(sizes.min() / 3))  # room for a number in the shortest bar
    ax.barh(y, sizes - floor, 0.74, left=floor, color=OKABE_ITO["blue"])
    ax.barh(y[1:], np.maximum(sizes[:-1] - sizes[1:], 0), 0.74, left=sizes[1:], color=LIGHT)
    for i, n in enumerate(sizes):
        write(ax, kilobytes(n), (n, i), (-4, 0), ha="right", color="white")
        if i and sizes[i - 1] > 1.05 * n:
            wide = sizes[i - 1] > 1.6 * n
            at = np.sqrt(sizes[i - 1] * n) if wide else sizes[i - 1]
            text = f"÷{times(sizes[i - 1] / n)}"
            write(ax, text, (at, i), (0 if wide else 4, 0), ha="center" if wide else "left")
    ax.vlines(sizes[:-1], y[:-1] + 0.37, y[1:] - 0.37, color=GREY, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xlim(floor, sizes.max() * 1.25)
    ax.set_xlabel("bytes of the model")
    ax.xaxis.set_major_formatter(lambda n, _: f"{n:g} B" if n < 1000 else f"{n / 1000:,g} kB")
    ax.minorticks_off()
    name_rows(ax, [name for name, _ in stages])
    return ax


@styled
def plot_composition(stages: Sequence[tuple[str, Mapping[str, float]]], ax=None):
    """Draws what the bytes of each stage are, as shares of the stage's own bytes.

    stages : (name, {part: bytes}) from top to bottom, parts as in FILE_PARTS
    """
    ax = axes(ax, (5.2, 1.3 + 0.34 * len(stages)))
    y, left = np.arange(len(stages)), np.zeros(len(stages))
    totals = np.array([sum(parts.values()) for _, parts in stages])
    for part in FILE_PARTS:
        share = np.array([parts.get(part, 0.0) for _, parts in stages]) / np.maximum(totals, 1)
        if not share.any():
            continue
        look = {"color": PART_COLOURS[part], "label": PART_NAMES[part]}
        ax.barh(y, 100 * share, 0.74, left=100 * left, edgecolor="white", linewidth=0.5, **look)
        for i in np.flatnonzero(share >= 0.09):
            at = (100 * (left[i] + share[i] / 2), i)
            write(ax, f"{100 * share[i]:.0f} %", at, (0, 0), ha="center", color=ink(look["color"]))
        left += share
    ax.set_xlim(0, 100)
    ax.set_xlabel("share of the bytes, %")
    name_rows(ax, [name for name, _ in stages])
    legend_above(ax, columns=3)
    return ax


@styled
def plot_layer_bytes(
    layers: Mapping[str, Mapping[str, float]], dense: Mapping[str, float] | None = None, ax=None
):
    """Draws the bytes of each layer by part, the layers from top to bottom.

    layers : {layer: {part: bytes}}, "" for what belongs to no layer
    dense : {layer: bytes} as float32; each layer then also says how many times smaller it is
    """
    shown = [(name, parts) for name, parts in layers.items() if sum(parts.values()) > 0]
    ax = axes(ax, (5.2, 1.4 + 0.34 * len(shown)))
    y, left = np.arange(len(shown)), np.zeros(len(shown))
    for part in FILE_PARTS:
        n = np.array([parts.get(part, 0.0) for _, parts in shown])
        if n.any():
            look = {"color": PART_COLOURS[part], "label": PART_NAMES[part]}
            ax.barh(y, n / 1000, 0.7, left=left / 1000, edgecolor="white", linewidth=0.4, **look)
            left += n
    for i, (name, _) in enumerate(shown):
        text = kilobytes(left[i])
        if dense and dense.get(name):
            text += f", {times(dense[name] / left[i])}x smaller"
        write(ax, text, (left[i] / 1000, i), (4, 0))
    ax.set_xlim(0, 1.55 * left.max() / 1000)
    ax.set_xlabel("kB in the file (1 kB = 1000 bytes)")
    name_rows(ax, [name or "rest of file" for name, _ in shown])
    legend_above(ax, columns=3)
    return ax


@styled
def plot_bytes_and_macs(names: Sequence[str], sizes: Sequence[float], macs: Sequence[int], ax=None):
    """Draws each layer's share of the bytes beside its share of the multiply-accumulates.

    names, sizes, macs : of each layer, from top to bottom
    """
    ax = axes(ax, (5.2, 1.1 + 0.5 * len(names)))
    y = np.arange(len(names))
    for side, values, colour, label in (
        (-0.2, sizes, "blue", "bytes"),
        (0.2, macs, "orange", "MACs"),
    ):
        percent = 100 * np.asarray(values, np.float64) / max(sum(values), 1)
        ax.barh(y + side, percent, 0.38, color=OKABE_ITO[colour], label=label)
        for i, p in enumerate(percent):
            write(ax, f"{p:.0f} %" if p >= 1 else f"{p:.1g} %", (p, i + side), (4, 0))
    ax.set_xlim(0, 108)
    ax.set_xticks(range(0, 101, 20))
    ax.set_xlabel("share of the net's total, %")
    name_rows(ax, names)
    legend_above(ax, columns=2)
    return ax


@styled
def plot_sensitivity(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], baseline: float, ax=None, *,
    examples: str = "",
):
    """Draws the error when one layer alone is pruned, against that layer's sparsity.

    curves : {layer: (sparsities 0..1, errors 0..1)}, none of them empty
    baseline : error of the whole net, 0..1        examples : on which, "2,000 validation images"
    """
    ax = axes(ax, (5.2, 3.6))
    least = 0.01  # %; a logarithmic axis has no place for 0 errors
    ends = [(max(100 * baseline, least), f"whole net {100 * baseline:.2f} %", "black")]
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
    left = min((min(s) for s, _ in curves.values()), default=0.0)
    ax.set_ylim(0.75 * min(heights), 1.3 * max(heights))
    ax.set_yscale("log")
    ax.set_xlim(max(0.0, left - 0.02), 1.0)
    ends.sort()
    for (_, name, colour), y in zip(ends, apart(ax, [e[0] for e in ends])):
        ax.annotate(
            name,
            (1.0, y),
            (5, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            fontsize=10,
        )
    log_labels(ax)
    ax.set_xlabel("sparsity of that layer (fraction of zeros)")
    ax.set_ylabel(f"error, % of {examples}" if examples else "error, %")
    ax.grid(axis="y", color=LIGHT, linewidth=0.6)
    return ax


@styled
def plot_importance(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], baseline: float, ax=None, *,
    examples: str = "",
):
    """Draws the error when weights go by each importance criterion, against the fraction of zeros.

    curves : {criterion: (fractions of zeros 0..1, errors 0..1)}, the zeros rising, none of them
        empty; up to 8 differ in marker and colour
    baseline : error of the whole net, 0..1        examples : on which, "2,000 validation images"
    """
    ax = axes(ax, (6.2, 3.8))
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
    write(ax, f"whole net {100 * baseline:.2f} %", (ax.get_xlim()[1], dense), (-3, -8), ha="right")
    log_labels(ax)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=2.6)
    ax.set_xlabel("fraction of weights that are 0")
    ax.set_ylabel(f"error, % of {examples}" if examples else "error, %")
    ax.grid(axis="y", color=LIGHT, linewidth=0.6)
    return ax


@styled
def plot_gaps(layers: Mapping[str, Mapping[str, float]], ax=None):
    """Draws the signal-to-quantization-noise ratios of each layer, the layers from top to bottom.

    layers : {layer: {"weights", "alone", "accumulated": dB}}, absent where a layer has none;
        infinity, which is exact, has no mark. The last are written beside
    """
    ax = axes(ax, (6.2, 1.4 + 0.3 * len(layers)))
    for what, colour, marker in zip(("weights", "alone", "accumulated"), LINES, "sDo"):
        at = [(gaps[what], i) for i, gaps in enumerate(layers.values())
              if np.isfinite(gaps.get(what, np.inf))]
        line = {"linestyle": "-" if what == "accumulated" else "none", "linewidth": 1.2}
        ax.plot([v for v, _ in at], [i for _, i in at], color=colour, marker=marker, markersize=6,
                label={"weights": "weights", "alone": "output, this layer alone quantized",
                       "accumulated": "output, all quantized"}[what], **line)
    for i, gaps in enumerate(layers.values()):
        value = gaps.get("accumulated", np.inf)
        ax.annotate(f"{value:.0f} dB" if np.isfinite(value) else "exact", (1.0, i), (6, 0),
                    xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
                    color=LINES[2])
    ax.set_xlabel("signal to quantization noise, dB (right is better)")
    ax.grid(axis="x", color=LIGHT, linewidth=0.6)
    name_rows(ax, list(layers))
    legend_above(ax, columns=1)
    return ax


@styled
def plot_break_even(curves: Mapping[str, Mapping[float, float]], ax=None):
    """Draws how many times faster than dense BLAS sparse products are, against density.

    curves : {product: {density, non-zeros / weights, 0..1: ratio of the times, above 1 is faster}},
        the densities rising; where a curve crosses 1 it breaks even
    """
    ax = axes(ax, (7.6, 5.0))
    for i, (name, curve) in enumerate(curves.items()):
        ax.plot(
            [100 * d for d in curve],
            list(curve.values()),
            color=LINES[i % len(LINES)],
            marker=(MARKERS + "*")[i % (len(MARKERS) + 1)],
            linestyle="-" if i < len(LINES) else (0, (5, 1)),
            markersize=5,
            linewidth=1.3,
            label=name,
        )
    ax.axhline(1, color="black", linestyle="--", linewidth=1)
    ax.set_xscale("log")
    ax.set_yscale("log")
    write(ax, "dense", (ax.get_xlim()[0], 1), (3, -7))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.16), ncols=2, handlelength=2.2)
    ax.set_xlabel("weights that are not 0, %")
    ax.set_ylabel("times faster than dense")
    ax.grid(color=LIGHT, linewidth=0.6)
    return ax


def axes(ax, size: tuple[float, float]):
    """Returns `ax`, or where it is None the axes of a new figure of `size`, inches."""
    return figure(size).subplots() if ax is None else ax


def write(ax, text: str, at, offset, *, ha: str = "left", color: str = "black") -> None:
    """Writes text beside a mark.   at : in data        offset : in points"""
    ax.annotate(
        text, at, offset, textcoords="offset points", ha=ha, va="center", color=color, fontsize=9.5
    )


def filter_colours():
    """Returns colours of signed numbers: orange below 0, purple above, white where none is."""
    import matplotlib

    return matplotlib.colormaps["PuOr"].with_extremes(bad="white")
