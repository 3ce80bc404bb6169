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
from minicomp.papers.progressive2018 import PARAMETERS, WEIGHTS, left, table


def lines(errors=(70, 80), weights=1_500, biases=100, rounds=2):
    found = []
    for seed, e in enumerate(errors):
        found += [{"arm": "dense", "seed": seed, "errors": 60, "seconds": 1.0}]
        for i in range(1, rounds + 1):
            found += [{"arm": f"round{i}", "seed": seed, "val_errors": 30, "seconds": 1.0},
                      {"arm": f"tuned{i}", "seed": seed, "errors": e, "val_errors": 36,
                       "file_bytes": 5_000, "weights": weights, "biases": biases, "seconds": i}]
    return found


def test_a_row_says_every_seed_and_is_met_as_the_paper_counts():
    first, second = table(lines())
    assert first["met"] and second["met"] and (first["seconds"], second["seconds"]) == (4, 6)
    assert second["ours"] == (
        "287x, 1,500 (1,500..1,500) weights; 269x with biases, 1,600 (1,600..1,600); at 0.75 % "
        "(0.70..0.80), file 5,000 bytes; each seed: 287x, validation 0.72 %, test 0.70 %; "
        "287x, validation 0.72 %, test 0.80 %; floats 0.60 % (0.60..0.60)")
    assert "246x" in second["paper"] and "200x" in first["paper"]
    assert not any(row["met"] for row in table(lines(errors=(80, 81))))
    for n, met in ((1_750, [1, 1]), (1_751, [1, 0]), (2_152, [1, 0]), (2_153, [0, 0])):
        assert [row["met"] for row in table(lines(weights=n))] == met
    assert len(table(lines(rounds=1))) == 1  # a journal of a table that was stopped


def test_what_is_left_is_counted_with_biases_apart():
    net = LeNet5(rng=np.random.default_rng(0))
    assert left(net) == {"weights": WEIGHTS, "biases": 0}  # drawn nets begin with biases of 0
    net.forms()["fc2.bias"].value.data[:3] = 1
    made = Magnitude(sparsity=0.9).apply(net, None, Run(None))
    assert left(made) == {"weights": WEIGHTS // 10, "biases": 3}
    assert sum(form.values().size for form in net.forms().values()) == PARAMETERS


@pytest.fixture
def quick(monkeypatch, tmp_path):
    # Rounds of four steps, on 40 examples; the trainings and what each begins with.
    began, fit = [], progressive2018.FineTune.fit

    def watched(self, model, data, run, hooks=()):
        began.append((self.name, left(model)["weights"], data.test is None))
        return fit(self, model, data, run, hooks)

    def counted(model, path, name):
        minicomp.save(model, path)
        return path.stat().st_size, 7

    def shorten(name, **more):
        monkeypatch.setattr(progressive2018, name, replace(getattr(progressive2018, name), **more))

    filters, tune = progressive2018.SMALLER.steps
    shorten("FLOATS", epochs=1)
    shorten("SMALLER", steps=(filters, replace(tune, epochs=1)))
    shorten("SURGERY", epochs=4)
    shorten("TUNE", epochs=1)
    monkeypatch.setattr(progressive2018, "file_errors", counted)
    monkeypatch.setattr(progressive2018.FineTune, "fit", watched)
    rng = np.random.default_rng(0)
    split = Split(rng.random((40, 1, 28, 28), dtype=np.float32), np.arange(40) % 10)
    data = Dataset("toy", split, split, split, tuple("0123456789"), "rendered")
    return began, functools.partial(PAPERS["progressive2018"].run, data, seeds=[0], log=None,
                                    n_threads=1, out=tmp_path)


def test_each_round_begins_with_the_one_before(quick, tmp_path):
    began, run = quick
    journal = Journal(tmp_path / "j.jsonl")
    run(journal=journal)
    of = {line["arm"]: line for line in journal.lines}
    assert list(of) == ["dense", "smaller", "round1", "tuned1", "round2", "tuned2"]
    assert [name for name, _, _ in began] == ["finetune", "finetune", *["dns", "finetune"] * 2]
    assert [n for _, n, _ in began] == [WEIGHTS, 38_250, *(
        of[word]["weights"] for word in ("smaller", "round1", "round1", "round2"))]
    assert all(blind for _, _, blind in began)
    assert of["smaller"]["weights"] > of["round1"]["weights"] > of["round2"]["weights"]
    assert all(of[f"tuned{i}"]["weights"] == of[f"round{i}"]["weights"] for i in (1, 2))
    assert [word for word in of if "errors" in of[word]] == ["dense", "tuned1", "tuned2"]
    # stopped in the second round: it goes on from the first one's file, to the same nets
    for word in ("round2", "tuned2"):
        journal.lines.remove(of[word])
        (tmp_path / f"progressive-{word}-0.mcz").unlink()
    run(journal=journal)
    assert [name for name, _, _ in began[6:]] == ["dns", "finetune"]
    assert [line["weights"] for line in journal.lines] == [of[w]["weights"] for w in of]
