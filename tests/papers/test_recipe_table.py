"""Tables that are recipe, published rows and limits: their texts, and how they are judged."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.technique import Run, weights
from minicomp.data import load
from minicomp.jobs.job import Job
from minicomp.models import MODELS
from minicomp.papers import PAPERS, recipe_table
from minicomp.papers.recipe_table import Row, run
from minicomp.quality import Agreement
from minicomp.train import evaluate

PUBLISHED = {  # table -> (row, the paper's)
    "deep-compression": [
        ("LeNet-300-100 dense error", "1.64 %"),
        ("LeNet-300-100 file", "40x at 1.58 %"),
        ("LeNet-5 dense error", "0.80 %"),
        ("LeNet-5 file", "39x at 0.74 %"),
    ],
    "han2015": [
        ("LeNet-300-100 weights", "12x at 1.59 %"),
        ("LeNet-5 weights", "12x at 0.77 %"),
    ],
    "dns2016": [
        ("LeNet-5 weights", "108x at 0.91 %"),
        ("LeNet-5 file", "(ours: under 9,000 bytes at 0.91 %)"),
        ("LeNet-300-100 weights", "56x at 1.99 %"),
        ("LeNet-300-100 file", "(ours: under 9,000 bytes at 1.99 %)"),
    ],
    "quantized-file": [
        ("LeNet-5 file, 4-bit weights and biases", "(ours: under 3,655 bytes at 0.71 %)"),
    ],
}


def rows_of(name):
    return PAPERS[name].run.keywords["rows"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_rows(name):
    assert [(row.row, row.paper) for row in rows_of(name)] == PUBLISHED[name]
    assert all(row.model in MODELS for row in rows_of(name))


RUNS = [
    {"errors": 120, "kept": 20, "total": 240, "file_bytes": 8000, "ratios": 50.0},
    {"errors": 160, "kept": 28, "total": 240, "file_bytes": 9000, "ratios": 46.0},
]


@pytest.mark.parametrize(
    "limits, met",
    [
        ({"error": 1.4}, True),
        ({"error": 1.39}, False),
        ({"error": 1.4, "ratio": 48}, True),
        ({"error": 1.4, "ratio": 48.1}, False),
        ({"error": 1.4, "ratio": 10, "of": "weights"}, True),
        ({"error": 1.4, "ratio": 10.1, "of": "weights"}, False),
        ({"error": 1.4, "bytes": 8501}, True),
        ({"error": 1.4, "bytes": 8500}, False),
    ],
)
def test_a_row_is_met_by_means_over_the_seeds(limits, met):
    row = Row("r", "lenet5", "{ratio:.1f}x at {errors}; {kept:,.0f}, {bytes:,.0f} bytes", **limits)
    made = row.judged(RUNS, 10_000, 3.5)
    ratio = "10.0" if "of" in limits else "48.0"
    assert made["ours"] == f"{ratio}x at 1.40 % (1.20..1.60); 24, 8,500 bytes"
    assert made["met"] is met and made["seconds"] == 3.5 and made["row"] == "r"
    assert made["errors"] == [120, 160] and made["file_bytes"] == [8000, 9000]
    assert made["kept"] == [20, 28] and made["ratios"] == [50, 46] and "total" not in made
    assert "flipped" not in made["ours"] and "flips" not in made


def test_a_row_of_a_file_says_what_flips_where_it_is_asked():
    row = Row("r", "lenet5", "{errors}", 1.5, flips=True)
    agreed = [Agreement(20, 10_000, 0.5), Agreement(40, 10_000, 1.0)]
    made = row.judged([run | {"agreement": a} for run, a in zip(RUNS, agreed)], 10_000, 1.0)
    assert made["ours"].endswith("; 0.30 % flipped, KL 0.75") and made["flips"] == [0.002, 0.004]
    assert "agreement" not in made


def test_a_row_is_of_the_model_after_its_step_and_shares_the_time(monkeypatch, tmp_path):
    # Two seeds; training takes 5 s, the step 2 s, all of it 10 s: the file's row has what is left.
    data, built, times = load("glyphs"), [], iter([0.0, 10.0, 30.0])
    data = SimpleNamespace(
        name="glyphs", test=data.test.take(slice(0, 100)), without_test=lambda: None
    )

    def job(name, given, steps, *, seed, log, n_threads):
        dense = MODELS[name](rng=np.random.default_rng(seed))
        cut = Magnitude(sparsity=0.5 + seed / 4).apply(dense, None, Run(None))
        built.append((dense, cut))
        steps = [{"name": "magnitude", "seconds": 2.0}, {"name": "kmeans", "seconds": 1.0}]
        stages = [("magnitude", cut), ("kmeans", dense)]
        return Job(dense, dense, steps, stages, [{"stage": "train", "seconds": 5.0}])

    monkeypatch.setattr(recipe_table, "run_job", job)
    monkeypatch.setattr(recipe_table, "load_recipe", lambda *a: None)
    monkeypatch.setattr(recipe_table, "file_errors", lambda model, path, name: (1000, 7))
    monkeypatch.setattr(minicomp.timing.time, "perf_counter", lambda: next(times))
    rows = [
        Row("dense", "lenet300", "{errors}", 1.0, after="train"),
        Row("cut", "lenet300", "{kept:.0f}", 1.0, after="magnitude", of="weights"),
        Row("file", "lenet300", "{ratio:.1f}", 8.0, flips=True),
    ]
    found = run(data, seeds=[0, 1], log=None, n_threads=1, out=tmp_path, recipe="r", rows=rows)
    assert [row["row"] for row in found] == ["dense", "cut", "file"]
    assert [row["seconds"] for row in found] == [10.0, 4.0, 16.0]
    for row, which in zip(found, (0, 1)):
        models = [pair[which] for pair in built]
        assert row["errors"] == [evaluate(model, data.test).errors for model in models]
        kept = [sum(m.forms()[n].nonzeros() for n in weights(m).values()) for m in models]
        assert row["kept"] == kept and "file_bytes" not in row
    assert found[1]["kept"] == [133_100, 66_550]
    assert found[2]["errors"] == [7, 7] and found[2]["met"]
    assert found[2]["ours"] == "1066.4; 0.00 % flipped, KL 0"  # nets are their dense ones here


@pytest.mark.slow
def test_deep_compressions_rows_on_a_short_run(tmp_path):
    rows = [row for row in rows_of("deep-compression") if row.model == "lenet300"]
    short = partial(run, recipe="deep-compression", rows=rows)
    data = load("glyphs")
    found = short(data, seeds=[0], log=lambda row: None, n_threads=1, out=tmp_path)
    assert [r["row"] for r in found] == ["LeNet-300-100 dense error", "LeNet-300-100 file"]
    path = tmp_path / "lenet300-deep-compression-0.mcz"
    size = path.stat().st_size
    assert size > 1000 and found[1]["file_bytes"] == [size]
    assert found[1]["ratios"] == [1_066_440 / size]
    assert found[1]["errors"] == [evaluate(minicomp.load(path), data.test).errors]
    assert all(row["seconds"] > 0 for row in found)
