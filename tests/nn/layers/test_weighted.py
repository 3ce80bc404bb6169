import numpy as np
import pytest

from minicomp.nn import Conv2d, Dense, Linear
from minicomp.tensor import Tensor

MAP, ROW = (6, 9, 7), (6,)


def test_linear_by_hand():
    layer = Linear(2, 3)
    layer.forms["weight"] = Dense(np.array([[1, 2], [3, 4], [5, 6]], np.float32))
    layer.forms["bias"] = Dense(np.array([10, 20, 30], np.float32))
    np.testing.assert_array_equal(
        layer(Tensor(np.array([[1, -1]], np.float32))).data, [[9, 19, 29]]
    )


def test_convolution_is_a_correlation_with_bias():
    layer = Conv2d(1, 1, 2)
    layer.forms["weight"] = Dense(np.array([[[[1, 2], [3, 4]]]], np.float32))
    layer.forms["bias"] = Dense(np.array([100], np.float32))
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    np.testing.assert_array_equal(layer(Tensor(x)).data[0, 0], [[127, 137], [157, 167]])


def test_macs_by_hand():
    assert Linear(6, 4).macs(ROW) == 24 and Linear(6, 4, bias=False).macs(ROW) == 24
    assert Conv2d(6, 4, 3).macs(MAP) == 7 * 5 * 4 * 6 * 9
    assert Conv2d(6, 6, 3, padding=1, groups=6).macs(MAP) == 9 * 7 * 6 * 9
    assert Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 0)).macs(MAP) == 5 * 6 * 4 * 6 * 6


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Linear(0, 3), "in_features must be an integer of at least 1, got 0"),
        (lambda: Linear(3, 2.0), "out_features must be an integer of at least 1, got 2.0"),
        (lambda: Linear(3, 2, bias=1), "bias must be true or false, got 1"),
        (lambda: Conv2d(4, 6, 3, groups=4), "groups must divide 4 and 6, got 4"),
        (
            lambda: Conv2d(4, 6, 0),
            "kernel_size must be an integer or a pair, each at least 1, got 0",
        ),
        (lambda: Conv2d(4, 6, (3, 3, 3)), "kernel_size must be an integer or a pair"),
        (lambda: Conv2d(4, 6, 3, stride=(1, 0)), r"stride must be .* at least 1, got \(1, 0\)"),
        (lambda: Conv2d(4, 6, 3, padding=-1), "padding must be .* at least 0, got -1"),
        (
            lambda: Linear(6, 4).out_shape((5,)),
            r"Linear needs 6 features, got an input of shape \(5,\)",
        ),
        (
            lambda: Conv2d(6, 4, 3).out_shape((5, 9, 9)),
            r"Conv2d needs 6 channels, got an input of shape \(5, 9, 9\)",
        ),
        (
            lambda: Conv2d(6, 4, 3).out_shape((6, 2, 9)),
            "a window of 3 does not fit 2 entries padded by 0",
        ),
    ],
)
def test_wrong_arguments_and_inputs(make, message):
    with pytest.raises(ValueError, match=message):
        make()
