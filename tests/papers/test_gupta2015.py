"""The table of fixed-point training: its formats, when a row is met, and a whole run on noise."""

import numpy as np
import pytest

from minicomp.data.dataset import Dataset, Split
from minicomp.nn import Linear, Model, Flatten, chain
from minicomp.nn.init import initialise
from minicomp.papers import PAPERS, gupta2015
from minicomp.papers.gupta2015 import ROWS, _row, technique


def by_title(title):
    (row,) = [r for r in ROWS if r.title == title]
    return row


def test_every_format_has_sixteen_bits():
    for row in ROWS:
        how = technique(row, 10)
        assert how.batch_size == 100 and how.make_schedule()(1.0) == pytest.approx(0.95**10)
        for fixed in how.methods:
            assert fixed.il + fixed.fl == fixed.grad_il + fixed.grad_fl == 16
            assert (fixed.act_il, fixed.act_fl, fixed.fl) == (6, 10, row.fl)
    assert technique(ROWS[-1], 3).momentum == 0.9 and technique(ROWS[0], 3).momentum == 0.0


@pytest.mark.parametrize("title, errors, met", [
    ("784-1000-1000-10, float", [140], True), ("784-1000-1000-10, float", [142], False),
    ("784-1000-1000-10, nearest, FL 14", [230], True),
    ("784-1000-1000-10, nearest, FL 14", [231], False),
    ("784-1000-1000-10, nearest, FL 10", [400], True),
    ("784-1000-1000-10, nearest, FL 10", [399], False),
    ("784-1000-1000-10, stochastic, FL 8", [220, 240], True),
    ("CNN, stochastic, FL 12", [90], True), ("CNN, stochastic, FL 12", [91], False),
])
def test_a_row_is_met_beside_our_own_float_or_by_the_papers_number(title, errors, met):
    of_float = {"mlp": 2.0, "cnn": 0.7}
    row = by_title(title)
    ends = [{"lost": 0.5, "arrived": 1.0}] if row.rounding else []
    made = _row(row, [(1000, e) for e in errors], ends, 10_000, of_float)
    assert made["met"] is met and made["errors"] == errors
    assert ("50.0 % of updates lost, 100 %" in made["ours"]) == bool(ends)


def test_run_trains_every_row(monkeypatch, tmp_path):
    rng = np.random.default_rng(1)
    x = rng.random((200, 1, 28, 28)).astype(np.float32)
    split, seen = Split(x, rng.integers(10, size=200)), []
    data = Dataset("mnist", split, split, split, tuple("0123456789"), "files")

    def tiny(*, rng):
        return initialise(Model(chain(("flatten", Flatten()), ("fc", Linear(784, 10))),
                                input_shape=(1, 28, 28)), rng=rng)
    monkeypatch.setattr(gupta2015, "GuptaMLP", tiny)
    monkeypatch.setattr(gupta2015, "GuptaCNN", tiny)
    monkeypatch.setattr(gupta2015, "file_errors",
                        lambda model, path, name: (seen.append(model), (9, 120))[1])
    rows = gupta2015.run(data, seeds=[0], log=None, n_threads=1, out=tmp_path, epochs=1)
    assert [r["row"] for r in rows] == [r.title for r in ROWS]
    kinds = [m.forms()["fc.weight"].kind for m in seen]
    assert kinds == ["fixed" if r.rounding else "dense" for r in ROWS]
    assert PAPERS["gupta2015-long"].run.keywords == {"epochs": 40}
