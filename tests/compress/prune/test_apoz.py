"""APoZ: the count by hand, the paper's rule, and where ReLUs stand."""

import numpy as np
import pytest

from minicomp.compress.channels.groups import groups
from minicomp.compress.prune.apoz import APoZ, apoz, measured, of_group, trimmed
from minicomp.compress.technique import Run
from minicomp.data.dataset import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP, DepthwiseNet32, LeNet5, LeNet5Classic
from minicomp.nn import Dense, Sigmoid


def dataset(rng, shape, n=300):
    split = Split(rng.standard_normal((n, *shape)).astype(np.float32), rng.integers(3, size=n))
    return Dataset("toy", split, split, None, ("0", "1", "2"), "rendered")


def test_count_by_hand():
    maps = np.array([[[[0.0, 1.0]], [[0.0, 0.0]]], [[[2.0, 0.0]], [[0.0, 3.0]]]])  # (2, 2, 1, 2)
    np.testing.assert_array_equal(apoz(maps), [0.5, 0.75])
    np.testing.assert_array_equal(apoz(np.array([[0.0, 1.0], [0.0, 2.0]])), [1.0, 0.0])


def test_rule_by_hand():
    zeros = np.array([0.5, 0.5, 0.5, 0.9])  # mean 0.6, deviation 0.173
    np.testing.assert_array_equal(trimmed(zeros, 1.0), [True, True, True, False])
    np.testing.assert_array_equal(trimmed(zeros, 2.0), [True] * 4)


def test_measured_over_batches_is_the_count_over_all():
    rng = np.random.default_rng(0)
    model, x = LeNet5Classic(rng=rng), rng.standard_normal((310, 1, 28, 28)).astype(np.float32)
    found = measured(model, x)
    assert list(found) == ["relu1", "relu2", "relu3", "relu4"]
    whole = model(x, taps=("relu2",))[1]["relu2"].data
    np.testing.assert_allclose(found["relu2"], (whole == 0).mean(axis=(0, 2, 3)), atol=1e-7)


def test_units_that_are_never_on_go_first():
    rng = np.random.default_rng(1)
    model, data = MLP([6, 10, 8, 3], rng=rng), dataset(rng, (6,))
    bias = np.zeros(10, np.float32)
    bias[[2, 7]] = -100
    model.set_form("fc1.bias", Dense(bias))
    small = APoZ(sparsity={"fc1": 0.2, "fc2": 0.0}, samples=200).apply(model, data, Run(rng))
    kept = np.delete(model.forms()["fc1.weight"].dense().data, [2, 7], axis=0)
    np.testing.assert_array_equal(small.forms()["fc1.weight"].dense().data, kept)
    np.testing.assert_allclose(small(data.val.x).data, model(data.val.x).data, atol=1e-6)
    by_rule = APoZ(deviations=1.5, samples=200).apply(model, data, Run(rng))
    np.testing.assert_array_equal(by_rule.forms()["fc1.weight"].dense().data, kept)
    assert model.shapes()["fc1"] == (10,)


def test_layers_without_a_relu_are_left_alone():
    rng = np.random.default_rng(2)
    small = APoZ(sparsity=0.5, samples=20).apply(
        LeNet5(rng=rng), dataset(rng, (1, 28, 28), 30), Run(rng))
    shapes = small.shapes()
    assert (shapes["conv1"][0], shapes["conv2"][0], shapes["fc1"][0]) == (20, 50, 250)


def test_tied_layers_count_every_relu():
    rng = np.random.default_rng(3)
    model = DepthwiseNet32(rng=rng)
    zeros = measured(model, rng.standard_normal((8, 3, 32, 32)).astype(np.float32))
    group = next(g for g in groups(model) if len(g.nodes) > 1)
    expected = np.mean(
        [zeros[n] for n in ("block2.pw_relu", "block3.dw_relu", "block3.pw_relu")], axis=0
    )
    np.testing.assert_allclose(of_group(group, zeros), expected)
    stem = next(
        g for g in groups(model) if g.nodes == ("stem",)
    )  # not tied: the first ReLU decides
    np.testing.assert_allclose(of_group(stem, zeros), zeros["stem_relu"])
    small = APoZ(sparsity=0.5, samples=8).apply(model, dataset(rng, (3, 32, 32), 10), Run(rng))
    assert small.shapes()["add"] == (64, 8, 8)


def test_what_is_refused():
    rng = np.random.default_rng(4)
    data = dataset(rng, (6,), 20)
    for model, knobs, message in (
        (
            MLP([6, 5, 3], rng=rng, activation=Sigmoid),
            {"samples": 9},
            "no layer whose channels pass a ReLU",
        ),
        (
            MLP([6, 5, 3], rng=rng),
            {"samples": 9, "sparsity": {"fc3": 0.5}},
            "sparsity@fc3 matches no layer",
        ),
        (
            MLP([6, 5, 3], rng=rng),
            {"samples": 9, "sparsity": 0.95},
            "would remove all 5 channels of fc1",
        ),
    ):
        with pytest.raises(UserError, match=message):
            APoZ(**knobs).apply(model, data, Run(rng))
