# lower, eval, show, trace and export of binary programs.
import json

import numpy as np

from minicomp.cli import main
from minicomp.codec import load, save
from minicomp.compress.binary.bnn import BNN
from minicomp.compress.quant.ptq import PTQ
from minicomp.compress.technique import Run
from minicomp.models import LeNet300


def test_a_binarized_net(small, few, capsys):
    run = Run(np.random.default_rng(0))
    model = LeNet300(normalize="glyphs", rng=np.random.default_rng(0))
    model = BNN().training(epochs=2, lr=0.01, optimizer="adam", batch_size=32).apply(
        model, few, run)
    model = PTQ(samples=40).apply(model, few, run)
    model.trained_on = "glyphs"
    save(model, "b.mcz")
    words = ["lower", "b.mcz", "--precision", "binary", "--out", "p.mcz", "--json", "l.json"]
    assert main(words) == 0
    said = capsys.readouterr().out
    for words in ("xnor_linear", "constant: channels whose", "predictions differ from"):
        assert words in said
    told = json.loads((small / "l.json").read_text())
    assert told["integer"] and told["precision"] == "binary" and "rounding" not in told
    assert told["file_bytes"] <= 1.02 * told["model_bytes"] and told["flips"] <= 3
    rows = {row["name"]: row for row in told["instructions"]}
    assert rows["fc2"]["bits"] and rows["fc2"]["reach"] == 300 and rows["fc2"]["constant"] >= 0
    assert rows["fc3"]["codes"] is None and not rows["fc3"]["bits"]
    assert 0 <= rows["fc2"]["differ"] < 0.05
    found = {}
    for name in ("b", "p"):
        assert main(["eval", f"{name}.mcz", "--json", "e.json"]) == 0
        found[name] = json.loads((small / "e.json").read_text())["errors"]
    assert abs(found["p"] - found["b"]) <= told["flips"]
    capsys.readouterr()
    assert main(["show", "p.mcz"]) == 0
    assert "a program of precision binary\n" in capsys.readouterr().out
    np.save("x.npy", few.test.x[:3])
    for file in ("b.mcz", "p.mcz"):
        assert main(["trace", file, "--input", "x.npy", "--out", "t.npz"]) == 0
        with np.load("t.npz") as arrays:
            program = load("p.mcz")
            np.testing.assert_array_equal(arrays["logits"],
                                          program.plan(3).integers(few.test.x[:3]))
            assert set(np.unique(arrays["fc2.signs"])) == {-1, 1}
    assert main(["export", "p.mcz", "--c", "net"]) == 0
    assert "net_logits" in (small / "net/net.h").read_text()
