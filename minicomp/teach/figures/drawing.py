"""What the lessons' plots share: axes of a size, a picture with its text, formulas."""

from __future__ import annotations

import io

from ...report.palette import GREY, LABEL
from ...report.plots import LIGHT, LINES, MARKERS, figure, style
from ..asking.shown import Figure


def axes(size):
    """Returns the axes of a figure of `size`, inches; called within `style()`."""
    return figure(size).subplots()


def picture(ax, alt: str) -> Figure:
    """Returns the axes' figure as a PNG with the text `alt`, of the numbers drawn."""
    out = io.BytesIO()
    ax.figure.savefig(out, format="png", dpi=144)
    return Figure(out.getvalue(), alt)


def draw_errors(ax, bits, errors, dense: float, guesses: dict, *, what: str, title: str) -> None:
    """Draws test errors, percent, against bits, from many to few, on a logarithmic axis.

    errors : by name, one for each of bits        dense : that of floats, percent
    guesses : a student's by name, percent, None where there is none        what : has
        those bits
    """
    for i, (name, each) in enumerate(errors.items()):
        ax.plot(bits, each, color=LINES[i], marker=MARKERS[i], markersize=6, label=name)
    ax.axhline(dense, color="black", linestyle="--", linewidth=1, label=f"float: {dense:.2f} %")
    for name, guess in guesses.items():
        if guess:
            ax.axhline(guess, color=GREY, linestyle=":", linewidth=1.2)
            ax.annotate(
                f"guess, {name}: {guess:g} %",
                (min(bits) + 0.35 * (max(bits) - min(bits)), guess),
                (0, 3),
                ha="center",
                textcoords="offset points",
                fontsize=9.5,
                bbox=LABEL,
            )
    ax.set_yscale("log")
    ax.set_xticks([int(b) for b in bits])
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    ax.yaxis.set_minor_formatter(lambda v, _: f"{v:g}" if f"{v:.0e}"[0] in "25" else "")
    ax.invert_xaxis()
    ax.set_xlabel(f"bits of {what}")
    ax.set_ylabel("test error, %")
    ax.set_title(title)
    ax.legend(loc="upper left", frameon=True, facecolor="white", edgecolor="none")
    ax.grid(color=LIGHT, linewidth=0.6)


def errors_in_words(bits, errors, dense: float) -> str:
    """Returns what `draw_errors` draws, as part of a picture's text; arguments are its."""
    said = "; ".join(
        f"{name} " + ", ".join(f"{e:.2f}" for e in each) for name, each in errors.items()
    )
    at = ", ".join(f"{b:.0f}" for b in bits)
    return f"test error in % at {at} bits: {said}; float {dense:.2f}"


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
