# lower, trace, eval and show of integer programs.
import json

import numpy as np
import pytest

import minicomp
from minicomp.cli import main
from minicomp.codec import load, save
from minicomp.compress.quant.ptq import PTQ
from minicomp.compress.technique import Run
from minicomp.deploy import lower
from minicomp.models import LeNet5Classic


@pytest.fixture
def here(small, few):
    # A folder with a quantized net trained on nothing much, q.mcz, and the float one, f.mcz.
    model = LeNet5Classic(normalize="glyphs", rng=np.random.default_rng(0))
    model.trained_on = "glyphs"
    save(model, "f.mcz")
    save(PTQ().apply(model, few, Run(np.random.default_rng(0))), "q.mcz")
    return small


def test_lower_shows_instructions_and_what_differs(here, few, capsys):
    words = ["lower", "q.mcz", "--precision", "int8", "--out", "p.mcz", "--json", "l.json"]
    assert main(words) == 0
    said = capsys.readouterr().out
    for words in ("rounding single", "reach: the largest sum", "predictions differ from"):
        assert words in said
    told = json.loads((here / "l.json").read_text())
    assert told["integer"] and told["precision"] == "int8" and told["rounding"] == "single"
    assert told["file_bytes"] <= 1.02 * told["model_bytes"]
    assert told["test_size"] == len(few.test.y) and told["flips"] <= 3
    rows = {row["name"]: row for row in told["instructions"]}
    assert list(rows)[0] == "normalize_q" and rows["fc3"]["codes"] is None
    assert all(0 < rows[n]["reach"] < 2**31 for n in ("relu1_q", "fc3"))
    assert rows["relu1_q"]["codes"] == [0, 255] and 0 <= rows["relu1_q"]["differ"] < 0.01


def test_eval_and_show_take_it(here, few, capsys):
    assert main(["lower", "q.mcz", "--precision", "int8", "--out", "p.mcz"]) == 0
    found = {}
    for name in ("q", "p"):
        assert main(["eval", f"{name}.mcz", "--threads", "2", "--against", "f.mcz",
                     "--json", "e.json"]) == 0
        found[name] = json.loads((here / "e.json").read_text())
    assert abs(found["p"]["errors"] - found["q"]["errors"]) <= 3 and "kl" in found["p"]
    capsys.readouterr()
    assert main(["show", "p.mcz", "--json", "s.json"]) == 0
    assert "precision int8, rounding single" in capsys.readouterr().out
    shown = json.loads((here / "s.json").read_text())
    assert shown["precision"] == "int8" and shown["rounding"] == "single"
    assert sum(shown["parts"].values()) == shown["file_bytes"]


@pytest.mark.parametrize("file", ["q.mcz", "p.mcz"])
def test_trace_writes_every_integer(file, here, few):
    rule = ["--rounding", "gemmlowp", "--zero-first"]
    assert main(["lower", "q.mcz", "--precision", "int8", *rule, "--out", "p.mcz"]) == 0
    np.save("x.npy", few.test.x[:3])
    given = rule if file == "q.mcz" else []
    assert main(["trace", file, "--input", "x.npy", "--out", "t.npz", *given,
                 "--json", "t.json"]) == 0
    program = load("p.mcz")
    want = program.trace(few.test.x[:3])
    with np.load("t.npz", allow_pickle=False) as found:
        assert set(found.files) == set(want)
        for name, a in want.items():
            np.testing.assert_array_equal(found[name], a, name, strict=True)
        assert str(found["rounding"]) == "gemmlowp" and found["zero_first"]
    told = json.loads((here / "t.json").read_text())
    assert told["arrays"]["logits"] == {"shape": [3, 10], "dtype": "int32"}


@pytest.mark.filterwarnings("error::RuntimeWarning")  # which would be a second line
@pytest.mark.parametrize("words, says", [
    (["f.mcz", "--input", "x.npy"], "normalize is on no grid: an integer program needs"),
    (["float.mcz", "--input", "x.npy"], "float.mcz: a trace is of an integer program"),
    (["p.mcz", "--input", "x.npy", "--rounding", "float"], "--rounding and --zero-first go with a"),
    (["q.mcz", "--input", "x.npy", "--rounding", "up"], "rounding must be one of single, gemmlowp"),
    (["q.mcz", "--input", "none.npy"], "none.npy: there is no such file"),
    (["q.mcz", "--input", "q.mcz"], "--input: q.mcz is no .npy file"),
    (["q.mcz", "--input", "wide.npy"], "--input must be numbers of shape (N, 1, 28, 28)"),
    (["q.mcz", "--input", "empty.npy"], "--input must be numbers of shape"),
    (["q.mcz", "--input", "nan.npy"], "--input must be finite, got NaN or infinity"),
    (["q.mcz", "--input", "huge.npy"], "--input must be finite, got NaN or infinity"),
    (["q.mcz", "--input", "words.npy"], "--input must be numbers"),
    (["q.mcz", "--input", "objects.npy"], "--input: objects.npy is no .npy file"),
])
def test_what_trace_refuses(words, says, here, capsys):
    x = np.zeros((2, 1, 28, 28), np.float32)
    np.save("x.npy", x)
    np.save("wide.npy", x[..., :9])
    np.save("empty.npy", x[:0])
    np.save("nan.npy", np.full_like(x, np.nan))
    np.save("huge.npy", np.full(x.shape, 1e300))
    np.save("words.npy", np.array(["a"]))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    save(lower(load("q.mcz")), "float.mcz")
    save(lower(load("q.mcz"), precision="int8"), "p.mcz")
    assert main(["trace", *words, "--out", "t.npz"]) == 2
    err = capsys.readouterr().err
    assert says in err and len(err.splitlines()) == 1, err
    assert main(["trace", "q.mcz", "--input", "x.npy", "--out", "t.txt"]) == 2


def test_the_other_precisions_lower_too(here, few):
    for mode, precision in (("dynamic", "int8-dynamic"), ("weight-only", "weight-only")):
        model = minicomp.load("f.mcz")
        save(PTQ(mode=mode).apply(model, few, Run(np.random.default_rng(0))), "m.mcz")
        assert main(["lower", "m.mcz", "--precision", precision, "--out", "p.mcz"]) == 0
        assert load("p.mcz").precision == precision
        assert main(["eval", "p.mcz", "--data", "glyphs"]) == 0
