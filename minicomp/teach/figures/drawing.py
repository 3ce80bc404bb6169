"""What the lessons' plots share: axes of a size, a picture with its text, formulas."""

from __future__ import annotations

import io

from ...report.plots import figure, style
from ..asking.shown import Figure


def axes(size):
    """Returns the axes of a figure of `size`, inches; called within `style()`."""
    return figure(size).subplots()


def picture(ax, alt: str) -> Figure:
    """Returns the axes' figure as a PNG with the text `alt`, of the numbers drawn."""
    out = io.BytesIO()
    ax.figure.savefig(out, format="png", dpi=144)
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
