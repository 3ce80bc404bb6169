"""The command line: what it writes, and what it says when the user errs."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import minicomp
from minicomp.cli import main, options
from minicomp.deploy import lower
from minicomp.models import MODELS

COMMANDS = ("compress", "train", "eval", "show", "import", "lower", "trace", "export",
            "sensitivity", "debug", "list", "paper", "bench", "data", "vectors", "cite", "lesson")
RESULT = {"model", "data", "seed", "dense_bytes", "file_bytes", "ratio", "dense_errors", "errors",
          "flips", "kl", "test_size", "steps"}


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
    (["compress", "lenet9"],
     "unknown model 'lenet9'; there are lenet300, lenet5, lenet5classic, depthwise32, mobilenetv2, "
     "mobilenetv1, vggsmall, resnet20, alexnet, squeezenet1_0, squeezenet1_1, shufflenet, "
     "xception, or a .mcz or .onnx file, or a .safetensors file with --model"),
    (["compress", "lenet300", "--with", "magnitud:sparsity=0.9"],
     "unknown technique 'magnitud'; did you mean magnitude"),
    (["compress", "lenet300", "--with", "magnitude:sparsity=1.5"],
     r"sparsity must be in [0, 1), got 1.5"),
    (["compress", "lenet300", "--with", "magnitude:sparsity@conv*=0.5"],
     "sparsity@conv* matches no layer; there are fc1"),
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
    (["bench", "programs", "--against", sys.executable], "--against has no programs; it races"),
    (["bench", "kmeans", "--plot", "f.png"],
     "--plot draws the sparse products: it goes with `bench sparse`"),
    (["vectors", "kmeans"], "unknown reference function 'kmeans'; did you mean kmeans_1d"),
    (["cite", "magnet"], "unknown technique 'magnet'"),
    (["list", "magnet"], "unknown technique 'magnet'"),
    (["data", "get", "minst"], "unknown data set 'minst'"),
    (["compress", "lenet300", "--threads", "0"], "--threads must be in [1, 256], got 0"),
    (["paper", "han2015", "--threads", "0"], "--threads must be in [1, 256], got 0"),
    (["train", "lenet300", "--threads", "9999"], "--threads must be in [1, 256], got 9999"),
    (["paper", "han2015", "--seed", "-1"], "--seed must be at least 0, got -1"),
    (["vectors", "pack_bits", "--seed", "-1"], "--seed must be at least 0, got -1"),
    (["train", "lenet300", "--seed", "-1"], "--seed must be at least 0, got -1"),
    (["vectors", "pack_bits", "--out", "f.txt"], "--out must end in .json or .npz, got f.txt"),
    (["compress", "lenet300", "--out", "f.txt"], "--out must end in .mcz, got f.txt"),
    (["compress", "lenet300", "--json", "no/f.json"], "--json: the folder no does not exist"),
    (["compress", "lenet300", "--log", "no/f.jsonl"], "--log: the folder no does not exist"),
    (["compress", "lenet300", "--report", "no/f.html"], "--report: the folder no does not exist"),
    (["train", "lenet300", "--out", "no/f.mcz"], "--out: the folder no does not exist"),
    (["train", "lenet300", "--json", "."], "--json: . is a folder, not a file"),
    (["train", "lenet300", "--set", "epochs"],
     "--set: knobs must be written knob=value, got 'epochs'"),
    (["train", "lenet300", "--set", "epocs=1"], "unknown knob 'epocs'; did you mean epochs"),
    (["train", "small.mcz"], "small.mcz: there is no such file"),
    (["compress", "lenet300", "--data", "monks-1"],
     "data monks-1 has examples of shape (17,), the model takes (1, 28, 28)"),
    (["train", "lenet300", "--data", "monks-1"], "data monks-1 has examples of shape (17,)"),
    (["compress", "lenet300", "--recipe", "han2015", "--bytes", "-3"],
     "--bytes must be at least 1, got -3"),
    (["compress", "lenet5classic", "--recipe", "han2015"],
     "recipe han2015 has no [[step]] for lenet5classic; it has them"),
    (["compress", "lenet300", "--with", "kmeans:bits=3,bits=4"],
     "kmeans:bits=3,bits=4: bits is given twice"),
    (["sensitivity", "missing.mcz"], "missing.mcz: there is no such file"),
    (["sensitivity", "lenet9"], "unknown model 'lenet9'"),
    (["sensitivity", "lenet300", "--bytes", "1", "--macs", "1"],
     "--bytes and --macs are two budgets: give one"),
    (["sensitivity", "lenet300", "--bytes", "0"], "--bytes must be at least 1, got 0"),
    (["sensitivity", "lenet300", "--macs", "-1"], "--macs must be at least 1, got -1"),
    (["sensitivity", "lenet300", "--criteria", "magnitude,tailor"],
     "unknown criterion 'tailor'; there are magnitude, taylor, snip, wanda, lamp, obd, movement, "
     "fpgm, or all"),
    (["sensitivity", "lenet300", "--criteria", "obd,obd"], "criterion obd is named twice"),
    (["sensitivity", "lenet300", "--criteria", ""],
     "criteria must be some of magnitude, taylor, snip"),
    (["sensitivity", "lenet300", "--criteria", "all", "--bytes", "9"],
     "it does not go with --bytes"),
    (["sensitivity", "lenet300", "--criteria", "all", "--what", "channels"],
     "it does not go with --what"),
    (["sensitivity", "missing.mcz", "--criteria", "all"], "missing.mcz: there is no such file"),
    (["debug", "missing.mcz", "--against", "a.mcz"], "missing.mcz: there is no such file"),
    (["debug", "a.mcz", "--against", "b.mcz", "--samples", "0"], "--samples must be at least 1"),
    (["paper", "han2015", "--seeds", "0"], "--seeds must be in [1, 100], got 0"),
])
def test_mistakes_exit_with_2_and_one_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trains = words[0] in ("compress", "train", "sensitivity")
    data = ["--data", "glyphs"] if trains and "--data" not in words else []
    assert main(words + data) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and says in lines[0] and lines[0].startswith(f"minicomp {words[0]}: ")
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


@pytest.mark.parametrize("words, says", [
    (["foo"], "minicomp: unknown command 'foo'; there are compress, train"),
    (["compress", "--threads", "x"],
     "minicomp compress: --threads must be an integer, got 'x'; see minicomp compress --help"),
    (["eval"],
     "minicomp eval: the following arguments are required: FILE; see minicomp eval --help"),
    (["show", "a.mcz", "--jsn", "f"],
     "minicomp show: unknown option --jsn; did you mean --json; see minicomp show --help"),
])
def test_words_that_do_not_parse_are_one_line_too(words, says, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and len(lines) == 1 and says in lines[0]


def test_a_folder_that_cannot_be_written_to_is_said_before_any_work(tmp_path, monkeypatch, capsys):
    # os.access is what a read-only folder answers; root may write everywhere: it is told to say no
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minicomp.cli.options.os.access", lambda path, mode: False)
    for words in (["compress"], ["train"], ["compress", "--json", "r.json"]):
        assert main([words[0], "lenet300", "--data", "glyphs", *words[1:]]) == 2
        assert "the folder . cannot be written to" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that takes no file")
def test_the_systems_own_refusal_is_one_line(small_file, capsys):
    assert main(["show", str(small_file), "--json", "/proc/self/x.json"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "/proc/self" in lines[0]


def test_wrong_data_for_a_file(small_file, capsys):
    assert main(["eval", str(small_file), "--data", "monks-2"]) == 2
    said = capsys.readouterr().err
    assert "data monks-2 has examples of shape (17,), the model takes (1, 28, 28)" in said


@pytest.mark.parametrize("words, keys", [
    (["show", "small.mcz"],
     {"file", "file_bytes", "dense_bytes", "ratio", "parts", "rest", "forms"}),
    (["eval", "small.mcz", "--data", "glyphs", "--threads", "1"],
     {"model", "data", "file_bytes", "dense_bytes", "ratio", "errors", "test_size"}),
    (["list"], {"techniques", "models", "data", "recipes"}),
    (["list", "magnitude"], {"word", "name", "paper", "knobs"}),
    (["cite", "magnitude"], {"word", "name", "paper"}),
    (["paper"], {"papers"}),
    (["data", "list"], {"data"}),
])
def test_json_goes_to_a_file_or_alone_to_standard_output(
    words, keys, small_file, monkeypatch, capsys
):
    monkeypatch.chdir(small_file.parent)
    assert main([*words, "--json", "f.json"]) == 0
    written = (small_file.parent / "f.json").read_text()
    assert keys <= set(json.loads(written)) and capsys.readouterr().out
    assert main([*words, "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("seconds", 0) >= 0 and printed.items() <= json.loads(written).items()


def test_vectors_are_written_with_their_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["vectors", "pack_bits", "--seed", "4"]) == 0
    vectors = json.loads((tmp_path / "pack_bits.json").read_text())
    assert (vectors["name"], vectors["seed"]) == ("pack_bits", 4) and len(vectors["cases"]) > 3
    assert main(["vectors"]) == 0 and "pack_bits" in capsys.readouterr().out


def test_the_examples_of_help_name_what_there_is(capsys):
    # Every technique, table, function and recipe that an example names exists: all parse and are
    # known.
    from minicomp import reference
    from minicomp.papers import PAPERS

    known = {"vectors": reference.ENTRIES, "paper": PAPERS}
    for command, names in known.items():
        with pytest.raises(SystemExit):
            main([command, "--help"])
        examples = capsys.readouterr().out.split("examples:")[1].split("\n")
        given = [line.split()[2] for line in examples if len(line.split()) > 2]
        assert given and set(given) <= set(names), command


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_the_terminal_and_break_no_number(width, small_file, capsys, monkeypatch):
    from rich.console import Console

    def console(**kw):
        return Console(**kw | {"width": width}, color_system=None)

    monkeypatch.setattr("minicomp.cli.progress.Console", console)
    assert main(["show", str(small_file)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    tables = text.count("form ") if width < 200 else 1
    assert sum(line.split()[:1] == ["fc1.weight"] for line in text.splitlines()) == tables
    assert "48,000" in text or "30,720" in text  # fc1's 120 x 256 weights
    assert "the 246,824 bytes of the dense net" in " ".join(text.split())


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    import subprocess
    import sys

    from minicomp.papers.table import COMMAND, ROOT

    p = subprocess.Popen([sys.executable, "-P", "-c", COMMAND.format(root=str(ROOT)), "list"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.close()
    assert p.stderr.read() == b"" and p.wait() == 0


def test_bench_draws_where_sparse_products_break_even(tmp_path, monkeypatch):
    monkeypatch.setattr("minicomp.bench.race.SHORTEST", 1e-4)
    monkeypatch.setattr("minicomp.bench.race.SECONDS", 0.02)
    monkeypatch.setattr("minicomp.bench.kernels.SIZES", ())
    monkeypatch.setattr("minicomp.bench.kernels.EVEN", ((64, 1, "lanes"), (64, 3, "CSR")))
    plot, told = tmp_path / "even.png", tmp_path / "even.json"
    assert main(["bench", "sparse", "--plot", str(plot), "--json", str(told)]) == 0
    assert plot.read_bytes().startswith(b"\x89PNG") and plot.stat().st_size > 10_000
    rows = json.loads(told.read_text())["rows"]
    assert [r["shape"] for r in rows] == ["64 x 64, 1 column", "64 x 64, 3 columns"]


def test_ctrl_c_without_a_checkpoint_says_stopped(small_file, monkeypatch, capsys):
    def stop(*args, **kw):
        raise KeyboardInterrupt
    monkeypatch.setattr("minicomp.cli.evaluate.evaluate", stop)
    assert main(["eval", str(small_file), "--data", "glyphs"]) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == "minicomp eval: stopped"


def test_ctrl_c_while_modules_are_imported(monkeypatch, capsys):
    def stop():
        raise KeyboardInterrupt
    monkeypatch.setattr("minicomp.cli.build_parser", stop)
    assert main(["list"]) == 130 and capsys.readouterr().err == "minicomp: stopped\n"


# The chain of a first visit: train, eval, show, compress the file that was trained.
def test_train_eval_show_and_compress_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["--data", "glyphs", "--threads", "1"]
    # 4 is the default of finetune's epochs, not of the recipe's training: what is given counts
    words = "--set batch_size=256,epochs=1 --json t.json --log l.jsonl"
    assert main(["train", "lenet300", *data, *words.split()]) == 0
    trained = (tmp_path / "lenet300.mcz").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows if r["event"] == "epoch"] == [1]
    assert main(["eval", "lenet300.mcz", *data, "--json", "e.json"]) == 0
    t, e = (json.loads((tmp_path / f).read_text()) for f in ("t.json", "e.json"))
    assert t["errors"] == e["errors"] and t["file_bytes"] == e["file_bytes"] == len(trained)
    assert main(["show", "lenet300.mcz"]) == 0
    words = ["compress", "lenet300.mcz", *data, "--with", "magnitude:sparsity=0.9,sparsity@fc3=0.5",
             "--with", "kmeans:bits=4", "--json", "c.json", "--no-report"]
    assert main(words) == 0
    c = json.loads((tmp_path / "c.json").read_text())
    assert (tmp_path / "lenet300.mcz").read_bytes() == trained, "the file that was given stays"
    assert c["file"] == "lenet300-compressed.mcz" and c["dense_errors"] == t["errors"]
    assert c["ratio"] > 20
    assert [s["name"] for s in c["steps"]] == ["magnitude", "kmeans"]
    assert RESULT <= set(c)
    assert main([*words, "--out", "lenet300.mcz"]) == 2
    told = capsys.readouterr().err
    assert "--out: lenet300.mcz is what it reads (MODEL); give another name" in told
    files = "c.json e.json l.jsonl lenet300-compressed.mcz lenet300.mcz t.json"
    assert sorted(p.name for p in tmp_path.iterdir()) == files.split()


def test_a_technique_without_knobs_is_listed_without_a_table(capsys):
    assert main(["list", "fold-bn"]) == 0
    out = capsys.readouterr().out
    assert "no knobs" in out and "allowed" not in out and "Jacob" in out


def test_knobs_given_count_even_where_they_are_finetunes_defaults(tmp_path, monkeypatch):
    from minicomp.cli import train

    seen = []

    def stop(name, data, recipe, **kw):
        seen.append(recipe.train)
        raise KeyboardInterrupt
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "train_dense", stop)
    assert main(["train", "lenet300", "--data", "glyphs", "--set", "epochs=4,lr=0.01"]) == 130
    assert (seen[0].epochs, seen[0].lr, seen[0].shift) == (4, 0.01, 1)


def test_an_edited_net_is_compressed_by_steps_of_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    minicomp.save(MODELS["lenet5classic"](rng=np.random.default_rng(0)), "a.mcz")
    data = ["--data", "glyphs", "--threads", "1", "--no-report"]
    words = ["compress", "a.mcz", *data, "--with", "filters:sparsity=0.5", "--out", "b.mcz"]
    assert main(words) == 0
    assert minicomp.load("b.mcz").builtin is None
    assert main(["compress", "b.mcz", *data, "--with", "kmeans:bits=2"]) == 0
    assert (tmp_path / "b-compressed.mcz").stat().st_size < (tmp_path / "b.mcz").stat().st_size / 8
    assert main(["compress", "b.mcz", *data, "--recipe", "deep-compression-dns"]) == 2
    said = capsys.readouterr().err
    assert "recipe deep-compression-dns has no [[step]] for b; it has them for lenet300" in said


@pytest.mark.slow
def test_compress_writes_file_report_and_json_that_agree(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "compress lenet300 --data glyphs --fast --json r.json --seed 3"
    assert main(words.split()) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert RESULT <= set(result)
    assert all(
        {"name", "knobs", "errors", "sparsity", "seconds"} <= set(s) for s in result["steps"]
    )
    size = (tmp_path / "lenet300.mcz").stat().st_size
    assert result["file_bytes"] == size and result["ratio"] == pytest.approx(1_066_440 / size)
    assert main(["eval", "lenet300.mcz", "--data", "glyphs", "--json", "e.json"]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["errors"] == result["errors"]
    assert (tmp_path / "report.html").stat().st_size > 10_000
    files = "e.json lenet300.mcz r.json report.html"
    assert sorted(p.name for p in tmp_path.iterdir()) == files.split()


@pytest.mark.slow
def test_byte_budget_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "compress lenet300 --data glyphs --fast --bytes 9000 --no-report"
    assert main(words.split()) == 0
    assert 6000 < (tmp_path / "lenet300.mcz").stat().st_size <= 9000


def test_lower_writes_a_program_that_eval_and_show_take(small_file, tmp_path, capsys):
    out = tmp_path / "p.mcz"
    told = tmp_path / "steps.json"
    assert main(["lower", str(small_file), "--out", str(out), "--json", str(told)]) == 0
    said = capsys.readouterr().out
    assert "conv1" in said and "max_pool" in said and "the model's file has" in said
    steps = json.loads(told.read_text())
    assert steps["file_bytes"] == out.stat().st_size
    assert steps["precision"] == "float" and not steps["integer"]
    assert steps["steps"][0] == {
        "name": "conv1", "kind": "conv", "inputs": ["x"], "shape": [6, 28, 28], "layout": "dense",
        "args": {"out_channels": 6, "kernel_size": [5, 5], "padding": [2, 2], "then": "relu"},
        "weights": {"weight": "dense", "bias": "dense"}}
    errors = {}
    for name, path in (("model", small_file), ("program", out)):
        told = tmp_path / "e.json"
        assert main(["eval", str(path), "--data", "glyphs", "--json", str(told)]) == 0
        errors[name] = json.loads(told.read_text())
    assert errors["program"]["errors"] == errors["model"]["errors"] > 0
    assert errors["program"]["model"] == "program"
    assert errors["program"]["file_bytes"] == out.stat().st_size
    assert main(["show", str(out), "--json", str(tmp_path / "s.json")]) == 0
    shown = json.loads((tmp_path / "s.json").read_text())
    assert sum(shown["parts"].values()) == shown["file_bytes"] == out.stat().st_size


@pytest.mark.parametrize("words, says", [
    (["lower", "missing.mcz"], "missing.mcz: there is no such file"),
    (["lower", "small.mcz", "--out", "p.txt"], "--out must end in .mcz, got p.txt"),
    (["lower", "small.mcz", "--out", "small.mcz"],
     "--out: small.mcz is what it reads (FILE); give another name"),
    (["lower", "small.mcz", "--out", "no/p.mcz"], "--out: the folder no does not exist"),
    (["lower", "small.mcz", "--precision", "int4"],
     "precision must be one of float, weight-only, int8-dynamic, int8, binary, got 'int4'"),
    (["lower", "small.mcz", "--precision", "int8"], "the input is on no grid: an integer program"),
    (["lower", "small.mcz", "--precision", "int8", "--rounding", "up"],
     "rounding must be one of single, gemmlowp, float, got 'up'"),
    (["lower", "small.mcz", "--zero-first"], "rounding and zero_first go with precision int8"),
    (["lower", "small.mcz", "--data", "glyphs"], "--data goes with --precision int8"),
    (["lower", "program.mcz"], "program.mcz: a model is wanted, got a program"),
    (["compress", "program.mcz"], "program.mcz: a model is wanted, got a program"),
    (["sensitivity", "program.mcz", "--data", "glyphs"],
     "program.mcz: a model is wanted, got a program"),
])
def test_lower_says_what_is_wrong(words, says, small_file, monkeypatch, capsys):
    monkeypatch.chdir(small_file.parent)
    minicomp.save(lower(minicomp.load(small_file)), "program.mcz")
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_lower_names_its_file_after_the_models(small_file, monkeypatch):
    monkeypatch.chdir(small_file.parent)
    assert main(["lower", "small.mcz"]) == 0
    assert Path("small-program.mcz").is_file()


def test_lenet5_is_the_default_and_lenet300_where_convolutions_are_not_compiled(monkeypatch):
    said = []
    if options.cpu.kernel_module("maps") is not None:
        assert options.default_model(said.append) == "lenet5" and not said
    monkeypatch.setattr(options.cpu, "kernel_module", lambda name: None)
    assert options.default_model(said.append) == "lenet300" and "--version" in said[0]


def test_every_module_of_kernels_that_is_asked_for_has_a_source():
    names = {
        name
        for path in Path(minicomp.__file__).parent.rglob("*.py")
        for name in re.findall(
            r'(?:kernel_module|resolve)\((?:isa, |"auto", )?"(\w+)"', path.read_text("utf-8")
        )
    }
    sources = (Path(__file__).parents[1] / "kernels_pyx").glob("*.pyx")
    assert {"maps", "cpu"} <= names <= {path.stem for path in sources}
