"""Layers beside signs: scales of inputs against loops over the formula."""

import numpy as np
import pytest

from minicomp.nn import BinarySum, Conv2d, InputScale, Linear
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


# ----------------------------------------------------------------------- sums of binary activations


def sum_by_loops(x, beta, shift):
    # sum_n beta_n H_v(x), H_v of h_v = clip(x + v, 0, 1), and the gradients of what stands for it.
    h = [np.clip(x + v, 0, 1) for v in shift]
    return sum(b * np.where(a >= 0.5, 1, -1) for b, a in zip(beta, h))


def numbers(layer, beta, shift):
    layer.buffers["beta"][...], layer.buffers["shift"][...] = beta, shift
    return layer


@pytest.mark.parametrize("N", [1, 2, 5])
def test_a_sum_of_binary_activations_by_its_formula(N):
    rng = RNG(N)
    beta, shift = (rng.standard_normal(N).astype(np.float32) for _ in range(2))
    layer, x = numbers(BinarySum(N), beta, shift), rng.standard_normal((4, 3, 5, 2)) * 2
    x.flat[0] = 0.5 - np.float64(shift[0])  # h_v is 1/2 there
    np.testing.assert_allclose(layer(Tensor(x)).data, sum_by_loops(x, beta, shift), rtol=1e-12)
    layer.learns = True
    t, g = Tensor(x, requires_grad=True), rng.standard_normal(x.shape)
    weights = layer.decode()
    dx, dbeta, dshift = (d.data for d in grad(layer(t, weights=weights), [t, *weights.values()],
                                              cotangent=g))
    inside = [(x + v >= 0) & (x + v <= 1) for v in shift.astype(np.float64)]
    np.testing.assert_allclose(dx, g * sum(b * i for b, i in zip(beta, inside)), rtol=1e-6,
                               atol=1e-12)
    np.testing.assert_allclose(dshift, [(b * g * i).sum() for b, i in zip(beta, inside)], rtol=1e-5)
    signs = [np.where(np.clip(x + v, 0, 1) >= 0.5, 1, -1) for v in shift.astype(np.float64)]
    np.testing.assert_allclose(dbeta, [(g * a).sum() for a in signs], rtol=1e-5)


@pytest.mark.parametrize("N", [1, 2, 3, 8])
def test_it_begins_as_a_clip_rounded_to_levels(N):
    x = np.linspace(-1.5, 1.5, 977)
    level = np.floor((np.clip(x, -1, 1) + 1) * N / 2 + 0.5) * 2 / N - 1
    away = np.abs((x + 1) * N / 2 % 1 - 0.5) > 1e-5  # from the steps
    np.testing.assert_allclose(BinarySum(N)(Tensor(x)).data[away], level[away], atol=1e-6)


def test_betas_and_shifts_move_only_where_they_learn():
    layer = BinarySum(2)
    assert not layer.grids and set(layer.decode()) == set()
    layer.learns = True
    first = layer.grids
    assert all(layer.grids[part] is t and t.data is layer.buffers[part]
               for part, t in first.items())
    other = layer.copy()
    assert all(other.grids[part] is not t for part, t in first.items())
    assert all(layer.grids[part] is t for part, t in first.items())
    for bases in (0, 9, True):
        with pytest.raises(ValueError, match="bases must be"):
            BinarySum(bases)
    with pytest.raises(ValueError, match="beta must be finite"):
        layer.check_buffers({"beta": np.array([1.0, np.nan]), "shift": np.zeros(2)})
