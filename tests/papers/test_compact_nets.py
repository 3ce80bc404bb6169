import functools

import numpy as np
import pytest

import minicomp
from minicomp.data import Dataset, Split
from minicomp.papers import PAPERS, compact_nets
from minicomp.papers.compact_nets import HOW, NETS, linear, table
from minicomp.papers.journal import Journal


def rows(minutes=2.0, **errors):
    lines = [{"arm": "linear", "seed": 0, "settings": {}, "errors": 6500, "seconds": 1.0}]
    for arm, n in errors.items():
        lines += [{"arm": f"{arm}: candidate", "seed": None, "settings": {"optimizer": "sgd"},
                   "val_errors": 3, "seconds": 5.0},
                  {"arm": arm, "seed": 0, "settings": {"optimizer": "adam"}, "errors": n,
                   "file_bytes": 12345, "minutes": minutes, "seconds": 120.0}]
    return table(lines)


def test_a_row_is_met_where_the_net_learns_in_time():
    first, second = rows(vggsmall=5000, resnet20=6500)
    assert first["met"] and not second["met"] and first["seconds"] == 125
    assert first["ours"] == "50.00 % in 2.0 minutes, adam; file 12,345 bytes"
    assert first["paper"] == "(ours: below a linear classifier, 65.00 %)"
    assert not rows(minutes=15.1, vggsmall=5000)[0]["met"]


def pictures(n=40):
    rng = np.random.default_rng(0)
    split = Split(rng.random((n, 3, 32, 32), dtype=np.float32), np.arange(n) % 10)
    return Dataset("toy", split, split, split, tuple("0123456789"), "rendered")


def test_every_net_of_32_pixels_is_in_the_table():
    small = [word for word, net in minicomp.models.MODELS.items() if net().input_shape[1] == 32]
    assert sorted(NETS) == sorted(small)
    assert linear(pictures(), np.random.default_rng(0)).forms()["fc.weight"].shape == (10, 3072)


def test_the_optimizer_of_fewer_validation_errors_trains(monkeypatch, tmp_path):
    monkeypatch.setattr(compact_nets, "NETS", ("depthwise32",))
    monkeypatch.setattr(compact_nets, "EPOCHS", 2)
    monkeypatch.setattr(compact_nets, "SHORT", 20)
    few = {"batch_size": 20, "shift": 0}
    monkeypatch.setattr(compact_nets, "HOW", {
        "sgd": HOW["sgd"] | few | {"lr": 1e-9}, "adam": HOW["adam"] | few | {"lr": 0.01}})

    def counted(model, path, name):
        minicomp.save(model, path)
        return path.stat().st_size, 7

    monkeypatch.setattr(compact_nets, "file_errors", counted)
    journal = Journal(tmp_path / "j.jsonl")
    run = functools.partial(PAPERS["compact-nets"].run, pictures(), seeds=[0], log=None,
                            n_threads=1, out=tmp_path, journal=journal)
    run()
    lines = {(line["arm"], line["settings"].get("optimizer")): line for line in journal.lines}
    still, good = (lines["depthwise32: candidate", key]["val_errors"] for key in HOW)
    assert good < still
    assert lines["depthwise32", "adam"]["errors"] == 7 and ("depthwise32", "sgd") not in lines
    assert lines["linear", None]["file_bytes"] == (tmp_path / "linear-0.mcz").stat().st_size
    (row,) = table(journal.lines)
    assert row["errors"] == [7] and not row["met"]
    monkeypatch.setattr(compact_nets.FineTune, "apply", lambda *_: pytest.fail("it ran"))
    run()  # all of it is known
