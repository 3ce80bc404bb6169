"""Filter pruning by norm: counts, ties between layers, and what folding keeps."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.channels.groups import groups
from minicomp.compress.prune.filters import Filters, filter_norms, group_norms
from minicomp.compress.channels.choosing import emptied, without_units
from minicomp.compress.finetune import FineTune
from minicomp.compress.technique import Run
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP, MODELS, DepthwiseNet32
from minicomp.nn import Conv2d, Dense, Flatten, Linear, MaxPool2d, Model, ReLU, Sigmoid, chain
from minicomp.nn.init import he_normal
from minicomp.train import evaluate


def images(rng, n=600):
    # Four classes of 8 x 8 images: a bar, lying, standing, or on one of the diagonals, under noise.
    y, x = rng.integers(4, size=n), 0.4 * rng.standard_normal((n, 1, 8, 8)).astype(np.float32)
    i = np.arange(8)
    bars = [np.zeros((8, 8), np.float32) for _ in range(4)]
    bars[0][3, :], bars[1][:, 4], bars[2][i, i], bars[3][i, 7 - i] = 1, 1, 1, 1
    for k in range(n):
        x[k, 0] += np.roll(bars[y[k]], tuple(rng.integers(-2, 3, size=2)), axis=(0, 1))
    half = n // 2
    return SimpleNamespace(
        train=Split(x[:half], y[:half]), val=Split(x[half:], y[half:])
    )


def conv_net(rng, c=12):
    nodes = chain(
        ("conv1", Conv2d(1, c, 3, padding=1)),
        ("relu1", ReLU()),
        ("pool", MaxPool2d(2)),
        ("conv2", Conv2d(c, c, 3)),
        ("relu2", ReLU()),
        ("flat", Flatten()),
        ("fc", Linear(4 * c, 4)),
    )
    model = Model(nodes, input_shape=(1, 8, 8))
    for name, form in model.forms().items():
        if len(form.shape) > 1:
            model.set_form(name, Dense(he_normal(form.shape, rng=rng)))
    return model


def test_norms_by_hand():
    w = np.array([[[[1.0, -2.0], [3.0, 0.0]]], [[[-1.0, 0.0], [0.0, 0.0]]]], np.float32)
    np.testing.assert_array_equal(filter_norms(w), [6, 1])
    np.testing.assert_allclose(filter_norms(w, 2), [14**0.5, 1])


def test_the_filter_of_least_norm_goes():
    model = MLP([2, 3, 2])
    model.set_form("fc1.weight", Dense(np.float32([[3, 3], [0.1, -0.2], [1, 1]])))
    small = Filters(sparsity=1 / 3).apply(model, None, Run(None))
    np.testing.assert_array_equal(small.forms()["fc1.weight"].dense().data, [[3, 3], [1, 1]])
    assert model.forms()["fc1.weight"].shape == (3, 2)


@given(st.floats(0, 0.93), st.integers(0, 2**32 - 1))
def test_exactly_the_fraction_goes(sparsity, seed):
    rng = np.random.default_rng(seed)
    model = MLP([5, 11, 8, 3], rng=rng)
    small = Filters(sparsity=sparsity).apply(model, None, Run(rng))
    assert small.shapes()["fc1"] == (11 - round(sparsity * 11),)
    assert small.shapes()["fc2"] == (8 - round(sparsity * 8),)


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_library(name, scope, built_in):
    rng = np.random.default_rng(0)
    model = built_in(name, rng=rng)
    rows = []
    small = Filters(sparsity=0.5, scope=scope).apply(model, None, Run(rng, log=rows.append))
    gone, most = sum(rows[-1]["units"].values()), round(0.5 * sum(g.size for g in groups(model)))
    # fewer where groups and shuffles demand equal parts
    assert 0.6 * most < gone <= most if any(g.splits for g in groups(model)) else gone == most
    assert small.count() == model.count() - rows[-1]["weights"]
    assert small(np.zeros((1, *model.input_shape), np.float32)).shape == (1, 10)


def test_tied_layers_lose_the_same_filters_by_the_sum_of_their_norms():
    model = DepthwiseNet32(rng=np.random.default_rng(0))
    group = next(g for g in groups(model) if g.nodes == ("block2.pw", "block3.pw"))
    norms = [filter_norms(model.forms()[f"{n}.weight"].dense().data) for n in group.nodes]
    np.testing.assert_allclose(group_norms(model, group), norms[0] + norms[1])
    small = Filters(sparsity={"*": 0.0, "block[23].pw": 0.25}).apply(model, None, Run(None))
    stays = np.sort(np.argsort(norms[0] + norms[1], kind="stable")[32:])
    np.testing.assert_array_equal(
        small.forms()["block3.pw.weight"].dense().data[:, :, 0, 0],
        model.forms()["block3.pw.weight"].dense().data[stays][:, stays, 0, 0],
    )


def test_global_scope_keeps_the_best_unit_of_a_layer_that_would_go_whole():
    model = MLP([4, 5, 6, 2], rng=np.random.default_rng(0))
    for name, best in (("fc1", 3), ("fc2", 1)):
        w = np.ones(model.forms()[f"{name}.weight"].shape, np.float32)
        w[best] += 0.5
        model.set_form(f"{name}.weight", Dense(w))
    small = Filters(sparsity=0.8, scope="global").apply(model, None, Run(None))
    assert small.shapes()["fc1"] == (1,) and small.shapes()["fc2"] == (1,)
    np.testing.assert_array_equal(small.forms()["fc1.weight"].dense().data, np.full((1, 4), 1.5))
    with pytest.raises(
        UserError,
        match="sparsity 0.9 would remove all channels of a layer; at least one of each must",
    ):
        Filters(sparsity=0.9, scope="global").apply(model, None, Run(None))


def test_global_scope_does_not_depend_on_the_scale_of_a_layer():
    model = MLP([4, 9, 7, 2], rng=np.random.default_rng(1))
    scaled = model.copy()
    scaled.set_form("fc1.weight", Dense(100 * model.forms()["fc1.weight"].dense().data))
    a, b = (
        Filters(sparsity=0.5, scope="global").apply(m, None, Run(None)) for m in (model, scaled)
    )
    assert a.shapes() == b.shapes() and a.shapes()["fc1"] != (9,)


def test_threshold_removes_units_up_to_it():
    model = MLP([2, 4, 2])
    model.set_form("fc1.weight", Dense(np.float32([[1, 1], [0.5, 0], [0, 2], [3, 0]])))
    small = Filters(threshold=2.0).apply(model, None, Run(None))
    np.testing.assert_array_equal(small.forms()["fc1.weight"].dense().data, [[3, 0]])


@pytest.mark.parametrize("activation", [ReLU, Sigmoid])
def test_folding_keeps_what_the_biases_did(activation):
    # With fold the net equals the one whose removed rows are 0 and whose biases are there (C9).
    rng = np.random.default_rng(1)
    model = MLP([6, 9, 7, 3], rng=rng, activation=activation)
    for name in ("fc1.bias", "fc2.bias", "fc3.bias"):
        model.set_form(
            name, Dense(rng.standard_normal(model.forms()[name].shape).astype(np.float32))
        )
    x = rng.standard_normal((20, 6)).astype(np.float32)
    small = Filters(sparsity=0.5, fold=True).apply(model, None, Run(rng))
    chosen = [
        (g, np.argsort(np.argsort(group_norms(model, g))) >= round(0.5 * g.size))
        for g in groups(model)
    ]
    np.testing.assert_allclose(small(x).data, emptied(model, chosen)(x).data, atol=1e-5)
    assert (
        np.abs(Filters(sparsity=0.5).apply(model, None, Run(rng))(x).data - small(x).data).max()
        > 0.01
    )


def test_small_filters_matter_less_than_large_ones():
    # Li et al., figure 6: on a trained net, removing the smallest beats removing the largest.
    rng = np.random.default_rng(2)
    data = images(rng)
    model = FineTune(epochs=12, lr=0.02, batch_size=20).apply(conv_net(rng), data, Run(rng))
    dense = evaluate(model, data.val).error
    assert dense < 0.1
    smallest = Filters(sparsity=0.4).apply(model, data, Run(rng))
    largest = removed_largest(model)
    assert smallest.count() == largest.count()
    assert evaluate(smallest, data.val).errors < 0.7 * evaluate(largest, data.val).errors


def removed_largest(model):
    chosen = []
    for group in groups(model):
        order = np.argsort(-group_norms(model, group), kind="stable")
        kept = np.ones(group.size, bool)
        kept[order[: round(0.4 * group.size)]] = False
        chosen.append((group, kept))
    return without_units(model, chosen)


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({}, "exactly one of sparsity and threshold must be given, got none"),
        ({"sparsity": 0.5, "threshold": 1.0}, "exactly one of .*got sparsity and threshold"),
        (
            {"sparsity": {"fc*": 0.5}, "scope": "global"},
            "scope global needs one sparsity for all layers",
        ),
    ],
)
def test_wrong_knobs(knobs, message):
    with pytest.raises(UserError, match=message):
        Filters(**knobs)


@pytest.mark.parametrize(
    "knobs, message",
    [
        (
            {"sparsity": 0.99},
            "sparsity 0.99 would remove all 3 channels of fc1; at least one must stay",
        ),
        (
            {"threshold": 1e9},
            r"threshold 1e\+09 would remove all 3 channels of fc1; their norms reach",
        ),
        (
            {"sparsity": {"conv*": 0.5}},
            r"sparsity@conv\* matches no layer whose channels can be removed; there are fc1",
        ),
        (
            {"sparsity": {"fc2": 0.5}},
            "sparsity@fc2 matches no layer whose channels can be removed; there are fc1",
        ),
    ],
)
def test_what_a_model_does_not_allow(knobs, message):
    model = MLP([2, 3, 2], rng=np.random.default_rng(0))
    with pytest.raises(UserError, match=message):
        Filters(**knobs).apply(model, None, Run(None))


def test_nan_and_differing_sparsities_of_tied_layers_are_refused():
    model = MLP([2, 3, 2], rng=np.random.default_rng(0))
    model.forms()["fc1.weight"].value.data[1, 0] = np.nan
    with pytest.raises(UserError, match="filters: fc1.weight must hold finite numbers"):
        Filters(sparsity=0.4).apply(model, None, Run(None))
    with pytest.raises(
        UserError,
        match="sparsity must be one value for the layers tied together, got 0.2 for block2.pw, 0.4",
    ):
        Filters(sparsity={"block2.pw": 0.2, "block3.pw": 0.4}).apply(
            DepthwiseNet32(rng=np.random.default_rng(0)), None, Run(None)
        )
    with pytest.raises(UserError, match="the model has no layer whose channels can be removed"):
        Filters(sparsity=0.5).apply(MLP([3, 2]), None, Run(None))
