"""One look for every picture: palette, fonts, lines, and how numbers are written beside marks.

The eight colours are Okabe & Ito's (2008), which people with any colour vision tell apart. A part
of a file has the same colour in every picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..codec.accounting import FILE_PARTS

OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}
LINES = tuple(
    OKABE_ITO[c] for c in ("blue", "vermillion", "green", "purple", "orange", "sky", "black")
)
MARKERS = "osD^vPX"
PART_COLOURS = dict(
    zip(
        FILE_PARTS,
        (OKABE_ITO[c] for c in ("blue", "orange", "green", "purple", "sky", "yellow", "black")),
    )
)
PART_NAMES = dict(
    zip(
        FILE_PARTS,
        ("values", "indices", "codebooks", "code tables", "biases", "running statistics", "header"),
    )
)
GREY, LIGHT = "#595959", "#D9D9D9"
LABEL = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "minicomp",
}


def kilobytes(n: float) -> str:
    """Returns a number of bytes in words, 3 digits, kB = 1000 bytes.

    >>> [kilobytes(n) for n in (58, 1234, 16899, 1724320, 25e6)]
    ['58 B', '1.23 kB', '16.9 kB', '1,724 kB', '25.0 MB']
    """
    if n < 1000:
        return f"{n:.0f} B"
    if n < 1e7:
        k = n / 1000
        return f"{k:,.2f} kB" if k < 9.995 else f"{k:,.1f} kB" if k < 99.95 else f"{k:,.0f} kB"
    return f"{n / 1e6:,.1f} MB"


def ink(colour: str) -> str:
    """Returns "black" or "white", whichever reads better on `colour`, "#rrggbb".

    Source: relative luminance of WCAG 2.2
    """
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (r, g, b)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if luminance < 0.18 else "black"


def name_rows(ax, names: Sequence[str]) -> None:
    """Names the rows 0, 1, ... of horizontal bars, the first on top."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)


def legend_above(ax, columns: int) -> None:
    """Puts the legend above the axes, where no mark is."""
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        borderaxespad=0.2,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.2,
        labelspacing=0.3,
        borderpad=0.1,
    )


def log_labels(ax) -> None:
    """Labels a logarithmic y axis at 1, 2, 5, 10, ... instead of powers of ten; one whose limits,
    set before, are less than a factor of 4 apart at 1, 2, 3, 4, ..."""
    low, high = ax.get_ylim()
    digits = "25" if high >= 4 * low else "23456789"
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.yaxis.set_minor_formatter(lambda v, _: f"{v:g}" if f"{v:.0e}"[0] in digits else "")
    ax.tick_params(axis="y", which="minor", labelsize=9)


def apart(ax, ys: Sequence[float], least: float = 0.07) -> list[float]:
    """Returns heights for labels at ascending heights ys of a logarithmic y axis, none on another.

    least : distance of two labels, as a fraction of the axis
    """
    low, high = np.log(ax.get_ylim())
    at = [(np.log(max(y, 1e-9)) - low) / (high - low) for y in ys]
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + least)
    at[-1:] = [min(a, 0.98) for a in at[-1:]]
    for i in range(len(at) - 2, -1, -1):
        at[i] = min(at[i], at[i + 1] - least)
    return [float(np.exp(low + a * (high - low))) for a in at]
