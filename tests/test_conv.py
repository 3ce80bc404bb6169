import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp import conv, ops
from minicomp.gradcheck import adjoint_check, grad_check
from minicomp.kernels.layout import as_nhwc, nhwc
from minicomp.kernels.doors import window_count
from minicomp.nn.linear import linear
from minicomp.nn.losses import cross_entropy
from minicomp.nn.norm import batch_norm, batch_statistics
from minicomp.tensor import Tensor, grad, hvp

# stride, padding, groups, kernel, (C, O), (H, W): squares and oblongs, strides that skip rows,
# groups
SHAPES = [
    ((1, 1), (0, 0), 1, (3, 3), (2, 3), (5, 5)),
    ((1, 1), (2, 1), 1, (5, 3), (1, 4), (6, 4)),
    ((2, 1), (1, 2), 2, (3, 2), (4, 6), (5, 6)),
    ((2, 3), (0, 1), 1, (2, 4), (3, 2), (7, 9)),
    ((3, 3), (0, 0), 1, (1, 1), (3, 5), (7, 7)),
    ((1, 1), (0, 0), 1, (1, 1), (5, 4), (3, 6)),
    ((1, 1), (1, 1), 4, (3, 3), (4, 4), (5, 6)),
    ((2, 2), (1, 1), 4, (3, 3), (4, 8), (6, 5)),
    ((1, 1), (0, 0), 1, (4, 5), (2, 3), (4, 5)),
]


def arrays(shape, n=2, seed=0, dtype=np.float64):
    stride, padding, groups, kernel, (c, o), (h, w) = shape
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, c, h, w)).astype(dtype)
    weight = rng.standard_normal((o, c // groups, *kernel)).astype(dtype)
    return x, weight, dict(stride=stride, padding=padding, groups=groups), rng


# --------------------------------------------------------------------------------- convolution


def test_convolution_by_hand():
    # A cross-correlation: the kernel is not flipped.
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    w = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
    y = conv.conv2d(x, w)
    np.testing.assert_array_equal(
        y[0, 0], [[0 + 2 + 9 + 16, 1 + 4 + 12 + 20], [3 + 8 + 18 + 28, 4 + 10 + 21 + 32]]
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_is_its_sum(shape):
    # The definition, one loop per subscript.
    x, w, kw, _ = arrays(shape)
    (sh, sw), (ph, pw), groups = kw["stride"], kw["padding"], kw["groups"]
    y = conv.conv2d(x, w, **kw)
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    o, c, kh, kw_ = w.shape
    per = o // groups
    for n, k, i, j in itertools.product(*map(range, y.shape)):
        first = k // per * c
        window = padded[n, first : first + c, i * sh : i * sh + kh, j * sw : j * sw + kw_]
        assert math.isclose(y[n, k, i, j], (window * w[k]).sum(), rel_tol=1e-11, abs_tol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_three_convolutions_are_one_trilinear_form(shape):
    x, w, kw, rng = arrays(shape)
    y = conv.conv2d(x, w, **kw)
    g = rng.standard_normal(y.shape)
    dx = conv.conv2d_input_grad(g, w, size=x.shape[2:], **kw)
    dw = conv.conv2d_weight_grad(x, g, kernel=w.shape[2:], **kw)
    form = np.vdot(g, y)
    scale = np.linalg.norm(g) * np.linalg.norm(y)
    assert abs(form - np.vdot(x, dx)) < 1e-12 * scale and abs(form - np.vdot(w, dw)) < 1e-12 * scale


@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_is_linear_with_its_gradient_as_adjoint(shape):
    x, w, kw, rng = arrays(shape)
    assert adjoint_check(lambda x: conv.conv2d(x, w, **kw), x, rng=rng) < 1e-12
    assert adjoint_check(lambda w: conv.conv2d(x, w, **kw), w, rng=rng) < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_differentiates_to_order_three(shape):
    x, w, kw, rng = arrays(shape)
    b = rng.standard_normal(len(w))
    assert (
        grad_check(
            lambda x, w, b: ops.tanh(0.3 * conv.conv2d_bias(x, w, b, **kw)),
            x,
            w,
            b,
            rng=rng,
            order=3,
        )
        < 1e-7
    )


@given(st.data())
def test_any_convolution_that_fits(data):
    draw = lambda lo, hi: data.draw(st.integers(lo, hi))  # noqa: E731
    groups = draw(1, 3)
    kernel, stride, padding = (
        (draw(1, 4), draw(1, 4)),
        (draw(1, 3), draw(1, 3)),
        (draw(0, 2), draw(0, 2)),
    )
    size = tuple(max(1, k - 2 * p) + draw(0, 5) for k, p in zip(kernel, padding))
    shape = (stride, padding, groups, kernel, (groups * draw(1, 3), groups * draw(1, 3)), size)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        x, w, kw, rng = arrays(shape, n=draw(1, 2), dtype=dtype)
        X, W = Tensor(x, True), Tensor(w, True)
        y = conv.conv2d(X, W, **kw)
        assert y.shape == (
            len(x),
            len(w),
            *((n + 2 * p - k) // s + 1 for n, p, k, s in zip(size, padding, kernel, stride)),
        )
        g = rng.standard_normal(y.shape).astype(dtype)
        form = np.vdot(g, y.data)
        scale = tolerance * np.linalg.norm(g) * np.linalg.norm(x) * np.linalg.norm(w)
        for t, a in ((X, x), (W, w)):
            dt = grad(y, t, cotangent=g)
            assert dt.shape == t.shape and dt.dtype == dtype
            assert abs(form - np.vdot(a, dt.data)) < scale


def test_results_lie_channels_last():
    x, w, _, _ = arrays(SHAPES[0], dtype=np.float32)
    y = conv.conv2d(x, w)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert nhwc(y).base is y or np.shares_memory(nhwc(y), y)
    p = conv.max_pool2d(y, kernel=(2, 2), stride=(1, 1))
    assert p.transpose(0, 2, 3, 1).flags.c_contiguous


def test_input_layout_does_not_change_the_result():
    x, w, kw, _ = arrays(SHAPES[2], dtype=np.float32)
    wide = np.zeros((*x.shape[:3], 2 * x.shape[3]), np.float32)[..., ::2]
    wide[...] = x
    expected = conv.conv2d(x, w, **kw)
    for other in (as_nhwc(x), np.asfortranarray(x), wide):
        np.testing.assert_array_equal(conv.conv2d(other, w, **kw), expected)
        np.testing.assert_array_equal(conv.conv2d(other, np.asfortranarray(w), **kw), expected)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x, w: conv.conv2d(x, w[:, :1]), "needs x"),
        (lambda x, w: conv.conv2d(x, w, groups=2), "in 2 groups"),
        (lambda x, w: conv.conv2d(x[0], w), "needs x"),
        (
            lambda x, w: conv.conv2d(x[:, :, :2], w),
            "a window of 3 does not fit 2 entries padded by 0",
        ),
        (
            lambda x, w: conv.max_pool2d(x, kernel=(7, 7), stride=(1, 1)),
            "a window of 7 does not fit 5",
        ),
        (
            lambda x, w: conv.max_pool2d(x, kernel=(2, 2), stride=(1, 1), padding=(2, 0)),
            "at most half",
        ),
        (
            lambda x, w: conv.avg_pool2d(x, kernel=(3, 3), stride=(1, 1), padding=(0, 2)),
            "at most half",
        ),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_does_not_fit_is_named(call, message, dtype):
    x, w, _, _ = arrays(SHAPES[0], dtype=dtype)
    with pytest.raises(ValueError, match=message):
        call(x, w)


# ------------------------------------------------------------------------------------- pooling


def test_max_pooling_by_hand():
    x = Tensor(
        np.array([[1.0, 2, 3, 4], [8, 7, 6, 5], [1, 1, 1, 0], [1, 1, 0, 9]]).reshape(1, 1, 4, 4),
        True,
    )
    y = conv.max_pool2d(x, kernel=(2, 2), stride=(2, 2))
    np.testing.assert_array_equal(y.data[0, 0], [[8, 6], [1, 9]])
    # Of equal entries the first gets the gradient.
    dx = grad(y, x, cotangent=np.array([[1.0, 2], [3, 4]]).reshape(1, 1, 2, 2)).data[0, 0]
    np.testing.assert_array_equal(dx, [[0, 0, 0, 0], [1, 0, 2, 0], [3, 0, 0, 0], [0, 0, 0, 4]])


def test_overlapping_windows_add_their_gradients():
    x = Tensor(np.array([0.0, 5.0, 1.0]).reshape(1, 1, 1, 3), True)
    y = conv.max_pool2d(x, kernel=(1, 2), stride=(1, 1))
    np.testing.assert_array_equal(grad(y.sum(), x).data.ravel(), [0, 2, 0])


def test_average_pooling_counts_padding_but_not_what_hangs_over():
    x = np.ones((1, 1, 3, 3))
    y = conv.avg_pool2d(x, kernel=(2, 2), stride=(2, 2), padding=(1, 1))
    np.testing.assert_array_equal(y[0, 0], [[1 / 4, 2 / 4], [2 / 4, 4 / 4]])
    y = conv.avg_pool2d(x, kernel=(2, 2), stride=(2, 2), ceil_mode=True)
    np.testing.assert_array_equal(y[0, 0], [[1, 1], [1, 1]])


@pytest.mark.parametrize(
    "n, k, s, p, floor, ceil",
    [
        (4, 2, 2, 0, 2, 2),
        (5, 2, 2, 0, 2, 3),
        (5, 3, 2, 0, 2, 2),
        (6, 3, 2, 0, 2, 3),
        (3, 2, 3, 1, 2, 2),
        (1, 1, 3, 0, 1, 1),
        (4, 1, 3, 0, 2, 2),
        (5, 1, 3, 0, 2, 2),
        (2, 2, 3, 1, 1, 1),
    ],
)
def test_number_of_windows(n, k, s, p, floor, ceil):
    assert (window_count(n, k, s, p, False), window_count(n, k, s, p, True)) == (floor, ceil)


def test_a_window_longer_than_the_map_hangs_over_its_end():
    # One window of 3 at stride 4 on 2 entries, as in PyTorch; without ceil_mode there is none.
    assert window_count(2, 3, 4, 0, True) == 1
    with pytest.raises(ValueError, match="a window of 3 does not fit 2 entries padded by 0"):
        window_count(2, 3, 4, 0)
    x = Tensor(np.float32([[[[1, 2], [4, 3]]]]), requires_grad=True)
    kw = dict(kernel=(3, 3), stride=(4, 4), ceil_mode=True)
    for pooled, gradient in ((conv.max_pool2d(x, **kw), [[0, 0], [1, 0]]),
                             (conv.avg_pool2d(x, **kw), np.full((2, 2), 0.25))):
        assert pooled.shape == (1, 1, 1, 1)
        np.testing.assert_array_equal(grad(pooled.sum(), x).data[0, 0], gradient)


POOLS = [
    (k, s, p, c)
    for k, s, p, c in itertools.product(
        ((2, 2), (3, 2), (1, 4)), ((1, 1), (2, 3)), ((0, 0), (1, 1)), (False, True)
    )
    if all(2 * a <= b for a, b in zip(p, k))
]


@pytest.mark.parametrize("kernel, stride, padding, ceil_mode", POOLS)
def test_pooling_differentiates_to_order_three(kernel, stride, padding, ceil_mode):
    kw = dict(kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
    rng = np.random.default_rng(0)
    x = rng.permutation(2 * 3 * 6 * 5).reshape(2, 3, 6, 5) / 50.0
    assert (
        grad_check(lambda x: ops.tanh(conv.max_pool2d(x, **kw) - 1.0), x, rng=rng, order=3) < 1e-7
    )
    assert (
        grad_check(lambda x: ops.tanh(conv.avg_pool2d(x, **kw) - 1.0), x, rng=rng, order=3) < 1e-7
    )
    assert adjoint_check(lambda x: conv.max_pool2d(x, **kw), x, rng=rng) < 1e-12
    assert adjoint_check(lambda x: conv.avg_pool2d(x, **kw), x, rng=rng) < 1e-12


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 3), (5, 4), (7, 6), (6, 6)])
def test_adaptive_pooling_is_its_cells(size):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 6, 6))
    y = conv.adaptive_avg_pool2d(x, size=size)
    for i, j in itertools.product(range(size[0]), range(size[1])):
        cell = x[
            :,
            :,
            6 * i // size[0] : -(-6 * (i + 1) // size[0]),
            6 * j // size[1] : -(-6 * (j + 1) // size[1]),
        ]
        np.testing.assert_allclose(y[:, :, i, j], cell.mean(axis=(2, 3)), rtol=1e-12, atol=1e-14)
    assert (
        grad_check(lambda x: ops.tanh(conv.adaptive_avg_pool2d(x, size=size)), x, rng=rng, order=2)
        < 1e-7
    )
    assert conv.adaptive_avg_pool2d(x.astype(np.float32), size=size).dtype == np.float32


# ------------------------------------------------------------------ Hessian of a whole network


def small_net(x, y):
    # conv, batch norm, max pool, conv, average pool, linear, cross-entropy as a function of its
    # parameters.
    def loss(w1, b1, gamma, beta, w2, b2, w3, b3):
        h = conv.conv2d_bias(x, w1, b1, padding=(1, 1))
        h = batch_norm(h, gamma, beta, eps=1e-5, statistics=batch_statistics(h.data))
        h = conv.max_pool2d(h, kernel=(2, 2), stride=(2, 2))
        h = ops.tanh(conv.conv2d_bias(h, w2, b2, stride=(1, 2)))
        h = conv.avg_pool2d(h, kernel=(2, 2), stride=(1, 1), padding=(1, 0))
        h = ops.reshape(h, shape=(len(x), -1))
        return cross_entropy(linear(h, w3, b3), y)

    return loss


def small_parameters(rng):
    shapes = [(3, 2, 3, 3), (3,), (3,), (3,), (4, 3, 2, 2), (4,), (3, 12), (3,)]
    return [rng.standard_normal(s) for s in shapes]


@pytest.mark.parametrize("seed", range(3))
def test_hessian_vector_products_agree_with_finite_differences(seed):
    rng = np.random.default_rng(seed)
    loss = small_net(rng.standard_normal((4, 2, 6, 8)), rng.integers(0, 3, 4))
    values = small_parameters(rng)
    vectors = [rng.standard_normal(v.shape) for v in values]
    params = [Tensor(v, True) for v in values]
    exact = np.concatenate([h.ravel() for h in hvp(loss, params, vectors)])

    def gradient(t):
        moved = [Tensor(p + t * v, True) for p, v in zip(values, vectors)]
        return np.concatenate([g.data.ravel() for g in grad(loss(*moved), moved)])

    h = 1e-6  # small enough that no window of max pooling changes its largest entry
    finite = (gradient(-2 * h) - 8 * gradient(-h) + 8 * gradient(h) - gradient(2 * h)) / (12 * h)
    assert np.linalg.norm(exact) > 1e-3
    assert np.linalg.norm(exact - finite) < 1e-7 * np.linalg.norm(exact)


def test_the_hessian_is_symmetric():
    rng = np.random.default_rng(7)
    loss = small_net(rng.standard_normal((4, 2, 6, 8)), rng.integers(0, 3, 4))
    params = [Tensor(v, True) for v in small_parameters(rng)]
    u, v = small_parameters(rng), small_parameters(rng)
    uHv = sum(np.vdot(a, b) for a, b in zip(u, hvp(loss, params, v)))
    vHu = sum(np.vdot(a, b) for a, b in zip(v, hvp(loss, params, u)))
    assert math.isclose(uHv, vHu, rel_tol=1e-10)


# --------------------------------------------------------------------------------------- torch


def both(fn, torch_fn, values, cotangent_seed=0):
    # Values and gradients of ours and of torch's function, as pairs of arrays.
    import torch

    ours = [Tensor(v, True) for v in values]
    theirs = [torch.tensor(v, requires_grad=True) for v in values]
    y, t = fn(*ours), torch_fn(*theirs)
    assert y.shape == tuple(t.shape)
    g = np.random.default_rng(cotangent_seed).standard_normal(y.shape).astype(y.dtype)
    y.backward(g)
    t.backward(torch.tensor(g))
    return [(y.data, t.detach().numpy())] + [(a.grad, b.grad.numpy()) for a, b in zip(ours, theirs)]


@pytest.mark.peers
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_is_torchs(shape, dtype, tolerance):
    functional = pytest.importorskip("torch").nn.functional
    x, w, kw, rng = arrays(shape, dtype=dtype)
    b = rng.standard_normal(len(w)).astype(dtype)
    for a, e in both(
        lambda *t: conv.conv2d_bias(*t, **kw), lambda *t: functional.conv2d(*t, **kw), [x, w, b]
    ):
        assert np.linalg.norm(a - e) <= tolerance * np.linalg.norm(e)


@pytest.mark.peers
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pooling_is_torchs(dtype):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    rng = np.random.default_rng(0)
    cases = [
        (k, s, p, c, h)
        for k, s, p, c, h in itertools.product(
            (1, 2, 3, 4), (1, 2, 3, 5), (0, 1, 2), (False, True), (1, 2, 3, 4, 5, 7)
        )
        if 2 * p <= k
    ]
    for k, s, p, c, h in cases:
        # Few values, so that windows hold equal entries.
        x = rng.integers(0, 5, (2, 5, h, h + 1)).astype(dtype)
        kw = dict(kernel=(k, k), stride=(s, s), padding=(p, p), ceil_mode=c)
        if (h + 2 * p - k + (s - 1) * c) < 0:  # not even one window
            with pytest.raises(RuntimeError):
                functional.max_pool2d(torch.tensor(x), k, s, p, ceil_mode=c)
            with pytest.raises(ValueError, match="does not fit"):
                conv.max_pool2d(x, **kw)
            continue
        for a, e in both(
            lambda x: conv.max_pool2d(x, **kw),
            lambda x: functional.max_pool2d(x, k, s, p, ceil_mode=c),
            [x],
        ):
            np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-6)
        for a, e in both(
            lambda x: conv.avg_pool2d(x, **kw),
            lambda x: functional.avg_pool2d(x, k, s, p, ceil_mode=c),
            [x],
        ):
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (7, 7)])
def test_adaptive_pooling_is_torchs(size):
    functional = pytest.importorskip("torch").nn.functional
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 6))
    for a, e in both(
        lambda x: conv.adaptive_avg_pool2d(x, size=size),
        lambda x: functional.adaptive_avg_pool2d(x, size),
        [x],
    ):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-13)


@pytest.mark.peers
def test_network_gradients_and_hessian_are_torchs():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((4, 2, 6, 8)), rng.integers(0, 3, 4)

    def theirs(w1, b1, gamma, beta, w2, b2, w3, b3):
        h = functional.conv2d(torch.tensor(x), w1, b1, padding=1)
        h = functional.batch_norm(h, None, None, gamma, beta, training=True, eps=1e-5)
        h = torch.tanh(functional.conv2d(functional.max_pool2d(h, 2), w2, b2, stride=(1, 2)))
        h = functional.avg_pool2d(h, (2, 2), (1, 1), (1, 0)).flatten(1)
        return functional.cross_entropy(functional.linear(h, w3, b3), torch.tensor(y))

    values, vectors = small_parameters(rng), small_parameters(rng)
    params = tuple(torch.tensor(v, requires_grad=True) for v in values)
    _, expected = torch.autograd.functional.hvp(theirs, params, tuple(map(torch.tensor, vectors)))
    found = hvp(small_net(x, y), [Tensor(v, True) for v in values], vectors)
    for a, e in zip(found, expected):
        np.testing.assert_allclose(a, e.numpy(), rtol=1e-9, atol=1e-11)
