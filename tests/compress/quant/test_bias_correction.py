import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minicomp
from minicomp.compress import PTQ, BiasCorrection, Run, net_of
from minicomp.compress.quant.schemes import sqnr
from minicomp.compress.quant.shifts import (clipped_mean, means, measured, output_means, pairs,
                                            take_back, weight_shift)
from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.nn import (AdaptiveAvgPool2d, BatchNorm2d, ClipChannels, Conv2d, Flatten, Linear,
                         MaxPool2d, Model, ReLU, ReLU6, chain)


def rng(seed=0):
    return np.random.default_rng(seed)


def data(x):
    split = Split(x.astype(np.float32), np.zeros(len(x), int))
    return Dataset("toy", split, split, None, ("a", "b"), "rendered")


def convs(groups=1, activation=ReLU):
    nodes = chain(("conv1", Conv2d(2, 4, 3, bias=False)), ("bn1", BatchNorm2d(4)),
                  ("act1", activation()), ("conv2", Conv2d(4, 6, 3, groups=groups)),
                  ("bn2", BatchNorm2d(6)), ("act2", activation()), ("pool", AdaptiveAvgPool2d(1)),
                  ("flat", Flatten()), ("fc", Linear(6, 3)))
    model, r = Model(nodes, input_shape=(2, 8, 8)), rng(4)
    model.load_state_dict({name: r.normal(size=a.shape) ** (2 if "var" in name else 1)
                           for name, a in model.state_dict().items()})
    return model


def settled(model, x):
    # The running statistics of exactly these examples, so that batch norms tell the truth.
    for bn in ("bn1", "bn2"):
        y = next(iter(minicomp.nn.taps.observe(model, x, [model.node(bn).inputs[0]],
                                               batch_size=len(x)))).popitem()[1]
        layer = model.node(bn).layer
        layer.buffers["running_mean"][:] = y.mean(axis=(0, 2, 3))
        layer.buffers["running_var"][:] = y.var(axis=(0, 2, 3))
    return model


def mean_error(model, reference, x, node):
    a, b = (next(iter(minicomp.nn.taps.observe(m, x, [node], batch_size=len(x))))[node]
            for m in (model, reference))
    return np.abs(output_means(a.astype(np.float64) - b)).max()


def test_one_layer_by_hand():
    # eps = (0.1, -0.2), E x = (3, 1): the output moves by 0.1 and the bias goes back by that much
    assert weight_shift(np.array([[0.1, -0.2]]), np.array([3.0, 1.0])).tolist() == [
        pytest.approx(0.1)]
    model = net_of((np.array([[1.0, 2.0]]), np.array([0.5])))
    assert take_back(model, "fc1", np.array([0.1]))
    assert model.forms()["fc1.bias"].dense().data[0] == pytest.approx(0.4)


@given(st.floats(-8, 8), st.floats(-3, 3))
def test_the_mean_behind_an_activation_is_the_integral(beta, gamma):
    if abs(gamma) < 1e-3:
        gamma = 0.0
    t = (np.arange(200_000) + 0.5) / 200_000 * 20 - 10
    p = np.exp(-t * t / 2) / np.sqrt(2 * np.pi) * 1e-4
    for top in (np.inf, 6.0):
        want = (np.clip(beta + gamma * t, 0, top) * p).sum()
        assert clipped_mean(np.array([beta]), np.array([gamma]), top)[0] == pytest.approx(
            want, abs=1e-6)


def test_known_values_behind_an_activation():
    assert clipped_mean(0.0, 1.0) == pytest.approx(1 / np.sqrt(2 * np.pi))  # phi(0)
    assert clipped_mean(np.array([-2.0, 3.0, 9.0]), np.zeros(3), 6.0).tolist() == [0, 3, 6]
    assert clipped_mean(3.0, 2.0, 6.0) == pytest.approx(3.0)  # around the middle of 0..6
    assert clipped_mean(3.0, -2.0) == clipped_mean(3.0, 2.0)
    tops = np.array([6.0, 1.0, np.inf])  # a ceiling for each channel
    each = [float(clipped_mean(1.0, 2.0, top)) for top in tops]
    assert clipped_mean(np.ones(3), np.full(3, 2.0), tops).tolist() == each
    assert each[1] < each[0] < each[2]


def test_the_mean_behind_a_clip_takes_its_ceilings():
    nodes = chain(("c", Conv2d(1, 2, 1)), ("bn", BatchNorm2d(2)),
                  ("clip", ClipChannels.of([0.5, 2.0])))
    model = Model(nodes, input_shape=(1, 3, 3))
    np.testing.assert_array_equal(means(model)["clip"],
                                  clipped_mean(np.zeros(2), np.ones(2), np.array([0.5, 2.0])))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_mean_that_is_exact_leaves_no_mean_error_and_the_wrong_sign_doubles_it(groups):
    r, x = rng(1), rng(2).normal(0.5, 1.0, (30, 4, 6, 6)).astype(np.float32)
    conv = Conv2d(4, 6, 3, groups=groups)
    model = Model(chain(("conv", conv)), input_shape=(4, 6, 6))
    model.load_state_dict({n: r.normal(size=a.shape) for n, a in model.state_dict().items()})
    x[:] = x.mean(axis=(0, 2, 3), keepdims=True)  # then E[x] is that of every place
    moved = model.copy()
    error = r.normal(0, 0.1, moved.forms()["conv.weight"].shape).astype(np.float32)
    moved.forms()["conv.weight"].value.data += error
    shift = weight_shift(error, output_means(x), groups)
    before = mean_error(moved, model, x, "conv")
    wrong = moved.copy()
    assert take_back(moved, "conv", shift) and take_back(wrong, "conv", -shift)
    assert mean_error(moved, model, x, "conv") < 1e-5 < 0.05 < before
    assert mean_error(wrong, model, x, "conv") == pytest.approx(2 * before, rel=1e-4)


def test_the_empirical_form_leaves_no_mean_error_in_any_layer():
    # Also of a convolution whose bias is the batch norm's.
    x = rng(3).normal(size=(300, 2, 8, 8)).astype(np.float32)
    model = settled(convs(), x)
    knobs = {"bits": 3, "act_bits": 4, "samples": 300}
    plain = PTQ(**knobs).apply(model, data(x), Run(rng()))
    found = PTQ(**knobs, correct="empirical").apply(model, data(x), Run(rng()))
    for node in ("bn1", "conv2", "fc"):
        before, after = (mean_error(m, model, x, node) for m in (plain, found))
        assert after < 1e-5 < 1e-3 < before, node
    assert sqnr(model(x).data, found(x).data) > sqnr(model(x).data, plain(x).data) + 1


@pytest.mark.parametrize("activation", [ReLU, ReLU6])
def test_the_analytic_form_needs_no_data_and_takes_most_of_it_back(activation):
    x = rng(3).normal(size=(300, 2, 8, 8)).astype(np.float32)
    model, rows = settled(convs(activation=activation), x), []
    known = means(model)
    assert set(known) == {"bn1", "act1", "bn2", "act2", "pool", "flat"}
    model.node("bn1").layer.forms["bias"].value.data[0] = 7.0
    beta, gamma = (model.forms()[f"bn1.{part}"].dense().data for part in ("bias", "weight"))
    np.testing.assert_array_equal(means(model)["act1"], clipped_mean(
        beta, gamma, 6.0 if activation is ReLU6 else np.inf))
    settled(model, x)
    knobs = {"mode": "weight-only", "bits": 3}
    plain, found = (PTQ(**knobs, correct=c).apply(model, None, Run(rng(), rows.append))
                    for c in ("none", "analytic"))
    assert [row["text"].split(":")[1] for row in rows] == [" no correction of conv1"]
    moved, left = (dict((n.name, s) for n, s in measured(m, model, pairs("", m, model), x))
                   for m in (plain, found))
    np.testing.assert_array_equal(moved["conv1"], left["conv1"])
    # of the error of weights alone, conv2 in the float net
    alone = model.copy()
    alone.set_form("conv2.weight", plain.forms()["conv2.weight"].copy())
    before = mean_error(alone, model, x, "conv2")
    alone.set_form("conv2.bias", found.forms()["conv2.bias"].copy())
    assert mean_error(alone, model, x, "conv2") < 0.35 * before


def test_as_a_step_of_its_own_it_is_what_the_knob_is(tmp_path):
    x = rng(3).normal(size=(60, 2, 8, 8)).astype(np.float32)
    model = convs()
    minicomp.save(model, tmp_path / "float.mcz")
    knobs = {"bits": 3, "samples": 100}
    both = PTQ(**knobs, correct="empirical").apply(model, data(x), Run(rng()))
    plain = PTQ(**knobs).apply(model, data(x), Run(rng()))
    found = BiasCorrection(against=str(tmp_path / "float.mcz"), samples=100).apply(
        plain, data(x), Run(rng()))
    for name, a in both.state_dict().items():
        np.testing.assert_array_equal(a, found.state_dict()[name])


def test_nets_that_do_not_belong_together_and_no_batch_norm(tmp_path):
    minicomp.save(net_of(np.ones((3, 2))), tmp_path / "a.mcz")
    against = str(tmp_path / "a.mcz")
    with pytest.raises(UserError, match="bias-correction: the float net must have a layer fc1 of "
                                        r"shape \(4, 2\), got \(3, 2\)"):
        BiasCorrection(against=against).check(net_of(np.ones((4, 2))))
    with pytest.raises(UserError, match="a layer fc2 of shape .*, got none"):
        BiasCorrection(against=against).check(net_of(np.ones((3, 2)), np.ones((2, 3))))
    with pytest.raises(UserError, match="against must name the .mcz file of the float net"):
        BiasCorrection().check(net_of(np.ones((3, 2))))
    with pytest.raises(UserError, match="reads the means of inputs from batch norms, and there is"):
        BiasCorrection(against=against, how="analytic").apply(net_of(np.ones((3, 2))), None,
                                                              Run(rng()))


def test_a_maximum_tells_no_mean_and_a_layer_without_a_bias_is_said():
    nodes = chain(("conv", Conv2d(2, 4, 3)), ("bn", BatchNorm2d(4)), ("relu", ReLU()),
                  ("pool", MaxPool2d(2)), ("flat", Flatten()), ("fc", Linear(36, 2, bias=False)))
    model, rows = Model(nodes, input_shape=(2, 8, 8)), []
    assert set(means(model)) == {"bn", "relu"}
    x = rng().normal(size=(20, 2, 8, 8))
    PTQ(correct="empirical", samples=20).apply(model, data(x), Run(rng(), rows.append))
    assert [row["text"] for row in rows] == [
        "ptq: no correction of fc: no bias to take it back"]
