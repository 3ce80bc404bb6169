"""The table of low rank: its narrower nets, and when a row is met."""

from dataclasses import replace

import numpy as np
import pytest

from minicomp.data.dataset import Dataset, Split
from minicomp.models import LeNet5, LeNet300
from minicomp.papers import PAPERS, files, low_rank
from minicomp.papers.low_rank import CASES, narrower, with_outputs


def test_the_narrower_net_is_the_widest_that_fits():
    rng = np.random.default_rng(0)
    for case, model in zip(CASES, (LeNet300(), LeNet5())):
        for size in (model.dense_bytes() // 3, model.dense_bytes() - 1):
            made = narrower(model, case, size, rng=rng)
            width = made.forms()[f"{case.layer}.weight"].shape[0]
            assert made.dense_bytes() <= size < with_outputs(model, case, width + 1).dense_bytes()
            assert made.shapes()[made.nodes[-1].name] == (10,)
            assert made.forms()[f"{case.layer}.weight"].dense().data.any()
    assert with_outputs(LeNet5(), CASES[1], 50).count() == 431_080


def test_run_factors_trains_and_counts(monkeypatch, tmp_path):
    # One epoch on noise: the rows come out whole; errors are given here, by kind of file.
    rng = np.random.default_rng(1)
    split = Split(rng.random((64, 1, 28, 28), np.float32), rng.integers(10, size=64))
    data = Dataset("mnist", split, split, split, tuple("0123456789"), "files")
    one = [replace(c, train=replace(c.train, epochs=1), tune=replace(c.tune, epochs=1))
           for c in CASES]
    seen = {}

    def counted(model, path, name):
        seen[path.name] = model
        return model.dense_bytes(), 10 if "trained" in path.name else 10 + ("4x-0" in path.name)

    monkeypatch.setattr(low_rank, "CASES", one)
    monkeypatch.setattr(low_rank, "RATIOS", (2, 4))
    monkeypatch.setattr(low_rank, "milliseconds", lambda nets, batch: dict.fromkeys(nets, 0.5))
    monkeypatch.setattr(files, "file_errors", counted)
    rows = PAPERS["low-rank"].run(data, seeds=[0], log=None, n_threads=1, out=tmp_path)
    assert [r["row"] for r in rows] == [
        f"{net} at 1/{n} of its bytes" for net in ("lenet300 fc1", "lenet5 conv2") for n in (2, 4)]
    assert [r["met"] for r in rows] == [True, False] * 2, "an error in 64 more is 1.6 points"
    assert rows[1]["rise"] == pytest.approx(100 / 64)
    assert rows[0]["ms"]["dense"] == [0.5]
    low = seen["lenet5-low-rank-2x-0.mcz"]
    whole, parts = 25_000, [low.forms()[f"conv2.{i}.weight"] for i in range(2)]
    assert 0.48 * whole < sum(int(np.prod(f.shape)) for f in parts) <= whole / 2
