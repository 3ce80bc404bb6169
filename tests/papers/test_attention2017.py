from dataclasses import replace

import numpy as np

import minicomp
from minicomp.data import Dataset, Split
from minicomp.papers import PAPERS, attention2017, distilling
from minicomp.papers.attention2017 import SETTING, table
from minicomp.papers.distilling import packed
from minicomp.papers.journal import Journal

ERRORS = {"teacher": 3000, "plain": 4000, "AT": 3900, "KD": 3800, "AT + KD": 3700, "FSP": 3900}


def rows(**more):
    lines = [{"arm": "AT: candidate", "seed": None, "errors": 9, "seconds": 1.0}]
    lines += [{"arm": arm, "seed": seed, "errors": n - 10 + 20 * seed, "seconds": 2.0,
               "file_bytes": 900 + 200 * seed,
               "wrong": packed(np.arange(10_000) < n - 10 + 20 * seed)}
              for seed in (0, 1) for arm, n in (ERRORS | more).items()]
    return table(lines)


def test_rows_are_met_where_the_interval_is_below_0():
    first, second = rows()
    assert first["met"] and second["met"] and (first["seconds"], second["seconds"]) == (21, 4)
    # 100 of 10,000 images differ, by 100 points each: 1.96 x 9.95 / 100 = 0.195
    assert first["ours"].startswith("AT -1.00 (-1.1")
    assert first["ours"].endswith("plain 40.00 % (39.90..40.10), teacher 30.00 % (29.90..30.10); "
                                  "file 1,000 bytes")
    assert second["ours"].startswith("FSP -1.00 (") and "KD -2.00 (" in second["ours"]
    # four images fewer are none
    assert [row["met"] for row in rows(AT=3996)] == [True, True]
    assert [row["met"] for row in rows(AT=3999)] == [False, True]
    assert [row["met"] for row in rows(FSP=4100)] == [True, False]


def images(n=40):
    rng = np.random.default_rng(0)
    split = Split(rng.random((n, 3, 32, 32), dtype=np.float32), np.arange(n) % 10)
    return Dataset("toy", split, split, split, tuple("0123456789"), "rendered")


def test_every_arm_trains_with_the_teacher(monkeypatch, tmp_path):
    seen, change = [], distilling.FineTune.change

    def watched(self, model, data, run):
        seen.append((self.name, self.shift, self.epochs))
        return change(self, model, data, run)

    def counted(model, path, name):
        minicomp.save(model, path)
        return 1000, 7

    monkeypatch.setattr(distilling, "file_errors", counted)
    monkeypatch.setattr(distilling.FineTune, "change", watched)
    short = replace(
        SETTING, taught=SETTING.taught | {"epochs": 1}, training=SETTING.training | {"epochs": 1},
        arms={arm: tried[:1] for arm, tried in SETTING.arms.items()})
    journal = Journal(tmp_path / "j.jsonl")
    short.run(images(), seeds=[0], log=None, n_threads=1, out=tmp_path, journal=journal)
    assert seen == [("finetune", 2, 1)] + [(name, 0, 1) for name in (
        "finetune", "attention-transfer", "distill", "attention-transfer+distill")] + [
        ("fsp", 0, 11)]  # its first stage comes before the epochs of the others
    assert all(line["errors"] == 7 for line in journal.lines)
    nets = [minicomp.load(path, kind="model") for path in sorted(tmp_path.glob("*.mcz"))]
    assert len({net.forms()["conv1.weight"].values().tobytes() for net in nets}) == 6


def test_nets_are_small():
    nets = [make(rng=np.random.default_rng(0)) for make in (SETTING.student, SETTING.teacher)]
    assert [sum(net.macs().values()) for net in nets] == [809_280, 2_578_752]
    assert SETTING.taught["epochs"] <= 30 and PAPERS["attention2017"].run == SETTING.run
