import numpy as np
import pytest

from minicomp.nn.forms import Dense
from minicomp.nn.layers import Linear, ReLU
from minicomp.tensor import Tensor


def test_arrays_and_forms_of_ones_own_are_put_in_place_of_a_layers():
    layer = Linear(3, 2)
    layer.weight = [[1, 2, 3], [4, 5, 6]]
    layer.bias = Dense(np.array([0.5, -0.5], np.float32))
    assert layer.weight is layer.forms["weight"] and layer.weight.dense().data.dtype == np.float32
    np.testing.assert_array_equal(layer(Tensor(np.ones((1, 3), np.float32))).data, [[6.5, 14.5]])


def test_what_does_not_fit_a_layer_is_refused():
    with pytest.raises(ValueError, match=r"weight must have shape \(2, 3\), got \(3, 2\)"):
        Linear(3, 2).weight = np.zeros((3, 2))
    with pytest.raises(AttributeError, match="Linear has no bias"):
        Linear(3, 2, bias=False).bias = np.zeros(2)
    with pytest.raises(AttributeError, match="ReLU has no weight"):
        ReLU().weight
