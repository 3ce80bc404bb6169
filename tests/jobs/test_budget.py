"""The byte budget: sketches fill it, files keep it, and what cannot be met is said."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.codec import encode, save
from minicomp.compress import TECHNIQUES
from minicomp.compress.technique import Run
from minicomp.jobs import budget
from minicomp.jobs.budget import Budgeted, density_for, scaled, sketch_bytes
from minicomp.jobs.job import run
from minicomp.jobs.recipe import parse_recipe, parse_with
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP, MODELS


def net():
    return MLP([40, 60, 30, 5], rng=np.random.default_rng(0))


def data(n=200):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 5, n)
    x = (rng.standard_normal((5, 40))[y] + rng.standard_normal((n, 40))).astype(np.float32)
    split = Split(x, y)
    return SimpleNamespace(train=split, val=split, name="toy", classes=tuple("abcde"),
                           calibration=lambda n, rng: split.take(slice(0, n)))


def steps(*texts):
    return parse_with(texts, TECHNIQUES)


PRUNE_AND_SHARE = "magnitude:sparsity=0.8,sparsity@fc3=0.5", "kmeans:bits=4"


def test_densities_are_scaled_alike():
    first = scaled(steps(*PRUNE_AND_SHARE), 0.5).steps[0]
    assert first.sparsity == {"*": pytest.approx(0.9), "fc3": pytest.approx(0.75)}
    assert scaled(steps("magnitude:sparsity=0.8"), 10).steps[0].sparsity == 0.0
    assert scaled(steps("magnitude:sparsity=0.8"), 1e-6).steps[0].sparsity == 0.9995
    quality = steps("magnitude:quality=1")
    assert scaled(quality, 0.5) == quality


@pytest.mark.parametrize("limit", [900, 1400, 2100])
def test_the_sketch_fills_the_budget_and_is_never_over_it(limit):
    pipeline, model = steps(*PRUNE_AND_SHARE), net()
    size = sketch_bytes(scaled(pipeline, density_for(pipeline, model, limit, 7)), model, 7)
    assert 0.97 * limit <= size <= limit


def test_a_budget_no_file_reaches_leaves_everything():
    pipeline, model = steps("magnitude:sparsity=0.8"), net()
    factor = density_for(pipeline, model, 10**9, 0)
    assert scaled(pipeline, factor).steps[0].sparsity == 0.0


def test_what_cannot_be_met_is_said_with_the_least_bytes():
    model = net()
    with pytest.raises(
        UserError,
        match=r"a budget of 100 bytes cannot be met by these steps: [\d,]+ bytes remain at 1 %",
    ):
        density_for(steps(*PRUNE_AND_SHARE), model, 100, 0)
    for text in ("kmeans:bits=4", "magnitude:quality=1"):
        with pytest.raises(
            UserError, match="needs a step with a sparsity to scale, such as gradual or magnitude"
        ):
            density_for(steps(text), model, 5000, 0)
    for wrong in (0, -1, True, 1.5, "9"):
        with pytest.raises(UserError, match="bytes must be an integer of at least 1, got"):
            Budgeted(steps(*PRUNE_AND_SHARE), wrong)


HALF = ("magnitude", "obs", "obc", "sparsegpt", "filters", "apoz", "sparse-activations")
NEEDED = {word: {"sparsity": 0.5} for word in HALF} | {
    "nm": {"skip": True}, "mixed-bits": {"mean_bits": 5.0}, "fsp": {"flow": {"conv1": "relu1"}},
    **dict.fromkeys(("svd", "activation-svd", "weight-svd", "spatial-svd"), {"ratio": 0.5})}
WITH_NORMS = ("slimming", "layer-removal", "bn-reestimate")


@pytest.mark.parametrize("kind", TECHNIQUES, ids=lambda t: t.word)
def test_every_technique_can_be_sketched_without_data(kind, tmp_path):
    knobs = NEEDED.get(kind.word, {})
    if kind.word in ("obs", "obd", "trellis"):  # for small nets, or long
        model = MLP([50, 40, 3], rng=np.random.default_rng(0))
    else:
        name = "depthwise32" if kind.word in WITH_NORMS else "lenet5classic"
        model = MODELS[name](rng=np.random.default_rng(0))
    for knob in [k for k in ("against", "teacher", "others") if k in kind.knobs()]:
        save(model, tmp_path / "float.mcz")
        knobs = knobs | {knob: str(tmp_path / "float.mcz")}
    before = model.state_dict()
    sketch = kind(**knobs).sketch(model, rng=np.random.default_rng(0))
    assert len(encode(sketch)) > 100
    assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    "word",
    ["taylor", "snip", "wanda", "lamp", "lottery", "iterative", "gradual", "split:blocks=2"],
)
def test_a_sketch_has_the_zeros_that_the_technique_will_leave(word):
    knobs = word + ("" if ":" in word else ":") + ",sparsity=0.7"
    step = steps(knobs).steps[0]
    if "epochs" in step.knobs():
        step = dataclasses.replace(step, epochs=1)
    made = step.apply(net(), data(), Run(np.random.default_rng(0)))
    sketch = step.sketch(net(), rng=np.random.default_rng(0))
    count = [
        sum(f.nonzeros() for n, f in m.forms().items() if n.endswith("weight"))
        for m in (made, sketch)
    ]
    assert count[0] == count[1]


def test_a_run_keeps_the_budget():
    rows = []
    pipeline = steps("gradual:sparsity=0.5,epochs=2", "kmeans:bits=4", "finetune:epochs=1")
    made = Budgeted(pipeline, 2000).apply(
        net(), data(), Run(np.random.default_rng(0), log=rows.append)
    )
    assert 1800 <= len(encode(made)) <= 2000
    assert [r["event"] for r in rows if r["event"] in ("search", "budget")][:2] == [
        "search",
        "budget",
    ]
    assert any(r["event"] == "progress" and r["name"] == "budget" for r in rows)


@pytest.mark.slow
def test_what_swells_in_training_is_run_again_sparser(monkeypatch):
    # Sketches that promise 300 bytes less than the file takes: the second attempt knows.
    monkeypatch.setattr(budget, "sketch_bytes", lambda *a: max(sketch_bytes(*a) - 300, 1))
    rows, pipeline = [], steps("magnitude:sparsity=0.9", "kmeans:bits=4", "finetune:epochs=1")
    limit = 1400
    table = {"step": [{"technique": "kmeans"}], "train": {"epochs": 1}}
    recipe = dataclasses.replace(parse_recipe(table, "r", "mlp", TECHNIQUES), pipeline=pipeline)
    job = run(net(), data(), recipe, seed=0, max_bytes=limit, log=rows.append)
    attempts = [r for r in rows if r["event"] == "budget"]
    assert [r["attempt"] for r in attempts] == [1, 2]
    assert attempts[1]["density_factor"] < attempts[0]["density_factor"]
    # only the attempt that counts is in the result
    assert (
        [s["name"] for s in job.steps]
        == ["magnitude", "kmeans", "finetune"]
        == [n for n, _ in job.stages]
    )
    assert len(job.epochs) == 1


@pytest.mark.parametrize("promise, attempts", [(lambda *a: 1, "2")])
def test_attempts_end(promise, attempts, monkeypatch):
    monkeypatch.setattr(budget, "sketch_bytes", promise)
    with pytest.raises(
        UserError,
        match=rf"the file takes [\d,]+ bytes after {attempts} attempts, more than the 300 allowed",
    ):
        Budgeted(steps("magnitude:sparsity=0.9"), 300).apply(
            net(), data(), Run(np.random.default_rng(0))
        )
