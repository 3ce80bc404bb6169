import itertools

import numpy as np
import pytest

from minicomp.compress.quant.ranges import Histogram
from minicomp.compress.quant.ranges.curves import threshold_curves
from minicomp.report import palette
from minicomp.report.quant_plots import plot_thresholds

matplotlib = pytest.importorskip("matplotlib")

rng = np.random.default_rng(0)
TENSORS = {
    "relu": np.maximum(rng.laplace(size=5000), 0),
    "outliers": np.append(rng.standard_normal(5000), [20.0, 30.0]),  # labels far apart
    "two": np.array([1.0, -0.25]),
    "constant": np.full(9, 3.0),
}


def seen(x):
    h = Histogram()
    h.update(np.asarray(x, np.float32))
    return h


@pytest.mark.parametrize("name", TENSORS)
def test_all_curves_stand_on_one_histogram_and_labels_neither_overlap_nor_are_cut(name):
    h = seen(TENSORS[name])
    curves = threshold_curves(h, bins=512)
    ax = plot_thresholds(h, curves)
    assert "unit" in ax.get_xlabel() and "numbers" in ax.get_ylabel() and ax.get_yscale() == "log"
    ax.figure.canvas.draw()
    renderer, page = ax.figure.canvas.get_renderer(), ax.figure.bbox
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in ax.texts if t.get_text()]
    assert sorted(text.split()[0] for text, _ in boxes) == sorted(curves)
    for (a, one), (b, other) in itertools.combinations(boxes, 2):
        assert not one.shrunk(0.95, 0.8).overlaps(other), f"{a!r} meets {b!r}"
    for text, box in boxes:
        assert -1 <= box.x0 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, f"{text!r} is cut"
    stems = [t.arrow_patch.get_window_extent(renderer) for t in ax.texts if not t.get_text()]
    for stem, (text, box) in itertools.product(stems, boxes):
        middle = (stem.x0 + stem.x1) / 2
        assert not box.x0 < middle < box.x1 or stem.y1 <= box.y0 + 2, f"a line runs through {text}"


def test_the_marks_are_the_least_values_and_the_palette_is_ours():
    h = seen(TENSORS["outliers"])
    curves = threshold_curves(h, bins=512)
    ax = plot_thresholds(h, curves, unit="millivolt")
    over = next(a for a in ax.figure.axes if a is not ax)
    lines, marks = over.lines[::2], over.lines[1::2]
    assert len(lines) == 4 and len({line.get_linestyle() for line in lines}) == 4
    assert len({mark.get_marker() for mark in marks}) == 4, "told apart without colours"
    assert {line.get_color() for line in [*lines, *ax.lines]} <= set(palette.LINES)
    for mark, (T, values) in zip(marks, curves.values()):
        assert mark.get_xdata()[0] == T[np.argmin(values)]
        assert mark.get_ydata()[0] == values.min()
    assert {round(line.get_xdata()[0], 9) for line in ax.lines} == {
        round(float(T[np.argmin(v)]), 9) for T, v in curves.values()}
    assert "millivolt" in ax.get_xlabel() and "nats" in over.get_ylabel()
    assert "(millivolt)²" in over.get_ylabel()
