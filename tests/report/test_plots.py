import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.report import palette, pictures, plots

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def agg():
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    yield
    plt.close("all")


STAGES = [
    ("dense", 1724320.0),
    ("magnitude", 140000.0),
    ("finetune", 138000.0),
    ("kmeans", 43000.0),
    ("finetune", 43100.0),
]
PARTS = {
    "values": 15000.0,
    "index": 20000.0,
    "codebook": 600.0,
    "tables": 300.0,
    "biases": 2300.0,
    "buffers": 0.0,
    "header": 60.0,
}
LAYERS = {"conv1": {"values": 400.0, "biases": 80.0}, "fc1": PARTS, "": {"header": 30.0}}
CURVES = {
    n: ([0, 0.5, 0.9, 0.99], [0.02, 0.021, 0.1 + i / 50, 0.5 + i / 100])
    for i, n in enumerate(["conv1", "conv2", "fc1", "fc2"])
}
IMPORTANCE = {
    n: ([0.1, 0.5, 0.9], [0.014, 0.015 + i / 100, 0.1 + i / 20]) for i, n in enumerate("abcdefgh")
}
EPOCHS = [
    {"stage": s, "epoch": e, "loss": 1 / (e + i), "val_errors": 90 - e - 9 * i, "val_size": 2000}
    for i, s in enumerate(["train", "finetune", "finetune"])
    for e in range(1, 5)
]
rng = np.random.default_rng(0)
W = rng.standard_normal((300, 784)).astype(np.float32)
W[np.abs(W) < 1.6] = 0

CENTROIDS = [
    ("16 centroids as chosen", np.linspace(-3, 3, 16), np.arange(16)),
    ("after training", np.linspace(-3, 3.2, 16), np.arange(16)),
]
EVEN = {
    "codebook, 1 column": {0.02: 9.5, 0.1: 5.4, 1.0: 1.2},
    "CSR, 64 columns": {0.02: 20.0, 0.1: 4.6, 1.0: 0.5},
}
GAPS = {"x_q": {"alone": 47.2, "accumulated": 47.2},
        "conv1": {"weights": 41.7, "alone": np.inf, "accumulated": 48.5},
        "a longer name": {"weights": np.inf, "alone": np.inf, "accumulated": np.inf}}
CASES = {
    "waterfall": lambda ax: plots.plot_waterfall(STAGES, ax=ax),
    "composition": lambda ax: plots.plot_composition(
        [("dense", {"values": 1e6}), ("kmeans", PARTS), ("a longer name", PARTS)], ax=ax
    ),
    "layers": lambda ax: plots.plot_layer_bytes(LAYERS, {"conv1": 2080, "fc1": 1602000}, ax=ax),
    "macs": lambda ax: plots.plot_bytes_and_macs(
        ["conv1", "conv2", "fc1"], [2080, 100200, 1602000], [288000, 1600000, 400000], ax=ax
    ),
    "sensitivity": lambda ax: plots.plot_sensitivity(CURVES, 0.02, ax=ax),
    "importance": lambda ax: plots.plot_importance(IMPORTANCE, 0.014, ax=ax),
    "gaps": lambda ax: plots.plot_gaps(GAPS, ax=ax),
    "break-even": lambda ax: plots.plot_break_even(EVEN, ax=ax),
    "weights": lambda ax: pictures.plot_weights(W, CENTROIDS, ax=ax),
    "filters": lambda ax: pictures.plot_filters(W[:20], W[20:40], ax=ax),
    "training": lambda ax: pictures.plot_training(EPOCHS, ax=ax),
    "loss": lambda ax: pictures.plot_training(EPOCHS, ax=ax, quantity="loss", labels=False),
}


@pytest.mark.parametrize("name", CASES)
def test_draws_on_the_axes_given_or_on_its_own(name):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    assert CASES[name](ax) is ax
    assert CASES[name](None) is not ax


@pytest.mark.parametrize("name", CASES)
def test_axes_are_named_and_texts_neither_overlap_nor_are_cut(name):
    ax = CASES[name](None)
    if name != "filters":
        assert ax.get_xlabel() and (ax.get_ylabel() or [t.get_text() for t in ax.get_yticklabels()])
    figure = ax.figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [t for t in ax.texts if t.get_text()]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts]
    page = figure.bbox
    for text, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1, f"{text!r} is cut"
        assert box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, f"{text!r} is cut"
    for (a, box), (b, other) in itertools.combinations(boxes, 2):
        assert not box.shrunk(0.9, 0.7).overlaps(other), f"{a!r} meets {b!r}"
    for t in texts:
        assert t.get_fontsize() >= 8


def test_waterfall_bars_are_the_bytes_and_the_drops():
    ax = plots.plot_waterfall(STAGES)
    bars = ax.patches[: len(STAGES)]
    np.testing.assert_allclose([b.get_x() + b.get_width() for b in bars], [n for _, n in STAGES])
    drops = ax.patches[len(STAGES) :]
    ends = [b.get_x() + b.get_width() for b in drops]
    np.testing.assert_allclose(ends[:3], [1724320, 140000, 138000])
    assert drops[-1].get_width() == 0  # the last stage grew
    said = [t.get_text() for t in ax.texts]
    assert {"1,724 kB", "140 kB", "÷12.3", "÷3.21"} <= set(said) and ax.get_xscale() == "log"


def test_composition_sums_to_100_percent_and_leaves_out_what_is_not_there():
    ax = plots.plot_composition([("dense", {"values": 1e6}), ("kmeans", PARTS)])
    assert sum(b.get_width() for b in ax.patches) == pytest.approx(200)  # two stages
    widths = [b.get_width() for b in ax.patches if b.get_y() > 0.5]
    np.testing.assert_allclose(widths, [100 * n / 38260 for n in PARTS.values() if n])
    assert "running statistics" not in [t.get_text() for t in ax.get_legend().get_texts()]


def test_layer_bytes_say_size_and_factor():
    ax = plots.plot_layer_bytes(LAYERS, {"conv1": 2080, "fc1": 1602000})
    said = [t.get_text() for t in ax.texts]
    assert said == ["480 B, 4.33x smaller", "38.3 kB, 41.9x smaller", "30 B"]
    assert [t.get_text() for t in ax.get_yticklabels()][-1] == "rest of file"


def test_sensitivity_of_no_errors_at_all_can_be_drawn():
    ax = plots.plot_sensitivity({"fc1": ([0, 0.5], [0.0, 0.0])}, 0.0)
    assert ax.get_ylim()[0] > 0


@pytest.mark.parametrize("errors, labels", [
    ([0.3, 0.4], ["30", "40", "50"]), ([0.01, 0.4], ["1", "2", "5", "10", "20", "50"])])
def test_a_logarithmic_axis_has_labels_however_narrow(errors, labels):
    ax = plots.plot_sensitivity({"fc1": ([0.9, 0.95], errors)}, errors[0])
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    ticks = ax.yaxis.get_major_ticks() + ax.yaxis.get_minor_ticks()
    said = [(t.get_loc(), t.label1.get_text()) for t in ticks if low <= t.get_loc() <= high]
    assert [text for _, text in sorted(said) if text] == labels


def test_importance_draws_every_criterion_apart_and_the_dense_net():
    ax = plots.plot_importance(IMPORTANCE, 0.014)
    *lines, dense = ax.lines
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(IMPORTANCE)
    for line, (zeros, errors) in zip(lines, IMPORTANCE.values(), strict=True):
        np.testing.assert_allclose(line.get_xdata(), zeros)
        np.testing.assert_allclose(line.get_ydata(), 100 * np.array(errors))
    assert len({line.get_marker() for line in lines}) == 8, "told apart without colours"
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 8
    assert {line.get_color() for line in lines} <= set(palette.LINES) - {palette.OKABE_ITO["black"]}
    np.testing.assert_allclose(dense.get_ydata(), [1.4, 1.4])
    assert dense.get_linestyle() == "--" and "whole net 1.40 %" in [t.get_text() for t in ax.texts]
    assert ax.get_yscale() == "log"
    plots.plot_importance({"a": ([0.5], [0.0])}, 0.0)  # no errors at all can be drawn


def test_break_even_draws_every_ratio_and_dense_as_1():
    ax = plots.plot_break_even(EVEN)
    *lines, dense = ax.lines
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(EVEN)
    for line, curve in zip(lines, EVEN.values(), strict=True):
        np.testing.assert_allclose(line.get_xdata(), 100 * np.array(list(curve)))
        np.testing.assert_allclose(line.get_ydata(), list(curve.values()))
    assert len({line.get_marker() for line in lines}) == 2, "told apart without colours"
    np.testing.assert_allclose(dense.get_ydata(), [1, 1])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_weights_count_zeros_apart():
    ax = pictures.plot_weights(np.array([0, 0, 0, 1.0, -1.0]))
    assert ax.texts[0].get_text() == "2 weights; 3 more are 0 (60.0 %)"
    assert sum(b.get_height() for b in ax.patches) == 2
    pictures.plot_weights(np.zeros(4))  # nothing kept


def test_centroids_stand_in_rows_below_the_weights_and_empty_ones_are_hollow():
    chosen = ("3 centroids as chosen", np.array([-1.0, 0.5, 1.0]), np.array([1, 0, 1]))
    now = ("after training", np.array([-1.5, 0.5, 1.2]), np.array([1, 0, 1]))
    ax = pictures.plot_weights(np.array([0, -1.0, 1.0]), [chosen, now])
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    found = [(list(d.get_xdata()), d.get_markerfacecolor() == "white") for d in dots]
    assert found == [([-1, 1], False), ([0.5], True), ([-1.5, 1.2], False), ([0.5], True)]
    heights = [d.get_ydata()[0] for d in dots]
    assert 0 > heights[0] == heights[1] > heights[2] == heights[3]
    assert min(ax.get_yticks()) == 0, "numbers of weights begin at 0"
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels[:2] == ["3 centroids as chosen", "1 of them for no weight"]


def test_sparsity_is_an_axis_from_0_to_1_at_most():
    ax = plots.plot_sensitivity(CURVES, 0.02, examples="500 validation images")
    assert 0 <= ax.get_xlim()[0] < ax.get_xlim()[1] == 1
    assert ax.get_ylabel() == "error, % of 500 validation images"


def test_filters_are_shown_at_their_own_values():
    before, after = np.arange(-4, 5.0).reshape(1, 1, 3, 3), np.zeros((1, 1, 3, 3))
    ax = pictures.plot_filters(before, after)
    shown = ax.images[0].get_array()
    np.testing.assert_array_equal(shown[:3, :3], before[0, 0])
    black = ax.images[1].get_array()
    assert black[-1, -1].tolist() == [0, 0, 0, 1] and black[0, 0, 3] == 0 and black[1, 1, 3] == 1
    assert black[2, 2, 3] == 0
    assert ax.images[0].get_clim() == (-4, 4)
    with pytest.raises(ValueError, match="filters must be"):
        pictures.plot_filters(np.zeros((3, 17)), np.zeros((3, 17)))


def test_training_is_one_line_a_stage():
    ax = pictures.plot_training(EPOCHS)
    assert ax.get_ylim()[1] > max(max(line.get_ydata()) for line in ax.lines)
    assert pictures.plot_training(EPOCHS[:1]).get_ylim()[0] == 0
    lines = [line for line in ax.lines if len(line.get_xdata()) == 4]
    assert len(lines) == 3
    np.testing.assert_allclose(
        lines[1].get_ydata(), [100 * e["val_errors"] / 2000 for e in EPOCHS[4:8]]
    )
    with pytest.raises(ValueError, match="quantity must be error or loss, got 'accuracy'"):
        pictures.plot_training(EPOCHS, quantity="accuracy")


def test_panels_are_of_one_figure_of_their_own():
    import matplotlib.pyplot as plt

    upper, lower = plots.panels(2, (4, 4), [2, 1])
    assert upper.figure is lower.figure
    assert not plt.get_fignums()


# A notebook leaves its backend in the environment of every process that it starts.
def test_figures_need_no_backend_of_pyplot(tmp_path):
    code = f"""
import sys
from minicomp.report import plots
ax = plots.plot_waterfall([("dense", 1e6), ("small", 1e4)])
ax.figure.savefig({str(tmp_path / "f.png")!r}, dpi=50, bbox_inches="tight")
assert "matplotlib.pyplot" not in sys.modules
"""
    env = os.environ | {"MPLBACKEND": "module://no_such_backend"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_style_is_left_as_it_was():
    before = dict(matplotlib.rcParams)
    plots.plot_waterfall(STAGES)
    assert dict(matplotlib.rcParams) == before


# --------------------------------------------------------------------------- numbers and colours


def luminance(colour):
    rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    rgb = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return float(np.dot(rgb, [0.2126, 0.7152, 0.0722]))


def test_text_on_a_part_reads_well_and_parts_differ():
    for colour in palette.PART_COLOURS.values():
        a, b = sorted([luminance(colour), 1.0 if palette.ink(colour) == "white" else 0.0])
        assert (b + 0.05) / (a + 0.05) >= 4.5  # WCAG 2 AA
    assert len(set(palette.PART_COLOURS.values())) == len(palette.PART_COLOURS)
    assert set(palette.PART_COLOURS.values()) <= set(palette.OKABE_ITO.values())


@given(st.floats(1, 1e9))
def test_kilobytes_keep_three_digits(n):
    text = palette.kilobytes(n)
    number, unit = text.replace(",", "").split()
    value = float(number) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit]
    assert value == pytest.approx(n, rel=0.0051) or (unit == "B" and abs(value - n) <= 0.5)


@given(st.lists(st.floats(0.02, 90), min_size=1, max_size=12))
def test_labels_stay_in_order_apart_and_inside(ys):
    class Axis:
        def get_ylim(self):
            return 0.01, 100.0

    ys = sorted(ys)
    placed = palette.apart(Axis(), ys)
    at = (np.log(placed) - np.log(0.01)) / (np.log(100) - np.log(0.01))
    assert (np.diff(at) >= 0.07 - 1e-9).all() and at.max() <= 0.98 + 1e-9
    first = (np.log(ys[0]) - np.log(0.01)) / np.log(1e4)
    assert at.min() >= min(first, 0.98 - 0.07 * (len(ys) - 1)) - 1e-9
    if len(ys) == 1:
        assert placed[0] == pytest.approx(min(ys[0], np.exp(np.log(0.01) + 0.98 * np.log(1e4))))
