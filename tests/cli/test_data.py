"""A file knows the data of its net, and arrays of one's own go wherever a data set does."""

import json
from pathlib import Path

import numpy as np
import pytest

import minicomp
from minicomp import data as datasets
from minicomp.cli import main
from minicomp.exchange.safetensors import load_safetensors, save_safetensors
from minicomp.models import MODELS, normalization, renormalized

ONE = ["--threads", "1"]
QUICK = [*ONE, "--set", "epochs=1,shift=0"]


def told(words, capsys):
    # (exit code, what is said on standard error, the JSON that --json wrote)
    path = Path("told.json")
    path.unlink(missing_ok=True)
    code = main([*words, "--json", str(path)])
    said = " ".join(capsys.readouterr().err.split())
    return code, said, json.loads(path.read_text()) if path.exists() else None


def errors(words, capsys):
    code, said, result = told(["eval", *words, *ONE], capsys)
    assert code == 0, said
    return result["errors"], said


@pytest.fixture
def trained(small):
    # One epoch of LeNet-300-100 on few glyphs.
    assert main(["train", "lenet300", "--data", "glyphs", *QUICK, "--out", "g.mcz"]) == 0
    return small


@pytest.fixture
def own(tmp_path, few, monkeypatch):
    # The same few glyphs as a file of one's own, without any data set beside it.
    monkeypatch.setenv("MINICOMP_DATA", str(tmp_path / "nothing"))
    arrays = {}
    for part in ("train", "test", "val"):
        split = getattr(few, part)
        arrays[f"x_{part}"] = np.rint(255 * split.x[:, 0]).astype(np.uint8)
        arrays[f"y_{part}"] = split.y
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    return arrays


def test_a_file_takes_its_own_data_and_says_so(trained, capsys):
    assert minicomp.load("g.mcz").trained_on == "glyphs"
    asked, said = errors(["g.mcz", "--data", "glyphs"], capsys)
    assert "trained" not in said
    found, said = errors(["g.mcz"], capsys)
    assert found == asked and "data: glyphs, on which the net was trained" in said
    for words in (["sensitivity", "g.mcz", "--only", "fc3"],
                  ["train", "g.mcz", "--set", "epochs=1,shift=0", "--out", "t.mcz"],
                  ["compress", "g.mcz", "--with", "kmeans:bits=2", "--no-report"]):
        code, said, result = told([*words, *ONE], capsys)
        assert code == 0 and "data: glyphs, on which the net was trained" in said
        assert result.get("data", "glyphs") == "glyphs"
    for name in ("t.mcz", "g-compressed.mcz"):
        assert minicomp.load(name).trained_on == "glyphs"
    assert main(["lower", "g-compressed.mcz", "--out", "p.mcz"]) == 0
    assert minicomp.load("p.mcz").trained_on == "glyphs"
    assert "data: glyphs, on which" in errors(["p.mcz"], capsys)[1]


def test_other_data_than_the_nets_are_named(trained, own, capsys):
    for path in ("g.mcz", "p.mcz"):
        if path == "p.mcz":
            assert main(["lower", "g.mcz", "--out", path]) == 0
        said = errors([path, "--data", "mine.npz"], capsys)[1]
        assert "although the net was trained on glyphs" in said and said.count("trained on") == 1


def test_shapes_and_classes_that_do_not_fit_are_one_error(trained, own, capsys):
    np.savez("wide.npz", **own | {f"x_{p}": np.repeat(own[f"x_{p}"], 2, 2)
                                  for p in ("train", "test", "val")})
    np.savez("many.npz", **own | {"y_test": own["y_test"] + 3})
    for path, says in (("wide.npz", "examples of shape (1, 28, 56), the model takes (1, 28, 28)"),
                       ("many.npz", "13 classes, the model 10 outputs")):
        code, said, _ = told(["eval", "g.mcz", "--data", path], capsys)
        assert code == 2 and says in said


def test_show_says_what_the_net_was_trained_on(trained, capsys):
    assert main(["show", "g.mcz", "--json", "s.json"]) == 0
    said = capsys.readouterr().out
    assert "trained on glyphs" in said and "input normalised as glyphs" in said
    shown = json.loads(Path("s.json").read_text())
    assert (shown["data"], shown["normalize"]) == ("glyphs", "glyphs")


def test_arrays_of_ones_own_from_training_to_lowering(own, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, said, result = told(["train", "lenet5classic", "--data", "mine.npz", *QUICK,
                               "--out", "m.mcz"], capsys)
    assert code == 0 and result["data"] == "mine" and result["test_size"] == len(own["y_test"])
    model = minicomp.load("m.mcz")
    (mean,), (std,) = normalization(model)
    pixels = own["x_train"] / 255
    assert mean == pytest.approx(pixels.mean(), rel=1e-3) and std == pytest.approx(pixels.std(),
                                                                                  rel=1e-3)
    assert model.trained_on == datasets.load("mine.npz").label
    on = ["--data", "mine.npz", *ONE]
    for words in (["compress", "m.mcz", "--with", "magnitude:sparsity=0.5", "--out", "c.mcz",
                   "--report", "r.html"],
                  ["sensitivity", "m.mcz", "--only", "fc3"],
                  ["train", "c.mcz", "--set", "epochs=1,shift=1,cutout=4", "--out", "t.mcz"],
                  ["eval", "t.mcz"]):
        code, said, _ = told([*words, *on], capsys)
        assert code == 0 and "although" not in said, said
    assert "mine" in Path("r.html").read_text(encoding="utf-8")
    code, said, _ = told(["eval", "t.mcz"], capsys)
    assert code == 2 and "arrays of your own, --data mine.npz; say which data" in said


def test_a_net_of_ones_own_data_has_its_channels_and_classes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8), np.arange(40) % 3
    np.savez("rgb.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    assert main(["train", "depthwise32", "--data", "rgb.npz", *QUICK, "--out", "d.mcz"]) == 0
    words = ["d.mcz", "--data", "rgb.npz", "--set", "epochs=0", *ONE, "--out", "d.safetensors"]
    assert main(["train", *words]) == 0
    arrays = ["d.safetensors", "--model", "depthwise32", "--data", "rgb.npz"]
    assert errors(arrays, capsys)[0] == errors(["d.mcz", "--data", "rgb.npz"], capsys)[0]
    model = minicomp.load("d.mcz")
    assert model.input_shape == (3, 16, 16) and list(model.shapes().values())[-1] == (3,)
    assert len(normalization(model)[0]) == 3
    np.savez("tiny.npz", x_train=x[..., :4, :4], y_train=y, x_test=x[..., :4, :4], y_test=y)
    for net, says in (("depthwise32", "depthwise32 cannot take data tiny: resolution must be an "
                                      "integer in [8, 224], got '4'"),
                      ("lenet5", "examples of shape (3, 4, 4), the model takes (3, 28, 28)")):
        code, said, _ = told(["train", net, "--data", "tiny.npz", *QUICK], capsys)
        assert code == 2 and says in said


def test_a_file_is_not_overwritten_by_what_it_made(own, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = Path("mine.npz").read_bytes()
    assert main(["train", "lenet300", "--data", "mine.npz", *QUICK, "--json", "mine.npz"]) == 2
    assert "--json: mine.npz is what it reads (--data)" in capsys.readouterr().err
    assert Path("mine.npz").read_bytes() == before


def test_arrays_of_weights_note_data_and_normalisation(trained, capsys):
    assert main(["train", "g.mcz", "--data", "glyphs", *ONE, "--set", "epochs=0",
                 "--out", "a.safetensors"]) == 0
    arrays = ["a.safetensors", "--model", "lenet300"]
    assert errors(arrays, capsys)[0] == errors(["g.mcz"], capsys)[0]
    assert "data: glyphs, on which the net was trained" in errors(arrays, capsys)[1]
    assert main(["show", "a.safetensors"]) == 0
    assert "trained on glyphs" in capsys.readouterr().out


def test_foreign_weights_are_told_how_their_pixels_were_normalised(trained, capsys):
    model = minicomp.load("g.mcz")
    save_safetensors(model.dense().state_dict(), "w.safetensors")
    arrays = ["w.safetensors", "--model", "lenet300", "--data", "glyphs"]
    right = errors(["g.mcz"], capsys)[0]
    found, said = errors(arrays, capsys)
    assert found == right and ("w.safetensors does not say how its input was normalised: assumed "
                               "as glyphs; --normalize says otherwise") in said
    minicomp.save(renormalized(model, None), "raw.mcz")
    raw = errors(["raw.mcz"], capsys)[0]
    for text, wanted in (("glyphs", right), ("0.1593,0.339", right), ("none", raw)):
        found, said = errors([*arrays, "--normalize", text], capsys)
        assert found == wanted and "assumed" not in said, text
    assert main(["lower", *arrays[:3], "--out", "p.mcz"]) == 0
    assert "assumed not at all" in " ".join(capsys.readouterr().err.split())
    assert main(["lower", *arrays[:3], "--normalize", "glyphs", "--out", "p.mcz"]) == 0
    assert "assumed" not in capsys.readouterr().err
    assert errors(["p.mcz", "--data", "glyphs"], capsys)[0] == right


def test_an_old_file_says_nothing_of_its_input_and_can_be_told(trained, capsys):
    old = renormalized(minicomp.load("g.mcz"), None)
    old.trained_on = None
    minicomp.save(old, "old.mcz")
    said = errors(["old.mcz", "--data", "glyphs"], capsys)[1]
    assert "old.mcz neither normalises its input nor names its data" in said
    found, said = errors(["old.mcz", "--data", "glyphs", "--normalize", "glyphs"], capsys)
    assert found == errors(["g.mcz"], capsys)[0] and "neither" not in said


@pytest.mark.parametrize("words, says", [
    (["eval", "g.mcz", "--normalize", "mnist"],
     "g.mcz normalises its input itself, as glyphs: --normalize does not go with it"),
    (["train", "lenet300", "--normalize", "mnist"], "--normalize goes with a file"),
    (["eval", "w.safetensors", "--model", "lenet300", "--normalize", "minst"],
     "--normalize: it must be mnist, fashion_mnist, glyphs, cifar10, none, or MEAN,STD"),
    (["eval", "w.safetensors", "--model", "lenet300", "--normalize", "0.1,0.2,0.3"],
     "--normalize: it must be mnist"),
    (["eval", "w.safetensors", "--model", "lenet300", "--normalize", "0.1,0"],
     "--normalize: std must be a list of numbers in [1e-09, 1e+09]"),
    (["eval", "w.safetensors", "--model", "lenet300", "--normalize", "nan,1"],
     "--normalize: mean must be a list of numbers"),
    (["eval", "w.safetensors", "--model", "lenet300", "--normalize", "cifar10"],
     "--normalize: normalize: Normalize needs a mean for each of 1 channels, got 3"),
    (["eval", "g.mcz", "--data", "no.npz"], "no.npz: cannot be read: No such file"),
])
def test_mistakes_are_one_line(words, says, small, capsys):
    model = MODELS["lenet300"](normalize="glyphs", rng=np.random.default_rng(0))
    minicomp.save(model, "g.mcz")
    save_safetensors(model.state_dict(), "w.safetensors")
    assert main([*words, *([] if "--data" in words else ["--data", "glyphs"])]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line


def test_a_label_of_no_set_that_there_is(small, capsys):
    model = MODELS["lenet300"](rng=np.random.default_rng(0))
    model.trained_on = "svhn"
    minicomp.save(model, "s.mcz")
    code, said, _ = told(["eval", "s.mcz"], capsys)
    assert code == 2 and ("the net was trained on svhn: a set that this version has not; say which "
                          "data with --data") in said
    said = errors(["s.mcz", "--data", "glyphs"], capsys)[1]
    assert "although the net was trained on svhn" in said


@pytest.mark.parametrize("notes", ["", "[]", "{", '{"normalize": "minst"}', '{"data": "mnist"}',
                                   '{"normalize": null, "data": "a b"}', '{"normalize": [1]}',
                                   '{"normalize": null, "more": 1}', '{"normalize": NaN}',
                                   '{"normalize": null, "net": {"builtin": "lenet9"}}',
                                   '{"normalize": null, "net": {"builtin": "lenet300"}}',
                                   '{"normalize": null, "net": 3}'])
def test_malformed_notes_of_weights_are_a_format_error(notes, small, capsys):
    model = MODELS["lenet300"](rng=np.random.default_rng(0))
    save_safetensors(model.state_dict(), "n.safetensors", {"minicomp": notes})
    assert load_safetensors("n.safetensors").metadata == {"minicomp": notes}
    assert main(["eval", "n.safetensors", "--model", "lenet300", "--data", "glyphs"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("minicomp eval: ") and line.isprintable()
