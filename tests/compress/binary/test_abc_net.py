"""ABC-Net's binary activations: the net that is made, products of bases, training, files."""

from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import ABCNet, FineTune, Run
from minicomp.data import Split
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Linear, Model, chain
from minicomp.train import evaluate

RNG = np.random.default_rng


def data():
    # Three classes by three of twelve inputs.
    x = RNG(0).standard_normal((240, 12)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return SimpleNamespace(train=Split(x[:160], y[:160]), val=Split(x[160:], y[160:]))


def made(epochs=0, seed=2, **knobs):
    technique = ABCNet(**{"bases": 2, "activations": 3} | knobs)
    training = technique.training(epochs=epochs, lr=0.05, batch_size=20)
    model = MLP([12, 24, 16, 3], rng=RNG(1))
    return training.apply(model, data(), Run(RNG(seed)))


def test_sums_stand_behind_a_norm_where_binary_layers_read_an_activation():
    kinds = [(n.name, n.layer.kind) for n in made().nodes]
    assert kinds == [("fc1", "Linear"), ("act1_bn", "BatchNorm1d"), ("act1", "BinarySum"),
                     ("fc2", "Linear"), ("act2_bn", "BatchNorm1d"), ("act2", "BinarySum"),
                     ("fc3", "Linear")]
    kept = [(n.name, n.layer.kind) for n in made(real={"*": False, "fc3": True}).nodes]
    assert kept[-2:] == [("act2", "ReLU"), ("fc3", "Linear")] and ("act1", "BinarySum") in kept
    assert [n.layer.kind for n in made(activations=0).nodes][1] == "ReLU"


def test_a_layer_is_the_sum_of_products_of_its_bases_and_activations():
    model = made(epochs=2)
    _, taps = model(data().val.x, taps=["act1_bn", "fc2"])
    form, layer = model.forms()["fc2.weight"], model.node("act1").layer
    beta, shift = layer.buffers["beta"], layer.buffers["shift"]
    want = np.zeros(taps["fc2"].shape)
    for alpha, B in zip(form.alpha.data[0], form.signs()):
        for b, v in zip(beta, shift):
            A = np.where(np.clip(taps["act1_bn"].data + v, 0, 1) >= 0.5, 1, -1)
            want += float(alpha) * float(b) * (A @ B.T)  # signs times signs: whole numbers
    want += model.forms()["fc2.bias"].dense().data
    np.testing.assert_allclose(taps["fc2"].data, want, rtol=1e-4, atol=1e-5)


def test_betas_and_shifts_train_and_are_kept(tmp_path):
    start, model = made(), made(epochs=20)
    assert evaluate(model, data().val).error < 0.3, "of 2/3 by chance"
    for part in ("beta", "shift"):
        moved, before = (m.buffers()[f"act1.{part}"] for m in (model, start))
        assert (moved != before).all() and not model.grids()
    minicomp.save(model, tmp_path / "m.mcz")
    read, x = minicomp.load(tmp_path / "m.mcz"), data().val.x
    np.testing.assert_array_equal(read(x).data, model(x).data)
    program = lower(read)
    np.testing.assert_allclose(program(x), read(x).data, rtol=1e-4, atol=1e-5)
    minicomp.save(program, tmp_path / "p.mcz")
    np.testing.assert_array_equal(minicomp.load(tmp_path / "p.mcz")(x), program(x))
    later = FineTune(epochs=1).apply(model, data(), Run(RNG(0)))  # a training of other things
    np.testing.assert_array_equal(later.buffers()["act1.beta"], model.buffers()["act1.beta"])


def test_more_activations_come_nearer_to_the_floats():
    x, errors = data().val.x, []
    for N in (1, 2, 4, 8):
        model = made(activations=N, bases=8)
        _, taps = model(x, taps=["act1_bn", "act1"])
        errors.append(np.abs(np.clip(taps["act1_bn"].data, -1, 1) - taps["act1"].data).mean())
    assert all(a > 1.5 * b for a, b in zip(errors, errors[1:]))


def test_what_is_refused():
    with pytest.raises(UserError, match=r"^abc-net: activations must be in \[0, 8\], got 9"):
        ABCNet(activations=9)
    with pytest.raises(UserError, match="^abc-net: activations=2 needs a binary layer that reads "
                                        "an activation, got none"):
        made(activations=2, real={"*": True, "fc1": False})
    with pytest.raises(ValueError, match="^act1: a binary program has one sign an activation, .* "
                                         "float, in which it is a step binary_sum"):
        lower(made(), precision="binary")
    with pytest.raises(ValueError, match="^act1: a binary_sum has no integer form here"):
        lower(Model(chain(("act1", made().node("act1").layer), ("fc", Linear(12, 3))),
                    input_shape=(12,)), precision="int8")
