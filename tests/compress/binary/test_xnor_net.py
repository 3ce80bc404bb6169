"""XNOR-Net with binary inputs: the net that is made, K of eq. (11), files and programs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import Run, XNORNet
from minicomp.compress.binary.xnor_net import real_input, with_scales
from minicomp.data import Split
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.nn import (BatchNorm2d, Conv2d, Dense, Flatten, Linear, MaxPool2d, Model, ReLU, Sign,
                         chain)
from minicomp.nn.init import initialise
from minicomp.train import evaluate

RNG = np.random.default_rng
REAL = {"*": False, "conv1": True, "fc2": True}


def data(n=60):
    # Three classes by where an image is brightest; images of different sizes of numbers.
    rng = RNG(0)
    y = rng.integers(0, 3, 2 * n)
    x = rng.standard_normal((2 * n, 1, 8, 8)) * 0.5
    for i, label in enumerate(y):
        x[i, 0, 1 + 2 * label:3 + 2 * label] += 1.5
    x = x.astype(np.float32)
    return SimpleNamespace(train=Split(x[:n], y[:n]), val=Split(x[n:], y[n:]))


def net(bias=True):
    # conv - bn - relu - pool - conv - relu - flatten - fc - relu - fc
    nodes = chain(("conv1", Conv2d(1, 6, 3, padding=1)), ("bn1", BatchNorm2d(6)), ("relu1", ReLU()),
                  ("pool1", MaxPool2d(2)), ("conv2", Conv2d(6, 8, 3, bias=bias)), ("relu2", ReLU()),
                  ("flat", Flatten()), ("fc1", Linear(32, 12, bias=bias)), ("relu3", ReLU()),
                  ("fc2", Linear(12, 3)))
    model = initialise(Model(nodes, input_shape=(1, 8, 8)), rng=RNG(1))
    for name, form in model.forms().items():
        if name.endswith("bias"):
            model.set_form(name, Dense(RNG(2).standard_normal(form.shape).astype(np.float32)))
    return model


def made(inputs, epochs=0, model=None, **knobs):
    training = XNORNet(inputs=inputs, real=REAL).training(
        epochs=epochs, lr=0.05, batch_size=20, **knobs)
    return training.apply(model or net(), data(), Run(RNG(3)))


def kinds(model):
    return [(n.name, n.layer.kind, *n.inputs) for n in model.nodes]


def test_signs_stand_behind_a_norm_and_a_pooling_and_only_in_front_of_binary_layers():
    signs = [("conv1", "Conv2d", "x"), ("pool1", "MaxPool2d", "conv1"),
             ("bn1", "BatchNorm2d", "pool1"), ("relu1", "Sign", "bn1"),
             ("conv2", "Conv2d", "relu1"), ("relu2_bn", "BatchNorm2d", "conv2"),
             ("relu2", "Sign", "relu2_bn"), ("flat", "Flatten", "relu2"), ("fc1", "Linear", "flat"),
             ("relu3", "ReLU", "fc1"), ("fc2", "Linear", "relu3")]
    assert kinds(made("signs")) == signs and kinds(made("real")) == kinds(net())
    read = {"conv2": "conv2_scale", "fc1": "fc1_scale"}
    scaled = []
    for name, kind, *inputs in signs:
        scaled.append((name, kind, *(read.get(i, i) for i in inputs)))
        if name in read:
            scaled.append((read[name], "InputScale", name,
                           {"conv2": "bn1", "fc1": "relu2_bn"}[name]))
    assert kinds(made("scaled")) == scaled


def test_a_layer_gives_what_eq_11_says():
    model = made("scaled")
    _, taps = model(data().val.x, taps=["bn1", "conv2_scale", "relu2_bn", "fc1_scale"])
    first, conv, bn, fc = (t.data.astype(np.float64) for t in taps.values())
    w, b = (net().forms()[f"conv2.{part}"].dense().data for part in ("weight", "bias"))
    want = np.zeros_like(conv)
    for i, j in np.ndindex(2, 2):
        seen = first[:, :, i:i + 3, j:j + 3]
        K = np.abs(seen).mean(axis=(1, 2, 3))[:, None]
        dots = np.tensordot(np.where(seen < 0, -1, 1), np.where(w < 0, -1, 1), ([1, 2, 3],) * 2)
        want[:, :, i, j] = dots * K * np.abs(w).mean(axis=(1, 2, 3)) + b
    np.testing.assert_allclose(conv, want, rtol=1e-4, atol=1e-5)
    w, b = (net().forms()[f"fc1.{part}"].dense().data for part in ("weight", "bias"))
    seen = bn.reshape(len(bn), -1)
    dots = np.where(seen < 0, -1, 1) @ np.where(w < 0, -1, 1).T
    want = dots * np.abs(seen).mean(axis=1, keepdims=True) * np.abs(w).mean(axis=1) + b
    np.testing.assert_allclose(fc, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", ["signs", "scaled"])
def test_a_net_of_binary_inputs_learns_and_is_the_same_from_a_file(inputs, tmp_path):
    model = made(inputs, epochs=15)
    assert evaluate(model, data().val).error < 0.2, "of 2/3 by chance"
    minicomp.save(model, tmp_path / "m.mcz")
    read, x = minicomp.load(tmp_path / "m.mcz"), data().val.x
    y, taps = read(x, taps=["relu1", "relu2"])
    np.testing.assert_array_equal(y.data, model(x).data)
    assert all(set(np.unique(t.data)) == {-1, 1} for t in taps.values())
    program = lower(read)
    np.testing.assert_allclose(program(x), y.data, rtol=1e-4, atol=1e-5)
    steps = [(s.name, sorted(s.weights)) for s in program.steps if s.kind == "input_scale"]
    assert steps == ([] if inputs == "signs" else [  # a batch norm is in the first
        ("conv2_scale", ["bias", "gain"]), ("fc1_scale", ["bias"])])
    minicomp.save(program, tmp_path / "p.mcz")
    np.testing.assert_array_equal(minicomp.load(tmp_path / "p.mcz")(x), program(x))


def test_bits_have_no_scales_of_inputs():
    with pytest.raises(ValueError, match="^conv2_scale: the scales K of XNOR-Net are sizes of real "
                                         "numbers, .* float, in which it is a step input_scale"):
        lower(made("scaled"), precision="binary")


def test_without_biases_there_are_none_behind_k():
    model = made("scaled", model=net(bias=False))
    assert not model.node("conv2_scale").layer.forms
    assert set(model.forms()) == set(made("signs", model=net(bias=False)).forms())


def test_what_cannot_have_scales_is_refused_by_name():
    first = Model(chain(("fc", Linear(4, 3))), input_shape=(4,))
    with pytest.raises(UserError, match="^xnor-net: inputs=signs needs a binary layer that reads "
                                        "an activation, got none"):
        XNORNet(inputs="signs").apply(initialise(first, rng=RNG(0)), None, Run(None))
    nodes = chain(("act", Sign()), ("conv", Conv2d(4, 4, 3, groups=2)), ("pool", MaxPool2d(2)),
                  ("act2", Sign()), ("pool2", MaxPool2d(2)), ("conv2", Conv2d(4, 3, 1)))
    model = initialise(Model(nodes, input_shape=(4, 10, 10)), rng=RNG(0))
    with pytest.raises(ValueError, match="^conv must have one group .* got 2"):
        with_scales(model, ["conv"])
    with pytest.raises(ValueError, match="^conv2 must read signs, .* reads pool2"):
        real_input(model, "conv2")
    taken = net().edit({"relu3": (replace(net().node("relu3"), name="fc1_scale"),)})
    with pytest.raises(UserError, match="^xnor-net: .*fc1_scale"):
        made("scaled", model=taken)
    with pytest.raises(UserError, match="^xnor-net: inputs must be one of real, signs, scaled"):
        XNORNet(inputs="both")
