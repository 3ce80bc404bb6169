import numpy as np
import pytest

from minicomp.nn import BatchNorm1d, BatchNorm2d, Dense, ShiftBatchNorm1d, ShiftBatchNorm2d
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


# -------------------------------------------------------------------------------------- by shifts


def power(x):
    return np.where(x == 0, 0, np.sign(x) * 2.0 ** np.rint(np.log2(np.abs(np.where(x, x, 1)))))


def by_shifts(x, gamma, beta, powers):
    # Batch norm with AP2 where the paper puts it; `powers` are its four uses in turn.
    axes, shape = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    ap2 = iter(powers)
    C = x - x.mean(axis=axes, keepdims=True)
    var = (C * next(ap2)(C)).mean(axis=axes, keepdims=True)
    xhat = C * next(ap2)(1 / np.sqrt(var + 1e-5))
    return xhat * next(ap2)(gamma.reshape(shape)) + beta.reshape(shape)


def filled(make, dtype=np.float64):
    layer, rng = make(6), np.random.default_rng(0)
    for part in ("weight", "bias"):
        layer.forms[part] = Dense(rng.standard_normal(6).astype(dtype))
    return layer


@pytest.mark.parametrize("make, shape", [
    (ShiftBatchNorm1d, (9, 6)), (ShiftBatchNorm2d, (4, 6, 3, 2))])
def test_shifts_are_batch_norm_with_powers_of_two(make, shape):
    x = 3 * np.random.default_rng(1).standard_normal(shape) + 1
    layer = filled(make)
    gamma, beta = (layer.forms[part].value.data for part in ("weight", "bias"))
    y = layer(Tensor(x), training=True).data
    np.testing.assert_allclose(y, by_shifts(x, gamma, beta, [power] * 3), rtol=1e-12)
    # afterwards by the running mean and 1 / sqrt(var + eps), an eighth of the way from 0 and 1
    axes, wide = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    C = x - x.mean(axis=axes, keepdims=True)
    scale = 1 / np.sqrt((C * power(C)).mean(axis=axes) + 1e-5)
    running = layer.buffers["running_mean"], layer.buffers["running_scale"]
    np.testing.assert_allclose(running[0], x.mean(axis=axes) / 8, rtol=1e-6)
    np.testing.assert_allclose(running[1], 7 / 8 + scale / 8, rtol=1e-6)
    gain, bias = layer.gain_and_bias()
    want = (x - running[0].reshape(wide)) * (power(running[1]) * power(gamma)).reshape(wide)
    np.testing.assert_allclose(layer(Tensor(x)).data, want + beta.reshape(wide), rtol=1e-5)
    np.testing.assert_allclose(layer(Tensor(x)).data,
                               x * gain.reshape(wide) + bias.reshape(wide), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make, shape", [
    (ShiftBatchNorm1d, (7, 6)), (ShiftBatchNorm2d, (2, 6, 2, 2))])
def test_gradients_go_straight_through_the_powers(make, shape):
    # By differences of the formula in which AP2(z) is z plus what it is here away from it.
    x, g = (np.random.default_rng(i).standard_normal(shape) for i in (1, 2))
    layer = filled(make)
    gamma, beta = (layer.forms[part].value.data for part in ("weight", "bias"))
    offsets = []

    def remember(z):
        offsets.append(power(z) - z)
        return power(z)

    by_shifts(x, gamma, beta, [remember] * 3)
    through = [lambda z, c=c: z + c for c in offsets]
    t = Tensor(x, requires_grad=True)
    found = grad((layer(t, training=True) * g).sum(),
                 [t, *(layer.forms[part].value for part in ("weight", "bias"))])
    for a, mine in zip((x, gamma, beta), found):
        want, h = np.zeros_like(a), 1e-6
        for i in np.ndindex(a.shape):
            kept, sides = a[i], []
            for a[i] in (kept + h, kept - h):
                sides.append((by_shifts(x, gamma, beta, through) * g).sum())
            a[i] = kept
            want[i] = (sides[0] - sides[1]) / (2 * h)
        np.testing.assert_allclose(mine.data, want, rtol=1e-5, atol=1e-7)
