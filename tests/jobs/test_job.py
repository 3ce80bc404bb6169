"""The main job: the same bytes from the same seed, stopped or not; its checkpoint folders."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minicomp as package
from minicomp.codec import encode, load
from minicomp.compress import TECHNIQUES
from minicomp.jobs.job import run, train_dense
from minicomp.jobs.recipe import parse_recipe
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP, MODELS, LeNet300


def data(shape=(1, 28, 28), classes=10, n=96):
    rng = np.random.default_rng(1)
    y = rng.integers(0, classes, n)
    x = (rng.standard_normal((classes, *shape))[y] + rng.standard_normal((n, *shape))).astype(
        np.float32
    )
    split = Split(x, y)
    return SimpleNamespace(
        train=split, val=split, name="toy", classes=tuple(map(str, range(classes))),
        calibration=lambda n, rng: split.take(slice(0, n)),
    )


def small():
    return MLP([8, 20, 3], rng=np.random.default_rng(0)), data((8,), 3)


def recipe(*steps):
    steps = steps or (
        {"technique": "gradual", "epochs": 2, "sparsity": 0.8},
        {"technique": "kmeans", "bits": 3},
        {"technique": "finetune", "epochs": 2},
    )
    return parse_recipe({"train": {"epochs": 2}, "step": list(steps)}, "r", "lenet300", TECHNIQUES)


class Stop(Exception):
    pass


def stop_at(n):
    # A log that raises at the n-th row of any kind.
    seen = []

    def log(row):
        seen.append(row)
        if len(seen) == n:
            raise Stop
    return log


def test_the_same_seed_gives_the_same_file():
    model, given = small()
    first, same, other = (encode(run(model, given, recipe(), seed=s).model) for s in (3, 3, 4))
    assert first == same != other


def test_a_named_net_is_trained_first():
    given, rows = data(), []
    job = run(
        "lenet300",
        given,
        recipe({"technique": "magnitude", "sparsity": 0.5}),
        seed=0,
        log=rows.append,
    )
    assert encode(job.dense) == encode(train_dense("lenet300", given, recipe(), seed=0))
    assert [r["stage"] for r in job.epochs] == ["train", "train"] and job.epochs[0]["epoch"] == 1
    assert [(s["name"], s["size"]) for s in job.steps] == [("magnitude", 96)]
    assert set(job.steps[0]) == {"name", "knobs", "errors", "size", "sparsity", "seconds"}
    assert job.stages[0][0] == "magnitude" and encode(job.stages[0][1]) == encode(job.model)
    assert job.model.origin_bytes == 4 * job.dense.count()


def test_a_job_stopped_anywhere_ends_in_the_same_bytes(tmp_path):
    model, given = small()
    whole, rows = run(model, given, recipe(), seed=5, log=(rows := []).append), rows
    for n in range(3, len(rows), 4):
        folder = tmp_path / str(n)
        with pytest.raises(Stop):
            run(model, given, recipe(), seed=5, log=stop_at(n), checkpoint=folder)
        resumed = run(model, given, recipe(), seed=5, checkpoint=folder)
        assert encode(resumed.model) == encode(whole.model), f"stopped at row {n}: {rows[n - 1]}"
        assert [s["errors"] for s in resumed.steps] == [s["errors"] for s in whole.steps]
        untimed = [[{k: v for k, v in row.items() if k != "seconds"} for row in job.epochs]
                   for job in (resumed, whole)]
        assert untimed[0] == untimed[1], "the report has the curves of before"


def test_the_seconds_of_before_count(tmp_path):
    model, given = small()
    whole = run(model, given, recipe(), seed=5, checkpoint=tmp_path)
    again = run(model, given, recipe(), seed=5, checkpoint=tmp_path)
    assert again.epochs == whole.epochs
    assert [s["seconds"] for s in again.steps] == [s["seconds"] for s in whole.steps]
    # A training that was stopped in its middle: those of the epochs that were done.
    (tmp_path / "03-finetune.step").unlink()
    third = run(model, given, recipe(), seed=5, checkpoint=tmp_path)
    assert third.steps[2]["seconds"] >= sum(e["seconds"] for e in whole.epochs[-2:])


@pytest.mark.parametrize("step", [
    {"technique": "iterative", "epochs": 2, "rounds": 2, "sparsity": 0.7},
    {"technique": "dns", "epochs": 4, "c": 0.5, "gamma": 0.1, "batch_size": 8, "lr": 0.05},
    {"technique": "lottery", "epochs": 2, "rounds": 2, "sparsity": 0.7},
], ids=lambda s: s["technique"])
def test_techniques_that_train_resume_to_the_same_bytes(step, tmp_path):
    model, given = small()
    whole = run(model, given, recipe(step), seed=5, log=(rows := []).append)
    for n in (len(rows) // 2, len(rows) - 3):
        with pytest.raises(Stop):
            run(model, given, recipe(step), seed=5, log=stop_at(n), checkpoint=tmp_path / str(n))
        resumed = run(model, given, recipe(step), seed=5, checkpoint=tmp_path / str(n))
        assert encode(resumed.model) == encode(whole.model)


@pytest.mark.slow
def test_a_budget_resumes_too(tmp_path):
    model, given = small()
    whole = run(model, given, recipe(), seed=5, max_bytes=180, log=(rows := []).append)
    assert len(encode(whole.model)) <= 180
    with pytest.raises(Stop):
        run(
            model, given, recipe(), seed=5, max_bytes=180, log=stop_at(len(rows) - 4),
            checkpoint=tmp_path,
        )
    assert encode(
        run(model, given, recipe(), seed=5, max_bytes=180, checkpoint=tmp_path).model
    ) == encode(whole.model)


def test_what_does_not_fit_is_refused_before_anything_is_trained():
    with pytest.raises(
        UserError,
        match=r"data toy has examples of shape \(17,\), the model takes \(1, 28, 28\)",
    ):
        run("lenet300", data((17,), 2), recipe(), seed=0, log=pytest.fail)
    with pytest.raises(UserError, match="data toy has 12 classes, the model 10 outputs"):
        run(LeNet300(), data(classes=12), recipe(), seed=0, log=pytest.fail)
    with pytest.raises(UserError, match=r"sparsity@conv\* matches no layer"):
        run(
            "lenet300",
            data(),
            recipe({"technique": "magnitude", "sparsity": {"conv*": 0.5}}),
            seed=0,
            log=pytest.fail,
        )


def test_a_corrected_knob_goes_on_from_the_training_before_it(tmp_path):
    given, wrong = data(), recipe({"technique": "filters", "threshold": 1e9})
    right = recipe({"technique": "filters", "threshold": 0.0})
    with pytest.raises(UserError, match=r"threshold 1e\+09 would remove all 300 channels of fc1"):
        run("lenet300", given, wrong, seed=0, checkpoint=tmp_path)
    events = []
    job = run("lenet300", given, right, seed=0, checkpoint=tmp_path, log=events.append)
    assert not [
        e for e in events if e.get("event") == "epoch"
    ], "the dense net was not trained again"
    assert encode(job.model) == encode(run("lenet300", given, right, seed=0).model)


# ------------------------------------------------------------------------------ the command, killed


def minicomp(*words, cwd, **kw):
    env = os.environ | {
        "PYTHONPATH": str(Path(package.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    # a shell starts what it runs in the background with Ctrl-C ignored, and that is inherited
    if os.name == "posix":
        kw["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, "-m", "minicomp", *words], cwd=cwd, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


@pytest.mark.slow
@pytest.mark.parametrize("train_only", [True, False], ids=["train", "compress"])
def test_ctrl_c_and_the_same_command_again_end_in_the_same_file(train_only, tmp_path):
    words = (["train", "lenet300", "--set", "epochs=12"] if train_only else
             ["compress", "lenet300", "--fast", "--no-report"])
    words += ["--data", "glyphs", "--threads", "1", "--seed", "2", "--out", "f.mcz"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    _, err = (p := minicomp(*words, cwd=whole)).communicate()
    assert p.returncode == 0, err
    assert [x.name for x in whole.iterdir()] == ["f.mcz"]

    p, lines = minicomp(*words, cwd=killed), []
    stop = ("epoch 2/12",) if train_only else ("gradual (1/3): epoch 2",)
    while not any(s in line for s in stop for line in lines[-1:]):
        lines.append(p.stderr.readline())
        assert lines[-1], "".join(lines)
    time.sleep(0.05)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130
    last = err.strip().splitlines()[-1]
    assert last == (
        f"minicomp {words[0]}: stopped; the same command goes on from f.mcz.run "
        "(--restart discards it)"
    )
    assert not (killed / "f.mcz").exists() and (killed / "f.mcz.run").is_dir()

    p = minicomp(*words, "--seed", "3", cwd=killed)
    _, err = p.communicate()
    assert (
        p.returncode == 2
        and "other settings (seed 2 there, 3 here)" in err
        and len(err.splitlines()) == 1
    )

    _, err = (p := minicomp(*words, cwd=killed)).communicate()
    assert p.returncode == 0, err
    assert "epoch 1/12" not in err and "train (0/3)" not in err, "it does not begin again"
    assert (killed / "f.mcz").read_bytes() == (whole / "f.mcz").read_bytes()
    assert [x.name for x in killed.iterdir()] == ["f.mcz"]
    assert np.isfinite(load(killed / "f.mcz").forms()["fc1.weight"].dense().data).all()
    assert MODELS["lenet300"]().count() == load(killed / "f.mcz").count()
