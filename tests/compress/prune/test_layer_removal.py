"""Removal of layers and residual branches: which are legal, and that the greedy choice is the "
"best one."""

import numpy as np
import pytest

from minicomp.codec import load, save
from minicomp.compress.prune.layer_removal import LayerRemoval, candidates
from minicomp.compress.technique import Run
from minicomp.data.dataset import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP, DepthwiseNet32, LeNet5
from minicomp.nn import Add, BatchNorm2d, Conv2d, Dense, Flatten, Linear, Model, Node, ReLU, chain
from minicomp.train import evaluate


def dataset(rng, shape, n=200):
    split = Split(rng.standard_normal((n, *shape)).astype(np.float32), rng.integers(3, size=n))
    return Dataset("toy", split, split, None, ("0", "1", "2"), "rendered")


def taught(rng, model, n=200):
    # Labels are the model's own answers, far from the border: removal can only raise the loss.
    x = rng.standard_normal((4 * n, *model.input_shape)).astype(np.float32)
    z = np.sort(model(x).data, axis=1)
    x = x[np.argsort(z[:, -2] - z[:, -1])[:n]]
    split = Split(x, model(x).data.argmax(axis=1))
    return Dataset("toy", split, split, None, ("0", "1", "2"), "rendered")


def residual(rng, blocks=3, quiet=()):
    # A stem, residual blocks of two convolutions each, a head; the branches in `quiet` output 0.
    nodes, last = list(chain(("stem", Conv2d(1, 4, 3, padding=1)))), "stem"
    for b in range(1, blocks + 1):
        nodes += [
            Node(f"b{b}.conv1", Conv2d(4, 6, 3, padding=1), (last,)),
            Node(f"b{b}.bn", BatchNorm2d(6), (f"b{b}.conv1",)),
            Node(f"b{b}.relu", ReLU(), (f"b{b}.bn",)),
            Node(f"b{b}.conv2", Conv2d(6, 4, 1), (f"b{b}.relu",)),
            Node(f"b{b}.add", Add(), (last, f"b{b}.conv2")),
        ]
        last = f"b{b}.add"
    nodes += [Node("flat", Flatten(), (last,)), Node("fc", Linear(64, 3), ("flat",))]
    model = Model(nodes, input_shape=(1, 4, 4))
    for name, form in model.forms().items():
        w = 0.3 * rng.standard_normal(form.shape)
        w *= not any(name.startswith(f"b{b}.conv2") for b in quiet)
        model.set_form(name, Dense(w.astype(np.float32)))
    return model


def test_candidates_of_a_residual_net():
    model = residual(np.random.default_rng(0), 2)
    found = candidates(model)
    assert set(found) == {"b1.add.1", "b2.add.1"}
    assert [n.name for n in found["b1.add.1"].nodes] == [
        "stem",
        "b2.conv1",
        "b2.bn",
        "b2.relu",
        "b2.conv2",
        "b2.add",
        "flat",
        "fc",
    ]
    assert found["b1.add.1"].node("b2.add").inputs == ("stem", "b2.conv2")


def test_candidates_need_equal_shapes():
    assert set(candidates(MLP([8, 8, 8, 5, 5, 3]))) == {"fc1", "fc2", "fc4"}
    assert set(candidates(MLP([8, 8, 8]))) == {"fc1"}  # the last layer computes the classes
    assert candidates(LeNet5()) == {}
    found = candidates(DepthwiseNet32())
    assert set(found) == {"block1.dw", "block3.dw", "block3.pw", "add.1"}
    for smaller in found.values():
        assert smaller(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 10)
    assert "fc1" not in [n.name for n in candidates(MLP([8, 8, 8, 5, 5, 3]))["fc1"].nodes]


def test_a_branch_that_outputs_0_goes_first_and_nothing_changes():
    rng = np.random.default_rng(1)
    model, rows = residual(rng, 3, quiet=(2,)), []
    data = taught(rng, model)
    small = LayerRemoval(samples=100).apply(model, data, Run(rng, log=rows.append))
    assert rows[-1]["layer"] == "b2.add.1" and rows[-1]["rise"] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(small(data.val.x).data, model(data.val.x).data, atol=1e-6)
    assert len(small.nodes) == len(model.nodes) - 5 and small.origin_bytes == model.dense_bytes()


def test_each_step_is_the_best_of_all():
    rng = np.random.default_rng(2)
    model, data, rows = residual(rng, 4), dataset(rng, (1, 4, 4)), []
    small = LayerRemoval(blocks=2, samples=200).apply(model, data, Run(rng, log=rows.append))
    at = model
    for row in [r for r in rows if r["event"] == "removed"]:
        losses = {name: evaluate(m, data.train).loss for name, m in candidates(at).items()}
        assert row["layer"] == min(losses, key=losses.get)
        assert row["loss"] == pytest.approx(min(losses.values()), rel=1e-5)
        at = candidates(at)[row["layer"]]
    np.testing.assert_array_equal(small(data.val.x).data, at(data.val.x).data)


def test_max_rise_stops_the_search():
    rng = np.random.default_rng(3)
    model = residual(rng, 3, quiet=(1,))
    data = taught(rng, model)
    small = LayerRemoval(blocks=3, max_rise=1e-6, samples=100).apply(model, data, Run(rng))
    assert [n.name for n in small.nodes if n.name.endswith("add")] == ["b2.add", "b3.add"]


def test_a_shorter_model_saves_and_loads(tmp_path):
    rng = np.random.default_rng(4)
    model, data = residual(rng, 3), dataset(rng, (1, 4, 4))
    small = LayerRemoval(blocks=2, samples=50).apply(model, data, Run(rng))
    save(small, tmp_path / "small.mcz")
    np.testing.assert_array_equal(
        load(tmp_path / "small.mcz")(data.val.x).data, small(data.val.x).data
    )


def test_what_is_refused():
    rng = np.random.default_rng(5)
    data = dataset(rng, (1, 28, 28), 20)
    model = LeNet5(rng=rng)
    with pytest.raises(UserError, match="0 of 1 layers removed, and none of the others can be"):
        LayerRemoval(samples=10).apply(model, data, Run(rng))
    with pytest.raises(UserError, match="1 of 2 layers removed, and none"):
        LayerRemoval(blocks=2, samples=10).apply(
            residual(rng, 1), dataset(rng, (1, 4, 4)), Run(rng))
