import json
from pathlib import Path

import numpy as np
import pytest

import minicomp
from minicomp.cli import main
from minicomp.data import load
from minicomp.errors import UserError
from minicomp.models import MODELS, for_data, named, renormalized
from minicomp.train import evaluate


def test_a_text_names_a_net_and_its_arguments():
    assert named("resnet20") == named("resnet20:") == ("resnet20", {})
    assert named("resnet20:blocks=1, width = 0.5") == ("resnet20", {"blocks": 1, "width": 0.5})
    name, args = named("mobilenetv2:width=1")
    assert args == {"width": 1.0} and isinstance(args["width"], float)


@pytest.mark.parametrize(("text", "message"), [
    ("resnet:blocks=1", "unknown model 'resnet'; did you mean resnet20"),
    ("resnet20:block=1", "classes, channels, resolution, width, blocks; got 'block=1'"),
    ("resnet20:normalize=mnist", "got 'normalize=mnist'"),
    ("resnet20:blocks=1,blocks=2", "each once, of .*; got 'blocks=2'"),
    ("resnet20:blocks", "blocks must be an integer in \\[1, 9\\], got ''"),
    ("resnet20:blocks=1.5", "resnet20: blocks must be an integer in \\[1, 9\\], got '1.5'"),
    ("resnet20:width=nan", "resnet20: width must be a number in \\[0.05, 4.0\\], got 'nan'"),
    ("shufflenet:groups=5", "groups must be one of 1, 2, 3, 4, 8, got 5"),
])
def test_what_is_no_such_text_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        named(text)


def test_what_the_text_says_goes_before_the_data():
    glyphs = load("glyphs")
    net = for_data("resnet20:blocks=1,width=0.5", glyphs, rng=np.random.default_rng(0))
    plain = MODELS["resnet20"](blocks=1, width=0.5, channels=1, resolution=28,
                               normalize=glyphs.normalize, rng=np.random.default_rng(0))
    assert net.spec() == plain.spec()
    np.testing.assert_array_equal(net(glyphs.test.x[:2]).data, plain(glyphs.test.x[:2]).data)
    assert for_data("lenet5:classes=20", glyphs).shapes()["fc2"] == (20,)


def test_commands_take_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "mobilenetv1:width=0.1", "--data", "glyphs", "--set", "epochs=0"]
    assert main(words) == 0
    net = minicomp.load("mobilenetv1.mcz")
    assert net.builtin["args"]["width"] == 0.1 and net.input_shape == (1, 28, 28)
    assert main(["list", "resnet20:blocks=9,width=2"]) == 0
    assert "resnet20:blocks=9,width=2: " in capsys.readouterr().out
    assert main(["train", "resnet20:blocks=0"]) == 2
    assert "blocks must be an integer in [1, 9], got '0'" in capsys.readouterr().err


def test_arrays_of_a_wider_net_are_read_with_its_arguments(tmp_path, monkeypatch, capsys):
    from safetensors.numpy import save_file

    monkeypatch.chdir(tmp_path)
    net = MODELS["mobilenetv1"](width=0.1, channels=1, resolution=28, rng=np.random.default_rng(0))
    save_file(net.state_dict(), "net.safetensors")
    words = ["eval", "net.safetensors", "--data", "glyphs", "--json", "net.json", "--model"]
    assert main([*words, "mobilenetv1:channels=1,resolution=28"]) == 2
    assert "does not hold the weights of mobilenetv1:channels=1,res" in capsys.readouterr().err
    assert main([*words, "mobilenetv1:channels=1,resolution=28,width=0.1"]) == 0
    glyphs = load("glyphs")
    found = evaluate(renormalized(net, glyphs.normalize), glyphs.test)
    assert json.loads(Path("net.json").read_text())["errors"] == found.errors
