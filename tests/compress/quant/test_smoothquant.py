import numpy as np
import pytest

from minicomp.compress.quant.migration import input_peaks, weight_peaks
from minicomp.compress.quant.ptq import PTQ
from minicomp.compress.quant.rescaling import rescaled, sites
from minicomp.compress.quant.smoothquant import SmoothQuant, smooth_scale
from minicomp.compress.technique import Run
from minicomp.data import Dataset, Split
from minicomp.nn import (
    AvgPool2d, BatchNorm2d, Conv2d, Dense, Flatten, Linear, MaxPool2d, Model, ReLU, ReLU6, Sigmoid,
    chain,
)
from minicomp.nn.init import he_normal

RNG = np.random.default_rng


def drawn(*named, shape):
    model = Model(chain(*named), input_shape=shape)
    for i, (name, form) in enumerate(model.forms().items()):
        value = he_normal(form.shape, rng=RNG(i)) if len(form.shape) > 1 else (
            0.1 * RNG(i).standard_normal(form.shape).astype(np.float32) + ("bn" in name))
        model.set_form(name, Dense(value))
    return model


def net(act=ReLU):
    return drawn(
        ("conv", Conv2d(1, 6, 3)), ("bn", BatchNorm2d(6)), ("act", act()),
        ("depthwise", Conv2d(6, 6, 3, groups=6)), ("act2", act()), ("pool", AvgPool2d(2)),
        ("flat", Flatten()), ("fc1", Linear(24, 12)), ("act3", act()), ("fc2", Linear(12, 5)),
        shape=(1, 8, 8))


def data(shape=(1, 8, 8)):
    split = Split(RNG(9).standard_normal((200, *shape)).astype(np.float32), np.zeros(200, np.int64))
    return Dataset("noise", split, split, None, tuple("abcde"), "files")


def apply(technique, model, shape=(1, 8, 8)):
    return technique.apply(model, data(shape), Run(RNG(0)))


def test_a_scale_by_hand():
    s = smooth_scale(np.array([16.0, 1.0, 0.0, 3.0]), np.array([1.0, 4.0, 2.0, 0.0]))
    np.testing.assert_allclose(s, [4, 0.5, 1, 1])  # nothing to share: as it is
    np.testing.assert_allclose(smooth_scale([16.0], [4.0], alpha=1), [16])  # all to the weights
    np.testing.assert_allclose(smooth_scale([16.0], [4.0], alpha=0), [0.25])
    x, w = RNG(0).random(9) + 0.1, RNG(1).random(9) + 0.1
    s = smooth_scale(x, w)
    np.testing.assert_allclose(x / s, w * s)  # at 1/2 both sides get the same peaks


@pytest.mark.parametrize("act", [ReLU, ReLU6])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_what_the_net_gives_stays(act, alpha):
    model, x = net(act), data().train.x
    found = apply(SmoothQuant(alpha=alpha), model)
    z = model(x).data
    np.testing.assert_allclose(found(x).data, z, atol=2e-5 * np.abs(z).max())
    assert (found.forms()["fc2.weight"].dense().data != model.forms()["fc2.weight"].dense().data
            ).any()


def test_peaks_of_activations_and_weights_meet():
    model, x = net(), data().train.x
    found = apply(SmoothQuant(samples=200), model)
    for site in sites(found)[-1:]:  # weights of the others are divided for the next one, too
        inputs = site.largest(input_peaks(found, x, site.readers), "readers")
        of = site.largest({n: weight_peaks(found.node(n).layer) for n in site.readers}, "readers")
        alive = (inputs > 0) & (of > 0)
        np.testing.assert_allclose(inputs[alive], of[alive], rtol=1e-4)


def test_outliers_move_out_of_the_activations():
    # The claim of the paper. These nets have none: they are constructed, by an exact rescaling.
    model, x = net(), data().train.x
    factor = {"bn": np.where(np.arange(6) == 2, 0.01, 1.0),
              "fc1": np.where(np.arange(12) == 5, 0.01, 1.0)}
    spiky = rescaled(model, factor)
    z = model(x).data
    np.testing.assert_allclose(spiky(x).data, z, atol=2e-5 * np.abs(z).max())

    def error(m):
        return np.square(apply(PTQ(bits=8, act_bits=6), m)(x).data - z).mean()

    assert error(apply(SmoothQuant(), spiky)) < 0.2 * error(spiky)
    assert error(apply(SmoothQuant(), model)) < 2 * error(model)


def test_a_net_without_a_place_says_so():
    model, said = drawn(("fc1", Linear(4, 3)), ("s", Sigmoid()), ("fc2", Linear(3, 5)),
                        shape=(4,)), []
    found = SmoothQuant().apply(model, data((4,)), Run(RNG(0), said.append))
    assert any("no channels" in row.get("text", "") for row in said)
    np.testing.assert_array_equal(found(data((4,)).train.x).data, model(data((4,)).train.x).data)


def test_max_pooling_and_groups():
    model = drawn(("conv", Conv2d(2, 4, 3)), ("relu", ReLU()), ("pool", MaxPool2d(2)),
                  ("two", Conv2d(4, 6, 2, groups=2)), ("flat", Flatten()), ("fc", Linear(24, 5)),
                  shape=(2, 8, 8))
    assert weight_peaks(model.node("two").layer).shape == (4,)
    w = np.abs(model.forms()["two.weight"].dense().data)
    assert weight_peaks(model.node("two").layer)[3] == w[3:, 1].max()
    x = data((2, 8, 8)).train.x
    z = model(x).data
    found = apply(SmoothQuant(), model, (2, 8, 8))
    np.testing.assert_allclose(found(x).data, z, atol=2e-5 * np.abs(z).max())
