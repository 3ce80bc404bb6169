import numpy as np
import pytest

from minicomp.nn import BatchNorm1d, BatchNorm2d, Dense
from minicomp.tensor import Tensor, grad

MAP, ROW = (6, 9, 7), (6,)


def test_batch_norm_tracks_mean_and_unbiased_variance_and_uses_them_at_inference():
    layer = BatchNorm1d(2, momentum=0.25)
    x = np.array([[1, 10], [3, 30]], np.float32)
    layer(Tensor(x), training=True)
    np.testing.assert_allclose(layer.buffers["running_mean"], 0.25 * np.array([2, 20]))
    np.testing.assert_allclose(
        layer.buffers["running_var"], 0.75 + 0.25 * np.array([2, 200])
    )  # divided by n - 1
    mean, var = layer.buffers["running_mean"].copy(), layer.buffers["running_var"].copy()
    layer.forms["weight"], layer.forms["bias"] = Dense(np.array([2, 3], np.float32)), Dense(
        np.ones(2, np.float32)
    )
    y = layer(Tensor(x)).data
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5) * [2, 3] + 1, rtol=1e-5)
    np.testing.assert_array_equal(layer.buffers["running_mean"], mean)
    assert layer.buffers["running_mean"].dtype == np.float32


@pytest.mark.parametrize("make, shape", [(BatchNorm1d, (1, 2)), (BatchNorm2d, (1, 2, 1, 1))])
def test_one_value_a_channel_has_no_statistics(make, shape):
    # As PyTorch; at inference, and of several places of one example, there is something to see.
    layer, x = make(2), Tensor(np.ones(shape, np.float32))
    with pytest.raises(ValueError, match="more than one value a channel in training"):
        layer(x, training=True)
    assert layer(x).shape == shape
    assert BatchNorm2d(2)(Tensor(np.ones((1, 2, 3, 1), np.float32)), training=True).size == 6


@pytest.mark.parametrize("make, shape", [(BatchNorm1d, (0, 2)), (BatchNorm2d, (0, 2, 3, 3))])
def test_no_examples_leave_the_running_statistics_alone(make, shape):
    layer = make(2)
    before = {name: a.copy() for name, a in layer.buffers.items()}
    x = Tensor(np.zeros(shape, np.float32), requires_grad=True)
    y = layer(x, training=True)
    assert y.shape == grad(y.sum(), x).shape == shape
    for name, a in layer.buffers.items():
        np.testing.assert_array_equal(a, before[name])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BatchNorm2d(4, eps=-1.0), r"eps must be a float in \[0, 1\], got -1.0"),
        (lambda: BatchNorm2d(4, momentum=None), r"momentum must be a float in \[0, 1\], got None"),
        (lambda: BatchNorm1d(6).out_shape(MAP), "BatchNorm1d needs 6 channels and 0 spatial axes"),
        (lambda: BatchNorm2d(6).out_shape(ROW), "BatchNorm2d needs 6 channels and 2 spatial axes"),
    ],
)
def test_wrong_arguments_and_inputs(make, message):
    with pytest.raises(ValueError, match=message):
        make()
