"""DoReFa-Net: its two formulas, the form they are stored in, a training with both."""

from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import DoReFa, Magnitude, Run
from minicomp.compress.quant.dorefa import (OneBit, Squashed, dorefa, dorefa_activations,
                                            dorefa_weights, quantize_k, squashed)
from minicomp.compress.quant.nodes import grids
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Affine, Binary
from minicomp.tensor import Tensor, grad

def data():
    # Three classes by three of twelve inputs.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((160, 12)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return SimpleNamespace(train=Split(x[:80], y[:80]), val=Split(x[80:], y[80:]))


def test_the_formulas_by_hand():
    assert quantize_k(np.array([0.0, 0.2, 0.5, 0.9, 1.0]), 2).tolist() == pytest.approx(
        [0, 1 / 3, 2 / 3, 1, 1])
    w = np.arctanh([-0.5, 0.0, 0.1, 0.4])  # over the largest: -1, 0, 0.2, 0.8
    np.testing.assert_allclose(squashed(w), [-1, 0, 0.2, 0.8])
    # r = 0, 1/2, 0.6, 0.9: times 3, rounded: 0, 2 (1.5 is a tie, to even), 2, 3.
    np.testing.assert_allclose(dorefa_weights(w, 2), [-1, 1 / 3, 1 / 3, 1])
    np.testing.assert_allclose(dorefa_activations(np.array([-1.0, 0.4, 3.0]), 2), [0, 1 / 3, 1])


@pytest.mark.parametrize("k", [2, 3, 4, 8])
def test_levels_are_symmetric_evenly_spaced_and_without_0(k):
    levels = np.unique(dorefa_weights(np.linspace(-3, 3, 5001), k))
    assert len(levels) == 2**k and levels[0] == -1 and levels[-1] == 1
    np.testing.assert_allclose(np.diff(levels), 2 / (2**k - 1))
    np.testing.assert_allclose(levels, -levels[::-1], atol=1e-12)


def test_the_slope_is_that_of_the_squashing():
    w, h = np.random.default_rng(0).standard_normal(20), 1e-6
    t = Tensor(w, requires_grad=True)
    top = np.abs(np.tanh(w)).max()  # a constant
    expected = (np.tanh(w + h) - np.tanh(w - h)) / (2 * h) / top
    np.testing.assert_allclose(grad(dorefa(t, bits=3).sum(), t).data, expected, rtol=1e-6)


def test_codes_decode_to_the_formula():
    w = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    for k in (2, 4, 8):
        form = Squashed.of(w, np.float32(2 / (2**k - 1)), bits=k, grid="midrise", trainable=True)
        np.testing.assert_allclose(form.dense().data, dorefa_weights(w, k), atol=1e-6)
        frozen = form.freeze()
        np.testing.assert_allclose(frozen.dense().data, form.dense().data, atol=1e-6)
        assert frozen.q.min() == -(2 ** (k - 1)) and frozen.q.max() <= 2 ** (k - 1) - 1
    zeros = Squashed.of(np.zeros((2, 2), np.float32), np.float32(1), bits=2, grid="midrise",
                        trainable=True)
    assert np.isfinite(zeros.dense().data).all()


def test_a_net_trained_so_is_stored_so():
    model = MLP([12, 24, 3], rng=np.random.default_rng(1))
    model = Magnitude(sparsity={"fc1": 0.5, "fc2": 0.0}).apply(model, data(), Run(None))
    training = DoReFa(bits={"*": 3, "fc2": 8}, act_bits={"*": 8, "fc2": 4}).training(
        epochs=20, lr=0.05, batch_size=20)
    made = training.apply(model, data(), Run(np.random.default_rng(2)))
    form = made.forms()["fc1.weight"]
    assert type(form) is Affine and form.grid == "midrise" and form.bits == 3
    w = form.dense().data
    assert not w[~model.forms()["fc1.weight"].mask].any() and w[form.mask].all()
    assert np.abs(w).max() == pytest.approx(1)
    layer = grids(made)["act1_q"]
    assert layer.bits == 4 and layer.scale == np.float32(1 / 15)
    x = data().val.x
    error = (made(x).data.argmax(axis=1) != data().val.y).mean()
    assert error < 0.35, "of 2/3 by chance"


def test_one_bit_is_the_mean_size_and_the_sign():
    model = MLP([12, 24, 3], rng=np.random.default_rng(1))
    model = Magnitude(sparsity={"fc1": 0.5, "fc2": 0.0}).apply(model, data(), Run(None))
    made = DoReFa(bits={"*": 1, "fc2": 8}, act_bits=0).training(epochs=0).apply(
        model, None, Run(None))
    w, form = model.forms()["fc1.weight"].dense().data, made.forms()["fc1.weight"]
    kept = model.forms()["fc1.weight"].mask
    assert type(form) is Binary and form.alpha.data.item() == pytest.approx(np.abs(w[kept]).mean())
    np.testing.assert_array_equal(np.sign(form.dense().data), np.where(kept, np.sign(w), 0))
    latent = OneBit(w)  # straight through
    g = np.random.default_rng(0).standard_normal(w.shape).astype(np.float32)
    np.testing.assert_array_equal(latent.pull_back(latent.dense(training=True), g)["latent"], g)
    training = DoReFa(bits={"*": 1, "fc2": 8}, act_bits=8)
    trained = training.training(epochs=20, lr=0.05, batch_size=20)
    error = (trained.apply(model, data(), Run(np.random.default_rng(2)))(data().val.x).data.argmax(
        axis=1) != data().val.y).mean()
    assert error < 0.4, "of 2/3 by chance"
    model.forms()["fc1.weight"].value.data[...] = 0
    with pytest.raises(UserError, match="^dorefa: fc1.weight must have a weight that is not 0"):
        trained.apply(model, data(), Run(np.random.default_rng(2)))
