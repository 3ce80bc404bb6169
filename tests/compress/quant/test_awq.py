import numpy as np
import pytest

from minicomp.compress.quant.awq import AWQ, awq_scale, output_error
from minicomp.compress.quant.ptq import PTQ
from minicomp.compress.quant.rescaling import rescaled
from minicomp.compress.quant.schemes import Scheme
from minicomp.compress.technique import Run
from minicomp.data import Dataset, Split
from minicomp.nn import Conv2d, Dense, Flatten, Linear, Model, ReLU, chain
from minicomp.nn.init import he_normal

RNG = np.random.default_rng


def net():
    nodes = chain(("conv", Conv2d(1, 6, 3)), ("relu", ReLU()), ("two", Conv2d(6, 8, 3, groups=2)),
                  ("relu2", ReLU()), ("flat", Flatten()), ("fc1", Linear(128, 20)),
                  ("relu3", ReLU()), ("fc2", Linear(20, 5)))
    model = Model(nodes, input_shape=(1, 8, 8))
    for i, (name, form) in enumerate(model.forms().items()):
        value = he_normal(form.shape, rng=RNG(i)) if len(form.shape) > 1 else (
            0.1 * RNG(i).standard_normal(form.shape).astype(np.float32))
        model.set_form(name, Dense(value))
    return model


def data():
    x = RNG(9).standard_normal((200, 1, 8, 8)).astype(np.float32)
    split = Split(x, np.zeros(200, np.int64))
    return Dataset("noise", split, split, None, tuple("abcde"), "files")


def run():
    return Run(RNG(0))


def test_a_scale_by_hand():
    np.testing.assert_allclose(awq_scale([16.0, 1.0, 0.0], 0.5), [2, 0.5, 1])
    np.testing.assert_allclose(awq_scale([16.0, 1.0, 0.0], 0.0), [1, 1, 1])
    np.testing.assert_array_equal(awq_scale([0.0, 0.0], 0.7), [1, 1])
    s = awq_scale(RNG(0).random(20), 0.8)
    assert s.max() * s.min() == pytest.approx(1)


def test_the_error_is_that_of_the_output():
    layer, x = Conv2d(4, 6, 3, groups=2, bias=False), RNG(0).standard_normal((30, 4, 5, 5))
    layer.weight = he_normal((6, 2, 3, 3), rng=RNG(1))
    X, s, scheme = layer.rows(x), np.array([2.0, 0.5, 1.0, 3.0]), Scheme(3)
    w = layer.weight.dense().data
    each = np.repeat(s.reshape(2, 2), 3, axis=0).astype(np.float32)[:, :, None, None]
    back = scheme.form(Dense(w * each)).dense().data / each
    z = np.concatenate(
        [X[g] @ (back - w)[3 * g:3 * g + 3].reshape(3, -1).T for g in range(2)], axis=1)
    found = output_error(layer, X.transpose(0, 2, 1) @ X / len(x), scheme, s)
    assert found == pytest.approx(np.square(z).sum() / len(x), rel=1e-5)


def test_migration_leaves_the_float_net_and_is_never_worse_on_a_layer():
    model, x = net(), data().train.x
    found = AWQ(bits=3).migrate(model, x, run())
    z = model(x).data
    np.testing.assert_allclose(found(x).data, z, atol=2e-5 * np.abs(z).max())
    none = AWQ(bits=3, tries=1).migrate(model, x, run())  # alpha 0 alone
    for name in ("two", "fc1", "fc2"):
        np.testing.assert_array_equal(none.forms()[f"{name}.weight"].dense().data,
                                      model.forms()[f"{name}.weight"].dense().data)


def test_weights_that_read_large_activations_are_kept_better():
    # The claim of the paper, where a few channels are large: constructed, by an exact rescaling.
    model, x = net(), data().train.x
    spiky = rescaled(model, {"conv": np.where(np.arange(6) == 2, 0.05, 1.0),
                             "fc1": np.where(np.arange(20) % 7 == 0, 0.05, 1.0),
                             "two": np.where(np.arange(8) == 6, 0.05, 1.0)})
    z = model(x).data

    def error(technique):
        return np.square(technique.apply(spiky, data(), run())(x).data - z).mean()

    plain = error(PTQ(bits=4, mode="weight-only"))
    assert error(AWQ(bits=4)) < 0.5 * plain
    assert error(AWQ(bits=4, tries=1)) == pytest.approx(plain)
    assert AWQ(bits=4).apply(spiky, data(), run()).forms()["fc1.weight"].kind == "affine"
