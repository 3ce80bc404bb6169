"""The command line: what it writes, and what it says when the user errs."""

import json

import numpy as np
import pytest

import minicomp
from minicomp.cli import main
from minicomp.models import MODELS

COMMANDS = ("compress", "train", "eval", "show", "list", "paper", "bench", "data", "vectors", "cite", "lesson")


@pytest.fixture
def small_file(tmp_path):
    path = tmp_path / "small.mcz"
    minicomp.save(MODELS["lenet5classic"](rng=np.random.default_rng(0)), path)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "examples:" in text and f"minicomp {command}" in text.split("examples:")[1]


@pytest.mark.parametrize("words, says", [
    (["compress", "lenet9"], "unknown model 'lenet9'; there are lenet300"),
    (["compress", "lenet300", "--with", "magnitud:sparsity=0.9"], "unknown technique 'magnitud'; did you mean magnitude"),
    (["compress", "lenet300", "--with", "magnitude:sparsity=1.5"], r"sparsity must be in [0, 1), got 1.5"),
    (["compress", "lenet300", "--with", "magnitude:sparsity@conv*=0.5"], "sparsity@conv* matches no layer; there are fc1"),
    (["compress", "lenet300", "--recipe", "nothing"], "recipe must be deep-compression"),
    (["compress", "lenet300", "--data", "mnits"], "unknown data set 'mnits'"),
    (["compress", "lenet300", "--bytes", "0"], "--bytes must be at least 1, got 0"),
    (["compress", "missing.mcz"], "missing.mcz: there is no such file"),
    (["compress", "lenet300", "--out", "no/where/f.mcz"], "the folder no/where does not exist"),
    (["eval", "missing.mcz"], "missing.mcz: there is no such file"),
    (["show", "missing.mcz"], "missing.mcz: there is no such file"),
    (["train", "lenet300", "--out", "f.txt"], "--out must end in .mcz or .safetensors"),
    (["paper", "han2051"], "unknown table 'han2051'; did you mean han2015"),
    (["bench", "kmean"], "unknown kernel 'kmean'; did you mean kmeans"),
    (["vectors", "kmeans"], "unknown reference function 'kmeans'; did you mean kmeans_1d"),
    (["cite", "magnet"], "unknown technique 'magnet'"),
    (["list", "magnet"], "unknown technique 'magnet'"),
    (["data", "get", "minst"], "unknown data set 'minst'"),
])
def test_mistakes_exit_with_2_and_one_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = [] if "--data" in words or words[0] not in ("compress", "train") else ["--data", "glyphs"]
    assert main(words + data) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in error and error.startswith("minicomp ")
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_damaged_file_exits_with_2_and_one_line(small_file, capsys):
    data = bytearray(small_file.read_bytes())
    data[len(data) // 2] ^= 1
    small_file.write_bytes(data)
    for command in ("eval", "show"):
        assert main([command, str(small_file)]) == 2
        assert str(small_file) in capsys.readouterr().err


def test_show_accounts_for_every_byte(small_file, tmp_path, capsys):
    out = tmp_path / "parts.json"
    assert main(["show", str(small_file), "--json", str(out)]) == 0
    parts = json.loads(out.read_text())
    assert parts["file_bytes"] == small_file.stat().st_size
    assert sum(parts["parts"].values()) == pytest.approx(parts["file_bytes"])
    assert "fc1.weight" in capsys.readouterr().out


def test_list_and_cite_name_every_technique(capsys, tmp_path):
    out = tmp_path / "list.json"
    assert main(["list", "--json", str(out)]) == 0
    listed = json.loads(out.read_text())
    from minicomp.compress import TECHNIQUES
    assert [t["word"] for t in listed["techniques"]] == [t.word for t in TECHNIQUES]
    assert {m["name"]: m["parameters"] for m in listed["models"]}["lenet5"] == 431_080
    for technique in TECHNIQUES:
        assert main(["cite", technique.word]) == 0 and main(["list", technique.word]) == 0
    assert "Han" in capsys.readouterr().out


def test_version_names_kernels(capsys):
    assert main(["--version"]) == 0
    text = capsys.readouterr().out
    assert f"minicomp {minicomp.__version__}" in text and "ernel" in text


@pytest.mark.slow
def test_compress_writes_file_report_and_json_that_agree(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compress", "lenet300", "--data", "glyphs", "--fast", "--json", "r.json", "--seed", "3"]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert {"model", "data", "seed", "dense_bytes", "file_bytes", "ratio", "dense_errors", "errors", "test_size",
            "steps"} <= set(result)
    assert all({"name", "knobs", "errors", "sparsity", "seconds"} <= set(s) for s in result["steps"])
    size = (tmp_path / "lenet300.mcz").stat().st_size
    assert result["file_bytes"] == size and result["ratio"] == pytest.approx(1_066_440 / size)
    assert main(["eval", "lenet300.mcz", "--data", "glyphs", "--json", "e.json"]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["errors"] == result["errors"]
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.json", "lenet300.mcz", "r.json", "report.html"]


@pytest.mark.slow
def test_byte_budget_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compress", "lenet300", "--data", "glyphs", "--fast", "--bytes", "9000", "--no-report"]) == 0
    assert 6000 < (tmp_path / "lenet300.mcz").stat().st_size <= 9000
