"""Lesson 20's plot: error against bytes, of every lesson so far and of two orders."""

from __future__ import annotations

from collections.abc import Sequence

from ...comparison import front
from ...report.palette import GREY, LABEL, LIGHT, LINES
from ...report.plots import style
from .. import catalog
from ..asking.shown import Figure
from .drawing import axes, picture

LENET300 = 1066.44  # kB of dense float32, by which the ratios of lessons 4 and 5 divide
# Lesson, what it is, keys in lessons/expected: its error, its kB or, from LENET300, its ratio.
ROWS = (
    ("04", "pruned in rounds", "error_iterative", "ratio"),
    ("05", "surgery", "error_surgery", "ratio"),
    ("07", "OBC", "error_obc", "bytes_obc"),
    ("09", "dictionaries", "tuned_2", "bytes_2"),
    ("12", "2 bits, trained", "learnt_2", "bytes_2"),
    ("14", "4-bit codebooks", "error_4_bits", "kb_4_bits"),
    ("15", "hashed to 1/8", "hashed_8", "bytes_8"),
    ("16", "binary", "error_bnn", "bytes_bnn"),
    ("17", "Deep Compression", "error_final", "bytes_coded"),
)


def earlier(data: str) -> list[tuple[str, float, float]]:
    """Returns (lesson and what, error in %, kB) of each earlier lesson's recorded file.

    data : the name of the data set that they were recorded on
    """
    rows = []
    for number, what, error, size in ROWS:
        kept = catalog.expected(catalog.lesson(number))["data"].get(data, {}).get("results", {})
        if error in kept and size in kept:
            kb = kept[size]["mean"]
            kb = LENET300 / kb if size == "ratio" else kb / 1000 if kb > 10_000 else kb
            rows.append((f"{int(number)} {what}", kept[error]["mean"], kb))
    return rows


def every_row(
    rows: Sequence[tuple[str, float, float]],
    paths: dict[str, tuple[Sequence[float], Sequence[float]]],
    *,
    limit: float = 1.8,
    guess: float | None = None,
) -> Figure:
    """Draws errors against kB: earlier lessons' files, this lesson's after each stage, the front.

    rows : as `earlier` returns        paths : by order, errors in % and kB after each stage
    limit : of the error, %        guess : kB
    """
    ends = [(name, errors[-1], kb[-1]) for name, (errors, kb) in paths.items()]
    every = [*rows, *ends]
    best = front([e for _, e, _ in every], [kb for _, _, kb in every])
    with style():
        ax = axes((8.4, 4.2))
        line = sorted((kb, e) for (_, e, kb), on in zip(every, best) if on)
        ax.plot(*zip(*line), color=GREY, linewidth=1, drawstyle="steps-post", label="front")
        for (name, e, kb), on in zip(rows, best):
            ax.plot([kb], [e], "o", color=GREY, markerfacecolor=GREY if on else "white",
                    markersize=5)
            ax.annotate(name.partition(" ")[0], (kb, e), (4, 4), textcoords="offset points",
                        fontsize=9)
        for i, (name, (errors, kb)) in enumerate(paths.items()):
            ax.plot(kb, errors, color=LINES[i], marker="sD"[i % 2], markersize=6,
                    linestyle=("-", "--")[i % 2], label=name)
        for name, _, _ in rows:  # in the legend, by the number of the lesson
            ax.plot([], [], " ", label=name)
        _lines(ax, limit, guess)
        said = "; ".join(f"{name} {e:.2f} % at {kb:.1f} kB" for name, e, kb in every)
        on = ", ".join(name for (name, _, _), b in zip(every, best) if b)
        mine = "" if not guess else f" Your guess: {guess:g} kB."
        return picture(ax, f"Error against bytes of every file so far: {said}. On the front: {on}."
                           f"{mine}")


def _lines(ax, limit: float, guess: float | None) -> None:
    ax.axhline(limit, color="black", linestyle="--", linewidth=1)
    ax.annotate(f"limit {limit:g} %", (1, limit), (-4, 3), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", fontsize=8.5)
    if guess:
        ax.axvline(guess, color=GREY, linestyle=":", linewidth=1.2)
        ax.annotate(f"your guess: {guess:g} kB", (guess, 0), (3, 4), rotation=90, fontsize=8.5,
                    xycoords=("data", "axes fraction"), textcoords="offset points", bbox=LABEL)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for which, ticks in ((ax.xaxis, (5, 10, 20, 50, 100, 200, 500)),
                         (ax.yaxis, (0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20))):
        low, high = which.get_view_interval()
        which.set_ticks([t for t in ticks if low < t < high])
        which.set_major_formatter(lambda v, _: f"{v:g}")
    ax.minorticks_off()
    ax.set_xlabel("kB of the file")
    ax.set_ylabel("test error, %")
    ax.set_title("Every file so far")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    ax.grid(color=LIGHT, linewidth=0.6)


def recorded(r: dict) -> Figure:
    """Draws the recorded means, of MNIST."""
    paths = {f"{name} first": (r[f"errors_{name}"], [b / 1000 for b in r[f"path_{name}"]])
             for name in ("channels", "weights")}
    return every_row(earlier("mnist"), paths)
