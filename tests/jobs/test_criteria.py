"""The importance criteria on one net: all of them comparable, from Python and the command line."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.cli import main
from minicomp.compress.finetune import FineTune
from minicomp.jobs.criteria import CRITERIA, importance, named
from minicomp.compress.prune.fpgm import FPGM
from minicomp.compress.scores import smallest_mask
from minicomp.compress.share.kmeans import KMeans
from minicomp.compress.prune.taylor import Taylor
from minicomp.compress.technique import Run, masked, weights
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP, MODELS
from minicomp.train import evaluate

WHOLE = {"fpgm"}  # masks whole filters


def toy(n=600):
    # Three classes by the largest of the first three of twelve inputs.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 12)).astype(np.float32)
    split = Split(x, np.argmax(x[:, :3], axis=1))
    return SimpleNamespace(
        train=split, val=split,
        calibration=lambda n, rng: split.take(rng.choice(len(split), n, replace=False)),
    )


@pytest.fixture(scope="module")
def trained():
    data, rng = toy(), np.random.default_rng(1)
    return FineTune(epochs=15, lr=0.1, batch_size=50).apply(
        MLP([12, 20, 10, 3], rng=rng), data, Run(rng)
    ), data


def curves(model, data, criteria, sparsities, seed=0, log=None):
    seen = []

    def error(pruned):
        seen.append(pruned)
        return evaluate(pruned, data.val).error
    rows = importance(
        model,
        data,
        criteria,
        rng=np.random.default_rng(seed),
        evaluate=error,
        sparsities=sparsities,
        log=log,
    )
    return rows, seen


@pytest.mark.parametrize("word", CRITERIA)
def test_every_criterion_masks_the_weights_it_is_given_to_the_sparsity_asked(word, trained):
    model, data = trained
    before = {n: a.copy() for n, a in model.state_dict().items()}
    rows, seen = curves(model, data, [CRITERIA[word]], [0.25, 0.5])
    total = sum(model.forms()[n].value.data.size for n in weights(model).values())
    for row, pruned in zip(rows, seen, strict=True):
        assert row["criterion"] == word and row["error"] == evaluate(pruned, data.val).error
        kept = sum(int(pruned.forms()[n].mask.sum()) if pruned.forms()[n].mask is not None
                   else pruned.forms()[n].value.data.size for n in weights(pruned).values())
        assert row["zeros"] == pytest.approx(1 - kept / total, abs=1e-9)
        if word in WHOLE:
            gone = [~pruned.forms()[f"{n}.weight"].mask.any(axis=1) for n in ("fc1", "fc2")]
            assert [g.sum() for g in gone] == [
                round(row["sparsity"] * 20), round(row["sparsity"] * 10)
            ]
        elif word != "wanda":  # which rounds in every row
            assert total - kept == round(row["sparsity"] * total)
        for name, form in pruned.forms().items():
            stays = np.ones(form.shape, bool) if form.mask is None else form.mask
            np.testing.assert_array_equal(form.dense().data, np.where(stays, before[name], 0))
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(a, before[name])


@pytest.mark.parametrize("word", CRITERIA)
def test_a_criterion_sees_the_same_examples_at_every_sparsity(word, trained):
    # So what goes at less goes at more. 100 of 600 examples are drawn.
    import dataclasses

    model, data = trained
    criterion = CRITERIA[word]
    if hasattr(criterion, "samples"):
        criterion = dataclasses.replace(criterion, samples=100)
    _, seen = curves(model, data, [criterion], [0.3, 0.4, 0.6])
    for less, more in zip(seen, seen[1:]):
        for name in weights(model).values():
            a, b = less.forms()[name].mask, more.forms()[name].mask
            assert a is None and b is None or (a | ~b).all(), name
    rows, _ = curves(model, data, [criterion], [0.6])
    again, _ = curves(model, data, [criterion], [0.3, 0.6])
    assert rows[0] == again[1], "and a curve does not depend on the sparsities beside it"


@pytest.mark.parametrize("word", ["magnitude", "taylor", "wanda", "lamp", "obd"])
def test_a_criterion_beats_chance_on_a_trained_net(word, trained):
    model, data = trained
    rows, _ = curves(model, data, [CRITERIA[word]], [0.5])
    rng, chance = np.random.default_rng(5), []
    for _ in range(10):
        drop = {
            n: smallest_mask(rng.random(model.forms()[n].shape), 0.5)
            for n in weights(model).values()
        }
        chance.append(evaluate(masked(model, drop), data.val).error)
    assert rows[0]["error"] < 0.6 * np.mean(chance)


def test_rows_end_where_a_criterion_refuses_and_a_refusal_at_once_is_an_error(trained):
    data = trained[1]
    model, fpgm = MLP([12, 2, 3], rng=np.random.default_rng(0)), CRITERIA["fpgm"]
    rows, _ = curves(model, data, [fpgm, CRITERIA["magnitude"]], [0.9, 0.5])
    assert [(r["criterion"], r["sparsity"]) for r in rows] == [
        ("fpgm", 0.5), ("magnitude", 0.5), ("magnitude", 0.9)
    ]
    said = []
    importance(
        model, data, [fpgm], rng=np.random.default_rng(0), evaluate=lambda m: 0.0,
        sparsities=[0.5, 0.9], log=lambda row: said.append(row.get("text", "")),
    )
    assert said[-1].startswith(
        "importance: fpgm ends before 0.9: fpgm: sparsity 0.9 would remove all 2 channels"
    )
    with pytest.raises(UserError, match="fpgm: sparsity 0.9 would remove all 2 channels"):
        curves(model, data, [fpgm], [0.9])


def test_progress_is_said(trained):
    model, data = trained
    said = []
    importance(model, data, [CRITERIA["lamp"], CRITERIA["magnitude"]], rng=np.random.default_rng(0),
               evaluate=lambda m: 0.0, sparsities=[0.2, 0.4], log=said.append)
    assert [(r["done"], r["total"]) for r in said] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_criteria_are_named_by_word():
    assert [c.word for c in named(" taylor ,obd")] == ["taylor", "obd"]
    assert [c.word for c in named("all")] == list(CRITERIA) and len(CRITERIA) == 8
    assert (
        isinstance(named(["taylor"])[0], Taylor)
        and not named("fpgm")[0].remove
        and FPGM().remove
    )
    for text, message in (
        ("tailor", "unknown criterion 'tailor'; there are magnitude, .* or all"),
        ("obd,obd", "criterion obd is named twice"),
        ("", "got none"),
        (",", "got none"),
    ):
        with pytest.raises(UserError, match=message):
            named(text)


def test_the_command_writes_table_plot_and_json(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, out, plot = tmp_path / "net.mcz", tmp_path / "rows.json", tmp_path / "curves.png"
    minicomp.save(MODELS["lenet300"](rng=np.random.default_rng(0)), path)
    words = [
        "sensitivity", str(path), "--data", "glyphs", "--threads", "1",
        "--criteria", "magnitude,fpgm",
    ]
    assert main([*words, "--json", str(out), "--plot", str(plot)]) == 0
    said = capsys.readouterr().out
    assert "criterion" in said and "fpgm" in said and "\nas given " in said and str(plot) in said
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    found = json.loads(out.read_text())
    assert found["criteria"] == ["magnitude", "fpgm"] and found["size"] == 2000
    assert {(r["criterion"], r["sparsity"]) for r in found["rows"]} >= {
        ("magnitude", 0.95), ("fpgm", 0.5)
    }
    magnitude = [r for r in found["rows"] if r["criterion"] == "magnitude"]
    assert all(r["zeros"] == pytest.approx(r["sparsity"], abs=1e-5) for r in magnitude)
    assert 0 < found["baseline"] <= 1 and all(0 <= r["error"] <= 1 for r in found["rows"])


def test_a_scan_is_kept_where_no_choice_meets_the_budget(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, out, plot = tmp_path / "net.mcz", tmp_path / "scan.json", tmp_path / "scan.png"
    minicomp.save(MODELS["lenet300"](rng=np.random.default_rng(0)), path)
    assert main(["sensitivity", str(path), "--data", "glyphs", "--threads", "1", "--only", "fc3",
                 "--macs", "5", "--json", str(out), "--plot", str(plot)]) == 2
    assert "a budget of 5 macs cannot be met" in capsys.readouterr().err
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    found = json.loads(out.read_text())
    assert {p["target"] for p in found["points"]} == {"fc3"} and "chosen" not in found


def test_importance_gives_one_row_per_criterion_and_sparsity():
    model = MLP([6, 2], rng=np.random.default_rng(7))
    rng = np.random.default_rng(8)
    split = Split(rng.standard_normal((50, 6)).astype(np.float32), rng.integers(0, 2, 50))
    train = SimpleNamespace(train=split, calibration=lambda n, rng: split)
    rows = importance(
        model,
        train,
        [Taylor(), CRITERIA["lamp"]],
        rng=rng,
        sparsities=[0.25, 0.5],
        evaluate=lambda m: m.forms()["fc1.weight"].nonzeros() / 12,
    )
    assert [(r["criterion"], r["error"]) for r in rows] == [
        ("taylor", 0.75),
        ("taylor", 0.5),
        ("lamp", 0.75),
        ("lamp", 0.5),
    ]


@pytest.mark.parametrize("word", list(CRITERIA))
def test_every_criterion_works_on_shared_and_on_pruned_weights(trained, word):
    # Taken as the values that they decode to; a sparsity below the net's own is left out.
    model, data = trained
    pruned = CRITERIA["magnitude"].apply(model, data, Run(np.random.default_rng(0)))  # 0.5
    for start in (model, pruned):
        shared = KMeans(bits=4).apply(start, data, Run(np.random.default_rng(0)))
        said = []
        rows, _ = curves(shared, data, [CRITERIA[word]], [0.3, 0.5, 0.6], log=said.append)
        asked = [0.3, 0.5, 0.6] if start is model else [0.5, 0.6]
        assert [r["sparsity"] for r in rows] == asked
        assert [r["zeros"] for r in rows] == sorted(r["zeros"] for r in rows)
        told = [r["text"] for r in said if r["event"] == "say"]
        few = [t for t in told if "training examples are asked for" in t]
        assert len(few) == (getattr(CRITERIA[word], "samples", 0) > 600), "told once"
        assert [t for t in told if "0 already" in t] == (
            [] if start is model else ["importance: 0.5 of the weights are 0 already: left out 0.3"]
        )
    with pytest.raises(UserError, match="importance: 0.5 of the weights are 0 already; a sparsity"):
        curves(pruned, data, [CRITERIA[word]], [0.3])
