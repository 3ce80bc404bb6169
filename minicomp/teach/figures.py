"""The plot that one remembers of each lesson, with a text that says what is in it.

Each function takes plain numbers, so that a lesson draws its own run and `hint(id, 0)` draws the
recorded one. The style is that of report/plots.py; a guess made before the run is drawn as a dotted
line with its value.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from ..errors import UserError
from ..report.plots import (
    GREY,
    LIGHT,
    LINES,
    MARKERS,
    kilobytes,
    plot_bytes_and_macs,
    plot_waterfall,
    style,
)
from . import catalog
from .shown import Figure


def v_curve(
    steps: Sequence[float], curves: dict[str, Sequence[float]], guess: float | None = None
) -> Figure:
    """Draws the error of the central difference against its step, both as powers of ten (lesson 1).

    steps : log10 of the steps        curves : log10 of the relative error at each, by name
    """
    with style():
        ax = _axes((5.6, 3.9))
        told = []
        for i, (name, y) in enumerate(curves.items()):
            best = int(np.argmin(y))
            ax.plot(steps, y, color=LINES[i], marker=MARKERS[i], markersize=4.5, label=name)
            ax.plot(
                steps[best],
                y[best],
                marker=MARKERS[i],
                markersize=11,
                color=LINES[i],
                fillstyle="none",
            )
            told.append(f"{name} is lowest at h = 1e{steps[best]:.0f} with error 1e{y[best]:.1f}")
        low, high = (f(f(c) for c in curves.values()) for f in (min, max))
        ax.set_ylim(low - 1.6, high + 0.6)
        ax.text(0.02, 0.03, "rounding grows as 1 / h", transform=ax.transAxes, color=GREY)
        ax.text(0.98, 0.03, "cut-off grows as h²", transform=ax.transAxes, color=GREY, ha="right")
        if guess is not None:
            ax.axvline(guess, color=GREY, linestyle=":", linewidth=1.2)
            ax.annotate(
                f"your guess 1e{guess:g}",
                (guess, high),
                (4, 0),
                textcoords="offset points",
                fontsize=9.5,
                color=GREY,
            )
        ax.set_xlabel("step h, as a power of ten")
        ax.set_ylabel("relative error, as a power of ten")
        ax.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2, columnspacing=1.2
        )
        ax.grid(color=LIGHT, linewidth=0.6)
        return _picture(
            ax,
            f"Gradient error against step h, both in powers of ten, V-shaped: {'; '.join(told)}.",
        )


def bars_swap(names: Sequence[str], sizes: Sequence[float], macs: Sequence[int]) -> Figure:
    """Draws each layer's share of the bytes beside its share of the MACs (lesson 2)."""
    with style():
        ax = plot_bytes_and_macs(names, sizes, macs, ax=_axes((5.4, 3.3)))
        both = ", ".join(
            f"{n} {100 * s / sum(sizes):.0f} % and {100 * m / sum(macs):.0f} %"
            for n, s, m in zip(names, sizes, macs)
        )
        return _picture(ax, f"Share of the bytes and share of the MACs by layer: {both}.")


def pruning_curves(
    keeps: Sequence[float],
    cut: Sequence[float],
    once: Sequence[float],
    iterative: Sequence[float],
    dense: float,
    guesses: Sequence[float | None] = (),
) -> Figure:
    """Draws test error in % against weights kept, for three ways to prune (lesson 4).

    guesses : errors at 10 % kept, cut only and retrained; None where there is none
    """
    with style():
        ax = _axes((5.4, 3.8))
        x = 100 * np.asarray(keeps)
        named = (
            ("pruned only", cut),
            ("pruned, retrained once", once),
            ("pruned and retrained in rounds", iterative),
        )
        for i, (name, y) in enumerate(named):
            ax.plot(x, y, color=LINES[i], marker=MARKERS[i], markersize=5, label=name)
        ax.axhline(dense, color="black", linestyle="--", linewidth=1)
        ax.annotate(
            f"dense: {dense:.2f} %",
            (x.max(), dense),
            (0, -4),
            textcoords="offset points",
            ha="left",
            va="top",
            fontsize=9.5,
        )
        for name, guess in zip(("cut", "retrained"), guesses):
            if guess:
                ax.plot(
                    10, guess, marker="*", markersize=13, color="black", markerfacecolor="white"
                )
                ax.annotate(
                    f"guess, {name}: {guess:g} %",
                    (10, guess),
                    (8, 0),
                    va="center",
                    textcoords="offset points",
                    fontsize=9.5,
                )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.invert_xaxis()
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda v, _: f"{v:g}")
            axis.set_minor_formatter(lambda v, _: f"{v:g}" if f"{v:.0e}"[0] in "25" else "")
        ax.tick_params(which="minor", labelsize=10)
        ax.set_ylim(0.6 * min(dense, *iterative), 115)
        ax.set_xlabel("weights kept, %")
        ax.set_ylabel("test error, %")
        ax.legend(loc="upper left")
        ax.grid(color=LIGHT, linewidth=0.6)
        i = int(np.argmin(np.abs(np.asarray(keeps) - 0.1)))
        return _picture(
            ax,
            f"Test error against weights kept. Dense {dense:.2f} %. At {x[i]:.0f} % kept: pruned"
            f" only {cut[i]:.1f} %, retrained once {once[i]:.2f} %, in rounds {iterative[i]:.2f} %."
            f" At {x[-1]:.1f} %: {cut[-1]:.1f}, {once[-1]:.2f} and {iterative[-1]:.2f} %.",
        )


def waterfall(stages: Sequence[tuple[str, float]], guess: float | None = None) -> Figure:
    """Draws the file's bytes after each stage (lesson 17); guess : kB."""
    with style():
        ax = plot_waterfall(stages, ax=_axes((5.4, 3.4)))
        if guess:
            ax.axvline(1000 * guess, color=GREY, linestyle=":", linewidth=1.2)
            ax.annotate(
                f"your guess: {guess:g} kB",
                (1000 * guess, 1),
                (3, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=9.5,
                color=GREY,
            )
        steps = ", ".join(f"{name} {kilobytes(n)}" for name, n in stages)
        return _picture(
            ax,
            f"Bytes of the file after each stage: {steps}; {stages[0][1] / stages[-1][1]:.0f} times"
            " smaller in all.",
        )


def expected_figure(of: catalog.LessonChecks) -> Figure:
    """Returns the lesson's plot drawn from the recorded numbers, of MNIST where there are any."""
    data = catalog.expected(of)["data"]
    name = next((n for n in ("mnist", *data) if n in data), None)
    if name is None or of.number not in _FROM_RECORD:
        raise UserError(f"lesson {of.number} has no recorded plot")
    rows = data[name]["results"]
    return _FROM_RECORD[of.number]({key: row["mean"] for key, row in rows.items()})


def _lenet5_bars() -> Figure:
    from ..models import LeNet5

    model = LeNet5()
    layers = [n.name for n in model.nodes if n.layer.forms]
    sizes = [
        4 * sum(int(np.prod(f.shape)) for f in model.node(n).layer.forms.values()) for n in layers
    ]
    return bars_swap(layers, sizes, [model.macs()[n] for n in layers])


_FROM_RECORD = {
    "01": lambda r: v_curve(
        r["steps"],
        {
            "smooth net, float64": r["curve64"],
            "smooth net, float32": r["curve32"],
            "ReLU net, float64": r["curve_relu"],
        },
    ),
    "02": lambda r: _lenet5_bars(),
    "04": lambda r: pruning_curves(
        r["keeps"], r["curve_cut"], r["curve_once"], r["curve_iterative"], r["error_dense"]
    ),
    "17": lambda r: waterfall(
        [
            ("float32", r["bytes_dense"]),
            ("pruned", r["bytes_pruned"]),
            ("shared", r["bytes_shared"]),
            ("Huffman", r["bytes_coded"]),
        ]
    ),
}


def _axes(size):
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _picture(ax, alt: str) -> Figure:
    import matplotlib.pyplot as plt

    out = io.BytesIO()
    ax.figure.savefig(out, format="png", dpi=144)
    plt.close(ax.figure)
    return Figure(out.getvalue(), alt)


def formula(tex: str) -> tuple[bytes, float, float, float]:
    """Returns a formula as SVG, and its width, height and depth below the baseline in em.

    tex : what Matplotlib's mathtext knows of TeX, without dollars
    """
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser, math_to_image

    size, out = 64, io.BytesIO()  # large: Matplotlib rounds the picture to whole points
    font = FontProperties(size=size)
    with style(), matplotlib.rc_context({"mathtext.fontset": "dejavuserif"}):
        width, height, depth, _, _ = MathTextParser("path").parse(f"${tex}$", dpi=72, prop=font)
        math_to_image(f"${tex}$", out, prop=font, dpi=72, format="svg")
    return out.getvalue(), width / size, height / size, depth / size
