import numpy as np
import pytest

from minicomp.nn import Dropout, ReLU, ReLU6, Sigmoid, Tanh
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
