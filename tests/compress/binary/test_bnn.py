"""Binarized networks: the net that is made, what its nodes compute, training with signs alone."""

from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import BNN, Run
from minicomp.compress.binary.activations import (activations, behind_pools, norm_before, read_by,
                                                  with_signs)
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import (BatchNorm1d, BatchNorm2d, Binary, Conv2d, Dense, Flatten, Linear,
                         MaxPool2d, Model, ReLU, ShiftBatchNorm1d, ShiftBatchNorm2d, Sign, chain)
from minicomp.nn.init import initialise
from minicomp.tensor import Tensor, grad
from minicomp.train import evaluate

RNG = np.random.default_rng


def data():
    # Three classes by three of twelve inputs.
    x = RNG(0).standard_normal((240, 12)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return SimpleNamespace(train=Split(x[:160], y[:160]), val=Split(x[160:], y[160:]))


def mlp():
    layers = ("fc1", Linear(12, 32)), ("bn1", BatchNorm1d(32)), ("act1", ReLU()), (
        "fc2", Linear(32, 3)), ("bn2", BatchNorm1d(3))
    return initialise(Model(chain(*layers), input_shape=(12,)), rng=RNG(1))


def kinds(model):
    return [(n.name, n.layer.kind, *n.inputs) for n in model.nodes]


def test_activations_become_signs_behind_a_batch_norm():
    assert kinds(with_signs(mlp())) == [
        ("fc1", "Linear", "x"), ("bn1", "BatchNorm1d", "fc1"), ("act1", "Sign", "bn1"),
        ("fc2", "Linear", "act1"), ("bn2", "BatchNorm1d", "fc2")]
    plain = MLP([12, 8, 3], rng=RNG(0))  # without any batch norm
    assert kinds(with_signs(plain, shift=True)) == [
        ("fc1", "Linear", "x"), ("act1_bn", "ShiftBatchNorm1d", "fc1"), ("act1", "Sign", "act1_bn"),
        ("fc2", "Linear", "act1"), ("fc2_bn", "BatchNorm1d", "fc2")]
    assert activations(plain) == ["act1"] and plain.nodes[1].layer.kind == "ReLU"


def test_batch_norms_in_front_of_signs_shift_and_the_last_is_ordinary():
    model = mlp()
    model.node("bn1").layer.buffers["running_var"][...] = np.linspace(0.1, 4, 32)
    made = with_signs(model, shift=True)
    layer = made.node("bn1").layer
    assert type(layer) is ShiftBatchNorm1d and made.node("bn2").layer.kind == "BatchNorm1d"
    np.testing.assert_allclose(layer.buffers["running_scale"],
                               1 / np.sqrt(np.linspace(0.1, 4, 32) + 1e-5), rtol=1e-6)
    again = with_signs(made, shift=True)
    assert kinds(again) == kinds(made)


def test_a_pooling_hands_on_what_is_normalised():
    nodes = chain(("conv", Conv2d(1, 4, 3)), ("bn", BatchNorm2d(4)), ("pool", MaxPool2d(2)),
                  ("relu", ReLU()), ("flat", Flatten()), ("fc", Linear(16, 3)))
    model = Model(nodes, input_shape=(1, 6, 6))
    assert norm_before(model, "relu") == "bn" and norm_before(model, "conv") is None
    made = with_signs(model, shift=True)
    assert [n.layer.kind for n in made.nodes] == [
        "Conv2d", "ShiftBatchNorm2d", "MaxPool2d", "Sign", "Flatten", "Linear", "BatchNorm1d"]
    assert isinstance(made.node("bn").layer, ShiftBatchNorm2d)


@pytest.mark.parametrize("norm", ["batch", "shift"])
def test_a_net_of_signs_learns_and_computes_with_signs_alone(norm, tmp_path):
    optimizer = "shift-adamax" if norm == "shift" else "adam"
    training = BNN(norm=norm, lr_scale=1, loss="squared-hinge").training(
        epochs=20, lr=0.02, optimizer=optimizer, batch_size=20)
    made = training.apply(mlp(), data(), Run(RNG(2)))
    assert evaluate(made, data().val).error < 0.35, "of 2/3 by chance"
    minicomp.save(made, tmp_path / "m.mcz")
    read = minicomp.load(tmp_path / "m.mcz")
    x = data().val.x
    y, taps = read(x, taps=["act1", "fc2"])
    np.testing.assert_array_equal(y.data, made(x).data)
    assert set(np.unique(taps["act1"].data)) == {-1, 1}
    w = read.forms()["fc2.weight"]
    assert type(w) is Binary and set(np.unique(w.dense().data)) == {-1, 1}
    # K - 2 times how often the bits differ, plus the bias
    differ = (taps["act1"].data[:, None] != w.dense().data).sum(axis=2)
    b = read.forms()["fc2.bias"].dense().data
    np.testing.assert_allclose(taps["fc2"].data, 32 - 2 * differ + b, atol=1e-5)


def test_without_an_activation_there_is_no_such_net():
    model = Model(chain(("fc", Linear(12, 3))), input_shape=(12,))
    with pytest.raises(UserError, match="^bnn: the model must have an activation"):
        BNN().training(epochs=0).apply(model, None, Run(None))
    taken = Model(chain(("fc", Linear(12, 5)), ("act", ReLU()), ("act_bn", Linear(5, 3))),
                  input_shape=(12,))
    with pytest.raises(UserError, match="^bnn: .*act_bn"):
        BNN().training(epochs=0).apply(taken, None, Run(None))
    assert isinstance(with_signs(mlp()).node("act1").layer, Sign)


# ---------------------------------------------------------------------------------- drawn neurons


def test_a_drawn_sign_is_plus_where_u_is_below_the_hard_sigmoid():
    x = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    layer = Sign()
    layer.stochastic = True
    for seed in range(5):
        u = RNG(seed).random(7, dtype=np.float32)
        t = Tensor(x, requires_grad=True)
        y = layer(t, training=True, rng=RNG(seed))
        np.testing.assert_array_equal(y.data, [1 if b < min(max((a + 1) / 2, 0), 1) else -1
                                               for a, b in zip(x, u)])
        np.testing.assert_array_equal(grad((y * np.arange(7.0)).sum(), t).data,
                                      np.arange(7) * (abs(x) <= 1))
    many = Tensor(np.broadcast_to(x, (20_000, 7)))
    # of +-1 the standard deviation is at most 1: five of the mean's
    np.testing.assert_allclose(layer(many, training=True, rng=RNG(0)).data.mean(axis=0),
                               np.clip(x, -1, 1), atol=0.036)
    np.testing.assert_array_equal(layer(Tensor(x)).data, np.where(x < 0, -1, 1))
    with pytest.raises(ValueError, match="^rng must be given .* signs are drawn"):
        layer(t, training=True)


def drawn_net(seed=2, n_threads=1, seen=None, watching=None, **knobs):
    technique = BNN(neurons="stochastic", loss="squared-hinge", **knobs)
    training = technique.training(epochs=10, lr=0.02, optimizer="adam", batch_size=20)
    if watching is not None:
        training = watching(training, after_step=lambda s: seen.append(
            s.model.node("act1").layer.stochastic))
    return training.apply(mlp(), data(), Run(RNG(seed), n_threads=n_threads))


def test_drawn_neurons_train_and_leave_signs(tmp_path, watching):
    seen = []
    made = drawn_net(seen=seen, watching=watching)
    assert all(seen) and not made.node("act1").layer.stochastic
    x = data().val.x
    y = made(x).data
    np.testing.assert_array_equal(made(x, training=False, rng=RNG(1)).data, y)
    assert evaluate(made, data().val).error < 0.35, "of 2/3 by chance"
    minicomp.save(made, tmp_path / "m.mcz")
    np.testing.assert_array_equal(minicomp.load(tmp_path / "m.mcz")(x).data, y)


def test_neurons_are_drawn_alike_for_any_number_of_threads(monkeypatch):
    # Batch norm forbids to split a batch, however large the net is.
    monkeypatch.setattr(Model, "macs", lambda self: {"it": 1 << 25})
    one, two = (drawn_net(n_threads=n).decode() for n in (1, 2))
    other = drawn_net(seed=3).decode()
    for name in one:
        np.testing.assert_allclose(one[name].data, two[name].data, rtol=1e-4, atol=1e-5)
    assert any((one[name].data != other[name].data).any() for name in one)


def test_which_activation_a_layer_reads_and_signs_behind_pools():
    nodes = chain(("conv", Conv2d(1, 4, 3)), ("bn", BatchNorm2d(4)), ("relu", ReLU()),
                  ("pool", MaxPool2d(2)), ("conv2", Conv2d(4, 4, 2)), ("flat", Flatten()),
                  ("fc", Linear(4, 3)))
    model = initialise(Model(nodes, input_shape=(1, 6, 6)), rng=RNG(0))
    model.set_form("bn.weight", Dense(np.float32([1, -1, 1, 1])))  # so that the pooling stays
    assert read_by(model, ["conv", "conv2", "fc"]) == {"conv2": "relu"}
    signs = with_signs(model)
    moved = behind_pools(signs)
    assert [n[:2] for n in kinds(moved)][:4] == [
        ("conv", "Conv2d"), ("bn", "BatchNorm2d"), ("pool", "MaxPool2d"), ("relu", "Sign")]
    assert kinds(moved)[4][2] == "relu" and behind_pools(moved).nodes == moved.nodes
    x = RNG(1).standard_normal((5, 1, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(moved(x).data, signs(x).data)
