"""Every command that takes a model takes what every other command wrote.

Over the files of conftest's zoo, each made by other techniques: the second step of a user works, or
is refused in one line before anything runs.
"""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import minicomp
from minicomp.bench import pruned
from minicomp.cli import main
from minicomp.codec import load
from minicomp.compress.technique import kept
from minicomp.deploy import Program, lower
from minicomp.exchange.safetensors import load_safetensors, save_safetensors
from minicomp.models import MODELS, for_data, renormalized
from minicomp.nn.forms import FORMS
from minicomp.papers import table

NAMES = ("dense", "pruned", "shared", "pruned-shared", "blocks", "surgery", "filters", "all-three",
         "dead-units", "thresholds", "slim", "shallow", "half", "fixed", "int8", "int4", "codes",
         "transforms", "structures", "signs")
# whose forms store nothing by place: neither weights nor units can go
WHOLE = ("transforms", "structures")
SHARED = ("shared", *WHOLE)  # without a pinned zero: single weights cannot be pruned
ON = ["--data", "glyphs", "--threads", "1"]
each = pytest.mark.parametrize("name", NAMES)
QUICK = ("dense", "pruned-shared", "int4", "transforms")  # the others of a long command are slow
some = pytest.mark.parametrize("name", [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    # Nothing here is about milliseconds.
    monkeypatch.setattr("minicomp.passport.milliseconds", lambda run, other, x: (
        run(x) is None or 1.0, other(x) is None or 2.0))
    # A scan of two rungs: below what a pruned net has, and above.
    for command in ("compress", "sensitivity"):
        monkeypatch.setattr(f"minicomp.cli.{command}.SPARSITIES", (0.4, 0.97))


def test_the_zoo_is_as_told(zoo):
    assert tuple(zoo) == NAMES and len(NAMES) >= 12
    forms = [form for p in zoo.values() for form in load(p).forms().values()]
    forms += [getattr(form, name) for form in forms for name, part in form.parts.items()
              if part.nested]
    assert {form.kind for form in forms} == set(FORMS), "a form that no file of the zoo has"
    assert sum(load(p).builtin is None for p in zoo.values()) >= 4, "nets that were edited"


@each
def test_eval_show_and_lower(name, zoo, small):
    path = str(zoo[name])
    assert main(["eval", path, *ON, "--json", "e.json"]) == 0
    assert main(["show", path, "--json", "s.json"]) == 0
    assert main(["lower", path, "--out", "p.mcz", "--json", "l.json"]) == 0
    assert main(["eval", "p.mcz", *ON, "--json", "p.json"]) == 0
    assert main(["show", "p.mcz"]) == 0
    e, s, p = (json.loads(Path(f"{f}.json").read_text()) for f in "esp")
    assert sum(s["parts"].values()) == pytest.approx(s["file_bytes"]) and e["ratio"] == s["ratio"]
    assert e["errors"] == p["errors"] and e["test_size"] == 80


@each
def test_training_goes_on_from_it(name, zoo, small):
    words = ["train", str(zoo[name]), *ON, "--set", "epochs=1,shift=0"]
    assert main([*words, "--out", "t.mcz"]) == 0
    before, after = load(zoo[name]), load("t.mcz")
    assert after.spec() == before.spec() and after.origin_bytes == before.origin_bytes
    for part, form in before.forms().items():
        other = after.forms()[part]
        assert other.kind == form.kind
        if form.mask is not None:
            assert not other.dense().data[~form.mask].any(), "what was pruned stays 0"
        if form.kind == "codebook":
            np.testing.assert_array_equal(other.index, form.index)
    assert main(["eval", "t.mcz", *ON]) == 0


def test_training_that_undoes_a_net_is_said(zoo, small, capsys):
    words = ["train", str(zoo["shared"]), *ON, "--out", "t.mcz", "--set"]
    assert main([*words, "epochs=1,shift=0,lr=1.0"]) == 0
    said = " ".join("".join(capsys.readouterr()).split())  # lines are wrapped
    assert re.search(r"made it worse: \d+ errors of \d+ validation examples, \d+ before; a smaller "
                     r"learning rate may serve, --set lr=0.1", said)
    assert main([*words, "epochs=0"]) == 0
    assert "worse" not in "".join(capsys.readouterr())


@each
def test_arrays_and_their_net_are_as_good_as_the_file(name, zoo, small):
    # What train writes for others, every command takes back with --model.
    assert main(["train", str(zoo[name]), *ON, "--set", "epochs=0", "--out", "a.safetensors"]) == 0
    arrays = ["a.safetensors", "--model", str(zoo[name])]
    assert main(["eval", *arrays, *ON, "--json", "a.json"]) == 0
    assert main(["eval", str(zoo[name]), *ON, "--json", "f.json"]) == 0
    a, f = (json.loads(Path(x).read_text()) for x in ("a.json", "f.json"))
    assert a["errors"] == f["errors"]
    assert main(["lower", *arrays, "--out", "p.mcz"]) == 0 and main(["show", *arrays]) == 0
    assert main(["show", "a.safetensors", "--json", "s.json"]) == 0
    s = json.loads(Path("s.json").read_text())
    assert sum(s["parts"].values()) == s["file_bytes"] == Path("a.safetensors").stat().st_size


# Of arrays that PyTorch wrote nobody knows what their net's input went through: it is said.
@pytest.mark.parametrize("given, told", [
    ([], "does not say how its input was normalised: assumed as glyphs; --normalize says"),
    (["--normalize", "glyphs"], None), (["--normalize", "0.1593,0.339"], None),
    (["--normalize", "none"], None)])
def test_the_normalisation_of_arrays_is_given_or_said(given, told, few, small, capsys):
    model = for_data("lenet5classic", few, rng=np.random.default_rng(0))
    save_safetensors(model.state_dict(), "a.safetensors")
    net = renormalized(model, None) if "none" in given else model
    right = minicomp.train.evaluate(net, few.test).errors
    words = ["eval", "a.safetensors", "--model", "lenet5classic", *given, *ON]
    assert main([*words, "--json", "e.json"]) == 0
    assert json.loads(Path("e.json").read_text())["errors"] == right
    said = " ".join(capsys.readouterr().err.split())
    assert told in said if told else "assumed" not in said


def test_arrays_have_as_many_classes_as_their_last_matrix_has_rows(few, small):
    model = MODELS["lenet300"](rng=np.random.default_rng(0), classes=26)
    save_safetensors(model.state_dict(), "a.safetensors")
    assert main(["lower", "a.safetensors", "--model", "lenet300", "--normalize", "none"]) == 0
    assert load("a-program.mcz").out_shape == (26,)


def test_arrays_of_a_built_in_net(zoo, small):
    assert main(["train", "lenet5classic", *ON, "--set", "epochs=1", "--out", "a.safetensors"]) == 0
    arrays = ["a.safetensors", "--model", "lenet5classic", *ON]
    assert main(["train", *arrays, "--set", "epochs=1", "--out", "t.mcz"]) == 0
    few = ["--only", "fc3"]
    assert main(["sensitivity", *arrays, *few]) == 0
    words = ["--with", "magnitude:sparsity=0.5", "--out", "c.mcz", "--no-report"]
    assert main(["compress", *arrays, *words]) == 0
    assert kept(load("c.mcz")) == pytest.approx(0.5, abs=0.01)
    assert main(["compress", "a.safetensors", "--model", "t.mcz", *ON, *words, "--restart"]) == 0


@pytest.mark.parametrize("name", [
    name if name in ("pruned", "shared", "all-three", "slim")
    else pytest.param(name, marks=pytest.mark.slow) for name in NAMES])
def test_it_is_shared_trained_and_reported(name, zoo, small, capsys):
    words = ["--with", "kmeans:bits=3", "--with", "finetune:epochs=1"]
    assert main(["compress", str(zoo[name]), *ON, *words, "--json", "c.json"]) == 0
    c = json.loads(Path("c.json").read_text())
    page = Path("report.html").read_text()
    assert f"{c['file_bytes']:,} bytes" in page
    assert c["dense_bytes"] == load(zoo[name]).origin_bytes
    assert load(f"{name}-compressed.mcz").origin_bytes == c["dense_bytes"]
    before, after = load(zoo[name]), load(f"{name}-compressed.mcz")
    if name not in ("codes", "int8", "signs", *WHOLE):  # zeros there are codes that no mask holds
        assert kept(after) <= kept(before) + 1e-9, "sharing brings no weight back"
    if name not in SHARED:
        assert "How much pruning each layer bears" in page


@some
def test_single_weights_and_units_are_pruned(name, zoo, small, capsys):
    start = load(zoo[name])
    words = ["compress", str(zoo[name]), *ON, "--no-report"]
    code = main([*words, "--with", "magnitude:sparsity=0.97", "--out", "m.mcz"])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    if name in SHARED:
        assert code == 2 and re.search(r"a \w+ without a pinned zero cannot", said)
    else:
        assert code == 0 and kept(load("m.mcz")) < kept(start) - 1e-3 or kept(start) < 0.05
    code = main([*words, "--with", "filters:sparsity=0.3", "--out", "f.mcz"])
    if name in WHOLE:
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert code == 2 and re.search(r"a \w+ stores nothing by place: no channel can be", said)
        return
    assert code == 0
    smaller = load("f.mcz")
    assert sum(smaller.macs().values()) < sum(start.macs().values())


@some
def test_it_is_swept(name, zoo, small):
    # As compress does it; what its form refuses is in the line of that run, and the other goes on.
    words = ["sweep", str(zoo[name]), *ON, "--backend", "sequential", "--json", "s.json"]
    code = main([*words, "--with", "{kmeans:bits=3,magnitude:sparsity=0.999}", "--energy"])
    runs = json.loads(Path("s.json").read_text())["runs"]
    failed = [line["error"] for line in runs if "error" in line]
    assert code == (1 if failed else 0) and len(runs) == 2
    assert bool(failed) == (name in SHARED) and all("pinned zero cannot" in e for e in failed)
    shared = next(line for line in runs if line["chosen"]["step 1"] == "kmeans:bits=3")
    assert main(["compress", str(zoo[name]), *ON, "--with", "kmeans:bits=3", "--no-report",
                 "--out", "k.mcz"]) == 0
    assert (small / "sweep" / shared["file"]).read_bytes() == Path("k.mcz").read_bytes()


@some
def test_layers_are_scanned(name, zoo, small, capsys):
    words = ["sensitivity", str(zoo[name]), *ON]
    code = main([*words, "--plot", "s.png", "--json", "s.json", "--bytes", str(10**7)])
    if name in WHOLE:
        assert code == 2 and re.search(r"a \w+ without a pinned", capsys.readouterr().err)
        return
    assert code == 0 and Path("s.png").stat().st_size > 5000
    assert main([*words, "--what", "channels"]) == 0


@pytest.mark.slow
@each
def test_measures_of_importance_are_compared(name, zoo, small, capsys, monkeypatch):
    monkeypatch.setattr("minicomp.cli.sensitivity.SPARSITIES", (0.4, 0.97, 0.995))
    code = main(["sensitivity", str(zoo[name]), *ON, "--criteria", "all", "--plot", "c.png"])
    assert code == 0 and Path("c.png").stat().st_size > 5000
    assert ("obd is left out" in capsys.readouterr().err) == (name == "thresholds")


def test_a_papers_helper_counts_as_eval_does(zoo, small, monkeypatch):
    # Its process is this one here: the command is the same.
    def run(words, **kw):
        words = words[words.index("eval"):-1]
        assert main([*words, "e.json", "--threads", "1"]) == 0
        return subprocess.CompletedProcess(words, 0, Path("e.json").read_text(), "")

    monkeypatch.setattr(table.subprocess, "run", run)
    for name, path in zoo.items():
        model = load(path)
        size, errors = table.file_errors(model, small / "again.mcz", "glyphs")
        assert size == path.stat().st_size, name
        assert main(["eval", str(path), *ON, "--json", "e.json"]) == 0
        assert errors == json.loads(Path("e.json").read_text())["errors"], name


def test_benchs_helpers_plan_every_net(zoo, few):
    x = few.test.x[:3]
    for name, path in zoo.items():
        model = load(path)
        plans = pruned.plans(dict.fromkeys(("masked", "removed", "zeros", "codes"), model), 3)
        for kind, plan in plans.items():
            np.testing.assert_allclose(plan(x), model(x).data, rtol=2e-3, atol=2e-4,
                                       err_msg=f"{name} {kind}")


@pytest.mark.parametrize("words", [
    "compress p.mcz", "train p.mcz", "lower p.mcz", "sensitivity p.mcz", "sweep p.mcz",
    "eval a.safetensors --model p.mcz"])
def test_a_program_is_refused_where_it_is_of_no_use(words, zoo, small, capsys):
    minicomp.save(lower(load(zoo["pruned"])), "p.mcz")
    assert isinstance(load("p.mcz"), Program)
    Path("a.safetensors").write_bytes(b"")
    assert main([*words.split(), *(ON if words.split()[0] != "lower" else [])]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "p.mcz: a model is wanted, got a program" in said[0]


@pytest.mark.parametrize("words, says", [
    ("eval a.safetensors", "a.safetensors holds arrays without a net: name it, --model lenet5"),
    ("eval a.safetensors --model lenet300",
     "a.safetensors does not hold the weights of lenet300: state does not fit the model: "),
    ("eval a.safetensors --model lenet7", "unknown model 'lenet7'; there are lenet300"),
    ("eval a.safetensors --model no.mcz", "no.mcz: there is no such file"),
    ("eval m.mcz --model lenet5classic", "--model goes with a .safetensors file; m.mcz holds its"),
    ("compress lenet300 --model lenet300", "--model goes with a .safetensors file; a built-in"),
    ("compress m.mcz --normalize none", "m.mcz normalises its input itself, as glyphs: --norm"),
    ("eval a.safetensors --model lenet5classic --normalize 0.1", "it must be mnist, fashion_mnist"),
    ("eval a.safetensors --model lenet5classic --normalize cifar10", "--normalize: "),
    ("eval folder.mcz", "folder.mcz is a folder, not a file"),
    ("show notes.txt", "notes.txt: a model is a .mcz or .onnx file, or a .safetensors file with"),
    ("train notes.txt", "notes.txt: a model is a .mcz or .onnx file, or a .safetensors file with"),
    ("eval damaged.safetensors --model lenet5", "damaged.safetensors: a header of"),
])
def test_what_is_no_model_is_said(words, says, zoo, small, capsys):
    model = load(zoo["dense"])
    minicomp.save(model, "m.mcz")
    save_safetensors(model.state_dict(), "a.safetensors")
    assert set(load_safetensors("a.safetensors")) == set(MODELS["lenet5classic"]().state_dict())
    Path("damaged.safetensors").write_bytes(b"\xff" * 20)
    Path("folder.mcz").mkdir()
    Path("notes.txt").write_text("lenet5")
    assert main(words.split()) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
