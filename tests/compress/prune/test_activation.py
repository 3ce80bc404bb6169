"""Sparse activations: the layers by hand, the threshold that gives a sparsity, and what is "
"measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minicomp import Tensor
from minicomp.codec import encode, load, save
from minicomp.compress.prune.activation import SparseActivations, threshold_for
from minicomp.compress.finetune import FineTune
from minicomp.compress.technique import Run
from minicomp.data.dataset import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP, LeNet5Classic
from minicomp.nn import ActThreshold, ActTopK
from minicomp.nn.taps import observe


def zero_fractions(model, x):
    names = [n.name for n in model.nodes if n.layer.pointwise or n.layer.kind == "ActTopK"]
    (seen,) = observe(model, x, names)
    return {name: np.mean(a == 0) for name, a in seen.items()}


def dataset(rng, shape, n=200):
    split = Split(rng.standard_normal((n, *shape)).astype(np.float32), rng.integers(3, size=n))
    return Dataset("toy", split, split, None, ("0", "1", "2"), "rendered")


def test_layers_by_hand():
    x = Tensor(np.float32([[0.5, -2, 1, -1, 0]]), True)
    np.testing.assert_array_equal(ActThreshold(1.0)(x).data, [[0, -2, 1, -1, 0]])
    np.testing.assert_array_equal(ActTopK(2)(x).data, [[0, -2, 1, 0, 0]])  # of equals the first
    np.testing.assert_array_equal(ActTopK(9)(x).data, x.data)
    (ActTopK(2)(x) * np.float32([1, 2, 3, 4, 5])).sum().backward()
    np.testing.assert_array_equal(x.grad, [[0, 2, 3, 0, 0]])


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
        elements=st.floats(-3, 3, width=32),
    ),
    st.integers(1, 50),
)
def test_top_k_keeps_the_largest_of_each_example(x, k):
    y = ActTopK(k)(Tensor(x)).data
    for a, b in zip(x.reshape(len(x), -1), y.reshape(len(x), -1)):
        order = np.argsort(-np.abs(a), kind="stable")[:k]
        np.testing.assert_array_equal(b[order], a[order])
        assert not np.delete(b, order).any()


@given(
    hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-3, 3, width=32)),
    st.floats(0, 0.99),
)
def test_threshold_gives_at_least_the_sparsity(a, sparsity):
    t, count = threshold_for(a, sparsity), round(sparsity * a.size)
    zeros = np.count_nonzero(np.abs(a) < np.float32(t))
    largest = np.sort(np.abs(a))[count - 1] if count else -1
    assert zeros >= count and zeros == np.count_nonzero(np.abs(a) <= largest)


def test_sparsity_is_reached_on_every_activation():
    rng = np.random.default_rng(0)
    model, data = LeNet5Classic(rng=rng), dataset(rng, (1, 28, 28), 60)
    made = SparseActivations(sparsity=0.9, samples=60).apply(model, data, Run(rng))
    found = zero_fractions(made, data.train.x)
    for i in (1, 2, 3, 4):
        assert 0.9 <= found[f"relu{i}.sparse"] < 0.93
        assert found[f"relu{i}"] < 0.9
    assert "relu1.sparse" not in [n.name for n in model.nodes]
    top = SparseActivations(top=0.25).apply(model, data, Run(rng))
    assert zero_fractions(top, data.train.x)["relu3.sparse"] == 0.75


def test_the_net_trains_on_and_saves_and_is_no_smaller(tmp_path):
    rng = np.random.default_rng(2)
    data, model = dataset(rng, (5,)), MLP([5, 8, 6, 3], rng=rng)
    made = SparseActivations(threshold=0.3).apply(model, data, Run(rng))
    tuned = FineTune(epochs=2).apply(made, data, Run(rng))
    assert not np.array_equal(
        tuned.forms()["fc1.weight"].dense().data, model.forms()["fc1.weight"].dense().data
    )
    save(tuned, tmp_path / "a.mcz")
    back = load(tmp_path / "a.mcz")
    np.testing.assert_array_equal(back(data.val.x).data, tuned(data.val.x).data)
    assert back.node("act1.sparse").layer.threshold == 0.3
    assert len(encode(made)) >= len(encode(model))


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({}, "exactly one of threshold, sparsity and top must be given, got none"),
        ({"top": 0.5, "sparsity": 0.5}, "got sparsity and top"),
    ],
)
def test_wrong_knobs(knobs, message):
    with pytest.raises(UserError, match=message):
        SparseActivations(**knobs)


def test_what_is_refused():
    rng = np.random.default_rng(3)
    data = dataset(rng, (5,), 20)
    with pytest.raises(UserError, match=r"the model has no activation \(ReLU"):
        SparseActivations(top=0.5).apply(MLP([5, 3], rng=rng), data, Run(rng))
    for bad in (lambda: ActThreshold(-1.0), lambda: ActThreshold(float("nan")), lambda: ActTopK(0)):
        with pytest.raises(ValueError, match="must be"):
            bad()
