import functools

import numpy as np
import pytest

import minicomp
from minicomp.compress.technique import Run
from minicomp.data import Dataset, Split
from minicomp.models.papers import DropoutMLP
from minicomp.papers import PAPERS, hinton2015
from minicomp.papers.journal import Journal
from minicomp.papers.hinton2015 import (LENGTH2, Arms, Choice, MaxNorm, best_offset, fair_offset,
                                         raised, table, without)
from minicomp.train import evaluate

ERRORS = {"teacher": 80, "student": 150, "distilled": 90, "matched": 85, "no3": 300}


def rows(raised_threes=20, **more):
    lines = [{"arm": "soft: candidate", "seed": None, "settings": {}, "seconds": 1.0}]
    lines += [{"arm": arm, "seed": seed, "settings": {}, "errors": n - 1 + 2 * seed,
               "seconds": 2.0, "threes": 20, "file_bytes": 900 + 200 * seed, "offset": 3.0 + seed,
               "raised_errors": 100,
               "raised_threes": raised_threes}
              for seed in (0, 1) for arm, n in (ERRORS | more).items()]
    return table(lines)


def test_rows_are_met_where_the_claims_hold():
    first, matched, second = found = rows()
    assert [row["met"] for row in found] == [True] * 3
    assert [row["seconds"] for row in found] == [12, 4, 4]
    assert matched["ours"] == "85 (84..86); file 1,000 bytes" and matched["errors"] == {
        "matched": [84, 86]}
    assert first["ours"] == "80 (79..81), 150 (149..151), 90 (89..91); file 1,000 bytes"
    assert second["ours"] == "300 (299..301), 20 (20..20); 100 (100..100), 98.0 % (by 3.5)"
    assert not rows(distilled=91)[0]["met"] and not rows(student=90)[0]["met"]
    assert not rows(raised_threes=21)[2]["met"]
    assert [row["met"] for row in rows(matched=91)] == [True, False, True]


def test_a_class_is_raised_until_it_is_known_as_well_as_others():
    z = np.array([[0.0, 2.05, 0.0], [0.0, 1.05, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 9.0]])
    y = np.array([0, 0, 1, 2])

    def found(digit, y):
        return fair_offset(z, y, digit)

    assert found(0, y) == (pytest.approx(2.1), 0)  # from 5 on the third example is lost
    assert found(1, y) == (0.0, 2) and found(2, y) == (0.0, 2)
    assert found(0, np.array([0, 1, 0, 2])) == (pytest.approx(2.1), 2)  # 1 of 2, and 1 of 2
    assert found(0, np.array([1, 1, 1, 0])) == (pytest.approx(5.0), 4)
    assert best_offset(z, y, 0) == pytest.approx(2.1)  # of equals the least
    assert best_offset(z, np.array([1, 1, 1, 2]), 0) == 0
    model = DropoutMLP(4, dropout=(0, 0), rng=np.random.default_rng(0))
    moved = raised(model, 3, 2.5)(np.zeros((1, 1, 28, 28), np.float32)).data
    assert moved[0].tolist() == [0, 0, 0, 2.5, 0, 0, 0, 0, 0, 0]
    assert not model.forms()["fc3.bias"].values().any()


def digits(n=40):
    rng = np.random.default_rng(0)
    split = Split(rng.random((n, 1, 28, 28), dtype=np.float32), np.arange(n) % 10)
    return Dataset("toy", split, split, split, tuple("0123456789"), "rendered")


def test_the_choice_of_fewest_validation_errors_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(hinton2015, "SHORT", 40)
    wild, still, good = (Choice(1.0, 0.0, "sgd", lr) for lr in (1e9, 1e-9, 0.05))
    journal = Journal(tmp_path / "j.jsonl")
    arms = Arms(digits(), 0, tmp_path, journal, None, 1)
    arms.teacher = DropoutMLP(20, rng=np.random.default_rng(1))
    with np.errstate(all="ignore"):
        errors = lambda net: evaluate(net, arms.given.val).errors  # noqa: E731
        assert arms.chosen("student", [wild, still, good], errors) is good
        assert arms.chosen("student", [still, wild], None) is still  # known: nothing is run again
    wild, still, good = journal.lines
    assert wild["val_errors"] == 40 > still["val_errors"] > good["val_errors"]
    assert good["settings"] == {"T": 1.0, "alpha": 0.0, "optimizer": "sgd", "lr": 0.05}
    assert Choice(4.0, 1.0, "adam", 0.1, "cutmix").settings()["inputs"] == "cutmix"


def test_the_length_of_incoming_weights_is_limited():
    start = DropoutMLP(30, rng=np.random.default_rng(0))
    start.forms()["fc2.weight"].value.data[:4] *= 10
    made = MaxNorm().training(epochs=1, lr=1e-6).apply(start, digits(),
                                                       Run(np.random.default_rng(0)))
    w, before = (m.forms()["fc2.weight"].values() for m in (made, start))
    np.testing.assert_allclose(np.square(w[:4]).sum(axis=1), LENGTH2, rtol=1e-4)
    np.testing.assert_allclose(w[4:], before[4:], atol=1e-4)


def test_the_student_sees_no_shifted_image_and_no_3(monkeypatch, tmp_path):
    seen, made = [], []
    apply = hinton2015.FineTune.change

    def watched(self, model, data, run):
        inputs = [m.inputs for m in self.methods if self.name == "distill"]
        seen.append((self.name, *inputs, self.shift, 3 in data.train.y, data.test is None))
        return apply(self, model, data, run)

    def counted(model, path, name):
        made.append(path.name)
        minicomp.save(model, path)
        return 1000, 7

    monkeypatch.setattr(hinton2015, "file_errors", counted)
    monkeypatch.setattr(hinton2015.FineTune, "change", watched)
    for name in ("TEACHER", "STUDENT"):
        monkeypatch.setattr(hinton2015, name, getattr(hinton2015, name) | {"epochs": 1})
    for name in ("ALONE", "SOFT", "MATCHED", "NO3"):
        monkeypatch.setattr(hinton2015, name, getattr(hinton2015, name)[:1])
    monkeypatch.setattr(hinton2015, "SHORT", 0)
    journal = Journal(tmp_path / "j.jsonl")
    run = functools.partial(PAPERS["hinton2015"].run, digits(), log=None, n_threads=1,
                            out=tmp_path)
    run(seeds=[0], journal=journal)
    assert seen == [("max-norm", 2, True, True), ("finetune", 0, True, True),
                    ("finetune", 0, True, True), *2 * [("distill", "images", 0, True, True)],
                    *2 * [("distill", "cutmix", 0, True, True)],
                    *2 * [("distill", "images", 0, False, True)]]
    assert made == [f"mlp-{w}-0.mcz" for w in ("teacher", "student", "distilled", "matched", "no3",
                                               "raised")]
    lines = {line["arm"]: line for line in journal.lines}
    assert lines["student"]["settings"] == {"T": 1.0, "alpha": 0.0, "optimizer": "sgd", "lr": 0.1}
    soft = {"T": 4.0, "alpha": 0.5, "optimizer": "sgd", "lr": 0.05}
    assert lines["distilled"]["settings"] == soft
    soft |= {"optimizer": "adam", "lr": 1e-3}
    assert lines["no3"]["settings"] == soft
    assert lines["matched"]["settings"] == soft | {"alpha": 1.0, "inputs": "cutmix"}
    assert lines["teacher"]["errors"] == 7 and 0 <= lines["no3"]["raised_threes"] <= 4
    assert table(journal.lines)[0]["errors"]["teacher"] == [7]
    assert not (without(digits().train, 3).y == 3).any()
    # stopped before the distilled student: it alone is trained, from the teacher's file
    journal.lines.remove(lines["distilled"])
    run(seeds=[0], journal=journal)
    assert seen[9:] == [("distill", "images", 0, True, True)]
    assert made[6:] == ["mlp-distilled-0.mcz"]
