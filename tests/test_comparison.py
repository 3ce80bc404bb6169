import csv
import io

import numpy as np
import pytest
from scipy import stats

import minicomp
from minicomp.compress import Magnitude
from minicomp.compress.technique import Run
from minicomp.data.dataset import Split
from minicomp.deploy import lower
from minicomp import comparison
from minicomp.comparison import Compared, as_csv, as_latex, compare, front, interval
from minicomp.models import LeNet300
from minicomp.report import pareto


def row(file, size, errors, ms=None, macs=None):
    return Compared(file, size, 1000 / size, errors, 1000, *interval(errors, 1000), macs, macs, ms)


@pytest.mark.parametrize("errors, size", [(0, 50), (3, 200), (57, 10_000), (50, 50)])
def test_the_interval_holds_what_a_test_would_not_refuse(errors, size):
    # Wilson's: all p at which |errors - n p| is within 1.96 standard deviations of p.
    low, high = interval(errors, size)
    z = stats.norm.ppf(0.975)
    for p, inside in ((low + 1e-6, True), (low - 1e-6, False), (high - 1e-6, True),
                      (high + 1e-6, False)):
        if 0 < p < 1:
            assert (abs(errors - size * p) <= z * np.sqrt(size * p * (1 - p))) == inside


def test_the_front_is_what_nobody_beats_by_trying_all_pairs():
    rng = np.random.default_rng(0)
    for _ in range(50):
        errors, costs = rng.integers(0, 5, 8).tolist(), rng.integers(0, 5, 8).tolist()
        costs[0] = None
        found = front(errors, costs)
        assert not found[0]
        for i in range(1, 8):
            beaten = any(errors[j] <= errors[i] and costs[j] <= costs[i]
                         and (errors[j], costs[j]) != (errors[i], costs[i]) for j in range(1, 8))
            assert found[i] != beaten


def test_files_of_models_and_programs_stand_beside_each_other(tmp_path):
    rng = np.random.default_rng(1)
    split = Split(rng.random((60, 1, 28, 28), np.float32), rng.integers(0, 10, 60))
    dense = LeNet300(normalize=None, rng=np.random.default_rng(0))
    pruned = Magnitude(sparsity=0.5).apply(dense, None, Run(None))
    nets = {"dense.mcz": dense, "pruned.mcz": pruned, "program.mcz": lower(dense)}
    for name, net in nets.items():
        minicomp.save(net, tmp_path / name)
    said = []
    rows = compare([(tmp_path / name, net) for name, net in nets.items()], split, timed=False,
                   log=said.append)
    assert [r.bytes for r in rows] == [(tmp_path / name).stat().st_size for name in nets]
    assert rows[0].errors == rows[2].errors == minicomp.train.evaluate(dense, split).errors
    assert rows[1].effective_macs == rows[0].macs / 2 and rows[2].macs is None
    assert [r["done"] for r in said] == [1, 2, 3] and all(r.ms is None for r in rows)
    timed = compare([(tmp_path / "dense.mcz", dense)], split, seconds=0.01)
    assert timed[0].ms > 0


def test_csv_is_read_back_and_latex_keeps_its_letters():
    rows = [row("50%_a&b.mcz", 100, 7, ms=0.25), row("b.mcz", 200, 9, macs=12)]
    found = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [r["file"] for r in found] == ["50%_a&b.mcz", "b.mcz"]
    assert float(found[0]["ms"]) == 0.25 and found[1]["ms"] == "" and found[1]["macs"] == "12"
    assert float(found[0]["error"]) == 0.007
    text = as_latex(rows)
    assert r"\textbf{50\%\_a\&b.mcz} & 100" in text and "\nb.mcz & 200" in text
    assert text.count(r"\\") == 3 and text.count("&") == 3 * (len(comparison.HEADERS) - 1) + 1


def test_the_picture_has_a_panel_a_cost_and_a_mark_a_file():
    rows = [row("a.mcz", 100, 0, macs=10), row("b.mcz", 2_000_000, 900, macs=20)]
    axes = pareto.plot_fronts(rows, examples="1,000 test images")
    assert [ax.get_xlabel() for ax in axes] == ["bytes of the file", "multiplications an image"]
    assert all(len(ax.containers) == 2 and {t.get_text() for t in ax.texts} == {"1", "2"}
               for ax in axes)
    filled = [c.lines[0].get_markerfacecolor() != "white" for c in axes[0].containers]
    assert filled == [True, False]


def test_a_net_that_multiplies_nothing_has_a_mark():
    rows = [row("zeros.mcz", 100, 900, macs=0), row("b.mcz", 200, 9, macs=20)]
    ax = pareto.plot_fronts(rows)[1]
    assert len(ax.containers) == 2 and ax.get_xlim()[0] > 0


def setting(name, size, errors, val_errors, **fields):
    return comparison.Setting(name, size, 1000 / size, errors, 1000, *interval(errors, 1000), 10, 5,
                              None, val_error=val_errors / 100, **fields)


def test_seeds_of_a_setting_are_a_mean_and_a_range():
    row = comparison.merged([setting("s", 100, 10, 1), setting("s", 103, 20, 3),
                             setting("s", 106, 33, 8)])
    assert (row.seeds, row.bytes, row.errors, row.error) == (3, 103, 21, 0.021)
    assert row.val_error == pytest.approx(0.04) and row.judged == row.val_error
    assert row.ratio == pytest.approx(np.mean([10, 1000 / 103, 1000 / 106]))
    assert row.ranges == {"bytes": (100, 106), "error": (0.01, 0.033), "val_error": (0.01, 0.08)}
    assert (row.low, row.high) == interval(21, 1000) and row.ms is None and row.macs == 10
    headers, [cells] = comparison.table([row])
    shown = dict(zip(headers, cells))
    assert shown["test %"] == "2.10 (1.00..3.30)" and shown["seeds"] == 3 and shown["ms"] == ""
    [found] = csv.DictReader(io.StringIO(as_csv([row])))
    assert float(found["error_most"]) == 0.033 and float(found["bytes_least"]) == 100
    alone = comparison.merged([setting("s", 100, 10, 1)])
    assert dict(zip(headers, comparison.table([alone])[1][0]))["test %"] == "1.00"
    assert as_latex([row, alone]).count(r"\\") == 3


def test_what_is_on_the_front_of_settings_validation_data_say():
    # a errs least on the test set, which nobody may choose by.
    rows = [setting("a", 200, 5, 9), setting("b", 150, 9, 2), setting("c", 100, 7, 3)]
    assert comparison.fronts(rows) == [[], ["bytes", "macs"], ["bytes"]]
    ax = pareto.plot_fronts(rows)[0]
    filled = [c.lines[0].get_markerfacecolor() != "white" for c in ax.containers]
    assert filled == [False, True, True]
    assert [t.get_text() for t in ax.figure.legends[0].get_texts()] == ["1  a", "2  b", "3  c"]
    assert "validation" in ax.figure.legends[0].get_title().get_text()


def test_the_picture_has_a_band_over_the_seeds_and_one_number_at_a_place():
    rows = [comparison.merged([setting("a", 100, 10, 1), setting("a", 100, 30, 1)]),
            setting("b", 200, 20, 1), setting("c", 200, 20, 1)]
    ax = pareto.plot_fronts(rows)[0]
    [band] = [line for line in ax.lines if line.get_linewidth() == 5]
    assert list(band.get_ydata()) == [1.0, 3.0] and list(band.get_xdata()) == [100, 100]
    assert [t.get_text() for t in ax.texts] == ["1", "2, 3"]


def test_modelled_energy_is_a_panel_of_its_own():
    rows = [setting("a", 100, 10, 1, energy=2.0), setting("b", 50, 20, 2, energy=1.0)]
    labels = [ax.get_xlabel() for ax in pareto.plot_fronts(rows)]
    assert labels[-1] == "modelled microjoules an image" and len(labels) == 3
