"""`minicomp sweep` as a user meets it: what it lists, shows, writes and refuses."""

import csv
import json
from pathlib import Path

import pytest

from minicomp.cli import main
from minicomp.jobs.sweep import RUNS

HERE = ["--data", "glyphs", "--backend", "sequential", "--fast"]


def test_a_dry_run_lists_and_touches_nothing(small, capsys):
    words = ["sweep", "{lenet300,lenet5classic}", *HERE, "--with", "magnitude:sparsity={0.5,0.9}",
             "--with", "{kmeans:bits={2..3},finetune}", "--bytes", "{5000,9000}", "--seeds", "2"]
    assert main([*words, "--dry-run", "--json", "plan.json"]) == 0
    runs = json.loads(Path("plan.json").read_text())["runs"]
    assert len(runs) == 2 * 2 * 3 * 2 * 2 == len({r["run"] for r in runs})
    assert len({r["folder"] for r in runs}) == 48 and {r["state"] for r in runs} == {"to run"}
    said = capsys.readouterr().out
    assert "48 runs, 48 to run" in said and "lenet5classic, magnitude:sparsity=0.9" in said
    assert {p.name for p in small.iterdir()} == {"plan.json"}


def test_the_arguments_of_a_net_vary_too(small):
    words = ["sweep", "depthwise32:width={0.05,0.1}", *HERE, "--with", "magnitude:sparsity=0.5"]
    assert main([*words, "--json", "s.json"]) == 0
    narrow, wide = json.loads(Path("s.json").read_text())["runs"]
    assert narrow["macs"] < wide["macs"] and narrow["dense_bytes"] < wide["dense_bytes"]
    assert [r["chosen"]["model"] for r in (narrow, wide)] == [
        "depthwise32:width=0.05", "depthwise32:width=0.1"]
    plain = ["compress", "depthwise32:width=0.1", *HERE[:2], "--fast", "--threads", "1"]
    assert main([*plain, "--with", "magnitude:sparsity=0.5", "--no-report", "--out", "c.mcz"]) == 0
    assert Path("sweep", wide["file"]).read_bytes() == Path("c.mcz").read_bytes()


def test_equal_settings_are_one_run(small):
    words = ["sweep", "lenet300", *HERE, "--with", "magnitude:sparsity={0.5,0.50,5e-1}"]
    assert main([*words, "--dry-run", "--json", "p.json"]) == 0
    assert len(json.loads(Path("p.json").read_text())["runs"]) == 1


def test_a_recipe_varies_by_its_lists_and_by_model(small):
    Path("r.toml").write_text(
        "train = {epochs = [1, 2]}\n[[step]]\ntechnique = 'kmeans'\nbits = [2, 3, 4]\n"
        "[lenet5classic]\nstep = [{technique = 'kmeans', bits = 2}]\n")
    words = ["sweep", "{lenet300,lenet5classic}", *HERE[:-1], "--recipe", "r.toml"]
    assert main([*words, "--dry-run", "--json", "p.json"]) == 0
    runs = json.loads(Path("p.json").read_text())["runs"]
    assert [r["settings"]["model"] for r in runs] == ["lenet300"] * 6 + ["lenet5classic"] * 2
    assert [r["chosen"].get("kmeans bits") for r in runs[:3]] == [f"kmeans bits={b}" for b in "234"]
    # With steps of the command line only the training of the recipe counts.
    assert main([*words, "--with", "magnitude:sparsity=0.5", "--dry-run", "--json", "p.json"]) == 0
    assert len(json.loads(Path("p.json").read_text())["runs"]) == 4


def test_runs_are_shown_again_as_table_picture_csv_and_latex(small, capsys):
    words = ["sweep", "lenet300", *HERE, "--with", "{magnitude:sparsity=0.9,kmeans:bits=2}"]
    assert main([*words, "--seeds", "2", "--out", "d", "--json", "a.json"]) == 0
    shown = "--energy --time --plot f.png --csv f.csv --latex f.tex --json b.json".split()
    assert main(["sweep", "d", *shown]) == 0
    said = capsys.readouterr()
    assert "uJ are modelled, not measured" in " ".join(said.out.split())
    assert "magnitude:sparsity=0.9, seed 1: " in " ".join(said.err.split())
    a, b = (json.loads(Path(f"{f}.json").read_text()) for f in "ab")
    assert a["runs"] == b["runs"] and len(b["rows"]) == 2 and all(r["ms"] > 0 for r in b["rows"])
    for row, other in zip(a["rows"], b["rows"]):
        assert other | {"ms": None} | row == other | {"ms": None, "front": row["front"]}
        assert other["modelled_uj"] > 0 and row["ms"] is None
    rows = list(csv.DictReader(Path("f.csv").open()))
    assert [r["file"] for r in rows] == ["magnitude:sparsity=0.9", "kmeans:bits=2"]
    assert Path("f.tex").read_text().count("magnitude:sparsity=0.9") == 1
    assert Path("f.png").stat().st_size > 10_000


def test_a_run_that_fails_makes_the_command_exit_with_1(small, capsys):
    words = ["sweep", "lenet300", *HERE, "--with", "magnitude:sparsity=0.5", "--bytes",
             "{10,900000}"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "a budget of 10 bytes cannot be met" in said and "1 of the runs failed" in said
    assert len(Path("sweep", RUNS).read_text().splitlines()) == 2
    assert main(words) == 1 and len(Path("sweep", RUNS).read_text().splitlines()) == 2
    assert main(["sweep", "sweep"]) == 1
    assert main([*words, "--dry-run"]) == 0 and "failed" in capsys.readouterr().out


@pytest.mark.parametrize("words, says", [
    ("lenet300 --with magnitude:sparsity={0.5,1.5}", "sparsity must be in [0, 1), got 1.5"),
    ("lenet300 --with filters:sparsity@conv9={0.1,0.2}",
     "filters:sparsity@conv9=0.1: filters: sparsity@conv9 matches no layer"),
    ("lenet300 --with magnitude:sparsity={0.5", "a { without its }"),
    ("lenet300 --with {magnitude,lamb}:sparsity=0.5", "unknown technique 'lamb'; did you mean lam"),
    ("magnitude:sparsity=0.5", "magnitude:sparsity=0.5 is no model; put a --with that has braces"),
    ("{lenet300,lenet7}", "unknown model 'lenet7'"),
    ("lenet300 --recipe {han2015,nothing}", "recipe must be"),
    ("lenet300 --recipe own.toml", "a list holds the values of an axis, got train.lr = []"),
    ("lenet300 --bytes 5k", "--bytes must be integers of at least 1, got 5k"),
    ("lenet300 --bytes {0,9}", "--bytes must be integers of at least 1, got 0"),
    ("lenet300 --seeds 0", "--seeds must be in [1, 1000], got 0"),
    ("lenet300 --jobs 0", "--jobs must be in [1, 1000], got 0"),
    ("lenet300 --with magnitude:sparsity={0..0}{1..9}{1..99}{1..99}", "more than 10,000"),
    (".", ". holds no runs of a sweep (runs.jsonl)"),
    ("no.mcz", "no.mcz: there is no such file")])
def test_what_cannot_be_is_said_before_anything_runs(words, says, small, capsys):
    Path("own.toml").write_text("train = {lr = []}\n[[step]]\ntechnique = 'ptq'\n")
    data = [] if words == "." else HERE[:2]
    assert main(["sweep", *words.split(), *data]) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
    assert not Path("sweep").exists()
