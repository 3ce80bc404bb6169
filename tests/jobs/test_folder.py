"""The folder of a run: whose it is, what of it is believed, what is left of it."""

import contextlib
import json
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.jobs.folder import folder_of, remove, run_folder
from minicomp.lock import Busy

SETTINGS = {"seed": 0, "bytes": None, "train": {"epochs": 2},
            "steps": [{"name": "magnitude", "sparsity": 0.5}, {"name": "kmeans", "bits": 4}]}


class Stop(Exception):
    pass


def data(offset=0):
    split = Split(np.full((2, 3), offset, np.float32), np.zeros(2, np.int64))
    return SimpleNamespace(train=split, val=split, name="toy")


def held(folder, settings=None, given=None, **kw):
    return run_folder(folder, SETTINGS | (settings or {}), given or data(),
                      say=kw.pop("say", lambda line: None), **kw)


def stopped(folder, *names, error=Stop, **kw):
    # A run that leaves these files, and ends in an error.
    with pytest.raises(error):
        with held(folder, **kw):
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(b"")
            raise error("loss not finite")


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_result_removes_the_folder(tmp_path):
    folder = tmp_path / "f.run"
    with held(folder) as given:
        assert given == folder
        (folder / "00-dense.step").write_bytes(b"")
        (folder / "01-dns+slimming").mkdir()
        (folder / "01-dns+slimming" / "fit.npz").write_bytes(b"")
    assert not folder.exists()


def test_what_was_stopped_is_taken_up_and_said(tmp_path):
    folder, said = tmp_path / "f.run", []
    stopped(folder, "00-dense.step", "01-magnitude/fit.npz")
    with pytest.raises(Stop), held(folder, say=said.append):
        assert names(folder) == ["00-dense.step", "01-magnitude/fit.npz", "lock", "run.json"]
        raise Stop
    assert said == [f"{folder}: goes on from a run not finished: "
                    f"00-dense, 01-magnitude in its middle"]


def test_a_run_that_did_nothing_leaves_nothing(tmp_path):
    stopped(tmp_path / "f.run")
    assert not (tmp_path / "f.run").exists()


@pytest.mark.parametrize("kw, words", [
    ({"settings": {"seed": 1}}, "seed 0 there, 1 here"),
    ({"settings": {"bytes": 6000}}, "budget of bytes none there, 6000 here"),
    ({"settings": {"train": {"epochs": 3}}}, "training: epochs 2 there, 3 here"),
    ({"settings": {"steps": [{"name": "magnitude", "sparsity": 0.6}]}},
     "steps magnitude, kmeans there, magnitude here"),
    ({"settings": {"steps": [{"name": "magnitude", "sparsity": 0.6}, SETTINGS["steps"][1]]}},
     r"magnitude \(step 1\): sparsity 0.5 there, 0.6 here"),
    ({"given": data(1)}, "the data are others"),
])
def test_an_unfinished_run_of_other_settings_is_refused_in_words(tmp_path, kw, words):
    folder = tmp_path / "f.run"
    stopped(folder, "00-dense.step", "01-magnitude.step")
    before = names(folder)
    with pytest.raises(UserError, match=rf"unfinished run with other settings \({words}\); "
                                        rf"finish it with those, or discard it with --restart"):
        with held(folder, **kw):
            pass
    assert names(folder) == before
    with held(folder):  # the first one still goes on
        assert sorted({*names(folder)} - {"lock"}) == before


def test_another_version_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "f.run"
    stopped(folder, "00-dense.step")
    monkeypatch.setattr("minicomp.jobs.folder.__version__", "99")
    with pytest.raises(UserError, match="minicomp's version .* there, 99 here"):
        with held(folder):
            pass


def test_steps_that_have_not_begun_may_be_corrected(tmp_path):
    folder = tmp_path / "f.run"
    stopped(folder, "00-dense.step", "01-magnitude/fit.npz")
    other = {"steps": [SETTINGS["steps"][0], {"name": "nm", "n": 2}]}
    with pytest.raises(Stop), held(folder, other):
        assert "01-magnitude/fit.npz" in names(folder)
        raise Stop
    for steps in ([], [{"name": "nm", "n": 2}, SETTINGS["steps"][0]]):
        with pytest.raises(UserError, match="other settings"), held(folder, {"steps": steps}):
            pass
    (folder / "attempt-1").mkdir()  # a budget's attempts name their steps elsewhere
    with pytest.raises(UserError, match="other settings"), held(folder):
        pass


def test_a_run_that_ended_in_a_users_error_blocks_nobody(tmp_path):
    folder, said = tmp_path / "f.run", []
    stopped(folder, "00-dense.step", "01-magnitude.step", "02-kmeans/fit.npz", error=UserError)
    other = {"steps": [SETTINGS["steps"][0], {"name": "kmeans", "bits": 2}]}
    with pytest.raises(UserError), held(folder, other, say=said.append):
        assert names(folder) == ["00-dense.step", "01-magnitude.step", "lock", "run.json"]
        raise UserError("another one")
    assert said == [f"{folder}: goes on from a run that ended in an error: "
                    f"00-dense, 01-magnitude"]
    with pytest.raises(UserError), held(folder, {"bytes": 7}):
        assert names(folder) == ["00-dense.step", "lock", "run.json"]
        raise UserError("too small a budget")
    with held(folder, {"seed": 1}):
        assert names(folder) == ["lock", "run.json"]


def test_the_last_word_on_how_a_run_ended_counts(tmp_path):
    # Corrected after a user's error, then stopped: it is unfinished again.
    folder = tmp_path / "f.run"
    stopped(folder, "00-dense.step", error=UserError)
    stopped(folder, "00-dense.step")
    with pytest.raises(UserError, match="unfinished run"), held(folder, {"seed": 1}):
        pass


def test_restart_discards_what_is_there_unless_it_runs(tmp_path):
    folder = tmp_path / "f.run"
    stopped(folder, "00-dense.step", "00-dense/fit.npz", "attempt-1/01-magnitude.step")
    with held(folder):
        with pytest.raises(Busy), held(folder, {"seed": 4}, restart=True):
            pass
        assert len(names(folder)) == 5
    stopped(folder, "00-dense.step")
    with held(folder, {"seed": 1}, restart=True):
        assert names(folder) == ["lock", "run.json"]
        assert json.loads((folder / "run.json").read_text())["seed"] == 1


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 5000, "1" * 9000])
def test_settings_that_cannot_be_read(tmp_path, content):
    folder = tmp_path / "f.run"
    folder.mkdir()
    (folder / "run.json").write_text(content)
    with pytest.raises(UserError, match="whose settings cannot be read; discard it with --restart"):
        with held(folder):
            pass
    with held(folder, restart=True):
        pass


def test_steps_without_settings_are_refused_and_restart_takes_them_away(tmp_path):
    folder = tmp_path / "f.run"
    folder.mkdir()
    (folder / "00-dense.mcz").write_bytes(b"")  # as an older version named it
    with pytest.raises(UserError, match="cannot be read"), held(folder):
        pass
    with held(folder, restart=True):
        assert names(folder) == ["lock", "run.json"]


def test_a_file_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "f.run").write_text("mine")
    with pytest.raises(UserError, match="is a file; a run keeps its unfinished state in a folder"):
        with held(tmp_path / "f.run", restart=True):
            pass
    assert (tmp_path / "f.run").read_text() == "mine"


def test_only_what_a_run_writes_is_removed(tmp_path):
    folder, outside = tmp_path / "f.run", tmp_path / "outside"
    ours = [
        "run.json", ".0a1b2c3d4e5f6071.tmp", "00-dense.step", "01-channel-lasso.step",
        "00-dense/fit.npz", "attempt-1/01-dns+slimming/.0a1b2c3d4e5f6071.tmp",
        "01-iterative/round-1-0/fit.npz", "lock",
    ]
    theirs = ["notes.json", "best.mcz", "data.npz", "old/README", "01-iterative/my.npz"]
    for name in ours + theirs:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    outside.mkdir()
    (outside / "fit.npz").write_bytes(b"")
    (folder / "link").symlink_to(outside)
    remove(folder)
    assert [n for n in names(folder) if not n.startswith("link")] == sorted(theirs)
    assert (outside / "fit.npz").exists() and (folder / "link").is_symlink()
    assert not (folder / "attempt-1").exists()


@pytest.mark.parametrize("gone", range(6))
def test_who_is_killed_while_the_folder_goes_can_run_again(gone, tmp_path, monkeypatch):
    folder, unlink, left = tmp_path / "f.run", Path.unlink, [gone]

    def killed(path, missing_ok=False):
        if not left[0]:
            raise Stop
        left[0] -= 1
        unlink(path, missing_ok)

    with contextlib.suppress(Stop), held(folder):
        for name in ("00-dense.step", "00-dense/fit.npz", "attempt-1/01-kmeans.step"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"")
        monkeypatch.setattr(Path, "unlink", killed)
    monkeypatch.undo()
    assert len(names(folder)) == max(0, 4 - gone), "the lock has gone too, as with a process"
    with held(folder):
        assert "run.json" in names(folder)
    assert not folder.exists()


def test_halves_of_a_killed_run_go_when_it_is_taken_up(tmp_path):
    folder = tmp_path / "f.run"
    stopped(folder, "00-dense.step", "00-dense/.0a1b2c3d4e5f6071.tmp", "00-dense/.mine.tmp")
    with held(folder):
        assert names(folder) == ["00-dense.step", "00-dense/.mine.tmp", "lock", "run.json"]


def test_one_file_has_one_folder_by_whatever_link(tmp_path):
    (tmp_path / "link.mcz").symlink_to(tmp_path / "f.mcz")
    assert folder_of(tmp_path / "link.mcz") == folder_of(tmp_path / "f.mcz")
    assert folder_of(tmp_path / "f.mcz") == tmp_path / "f.mcz.run"


def hammer(folder, seed, barrier, results):
    # Starts and ends runs; what it finds in the folder must always be its own.
    wrong = refused = done = 0
    barrier.wait()
    for _ in range(40):
        try:
            with held(folder, {"seed": seed}):
                if json.loads((folder / "run.json").read_text())["seed"] != seed:
                    wrong += 1
                (folder / "00-dense.step").write_bytes(b"%d" % seed)
                wrong += (folder / "00-dense.step").read_bytes() != b"%d" % seed
                done += 1
        except Busy:
            refused += 1
    results.put((wrong, refused + done))


@pytest.mark.slow
def test_processes_that_start_at_the_same_moment_never_share_a_folder(tmp_path):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("a started process cannot import this file")
    context = multiprocessing.get_context("fork")
    results, barrier = context.Queue(), context.Barrier(2)
    runs = [context.Process(target=hammer, args=(tmp_path / "f.run", seed, barrier, results))
            for seed in (1, 2)]
    for p in runs:
        p.start()
    found = [results.get(timeout=60) for _ in runs]
    for p in runs:
        p.join()
    assert found == [(0, 40), (0, 40)] and not (tmp_path / "f.run").exists()
