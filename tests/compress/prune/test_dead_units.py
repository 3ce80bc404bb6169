"""Dead units: both directions, constants folded, outputs the same."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.codec import encode, load, save
from minicomp.compress.channels.constants import constants, needed, removable
from minicomp.compress.prune.dead_units import DeadUnits, dead_units
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.technique import Run
from minicomp.models import MLP, MODELS
from minicomp.nn import (
    ActTopK,
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Codebook,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    Linear,
    MaxPool2d,
    Model,
    Node,
    ReLU,
    ReLU6,
    Sigmoid,
    Tanh,
    chain,
)


def drawn(model, rng, sparsity=0.0):
    # Random weights of that sparsity, masked; random biases, shifts and statistics.
    for name, form in model.forms().items():
        w = rng.standard_normal(form.shape).astype(np.float32)
        mask = rng.random(form.shape) >= sparsity if len(form.shape) > 1 else None
        model.set_form(name, Dense(w, mask))
    for name, a in model.buffers().items():
        a[...] = rng.uniform(0.5, 1.5, a.shape)
    return model


def alive(model):
    rows = []
    small = DeadUnits().apply(model, None, Run(None, log=rows.append))
    return small, rows[-1]["units"]


def assert_same(model, rng, atol=1e-5):
    small, gone = alive(model)
    x = rng.standard_normal((6, *model.input_shape)).astype(np.float32)
    np.testing.assert_allclose(small(x).data, model(x).data, atol=atol, rtol=1e-5)
    again, _ = alive(small)
    assert again.count() == small.count()
    return small, gone


# --------------------------------------------------------------------------------------- by hand


def test_constant_unit_by_hand():
    # fc1's unit 1 has no inputs: sigmoid(b) = sigmoid(2) goes into both biases of fc2.
    model = MLP([2, 3, 2], activation=Sigmoid)
    w1, b1 = np.float32([[1, 2], [0, 0], [3, 4]]), np.float32([0.5, 2, -1])
    w2, b2 = np.float32([[1, 10, 2], [3, -20, 4]]), np.float32([0.1, 0.2])
    for name, a in (("fc1.weight", w1), ("fc1.bias", b1), ("fc2.weight", w2), ("fc2.bias", b2)):
        model.set_form(name, Dense(a))
    small, gone = alive(model)
    f = 1 / (1 + np.exp(-2))
    assert gone == {"fc1": 1}
    np.testing.assert_allclose(
        small.forms()["fc2.bias"].dense().data, [0.1 + 10 * f, 0.2 - 20 * f], rtol=1e-6
    )
    np.testing.assert_array_equal(small.forms()["fc2.weight"].dense().data, w2[:, [0, 2]])
    np.testing.assert_array_equal(model.forms()["fc2.bias"].dense().data, b2)  # untouched


def test_unread_unit_takes_what_only_it_reads():
    # fc2's unit 0 is read by nobody; fc1's unit 1 is read by fc2's unit 0 only.
    model = drawn(MLP([3, 3, 2, 2]), np.random.default_rng(0))
    w2, w3 = np.float32([[1, 2, 3], [4, 0, 5]]), np.float32([[0, 1], [0, 2]])
    model.set_form("fc2.weight", Dense(w2))
    model.set_form("fc3.weight", Dense(w3))
    _, gone = assert_same(model, np.random.default_rng(1), atol=0)
    assert gone == {"fc1": 1, "fc2": 1}


def test_chain_of_constants():
    # fc1 is constant whole, so fc2 is, so the net is: one unit of each layer is left, outputs are
    # the same.
    rng = np.random.default_rng(0)
    model = drawn(MLP([3, 4, 5, 2], activation=Tanh), rng)
    model.set_form("fc1.weight", Dense(np.zeros((4, 3), np.float32)))
    _, gone = assert_same(model, rng)
    assert gone == {"fc1": 3, "fc2": 4}


# --------------------------------------------------------------------------------- brute force


@given(
    st.lists(st.integers(1, 4), min_size=3, max_size=5),
    st.floats(0.2, 0.8),
    st.integers(0, 2**32 - 1),
)
def test_alive_is_on_a_path_from_an_input_to_an_output(sizes, density, seed):
    rng = np.random.default_rng(seed)
    masks = [rng.random((o, i)) < density for i, o in zip(sizes, sizes[1:])]
    found = dead_units(masks)
    expected = [np.zeros(n, bool) for n in sizes]
    for path in itertools.product(*map(range, sizes)):
        if all(m[b, a] for m, a, b in zip(masks, path, path[1:])):
            for layer, unit in enumerate(path):
                expected[layer][unit] = True
    for a, b in zip(found[1:-1], expected[1:-1]):
        np.testing.assert_array_equal(a, b)


@given(
    st.lists(st.integers(2, 6), min_size=3, max_size=5),
    st.floats(0.1, 0.7),
    st.integers(0, 2**32 - 1),
)
def test_the_graph_agrees_with_the_chain(sizes, density, seed):
    rng = np.random.default_rng(seed)
    model = drawn(MLP(sizes), rng, 1 - density)
    masks = [f.mask for f in model.forms().values() if f.mask is not None]
    layers = dead_units(masks)[1:-1]
    _, gone = assert_same(model, rng, atol=1e-4)
    for (name, n), layer in zip(gone.items(), layers):
        assert n == min((~layer).sum(), len(layer) - 1), name


@pytest.mark.parametrize("activation", [ReLU, ReLU6, Sigmoid, Tanh])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.95])
def test_mlps(activation, sparsity):
    rng = np.random.default_rng(3)
    model = drawn(MLP([20, 30, 20, 5], activation=activation), rng, sparsity)
    _, gone = assert_same(model, rng, atol=1e-4)
    assert sparsity < 0.9 or sum(gone.values()) > 5


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] * (name in ("shufflenet", "xception")))
    for name in MODELS])
def test_every_model_of_the_library(name, built_in):
    rng = np.random.default_rng(4)
    model = Magnitude(sparsity=0.98).apply(drawn(built_in(name), rng), None, Run(rng))
    model = model.copy()
    for n, form in model.forms().items():  # outputs of about 1, so that 1e-5 means something
        if len(form.shape) > 1:
            model.set_form(
                n, Dense(form.dense().data / np.sqrt(np.prod(form.shape[1:]) * 0.02 + 1), form.mask)
            )
    small, gone = assert_same(model, rng)
    assert sum(gone.values()) > 0
    assert len(encode(small)) < 0.8 * len(encode(model))


def padded(rng, padding, bias):
    nodes = chain(
        ("conv1", Conv2d(2, 3, 3, padding=1)),
        ("bn", BatchNorm2d(3)),
        ("act", Sigmoid()),
        ("pool", MaxPool2d(2)),
        ("conv2", Conv2d(3, 4, 3, padding=padding, bias=bias)),
        ("avg", AdaptiveAvgPool2d(1)),
        ("flat", Flatten()),
        ("fc", Linear(4, 3)),
    )
    model = drawn(Model(nodes, input_shape=(2, 6, 6)), rng)
    w = model.forms()["conv1.weight"].dense().data.copy()
    w[1] = 0
    model.set_form("conv1.weight", Dense(w))
    return model


@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_map_is_folded_through_batch_norm_and_pool(bias):
    rng = np.random.default_rng(5)
    small, gone = assert_same(padded(rng, 0, bias), rng)
    assert gone == {"conv1": 1, "conv2": 0}
    assert "bias" in small.node("conv2").layer.forms


def test_a_padded_reader_sees_the_border_so_the_map_stays():
    rng = np.random.default_rng(5)
    _, gone = assert_same(padded(rng, 1, True), rng)
    assert gone == {"conv1": 0, "conv2": 0}


def test_a_padded_reader_lets_a_zero_map_go():
    rng = np.random.default_rng(5)
    model = padded(rng, 1, True).edit({"act": (Node("act", ReLU(), ("bn",)),)})
    model.set_form("bn.weight", Dense(np.float32([1, 0, 1])))
    model.set_form("bn.bias", Dense(np.float32([1, -1, 1])))
    _, gone = assert_same(model, rng)
    assert gone == {"conv1": 1, "conv2": 0}


def test_average_pooling_that_counts_padding_is_not_constant():
    nodes = chain(
        ("conv", Conv2d(1, 2, 1)),
        ("pool", AvgPool2d(3, 1, 1)),
        ("out", Conv2d(2, 2, 1)),
        ("flat", Flatten()),
    )
    rng = np.random.default_rng(6)
    model = drawn(Model(nodes, input_shape=(1, 4, 4)), rng)
    model.set_form("conv.weight", Dense(np.float32([[[[1]]], [[[0]]]])))
    _, gone = assert_same(model, rng)
    assert gone == {"conv": 0}


def test_residual_and_concat():
    # A unit of an addition goes only if it is constant on both branches, or unread.
    nodes = (
        Node("a", Conv2d(2, 4, 1)),
        Node("b", Conv2d(2, 4, 1)),
        Node("add", Add(), ("a", "b")),
        Node("act", Tanh(), ("add",)),
        Node("c", Conv2d(2, 3, 1)),
        Node("cat", Concat(), ("act", "c")),
        Node("out", Conv2d(7, 2, 1), ("cat",)),
        Node("avg", AdaptiveAvgPool2d(1), ("out",)),
        Node("flat", Flatten(), ("avg",)),
    )
    rng = np.random.default_rng(7)
    model = drawn(Model(nodes, input_shape=(2, 3, 3)), rng)

    def blank(name, rows=(), columns=()):
        w = model.forms()[f"{name}.weight"].dense().data.copy()
        w[list(rows)] = 0
        w[:, list(columns)] = 0
        model.set_form(f"{name}.weight", Dense(w))

    blank("a", rows=(0, 1))
    blank("b", rows=(0,))
    blank("out", columns=(3, 5))  # act's unit 3, c's unit 1
    _, gone = assert_same(model, rng)
    assert gone == {"a+b": 2, "c": 1}


def test_grouped_convolutions_lose_equally_many():
    nodes = chain(
        ("stem", Conv2d(2, 6, 1)),
        ("relu", ReLU()),
        ("g", Conv2d(6, 4, 1, groups=2)),
        ("flat", Flatten()),
        ("fc", Linear(16, 2)),
    )
    rng = np.random.default_rng(8)
    model = drawn(Model(nodes, input_shape=(2, 2, 2)), rng)
    w = model.forms()["stem.weight"].dense().data.copy()
    w[[0, 1, 4]] = 0  # two units of one group and one of the other
    model.set_form("stem.weight", Dense(w))
    _, gone = assert_same(model, rng)
    assert gone == {"stem": 2, "g": 0}


def test_constants_and_needed_by_hand():
    model = MLP([2, 2, 2])
    model.set_form("fc1.weight", Dense(np.float32([[0, 0], [1, 0]])))
    model.set_form("fc1.bias", Dense(np.float32([-3, 0])))
    model.set_form("fc2.weight", Dense(np.float32([[5, 0], [0, 0]])))
    value, need = constants(model), needed(model)
    np.testing.assert_array_equal(value["fc1"], [-3, np.nan])
    np.testing.assert_array_equal(value["act1"], [0, np.nan])
    np.testing.assert_array_equal(value["fc2"], [0, 0])
    np.testing.assert_array_equal(need["act1"], [True, False])
    np.testing.assert_array_equal(need["x"], [False, False])
    assert len(removable(model)) == 2


def test_codebooks_lose_units_too(tmp_path):
    rng = np.random.default_rng(9)
    model = MLP([6, 8, 8, 3])
    for name, form in model.forms().items():
        if len(form.shape) > 1:
            index = rng.integers(1, 4, form.shape) * (rng.random(form.shape) > 0.75)
            model.set_form(name, Codebook(index, np.float32([0, -1, 0.5, 1]), pinned_zero=True))
        else:
            model.set_form(name, Dense(rng.standard_normal(form.shape).astype(np.float32)))
    small, gone = assert_same(model, rng)
    assert sum(gone.values()) > 0 and isinstance(small.forms()["fc2.weight"], Codebook)
    save(small, tmp_path / "small.mcz")
    x = rng.standard_normal((4, 6)).astype(np.float32)
    np.testing.assert_array_equal(load(tmp_path / "small.mcz")(x).data, small(x).data)


def test_a_single_layer_has_nothing_to_lose():
    model = drawn(MLP([3, 2]), np.random.default_rng(0))
    assert DeadUnits().apply(model, None, Run(None)).count() == model.count()


def test_an_unread_unit_stays_where_it_competes_with_those_that_are_read():
    nodes = chain(
        ("fc1", Linear(2, 2)), ("relu", ReLU()), ("top", ActTopK(1)), ("fc2", Linear(2, 1))
    )
    model = Model(nodes, input_shape=(2,))
    model.set_form("fc1.weight", Dense(np.eye(2, dtype=np.float32)))
    model.set_form("fc2.weight", Dense(np.float32([[1, 0]])))
    small, gone = alive(model)
    x = np.float32([[1, 5], [5, 1]])
    np.testing.assert_array_equal(model(x).data, [[0], [5]])
    np.testing.assert_array_equal(small(x).data, [[0], [5]])
    assert gone == {"fc1": 0}


def test_a_second_call_finds_nothing():
    # Two filters of one channel are a unit together; once theirs is the only channel, two units.
    nodes = chain(("a", Conv2d(1, 2, 1)), ("b", Conv2d(2, 4, 1, groups=2)), ("c", Conv2d(4, 2, 1)))
    rng = np.random.default_rng(0)
    model = drawn(Model(nodes, input_shape=(1, 2, 2)), rng)
    model.forms()["a.weight"].value.data[1] = 0
    model.forms()["c.weight"].value.data[:, 1] = 0
    small, gone = assert_same(model, rng)
    assert gone == {"a": 1, "b": 1} and small.node("b").layer.out_channels == 1
    assert alive(small)[1] == {"a": 0, "b": 0}


def test_a_branch_that_nothing_reads_keeps_one_unit():
    nodes = (
        Node("aux", Linear(3, 4)),
        Node("fc1", Linear(3, 5)),
        Node("fc2", Linear(5, 2), ("fc1",)),
    )
    model = drawn(Model(nodes, input_shape=(3,)), np.random.default_rng(0))
    _, gone = assert_same(model, np.random.default_rng(1))
    assert gone == {"aux": 3, "fc1": 0}
