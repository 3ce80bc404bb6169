import functools

import numpy as np
import pytest

import minicomp
from minicomp.data import Dataset, Split
from minicomp.models.papers import DropoutMLP
from minicomp.papers import distilling
from minicomp.papers.distilling import (Arms, Setting, difference, interval, packed, seconds,
                                        unpacked)
from minicomp.papers.journal import Journal

WILD, GOOD, STILL = {"lr": 1e9}, {"lr": 0.005}, {"lr": 1e-9}
SOFT = {"lr": 0.005, "methods": {"distill": {"T": 2.0, "alpha": 0.9}}}


def setting(arms, **more):
    net = functools.partial(DropoutMLP, dropout=(0, 0))
    return Setting("toy", functools.partial(net, 12), functools.partial(net, 30),
                   taught={"epochs": 2, "shift": 1}, training={"epochs": 1, "batch_size": 10},
                   arms=arms, **({"short": 40, "images": 30} | more))


def digits(n=40):
    rng = np.random.default_rng(0)
    split = Split(rng.random((n, 1, 28, 28), dtype=np.float32), np.arange(n) % 10)
    return Dataset("toy", split, split, split, tuple("0123456789"), "rendered")


@pytest.fixture
def seen(monkeypatch):
    # Name, rate, epochs and number of images of every training; files are not read back.
    seen, change = [], distilling.FineTune.change

    def watched(self, model, data, run):
        seen.append((self.name, self.lr, self.epochs, len(data.train), data.test is None))
        return change(self, model, data, run)

    def counted(model, path, name):
        minicomp.save(model, path)
        return 1000, 7

    monkeypatch.setattr(distilling, "file_errors", counted)
    monkeypatch.setattr(distilling.FineTune, "change", watched)
    return seen


def test_bits_are_read_as_they_were_packed():
    wrong = np.random.default_rng(0).random(77) < 0.3
    np.testing.assert_array_equal(unpacked(packed(wrong), 77), wrong, strict=True)
    assert packed(np.array([False, True] + [False] * 6 + [True])) == "QIA="  # 0x40, 0x80


def test_arms_are_compared_image_by_image(monkeypatch):
    monkeypatch.setattr(distilling, "unpacked", functools.partial(unpacked, n=4))
    marks = {("a", 0): "1000", ("b", 0): "1110", ("a", 1): "0000", ("b", 1): "0011"}
    lines = [{"arm": arm, "seed": seed, "seconds": 3.0,
              "wrong": packed(np.array([m == "1" for m in text]))}
             for (arm, seed), text in marks.items()]
    d = np.array([0, -50, -100, -50.0])  # mean over the seeds, of each image
    half = 1.96 * d.std() / 2
    assert difference(lines, "a", "b") == pytest.approx((-50, -50 - half, -50 + half))
    assert interval((-1.254, -2.0, 0.5)) == "-1.25 (-2.00..+0.50)"
    lines.append({"arm": "a: candidate", "seed": None, "seconds": 0.5})
    assert seconds(lines, ["a"]) == 6.5 and seconds(lines, ["a", "b"]) == 12.5


def test_the_candidate_of_fewest_validation_errors_is_taken(tmp_path, seen):
    arms = Arms(setting({"plain": [WILD, STILL, GOOD], "KD": [WILD, STILL]}), digits(), 0, tmp_path,
                Journal(tmp_path / "j.jsonl"), None, 1)
    with np.errstate(all="ignore"):
        assert arms.chosen("plain") == GOOD and arms.chosen("KD") == STILL
    assert {row[1:] for row in seen if row[1] == 0.005} == {(0.005, 40, 30, True)}
    assert arms.journal.get("plain: candidate", **WILD)["errors"] == 40
    n = len(seen)
    arms.chosen("plain")
    assert len(seen) == n  # what the journal knows is not tried again


def test_arms_train_as_they_say_and_go_on(tmp_path, seen):
    of, journal = setting({"plain": [GOOD], "KD": [SOFT]}), Journal(tmp_path / "j.jsonl")
    run = functools.partial(of.run, digits(), log=None, n_threads=1, out=tmp_path, journal=journal)
    run(seeds=[0, 3])
    one = [("finetune", 0.01, 2, 40, True), ("finetune", 0.005, 1, 30, True),
           ("distill", 0.005, 1, 30, True)]
    assert seen == one * 2
    assert [(line["arm"], line["seed"]) for line in journal.lines] == [
        (arm, seed) for seed in (0, 3) for arm in ("teacher", "plain", "KD")]
    assert journal.get("KD", 3, **SOFT)["errors"] == 7
    net = minicomp.load(tmp_path / "toy-KD-3.mcz", kind="model")
    data = digits().test
    np.testing.assert_array_equal(unpacked(journal.get("KD", 3, **SOFT)["wrong"], 40),
                                  distilling.predicted(net, data.x) != data.y)
    journal.lines.remove(journal.get("KD", 3, **SOFT))
    run(seeds=[0, 3])
    assert seen[6:] == one[2:]  # the teacher is read from its file
