import json

import numpy as np
import pytest

import minicomp
from minicomp.cli import main
from minicomp.compress import PTQ, Run
from minicomp.exchange.safetensors import save_safetensors
from minicomp.models import LeNet300

DATA = ("--data", "glyphs")


@pytest.fixture
def two_files(small):
    rng = np.random.default_rng(0)
    model = LeNet300(rng=rng)
    minicomp.save(model, small / "f.mcz")
    minicomp.save(PTQ(mode="weight-only", bits=3).apply(model, None, Run(rng)),
                  small / "q.mcz")
    return small


@pytest.mark.parametrize("least, code", [(None, 0), (-100, 0), (100, 1)])
def test_the_command(two_files, least, code, capsys):
    more = [] if least is None else [f"--least={least}"]
    words = ["debug", "q.mcz", "--against", "f.mcz", *DATA, "--samples", "20",
             "--json", "d.json", "--plot", "d.png", *more]
    assert main(words) == code
    said = capsys.readouterr().out
    assert "fc2" in said and "of 20 predictions flip" in said
    found = json.loads((two_files / "d.json").read_text())
    assert [layer["name"] for layer in found["layers"]] == ["fc1", "fc2", "fc3", "output"]
    assert found["size"] == 20 and (two_files / "d.png").read_bytes()[:4] == b"\x89PNG"


def test_eval_beside_another_net(two_files, capsys):
    assert main(["eval", "q.mcz", "--against", "f.mcz", *DATA, "--json", "e.json"]) == 0
    found = json.loads((two_files / "e.json").read_text())
    assert found["flips"] > 0 and found["kl"] > 0 and found["against"] == "f.mcz"
    assert "predictions flip; KL of the logits" in capsys.readouterr().out
    assert main(["eval", "f.mcz", "--against", "f.mcz", *DATA, "--json", "e.json"]) == 0
    found = json.loads((two_files / "e.json").read_text())
    assert found["flips"] == found["kl"] == 0


def test_what_cannot_be_is_refused_and_arrays_are_of_the_float_nets_data(two_files, capsys):
    words = ["debug", "q.mcz", "--against", "f.mcz", *DATA, "--samples", "20"]
    assert main([*words, "--least", "nan"]) == 2
    assert "--least must be a number of dB, got nan" in capsys.readouterr().err
    rng = np.random.default_rng(0)
    model = LeNet300(rng=rng, normalize="glyphs")
    model.trained_on = "glyphs"
    minicomp.save(model, "g.mcz")
    save_safetensors(model.state_dict(), "g.safetensors")
    assert main(["debug", "g.safetensors", "--model", "lenet300", "--against", "g.mcz",
                 "--samples", "20", "--json", "d.json"]) == 0
    found = json.loads((two_files / "d.json").read_text())
    assert found["data"] == "glyphs" and found["flips"] == 0
    assert found["layers"][-1]["accumulated"]["sqnr"] is None or (
        found["layers"][-1]["accumulated"]["sqnr"] > 100)
