import numpy as np
import pytest

from minicomp.codec import load, save
from minicomp.compress.channels.removal import removed
from minicomp.nn import (
    ClipChannels, Dropout, Linear, Model, ReLU, ReLU6, Sigmoid, Tanh, chain,
)
from minicomp.tensor import Tensor, grad

RNG = np.random.default_rng


def test_activations_by_hand():
    x = Tensor(np.array([[-1.0, 0.0, 3.0, 6.0, 7.0]], np.float32), requires_grad=True)
    np.testing.assert_array_equal(ReLU()(x).data, [[0, 0, 3, 6, 7]])
    np.testing.assert_array_equal(ReLU6()(x).data, [[0, 0, 3, 6, 6]])
    np.testing.assert_allclose(Sigmoid()(x).data, 1 / (1 + np.exp(-x.data)), rtol=1e-6)
    np.testing.assert_allclose(Tanh()(x).data, np.tanh(x.data), rtol=1e-6)
    # at their corners the slope is 0, as PyTorch's
    np.testing.assert_array_equal(grad(ReLU()(x).sum(), x).data, [[0, 0, 1, 1, 1]])
    np.testing.assert_array_equal(grad(ReLU6()(x).sum(), x).data, [[0, 0, 1, 0, 0]])


def test_dropout_keeps_the_mean_and_draws_from_rng():
    x = Tensor(np.ones((100, 100), np.float32))
    y = Dropout(0.3)(x, training=True, rng=RNG(0)).data
    assert set(np.unique(y)) == {0, np.float32(1 / 0.7)} and abs(np.mean(y == 0) - 0.3) < 0.02
    np.testing.assert_array_equal(y, Dropout(0.3)(x, training=True, rng=RNG(0)).data)
    assert not np.array_equal(y, Dropout(0.3)(x, training=True, rng=RNG(1)).data)
    assert Dropout(0.3)(x) is x and Dropout(0.0)(x, training=True) is x
    with pytest.raises(ValueError, match="rng must be given when a model with dropout is training"):
        Dropout(0.3)(x, training=True)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Dropout(1.0), r"p must be in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_arguments_and_inputs(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_clip_channels_has_a_ceiling_for_each_channel_in_rows_and_maps():
    layer = ClipChannels.of([0.0, 2.0, 10.0])
    x = np.array([[3, 3, 3], [-1, -1, -1], [0.5, 2, 11]], np.float32)
    expected = [[0, 2, 3], [0, 0, 0], [0, 2, 10]]
    assert layer(Tensor(x)).data.tolist() == expected
    assert layer(Tensor(x[:, :, None, None])).data[:, :, 0, 0].tolist() == expected
    assert layer.switched_off(3).tolist() == [True, False, False]
    six = ReLU6().rescaled(np.array([1.0, 3.0, 0.6]))
    np.testing.assert_allclose(six.buffers["ceiling"], [6, 2, 10])
    assert ReLU6().rescaled(np.ones(3)).kind == "ReLU6"


@pytest.mark.parametrize("ceiling", [[-1.0], [np.nan], [np.inf], 6.0])
def test_ceilings_that_are_none_are_refused(ceiling):
    with pytest.raises(ValueError, match="ceiling must be numbers"):
        ClipChannels.of(ceiling)


def test_channels_of_a_clip_are_cut_with_those_that_it_reads():
    nodes = chain(("fc", Linear(2, 3)), ("clip", ClipChannels.of([1.0, 2.0, 3.0])),
                  ("out", Linear(3, 2)))
    small = removed(Model(nodes, input_shape=(2,)), {"fc": [0, 2]})
    assert small.buffers()["clip.ceiling"].tolist() == [1, 3]
    assert small.node("clip").layer.config() == {"num_features": 2}


def test_a_clip_is_saved_and_a_ceiling_below_0_is_no_state(tmp_path):
    model = Model(chain(("clip", ClipChannels.of([0.5, 2.0]))), input_shape=(2,))
    save(model, tmp_path / "m.mcz")
    assert load(tmp_path / "m.mcz").buffers()["clip.ceiling"].tolist() == [0.5, 2]
    with pytest.raises(ValueError, match="ceiling must be at least 0"):
        model.load_state_dict({"clip.ceiling": np.array([-1.0, 1])})


def test_a_clip_is_shifted_as_far_as_its_ceiling_goes():
    layer, c = ClipChannels.of([5.0, 2.0]), np.array([1.0, 2.0])
    made, x = layer.shifted(c), np.array([[1.5, 2], [4, 2.5], [7, 9]], np.float32)  # x >= c
    assert made.buffers["ceiling"].tolist() == [4, 0]
    np.testing.assert_array_equal(made(Tensor(x - c.astype(np.float32))).data,
                                  layer(Tensor(x)).data - c)
    assert layer.shifted(np.array([0.0, 2.1])) is None and ReLU6().shifted(np.array([6.5])) is None
    assert ReLU6().shifted(np.array([6.0, 1])).buffers["ceiling"].tolist() == [0, 5]
    assert ReLU().shifted(c) is None  # it is its own
