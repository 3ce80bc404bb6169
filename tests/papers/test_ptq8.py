"""The table of 8 bits after training: what is chosen on which data, and when a row is met."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp import save
from minicomp.compress.finetune import FineTune
from minicomp.data import Dataset, Split
from minicomp.papers import PAPERS, ptq8
from minicomp.papers.ptq8 import METHODS, NETS, _bytes, _errors
from minicomp.papers.table import paired
from minicomp.quality import Agreement


def test_the_interval_is_of_the_difference_by_image():
    was = np.array([[True, False, False, True]])
    now = np.array([[True, True, False, False]])  # one more, one fewer
    rise, low, high = paired(now, was)
    assert rise == 0 and high == -low == pytest.approx(1.96 * 100 * np.sqrt(0.5) / 2)
    assert paired(was, was) == (0, 0, 0)
    twice = paired(np.stack([now[0], was[0]]), np.stack([was[0], was[0]]))
    assert twice[2] == pytest.approx(high / 2), "the mean over the seeds of each image"


def kept(rises, n=1000):
    # Files of a float net without errors and of nets with so many.
    def file(errors, size=100):
        return size, errors, Agreement(2 * errors, n, 0.25), np.arange(n) < errors
    sizes = {"float": 900, "float16": 450, "weight-only": 230, "dynamic": 231}
    found = {key: [file(0, size)] for key, size in sizes.items()}
    return found | {m: [file(r, 232)] for m, r in zip(METHODS, rises)}


@pytest.mark.parametrize("chosen, met", [("min-max", True), ("kl", False)])
def test_a_row_is_met_by_the_chosen_method_alone(chosen, met):
    row = _errors(NETS[0], kept([0, 1, 2, 0]), chosen, 1000, 1.0)
    assert row["met"] is met and row["chosen"] == chosen
    assert "percentile +0.10, kl +0.20, mse +0.00" in row["ours"]
    assert row["flips"] == [0 if met else 0.004] and row["kl"] == [0.25]
    assert row["ours"].endswith(f"; {0 if met else 0.4:.2f} % flipped, KL 0.25")


def test_bytes_are_met_where_8_bits_are_smaller_in_every_mode():
    files = kept([0, 0, 0, 0])
    row = _bytes(NETS[0], files, "min-max", 1000)
    assert row["met"] and "float16 450 (0.00 %); weight-only 230" in row["ours"]
    files["min-max"] = [(300, 0, None, None)]
    assert not _bytes(NETS[0], files, "min-max", 1000)["met"]


def test_the_method_is_chosen_on_validation_data_and_files_are_read_back(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    split = Split(rng.standard_normal((64, 1, 28, 28)).astype(np.float32),
                  rng.integers(10, size=64))
    data = Dataset("mnist", split, split, split, tuple("0123456789"), "files")
    asked, errors = [], iter([5, 3, 4, 3])  # of min-max, percentile, kl, mse

    def evaluate(model, given, n_threads):
        asked.append(given)
        return SimpleNamespace(errors=next(errors))

    monkeypatch.setattr(ptq8, "evaluate", evaluate)
    monkeypatch.setattr(ptq8, "file_errors", lambda m, path, name: (save(m, path), 7))
    monkeypatch.setattr(ptq8, "NETS", (
        replace(NETS[0], train=FineTune(epochs=1, lr=0.01)), replace(NETS[3], data="none such")))
    said = []
    rows = ptq8.run(data, seeds=[3], log=said.append, n_threads=1, out=tmp_path)
    assert [row["row"] for row in rows] == [
        "LeNet-300-100, mnist, 8 bits", "LeNet-300-100, mnist, bytes by mode"]
    assert rows[0]["chosen"] == "percentile" and all(given is data.val for given in asked)
    assert any("data none such is not here" in row.get("text", "") for row in said)
    assert len(list(tmp_path.iterdir())) == 8 and PAPERS["ptq8"] is ptq8.PAPER
