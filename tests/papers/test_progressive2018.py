import functools
from dataclasses import replace

import numpy as np
import pytest

import minicomp
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.technique import Run
from minicomp.data import Dataset, Split
from minicomp.models import LeNet5
from minicomp.papers import PAPERS, progressive2018
from minicomp.papers.journal import Journal
from minicomp.papers.progressive2018 import PARAMETERS, WEIGHTS, chosen, left, table


def lines(errors=(70, 80), weights=1_500, biases=100):
    found = []
    for seed, e in enumerate(errors):
        found += [{"arm": "dense", "seed": seed, "errors": 60, "seconds": 1.0},
                  {"arm": "round1", "seed": seed, "val_errors": 30, "seconds": 1.0},
                  {"arm": "last", "seed": seed, "errors": e, "val_errors": 36, "file_bytes": 5_000,
                   "weights": weights, "biases": biases, "round": 2, "seconds": 2.0}]
    return found


def test_a_row_says_every_seed_and_is_met_by_all_that_is_left():
    (row,) = table(lines())
    assert row["met"] and row["seconds"] == 8 and row["left"] == [1_600, 1_600]
    assert row["ours"].startswith("269x of weights and biases, 1,600 (1,600..1,600) left (287x of "
                                  "weights alone), at 0.75 % (0.70..0.80), file 5,000 bytes")
    assert "269x, round 2, validation 0.72 %, test 0.80 %; floats 0.60 %" in row["ours"]
    assert not table(lines(errors=(80, 81)))[0]["met"]
    # 1,700 weights are 253x of weights alone, which with their biases are not 246x
    assert table(lines(weights=1_700, biases=52))[0]["met"]
    assert not table(lines(weights=1_700, biases=53))[0]["met"]


def test_the_last_round_within_the_limit_is_chosen(monkeypatch):
    monkeypatch.setattr(progressive2018, "LIMIT", 40)
    assert chosen([30, 40, 41]) == 1 and chosen([30, 41, 40]) == 2
    assert chosen([41, 50, 60]) == 0


def test_what_is_left_is_counted_with_biases_apart():
    net = LeNet5(rng=np.random.default_rng(0))
    assert left(net) == {"weights": WEIGHTS, "biases": 0}  # drawn nets begin with biases of 0
    net.forms()["fc2.bias"].value.data[:3] = 1
    made = Magnitude(sparsity=0.9).apply(net, None, Run(None))
    assert left(made) == {"weights": WEIGHTS // 10, "biases": 3}
    assert sum(form.values().size for form in net.forms().values()) == PARAMETERS


@pytest.fixture
def quick(monkeypatch, tmp_path):
    def counted(model, path, name):
        minicomp.save(model, path)
        return path.stat().st_size, 7

    monkeypatch.setattr(progressive2018, "file_errors", counted)
    for name, epochs in (("FLOATS", 1), ("SURGERY", 4)):
        short = replace(getattr(progressive2018, name), epochs=epochs)
        monkeypatch.setattr(progressive2018, name, short)
    filters, tune = progressive2018.SMALLER.steps
    monkeypatch.setattr(progressive2018, "SMALLER",
                        replace(progressive2018.SMALLER, steps=(filters, replace(tune, epochs=1))))
    monkeypatch.setitem(progressive2018.LAST, "epochs", 1)
    rng = np.random.default_rng(0)
    split = Split(rng.random((40, 1, 28, 28), dtype=np.float32), np.arange(40) % 10)
    data = Dataset("toy", split, replace(split), split, tuple("0123456789"), "rendered")
    return functools.partial(PAPERS["progressive2018"].run, data, seeds=[0], n_threads=1,
                             out=tmp_path)


def test_each_round_begins_with_the_one_before(quick, tmp_path, monkeypatch):
    began, trained = [], []
    fit = progressive2018.FineTune.fit

    def watched(self, model, data, run, hooks=()):
        trained.append((self.name, data.test is None))
        began.append(left(model)["weights"])
        return fit(self, model, data, run, hooks)

    monkeypatch.setattr(progressive2018.FineTune, "fit", watched)
    journal = Journal(tmp_path / "j.jsonl")
    quick(journal=journal, log=None)
    of = {line["arm"]: line for line in journal.lines}
    assert list(of) == ["dense", "smaller", "round1", "round2", "round3", "last"]
    assert trained == [(name, True) for name in
                       ("finetune", "finetune", "dns", "dns", "dns", "distill")]
    assert began[:2] == [WEIGHTS, 38_250] and began[2] == of["smaller"]["weights"]
    assert began[3:5] == [of["round1"]["weights"], of["round2"]["weights"]]
    assert of["round1"]["weights"] > of["round2"]["weights"] > of["round3"]["weights"]
    # 40 examples have at most LIMIT errors: the last round is taken, and stays as sparse
    assert of["last"]["round"] == 3 and of["last"]["weights"] == of["round3"]["weights"]
    assert "errors" not in of["round3"] and table(journal.lines)[0]["errors"] == [7]
    # stopped before the third round: it goes on from the second one's file
    for word in ("round3", "last"):
        journal.lines.remove(of[word])
        (tmp_path / f"progressive-{word}-0.mcz").unlink()
    quick(journal=journal, log=None)
    assert trained[6:] == [("dns", True), ("distill", True)]
    again = {line["arm"]: line for line in journal.lines}
    assert again["last"] == of["last"] | {"seconds": again["last"]["seconds"]}
