"""The table of network slimming: its net, its count of weights, and when a row is met."""

import numpy as np
import pytest

from minicomp.compress.prune.slimming import Slimming
from minicomp.data.dataset import Dataset, Split
from minicomp.models.papers import SlimmingMLP
from minicomp.papers import PAPERS, slimming2017
from minicomp.papers.slimming2017 import _row, size


def test_the_counts():
    model = SlimmingMLP(rng=np.random.default_rng(0))
    assert size(model) == 545_000
    small = Slimming(sparsity=0.8, scope="local").slimmed(model)
    assert size(small) == 85_000 and PAPERS["slimming2017"].data == "mnist"
    assert size(Slimming(sparsity=0.87, scope="local").slimmed(model)) < 0.1 * 545_000


def test_all_images_but_those_of_the_test_train():
    parts = [Split(np.full((n, 2), n, np.float32), np.full(n, n)) for n in (5, 3, 4)]
    made = slimming2017.whole(Dataset("mnist", *parts, ("a",), "files"))
    assert made.test is None and len(made.val) == 3
    np.testing.assert_array_equal(made.train.y, [5] * 5 + [3] * 3)
    np.testing.assert_array_equal(made.train.x[:, 0], made.train.y)


@pytest.mark.parametrize(
    "errors, removed, met",
    [([140, 158], 0.844, True), ([140, 160], 0.844, False), ([9], 0.9, False)],
)
def test_a_row_is_met_by_the_mean_of_the_seeds(errors, removed, met):
    small = Slimming(sparsity=0.8, scope="local").slimmed(SlimmingMLP(rng=np.random.default_rng(0)))
    row = _row("t", 1.49, removed, small, [(300_000, e) for e in errors], 10_000, 1.0)
    assert row["met"] is met and row["errors"] == errors
    assert "84.4 % removed at" in row["ours"] and "300,000 bytes" in row["ours"]


def test_run_trains_cuts_and_counts(monkeypatch, tmp_path):
    # One epoch on noise: the table's rows come out whole; the files' errors are counted here.
    rng = np.random.default_rng(1)
    split = Split(
        rng.standard_normal((300, 1, 28, 28)).astype(np.float32), rng.integers(10, size=300)
    )
    data = Dataset("mnist", split, split, split, tuple("0123456789"), "files")
    seen = []
    monkeypatch.setitem(slimming2017.SETTING, "epochs", 1)
    monkeypatch.setattr(slimming2017, "TUNING", 1)
    monkeypatch.setattr(
        slimming2017, "file_errors", lambda m, path, name: (seen.append(m), (9, 120))[1]
    )
    rows = PAPERS["slimming2017"].run(data, seeds=[0], log=None, n_threads=1, out=tmp_path)
    assert [size(m) for m in seen] == [545_000, 85_000, 85_000, 65 * 784 + 65 * 39 + 390]
    assert [r["row"].split()[0].rstrip(",") for r in rows] == [
        "784-500-300-10",
        "784-100-60-10",
        "784-100-60-10",
        "784-65-39-10",
    ]
    assert not any(r["met"] for r in rows) and all(r["seconds"] > 0 for r in rows)
    assert rows[3]["removed"] == pytest.approx(0.9011, abs=1e-4)
