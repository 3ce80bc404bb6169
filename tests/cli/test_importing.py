# A net of another framework goes through the commands as a .mcz file does.
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from minicomp import load
from minicomp.cli import main

FOLDER = Path(__file__).parents[1] / "data" / "onnx"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("torch_lenet_script", "sklearn_mlp", "keras_torch", "ort_lenet_qdq"):
        shutil.copy(FOLDER / f"{name}.onnx", tmp_path)
    from sklearn.datasets import load_digits

    x, y = (load_digits().images[:, None] / 16).astype(np.float32), load_digits().target
    np.savez(tmp_path / "d.npz", x_train=x[:1000], y_train=y[:1000], x_test=x[1000:],
             y_test=y[1000:])
    return tmp_path


@pytest.mark.peers
def test_import_eval_show_and_lower(here, capsys):
    assert main(["import", "torch_lenet_script.onnx", "--out", "m.mcz", "--json", "i.json"]) == 0
    told = json.loads(Path("i.json").read_text())
    assert told["input"] == [1, 8, 8] and told["notes"] == []
    assert [n["layer"] for n in told["nodes"]][:3] == ["Normalize", "Conv2d", "ReLU"]
    errors = []
    for name in ("m.mcz", "torch_lenet_script.onnx"):
        assert main(["eval", name, "--data", "d.npz", "--threads", "1", "--json", "e.json"]) == 0
        errors.append(json.loads(Path("e.json").read_text())["errors"])
    assert errors[0] == errors[1] < 80
    assert main(["show", "torch_lenet_script.onnx"]) == 0
    assert "input normalised by mean 0.3 and deviation 0.35" in capsys.readouterr().out
    assert main(["lower", "torch_lenet_script.onnx", "--out", "p.mcz"]) == 0
    assert main(["eval", "p.mcz", "--data", "d.npz", "--threads", "1", "--json", "e.json"]) == 0
    assert json.loads(Path("e.json").read_text())["errors"] == errors[0]


@pytest.mark.peers
def test_compress_starts_from_it(here):
    words = ["--data", "d.npz", "--threads", "1", "--no-report", "--json", "c.json"]
    assert main(["compress", "keras_torch.onnx", *words, "--with", "ptq:bits=4", "--out",
                 "k.mcz"]) == 0
    told = json.loads(Path("c.json").read_text())
    assert told["errors"] < told["dense_errors"] + 60 and told["ratio"] > 4
    assert load("k.mcz").input_shape == (1, 8, 8)


@pytest.mark.peers
def test_what_is_left_out_is_said_and_an_input_gets_its_shape(here, capsys):
    assert main(["import", "sklearn_mlp.onnx", "--input", "1x8x8"]) == 0
    assert "cut off behind the logits: Softmax" in " ".join(capsys.readouterr().err.split())
    assert main(["eval", "sklearn_mlp.mcz", "--data", "d.npz", "--threads", "1"]) == 0
    assert main(["eval", "keras_torch.onnx", "--data", "d.npz", "--threads", "1"]) == 0
    err = " ".join(capsys.readouterr().err.split())
    assert "takes its input as (N, 1, 8, 8), the graph as (N, 8, 8, 1)" in err
    assert main(["import", "ort_lenet_qdq.onnx"]) == 0
    assert "affine bits=8 narrow" in " ".join(capsys.readouterr().out.split())


@pytest.mark.peers
@pytest.mark.parametrize("words, message", [
    ("import sklearn_mlp.onnx --input 1x9x9", "cannot have the shape (N, 1, 9, 9)"),
    ("import torch_lenet_script.onnx --normalize mnist", "normalises its input itself"),
    ("eval torch_lenet_script.onnx --model lenet5 --data d.npz", "holds its own net"),
])
def test_what_does_not_fit_is_refused(words, message, here, capsys):
    assert main(words.split()) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("words, message", [
    ("import a.mcz", "must end in .onnx"),
    ("import missing.onnx", "there is no such file"),
    ("import a.onnx --out a.txt", "--out must end in .mcz"),
    ("import a.onnx --input 1x0x8", "--input must be CxHxW"),
    ("import a.onnx --input 28", "ONNX|onnx"),
])
def test_mistakes_are_said(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mcz", "a.onnx"):
        Path(name).write_bytes(b"nothing")
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert any(part in err.splitlines()[-1] for part in message.split("|")), err
