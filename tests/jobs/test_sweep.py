"""Sweeps: every run once, whatever is cut off, fails or is killed, and the bits of `compress`."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import minicomp
from minicomp import data as datasets
from minicomp.checkpoint import fingerprint
from minicomp.cli import main
from minicomp.compress import TECHNIQUES
from minicomp.errors import UserError
from minicomp.jobs import sweep as module
from minicomp.jobs.recipe import Recipe, make_technique, parse_with
from minicomp.jobs.sweep import RUNS, Planned, lines, sweep, take
from minicomp.jobs.swept import settings, titles
from minicomp.lock import append, locked

ROOT = Path(minicomp.__file__).parents[1]


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    # A file of a few glyphs, which the processes of a sweep find too.
    path, whole = tmp_path_factory.mktemp("few") / "few.npz", datasets.load("glyphs")
    np.savez(path, **{f"{axis}_{part}": getattr(getattr(whole, part), axis)[:n]
                      for part, n in (("train", 128), ("val", 60), ("test", 80)) for axis in "xy"})
    return path


def planned(few, *steps, seeds=1, epochs=1, **fields):
    # A run for each of the steps and seeds; a step is what stands behind --with.
    data = datasets.load(str(few))
    train = make_technique("finetune", {"epochs": epochs, "batch_size": 32, "lr": 0.05}, TECHNIQUES)
    return [replace(Planned(
        "lenet300", None, "lenet300", str(few), data.label, fingerprint(data),
        Recipe("with", "", "", train, parse_with([step], TECHNIQUES)), seed,
        {"model": "lenet300", "step 1": step}), **fields)
        for step in steps for seed in range(seeds)]


def raw(folder):
    return (folder / RUNS).read_text().splitlines()


def nets(folder):
    # Digests: where bits differ pytest would compare files byte by byte.
    return {p.parent.name: sha256(p.read_bytes()).hexdigest() for p in folder.glob("*/net.mcz")}


def test_a_line_says_what_its_file_costs(few, tmp_path):
    runs = planned(few, "magnitude:sparsity=0.5", "magnitude:sparsity=0.9", seeds=2)
    log = []
    found = sweep(runs, tmp_path, backend="sequential", log=log.append)
    assert [line["run"] for line in found] == [r.key for r in runs] and len(raw(tmp_path)) == 4
    assert [json.loads(text) for text in raw(tmp_path)] == found
    data = datasets.load(str(few))
    for line, r in zip(found, runs):
        path = tmp_path / line["file"]
        net = minicomp.load(path)
        assert path.parent.name == r.name and line["file_bytes"] == path.stat().st_size
        assert line["errors"] == minicomp.train.evaluate(net, data.test).errors
        assert line["val_errors"] == minicomp.train.evaluate(net, data.val).errors
        assert (line["val_size"], line["test_size"]) == (60, 80) and line["macs"] == 266_200
        assert line["effective_macs"] == sum(net.effective_macs().values()) < 266_200
        assert line["ratio"] == net.origin_bytes / line["file_bytes"]
        assert line["settings"]["seed"] == line["seed"] == r.seed and line["seconds"] > 0
    assert found[0]["effective_macs"] > found[2]["effective_macs"]
    assert [row["done"] for row in log if row.get("name") == "sweep"] == [1, 2, 3, 4]
    assert len(list((tmp_path / "dense").glob("*/00-dense.step"))) == 2, "one a seed"
    assert not list(tmp_path.glob("*/net.mcz.run")), "nothing of an unfinished run is left"


def test_what_is_there_is_not_run_again_and_what_was_cut_off_is(few, tmp_path, monkeypatch):
    runs, made = planned(few, "magnitude:sparsity=0.5", seeds=3), []
    measured = module._measured
    monkeypatch.setattr(module, "_measured", lambda p, folder: made.append(p.seed) or measured(
        p, folder))
    sweep(runs[:2], tmp_path, backend="sequential")
    before, text = nets(tmp_path), (tmp_path / RUNS).read_text()
    (tmp_path / RUNS).write_text(text[:-40])  # as a killed process leaves it
    said = []
    found = sweep(runs, tmp_path, backend="sequential", log=said.append)
    assert made == [0, 1, 1, 2] and [line["seed"] for line in found] == [0, 1, 2]
    assert [json.loads(t)["seed"] for t in raw(tmp_path)] == [0, 1, 2], "the half line is gone"
    assert any("line 2 was cut off" in row.get("text", "") for row in said)
    assert nets(tmp_path).items() >= before.items()
    assert sweep(runs, tmp_path, backend="sequential") == found and len(made) == 4


@pytest.mark.parametrize("line", ["", "no json", "[]", "{}", '{"run": "x"}', "[" * 10**5, "\udcff"])
def test_lines_of_something_else_are_left_out(line, few, tmp_path):
    [run] = planned(few, "magnitude:sparsity=0.5")
    (tmp_path / RUNS).write_bytes(line.encode("utf-8", "surrogateescape") + b"\n")
    sweep([run], tmp_path, backend="sequential")
    said = []
    assert list(lines(tmp_path, said.append)) == [run.key]
    assert bool(said) == bool(line)


@pytest.mark.parametrize("field, value", [
    ("errors", 81), ("errors", -1), ("errors", "3"), ("test_size", 0), ("val_errors", 61),
    ("file_bytes", 0), ("chosen", {"a": []}), ("settings", None), ("file", 3), ("run", [])])
def test_lines_with_figures_that_cannot_be_are_left_out(field, value, tmp_path):
    line = {"run": "r", "seed": 0, "chosen": {"a": "b"}, "source": "d", "settings": {}, "file": "f",
            "seconds": 1.0, "file_bytes": 9, "dense_bytes": 90, "val_errors": 1, "val_size": 60,
            "errors": 8, "test_size": 80, "macs": 5, "effective_macs": 4}
    (tmp_path / RUNS).write_text(json.dumps(line) + "\n" + json.dumps(line | {
        "run": "other", field: value}) + "\n")
    assert list(lines(tmp_path)) == ["r"] and settings([line])[0].error == 0.1


def test_a_run_that_fails_is_noted_and_the_others_go_on(few, tmp_path, monkeypatch):
    runs = planned(few, "magnitude:sparsity=0.5", seeds=3)
    runs[0] = replace(runs[0], max_bytes=10)
    broken, measured = [True], module._measured

    def fails(p, folder):
        if p.seed == 1 and broken:
            raise MemoryError("no room\nat all")
        return measured(p, folder)

    monkeypatch.setattr(module, "_measured", fails)
    found = sweep(runs, tmp_path, backend="sequential")
    assert found[0]["error"].startswith("a budget of 10 bytes cannot be met")
    assert found[1]["error"] == "MemoryError: no room at all" and "error" not in found[2]
    assert sweep(runs, tmp_path, backend="sequential") == found, "it is not tried again by itself"
    broken.clear()
    again = sweep(runs, tmp_path, backend="sequential", again=True)
    assert "error" in again[0] and again[1]["errors"] >= 0 and again[2] == found[2]
    assert list(lines(tmp_path).values()) == again
    assert [row.seeds for row in settings(again)] == [2]


def test_the_bits_are_those_of_compress_on_every_backend(few, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["lenet300", "--data", str(few), "--fast"]
    step = "magnitude:sparsity={0.5,0.9}"
    sweeps = ["sweep", *words, "--with", step, "--seed", "1"]
    assert main([*sweeps, "--backend", "sequential", "--out", "a"]) == 0
    assert main([*sweeps, "--backend", "loky", "--jobs", "2", "--out", "b"]) == 0
    assert nets(Path("a")) == nets(Path("b")) and len(nets(Path("a"))) == 2
    assert main(["compress", *words, "--with", "magnitude:sparsity=0.9", "--seed", "1", "--threads",
                 "1", "--no-report", "--out", "plain.mcz"]) == 0
    mine = next(line for line in lines(Path("a")).values()
                if line["chosen"]["step 1"] == "magnitude:sparsity=0.9")
    assert (Path("a") / mine["file"]).read_bytes() == Path("plain.mcz").read_bytes()


def test_settings_that_differ_are_other_runs_and_seeds_of_one_are_together(few):
    base, *others = planned(few, "magnitude:sparsity=0.5", "magnitude:sparsity=0.50001")
    others += [replace(base, **fields) for fields in (
        {"seed": 1}, {"n_threads": 2}, {"max_bytes": 9999}, {"label": "x"}, {"examples": "0"},
        {"origin": "f"})] + planned(few, "magnitude:sparsity=0.5", epochs=2)
    assert len({r.key for r in [base, *others]}) == 1 + len(others)
    assert replace(base, chosen={"model": "other"}).key == base.key
    assert len({base.dense, others[0].dense, replace(base, max_bytes=9).dense}) == 1
    assert len({base.dense, *(others[i].dense for i in (1, 2, 5, 7))}) == 5
    assert replace(base, start=Path("f.mcz")).dense is None


def test_titles_name_what_differs():
    def line(threads=1, **chosen):
        return {"chosen": chosen, "settings": {"threads": threads, "data": "d", "minicomp": "1"}}

    assert titles([line(a="m", b="s=1"), line(a="m", b="s=2"), line(a="m")]) == ["s=1", "s=2", ""]
    assert titles([line(a="m", b="s=1")] * 2) == ["m, s=1"] * 2
    assert titles([line(a="m"), line(2, a="m")]) == ["threads=1", "threads=2"]


def test_other_examples_under_the_name_are_refused(few, tmp_path):
    [run] = planned(few, "magnitude:sparsity=0.5", examples="0123456789")
    assert "finds other examples under the name" in take(run, tmp_path)["error"]


def test_a_folder_has_one_sweep_at_a_time(few, tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match="in use by another run"):
        sweep(planned(few, "magnitude:sparsity=0.5"), tmp_path, backend="sequential")


def test_a_run_that_another_process_has_is_waited_for(few, tmp_path, monkeypatch):
    # Its line is there by then, and it is not run again.
    [run] = planned(few, "magnitude:sparsity=0.5")
    done = take(run, tmp_path)
    text = (tmp_path / RUNS).read_bytes()
    (tmp_path / RUNS).unlink()
    holding = locked(tmp_path / run.name)
    holding.__enter__()

    def ends(seconds):
        (tmp_path / RUNS).write_bytes(text)
        holding.__exit__(None, None, None)

    monkeypatch.setattr(module.time, "sleep", ends)
    monkeypatch.setattr(module, "_measured", None)
    assert take(run, tmp_path) == done


def test_packages_that_are_missing_are_named(few, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(UserError, match=r"needs the packages joblib .*'\.\[sweep"):
        sweep(planned(few, "magnitude:sparsity=0.5"), tmp_path, backend="sequential")


def test_appended_lines_are_whole(tmp_path):
    path = tmp_path / "x.jsonl"
    append(path, "one")
    with open(path, "ab") as f:
        f.write(b"half" * 3000)
    append(path, "two" * 3000)
    assert path.read_text() == "one\n" + "two" * 3000 + "\n"
    path.write_bytes(b"half" * 3000)
    append(path, "three")
    assert path.read_text() == "three\n"


APPENDS = "import sys; from pathlib import Path; from minicomp.lock import append\n" \
          "for i in range(60): append(Path(sys.argv[1]), sys.argv[2] * 5000 + str(i))"


def test_lines_of_several_processes_do_not_mix(tmp_path):
    path = tmp_path / "x.jsonl"
    others = [subprocess.Popen([sys.executable, "-P", "-c", APPENDS, path, letter],
                               env=os.environ | {"PYTHONPATH": str(ROOT)}) for letter in "ab"]
    assert [p.wait() for p in others] == [0, 0]
    want = {letter * 5000 + str(i) for letter in "ab" for i in range(60)}
    found = path.read_text().splitlines()
    assert len(found) == 120 and set(found) == want


# ------------------------------------------------------------------- workers that are killed


def started(few, folder, backend):
    # A sweep of eight runs of some seconds on two workers, in a session of its own.
    # -P: of the package under test, not of a checkout that the tests are run in.
    words = [sys.executable, "-P", "-m", "minicomp", *command(few, folder), "--backend", backend,
             "--jobs", "2"]
    return subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE, text=True,
                            stdout=subprocess.DEVNULL, cwd=folder.parent,
                            env=os.environ | {"PYTHONPATH": str(ROOT)})


def command(few, folder):
    return ["sweep", "lenet300", "--data", str(few), "--with",
            "magnitude:sparsity={0.5,0.6,0.7,0.8}", "--with", "finetune:epochs=60,batch_size=32",
            "--seeds", "2", "--out", str(folder)]


def until(process, condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "nothing comes any more"
        time.sleep(0.05)


def count(folder):
    return len(raw(folder)) if (folder / RUNS).exists() else 0


def workers(process, mark):
    import psutil

    found = psutil.Process(process.pid).children()
    return [p for p in found if mark in " ".join(p.cmdline())]


@pytest.mark.slow
@pytest.mark.parametrize("backend, mark", [("dask", "spawn_main"), ("loky", "popen_loky_posix")])
def test_killed_workers_and_a_killed_cluster_lose_nothing(backend, mark, few, tmp_path):
    pytest.importorskip("distributed")
    pytest.importorskip("psutil")
    first = started(few, tmp_path / "a", backend)
    try:
        until(first, lambda: count(tmp_path / "a") >= 1)
        here = workers(first, mark)
        assert len(here) == 2
        here[0].kill()
        at = count(tmp_path / "a")
        until(first, lambda: count(tmp_path / "a") > at)
    finally:
        os.killpg(first.pid, signal.SIGKILL)  # the scheduler, the workers, all of it
        first.wait()
    known = raw(tmp_path / "a")
    assert 2 <= len(known) < 8, "half-way"
    second = started(few, tmp_path / "a", backend)
    assert second.wait(timeout=600) == 0, second.stderr.read()
    found = raw(tmp_path / "a")
    assert found[:len(known)] == known, "what was there is as it was"
    runs = [json.loads(text)["run"] for text in found]
    assert len(runs) == len(set(runs)) == 8 and not any("error" in json.loads(t) for t in found)
    assert main([*command(few, tmp_path / "b"), "--backend", "sequential"]) == 0
    assert nets(tmp_path / "a") == nets(tmp_path / "b"), "and every file has the bits it would have"


@pytest.mark.slow
def test_dask_gives_the_bits_of_this_process(few, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    runs = planned(few, "magnitude:sparsity=0.5", "kmeans:bits=3", seeds=2)
    sweep(runs, tmp_path / "a", backend="sequential")
    found = sweep(runs, tmp_path / "b", backend="dask", jobs=2)
    assert nets(tmp_path / "a") == nets(tmp_path / "b") and len(found) == 4


def test_workers_that_die_on_and_on_end_the_sweep(few, tmp_path, monkeypatch):
    # What is done by then stays; the message names one that is missing.
    from concurrent.futures.process import BrokenProcessPool

    runs = planned(few, "magnitude:sparsity=0.5", seeds=3)
    calls = []

    def call(function, arguments):
        calls.append(len(arguments))
        if len(calls) == 1:
            yield function(*arguments[0])
            function(*arguments[1])  # written, but the answer is lost
        raise BrokenProcessPool("killed")

    taken = module._taken(runs, tmp_path, call, False, lambda row: None)
    assert [next(taken)["seed"], next(taken)["seed"]] == [0, 1]
    with pytest.raises(UserError, match=f"killed 3 times .*1 runs .*, such as {runs[2].name}"):
        next(taken)
    assert calls == [3, 1, 1, 1] and count(tmp_path) == 2
