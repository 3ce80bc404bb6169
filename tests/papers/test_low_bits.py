"""The table of few bits: what is compared, and when a row is met."""

import numpy as np
import pytest

from minicomp.compress.finetune import FineTune
from minicomp.compress.quant.nodes import grids
from minicomp.data import Dataset, Split
from minicomp.papers import low_bits
from minicomp.papers.low_bits import _row, _seconds, columns
from minicomp.quality import Agreement


def cells(rises, errors, n=1000):
    # One seed: a float net without errors, nets that get so many images wrong.
    names = columns(2, "midrise")
    return [{"float": np.zeros(n, bool), "images": n, "grid": "midrise", "seconds": 1.0} | {
        c: {"errors": r, "bytes": 9, "wrong": np.arange(n) < r, "reconstruction": e, "taken": 2.0,
            "agreement": Agreement(2 * r, n, 0.5)}
        for c, r, e in zip(names, rises, errors)}]


@pytest.mark.parametrize("rises, errors, met", [
    ([9, 40, 30, 20, 20], [0.2, 0.2, 0.2, 0.2, 0.2], True),
    ([9, 40, 30, 20, 21], [0.2, 0.2, 0.2, 0.0, 0.0], False),
    ([0, 0, 0, 1, 1], [0.2, 0.2, 0.2, 0.1, 0.1], True),  # too few to tell
    ([0, 0, 0, 0, 0], [0.2, 0.2, 0.2, 0.1, 0.11], False),
])
def test_a_row_is_met_at_half_of_the_rise_or_of_the_reconstruction_error(rises, errors, met):
    row = _row("lenet5", 2, cells(rises, errors))
    assert row["met"] is met and row["errors"]["gptq"] == [rises[3]]
    assert ("[reconstruction error]" in row["ours"]) == (rises[1] == 0)
    assert f"mse {rises[1] / 10:+.2f} (" in row["ours"]
    assert row["ours"].endswith(f"adaround {rises[4] / 5:.2f} %")
    assert row["flips"]["mse"] == [rises[1] / 500] and row["kl"]["mse"] == [0.5]


def test_seconds_are_those_of_lenet5():
    found = {("lenet5", 2): cells([0] * 5, [1.0] * 5), ("lenet300", 2): []}
    assert _seconds(found)["met"] and "GPTQ 2.0 (at most 2.0)" in _seconds(found)["ours"]
    found["lenet5", 2][0]["adaround"]["taken"] = 61.0
    assert not _seconds(found)["met"]


@pytest.mark.slow
def test_the_grid_is_chosen_on_validation_data_and_every_column_has_8_bit_activations(
        monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    split = Split(rng.standard_normal((60, 1, 28, 28)).astype(np.float32),
                  rng.integers(10, size=60))
    data = Dataset("mnist", split, split, split, tuple("0123456789"), "files")
    seen = {}
    monkeypatch.setattr(low_bits, "NETS", {"lenet300": ("mnist", FineTune(epochs=1, lr=0.05))})
    monkeypatch.setattr(low_bits, "BITS", (3,))
    monkeypatch.setattr(low_bits, "AdaRound", lambda **kw: low_bits.GPTQ(**kw))
    monkeypatch.setattr(low_bits, "file_errors", lambda m, path, name: (
        seen.setdefault(path.name, m), (9, 50))[1])
    monkeypatch.setattr(low_bits, "_seconds", lambda found: {})
    row, _ = low_bits.PAPER.run(data, seeds=[0], log=lambda row: None, n_threads=1, out=tmp_path)
    assert list(seen) == [f"lenet300-3-{c}-0.mcz" for c in columns(3, "narrow")]
    for model in seen.values():
        assert {g.bits for g in grids(model).values()} == {8}
        form = model.forms()["fc1.weight"]
        assert form.bits == 3 and form.grid in row["row"]
    assert row["errors"]["mse"] == [50]
