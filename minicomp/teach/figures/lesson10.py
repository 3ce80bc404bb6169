"""Lesson 10's plot: the staircase and its error, and a net's error with one scale or many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...grid import affine_params, dequantize, quantize
from ...report.palette import GREY
from ...report.plots import LIGHT, LINES, style
from ..asking.shown import Figure
from .drawing import axes, draw_errors, picture

TOY = -1.0, 3.0, 3  # the range and the bits that the staircase is drawn for


def staircase(
    r_min: float,
    r_max: float,
    bits: int,
    curve_bits: Sequence[float],
    tensor: Sequence[float],
    channel: Sequence[float],
    dense: float,
    guesses: Sequence[float | None] = (),
) -> Figure:
    """Draws a range on its grid with the rounding error below, and beside it test errors in %
    against bits, with a scale a layer and a scale a channel.

    guesses : of the errors at 4 bits, a layer and a channel; None where there is none
    """
    with style():
        ax = axes((9.8, 4.6))
        grid = ax.figure.add_gridspec(2, 2, height_ratios=(2.2, 1))
        ax.set_subplotspec(grid[0, 0])
        below = ax.figure.add_subplot(grid[1, 0], sharex=ax)
        scale, zero_point, worst = _draw_steps(ax, below, r_min, r_max, bits)
        beside = ax.figure.add_subplot(grid[:, 1])
        errors = {"a scale a layer": tensor, "a scale a channel": channel}
        draw_errors(beside, curve_bits, errors, dense, dict(zip(("layer", "channel"), guesses)),
                    what="a weight", title="The same bits, one scale or many")
        each = "; ".join(
            f"{b:.0f} bits {t:.2f} and {c:.2f}" for b, t, c in zip(curve_bits, tensor, channel)
        )
        return picture(
            ax,
            f"Left: a staircase of {2**bits} steps over {r_min:g} to {r_max:g}, scale {scale:.3f},"
            f" zero point {zero_point}; below it the error, nowhere above {worst:.3f}, half a"
            f" scale, inside the range, and growing beyond it. Right: test error in % with a scale"
            f" a layer and with a scale a channel: {each}; float {dense:.2f}.",
        )


def _draw_steps(ax, below, r_min: float, r_max: float, bits: int) -> tuple[float, int, float]:
    scale, zero_point = affine_params(r_min, r_max, bits=bits)
    last = 2**bits - 1

    def on_grid(x):
        q = quantize(x, scale, zero_point, bits=bits, grid="unsigned")
        return dequantize(q, scale, zero_point)

    ends = [float(scale * (q - zero_point)) for q in (-0.5, last + 0.5)]
    x = np.linspace(ends[0] - 0.5, ends[1] + 0.5, 2401)
    error = on_grid(x) - x
    inside = (x >= ends[0]) & (x <= ends[1])
    ax.plot(x, x, color=GREY, linestyle="--", linewidth=1)
    ax.plot(x, on_grid(x), color=LINES[0], linewidth=2)
    for q in range(last + 1):
        at = float(scale * (q - zero_point))
        ax.plot(at, at, marker="o", color=LINES[0], markersize=5)
        ax.annotate(
            f"{q}", (at, at), (-6, 4), textcoords="offset points", ha="right", fontsize=9.5
        )
    ax.set_ylabel("what is stored")
    ax.set_title(f"{r_min:g} to {r_max:g} in {bits} bits: codes 0 to {last}")
    ax.tick_params(labelbottom=False)
    half = float(scale) / 2
    below.axhspan(-half, half, color=LIGHT, zorder=0)
    below.plot(x, error, color=LINES[1], linewidth=1.2)
    below.annotate(
        "+ scale/2", (x[-1], half), (-2, 2), textcoords="offset points", ha="right", fontsize=9.5
    )
    below.annotate(
        "- scale/2", (x[0], -half), (2, -11), textcoords="offset points", fontsize=9.5
    )
    below.set_ylim(-2.2 * half, 2.2 * half)
    below.set_xlabel("value")
    below.set_ylabel("error")
    return float(scale), int(zero_point), float(np.abs(error[inside]).max())


def recorded(r: dict) -> Figure:
    """Draws the recorded means."""
    return staircase(*TOY, r["bits"], r["tensor"], r["channel"], r["error_dense"])
