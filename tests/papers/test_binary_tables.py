"""The tables of binary and ternary nets: when a row is met, what a file holds, and what runs."""

from dataclasses import replace

import numpy as np
import pytest

import minicomp
from minicomp.compress.finetune import FineTune
from minicomp.compress.technique import Run
from minicomp.data.dataset import Dataset, Split
from minicomp.models.papers import BinaryConnectMLP, BinaryLeNet5
from minicomp.nn.forms import Affine, Binary, Dense
from minicomp.papers import (PAPERS, binary_connect2015, binary_lenet5, bnn2016, files, ternary2016,
                             xnor2016)
from minicomp.papers.files import Files
from minicomp.quality import Agreement

RNG = np.random.default_rng


def digits(n=40):
    rng = RNG(0)
    split = Split(rng.random((n, 1, 28, 28), np.float32), np.arange(n) % 10)
    return Dataset("digits", split, split, split, tuple("0123456789"))


def noted(tmp_path, images=10_000, **kinds):
    # Files of two seeds, one error less and one more than asked for, of (errors, bytes).
    data = replace(digits(), test=Split(np.zeros((images, 1), np.float32),
                                         np.zeros(images, np.int64)))
    made = Files(data, tmp_path, "t")
    for kind, (wrong, size) in kinds.items():
        for d in (-1, 1):
            made.add(kind, size + 100 * d, wrong + d, Agreement(20 + d, images, 0.5))
    return made


def met(module, tmp_path, **kinds):
    return [row["met"] for row in module.table(noted(tmp_path, **kinds))]


def test_a_row_says_errors_bytes_and_flips_of_its_first_kind(tmp_path):
    row = noted(tmp_path, a=(120, 61_000), b=(90, 500)).row("title", "1 %", True, "a", "b")
    assert row["ours"] == ("a 1.20 % (1.19..1.21), 61,000 bytes; b 0.90 % (0.89..0.91), 500 bytes; "
                           "0.20 % flipped, KL 0.5")
    assert row["errors"] == {"a": [119, 121], "b": [89, 91]}
    assert row["file_bytes"] == {"a": [60_900, 61_100], "b": [400, 600]} and row["met"] is True


@pytest.mark.parametrize("more, want", [
    ({}, [True] * 6),
    ({"deterministic": (151, 1000)}, [True, False, True, True, True, True]),
    ({"anew": (141, 1000)}, [True, True, False, True, True, True]),
    ({"stochastic": (141, 1000)}, [True, True, True, False, True, True]),
    ({"signs": (141, 1000), "mean": (141, 1000)}, [True, True, True, True, False, False]),
])
def test_drawn_signs_must_not_be_worse_than_those_of_the_weights(tmp_path, more, want):
    kinds = dict.fromkeys(("floats", "deterministic", "anew", "stochastic", "signs", "mean"),
                          (140, 1000))
    assert met(binary_connect2015, tmp_path, **kinds | more) == want


def test_both_nets_of_signs_have_a_goal(tmp_path):
    assert met(bnn2016, tmp_path, floats=(90, 10), signs=(180, 10), shifts=(181, 10)) == [
        True, True, False]


def test_every_way_to_read_inputs_has_a_goal(tmp_path):
    kinds = dict.fromkeys(("floats", "real", "signs", "scaled"), (150, 10)) | {"signs": (151, 10)}
    assert met(xnor2016, tmp_path, **kinds) == [True, True, False, True]
    layers = {}
    for kind, technique in xnor2016.TECHNIQUES.items():
        made = replace(technique, epochs=0).apply(BinaryLeNet5(hidden=12, rng=RNG(0)), None,
                                                  Run(RNG(0)))
        layers[kind] = [n.name for n in made.nodes if n.layer.kind == "InputScale"]
    assert layers == {"real": [], "signs": [], "scaled": ["conv2_scale", "fc1_scale"]}


@pytest.mark.parametrize("module, kinds, limits", [
    (binary_lenet5, ("bits", "cut"), (62_000, 30_000)),
    (ternary2016, ("twn", "ttq", "pruned"), (85_000, 85_000, 60_000)),
])
def test_errors_and_bytes_both_count(tmp_path, module, kinds, limits):
    most = round(100 * module.ERROR)
    fine = {"floats": (50, 9)} | {k: (most, n) for k, n in zip(kinds, limits)}
    assert all(met(module, tmp_path, **fine))
    for i, (kind, n) in enumerate(zip(kinds, limits), start=1):
        for bad in ((most + 1, n), (most, n + 1)):
            found = met(module, tmp_path, **fine | {kind: bad})
            assert [j for j, ok in enumerate(found) if not ok] == [i]


def bits(hidden=12):
    # A net of signs whose batch norms do something, some of them with negative gains.
    net = BinaryLeNet5(hidden=hidden, rng=RNG(0))
    made = replace(binary_lenet5.SIGNS, epochs=0).apply(net, None, Run(None))
    rng = RNG(1)
    for node in made.nodes:
        if hasattr(node.layer, "gain_and_bias"):
            n = node.layer.num_features
            made.set_forms({f"{node.name}.weight": Dense(rng.standard_normal(n).astype(np.float32)),
                            f"{node.name}.bias": Dense(rng.standard_normal(n).astype(np.float32))})
            node.layer.buffers["running_mean"][...] = rng.normal(0, 0.1, n)
            node.layer.buffers["running_var"][...] = rng.uniform(0.5, 2, n)
    return made


def test_batch_norms_become_thresholds_whatever_the_sign_of_their_gains():
    net, x = bits(), digits().test.x
    made = binary_lenet5.thresholds(net)
    assert [n.name for n in made.nodes if "bn" in n.name] == []
    np.testing.assert_allclose(made(x).data, net(x).data, atol=1e-4)
    assert type(made.forms()["conv2.weight"]) is type(made.forms()["fc1.weight"]) is Binary
    signs = [np.unique(np.abs(f.forms()["fc1.weight"].dense().data)) for f in (made, net)]
    np.testing.assert_array_equal(*signs)


def test_a_program_of_bits_has_8_bits_in_the_first_and_last_layer_and_a_bit_elsewhere(tmp_path):
    data, net = digits(), bits()
    program = binary_lenet5.in_bits(net, data, RNG(2))
    forms = program.forms()
    assert {n: type(forms[f"{n}.weight"]) for n in ("conv1", "conv2", "fc1", "fc2")} == {
        "conv1": Affine, "conv2": Binary, "fc1": Binary, "fc2": Affine}
    assert forms["conv1.weight"].bits == forms["fc2.weight"].bits == 8
    minicomp.save(program, tmp_path / "p.mcz")
    x = data.test.x
    np.testing.assert_array_equal(minicomp.load(tmp_path / "p.mcz")(x), program(x))


def test_the_nets_have_the_sizes_of_their_names():
    def sizes(net):
        return [f.shape for n, f in net.forms().items() if len(f.shape) > 1]

    net = BinaryConnectMLP(rng=RNG(0))
    assert sizes(net) == [(1024, 784), (1024, 1024), (1024, 1024), (10, 1024)]
    assert net.nodes[-1].name == "bn4"
    assert sizes(BinaryLeNet5(rng=RNG(0))) == [(20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500)]
    w = net.forms()["fc1.weight"].dense().data
    assert np.abs(w).max() == pytest.approx((1.5 / 1808) ** 0.5, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("module, rows", [(binary_connect2015, 6), (bnn2016, 3),
                                          (binary_lenet5, 3), (ternary2016, 4), (xnor2016, 4)])
def test_a_table_runs_from_nets_to_rows(tmp_path, monkeypatch, module, rows):
    monkeypatch.setattr(files, "file_errors", lambda model, path, name: (minicomp.save(model, path),
                                                                         7))
    for name in ("FLOATS", "SIGNS"):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, replace(getattr(module, name), epochs=1))
    if hasattr(module, "TECHNIQUES"):
        one = {word: replace(technique, epochs=1) for word, technique in module.TECHNIQUES.items()
               if isinstance(technique, FineTune)}
        monkeypatch.setattr(module, "TECHNIQUES", module.TECHNIQUES | one)
    found = module.PAPER.run(digits(), seeds=(3,), log=lambda row: None, n_threads=1,
                             out=tmp_path)
    assert len(found) == rows and module.PAPER is PAPERS[module.PAPER.name]
    for row in found:
        assert all(e == [7] for kind, e in row["errors"].items() if kind != "mean")
        assert row["seconds"] > 0 and all(len(b) == 1 for b in row["file_bytes"].values())
