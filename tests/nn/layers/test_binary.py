"""Layers beside signs: scales of inputs against loops over the formula."""

import numpy as np
import pytest

from minicomp.nn import Conv2d, InputScale, Linear
from minicomp.nn.layers.binary import input_scales
from minicomp.tensor import Tensor, grad

RNG = np.random.default_rng


def scales_by_loops(x, kernel, stride, padding):
    # K = A * k, A the mean |x| over channels, k = 1 / (KH KW), 0 around the map.
    n, _, h, w = x.shape
    A = np.zeros((n, h + 2 * padding[0], w + 2 * padding[1]))
    A[:, padding[0]:padding[0] + h, padding[1]:padding[1] + w] = np.abs(x).mean(axis=1)
    count = [(s - k) // d + 1 for s, k, d in zip(A.shape[1:], kernel, stride)]
    K = np.zeros((n, 1, *count))
    for i, j in np.ndindex(*count):
        top, left = i * stride[0], j * stride[1]
        K[:, 0, i, j] = A[:, top:top + kernel[0], left:left + kernel[1]].mean(axis=(1, 2))
    return K


@pytest.mark.parametrize("kernel, stride, padding", [
    ((3, 2), (1, 1), (0, 0)), ((3, 3), (2, 1), (1, 2)), ((1, 1), (1, 1), (0, 0)),
    ((2, 2), (1, 2), (2, 0))])
def test_scales_are_the_means_of_what_each_place_of_a_filter_sees(kernel, stride, padding):
    x = RNG(0).standard_normal((2, 3, 6, 7))
    K = input_scales(x, kernel_size=kernel, stride=stride, padding=padding)
    np.testing.assert_allclose(K, scales_by_loops(x, kernel, stride, padding), rtol=1e-12)
    conv = Conv2d(3, 4, kernel, stride, padding)
    layer, y = InputScale.of(conv), RNG(1).standard_normal((2, *conv.out_shape(x.shape[1:])))
    layer.bias = RNG(2).standard_normal(4)
    want = y * K + layer.bias.dense().data.reshape(-1, 1, 1)
    np.testing.assert_allclose(layer(Tensor(y), Tensor(x)).data, want, rtol=1e-6)


def test_a_linear_layer_sees_all_of_an_example():
    x = RNG(0).standard_normal((3, 2, 4, 5)).astype(np.float32)
    want = np.abs(x).reshape(3, -1).mean(axis=1, keepdims=True)
    for seen in (x, x.reshape(3, -1)):
        K = input_scales(seen)
        assert K.dtype == np.float32
        np.testing.assert_allclose(K, want, rtol=1e-6)
    layer = InputScale.of(Linear(40, 6, bias=False))
    assert not layer.forms and layer.config()["kernel_size"] is None
    y = RNG(1).standard_normal((3, 6)).astype(np.float32)
    np.testing.assert_allclose(layer(Tensor(y), Tensor(x)).data, y * want, rtol=1e-6)


def test_k_alpha_is_nearest_of_all_numbers_to_a_product_of_equal_sizes():
    # |I| and |W| constant: the signs, K and alpha make the product itself (eq. 11 is exact).
    x = 0.3 * np.sign(RNG(0).standard_normal((2, 3, 5, 5)))
    w = np.sign(RNG(1).standard_normal((4, 3, 2, 2)))
    conv, whole = Conv2d(3, 4, 2, bias=False), Conv2d(3, 4, 2, bias=False)
    conv.weight, whole.weight = 0.7 * w, 0.7 * w
    y = InputScale(4, 2)(conv(Tensor(np.sign(x))), Tensor(x)).data
    np.testing.assert_allclose(y, whole(Tensor(x)).data, rtol=1e-5, atol=1e-6)


def test_the_gradient_reaches_the_numbers_through_their_sizes():
    x = Tensor(RNG(0).standard_normal((2, 3, 4, 4)), requires_grad=True)
    y = Tensor(RNG(1).standard_normal((2, 5, 3, 3)))
    got = grad(InputScale(5, 2, bias=False)(y, x).sum(), x).data
    each, want = y.data.sum(axis=1), np.zeros((2, 4, 4))
    for i, j in np.ndindex(3, 3):
        want[:, i:i + 2, j:j + 2] += each[:, i, j, None, None] / (4 * 3)
    np.testing.assert_allclose(got, want[:, None] * np.sign(x.data), rtol=1e-10, atol=1e-12)


def test_what_does_not_fit_is_refused():
    layer = InputScale(4, 3, padding=1)
    assert layer.out_shape((4, 5, 5), (2, 5, 5)) == (4, 5, 5)
    for y, x, words in (((4, 5, 4), (2, 5, 5), r"have the places \(5, 5\)"),
                        ((4,), (2, 5, 5), r"have the places \(5, 5\)"),
                        ((4, 5, 5), (50,), r"numbers \(C, H, W\), got \(50,\)"),
                        ((3, 5, 5), (2, 5, 5), "needs 4 channels")):
        with pytest.raises(ValueError, match=words):
            layer.out_shape(y, x)
    with pytest.raises(ValueError, match="num_features must be an integer of at least 1, got 0"):
        InputScale(0)
    with pytest.raises(ValueError, match="kernel_size must be an integer or a pair"):
        InputScale(4, 0)
