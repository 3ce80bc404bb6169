import numpy as np
import pytest

from minicomp import ops
from minicomp.gradcheck import grad_check
from minicomp.conv import conv2d
from minicomp.nn.norm import (Block, batch_norm, batch_statistics, conv2d_batch_norm, gate_of,
                              line_of)
from minicomp.tensor import Tensor, grad, hvp, raw

SHAPES = [(7, 3), (4, 3, 5, 2), (2, 1, 1, 3)]
EPS = 1e-3


def problem(shape, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * 2 + 1).astype(dtype)
    return (
        x,
        rng.standard_normal(shape[1]).astype(dtype),
        rng.standard_normal(shape[1]).astype(dtype),
    )


def normed(x, gamma, beta, after=None):
    return batch_norm(x, gamma, beta, eps=EPS, statistics=batch_statistics(raw(x)), after=after)


def composite(x, gamma, beta, after=None):
    return batch_norm.composite(x, gamma, beta, eps=EPS, statistics=None, after=after)


WINDOWS = [dict(stride=(2, 1), padding=(1, 1), groups=3),
           dict(stride=(1, 1), padding=(0, 0), groups=1),
           dict(stride=(1, 1), padding=(1, 1), groups=4)]


def row_of(x, *parameters, after=None):
    # Blocks with a rectifier behind each but the last, whose is given.
    blocks = []
    for i, window in enumerate(WINDOWS[:len(parameters) // 3]):
        w, gamma, beta = map(raw, parameters[3 * i: 3 * i + 3])
        then = after if 3 * i + 3 == len(parameters) else (ops.relu, ops.relu6)[i]
        u = raw(conv2d(x, w, **window))
        statistics = batch_statistics(u)
        line = line_of(gamma, beta, statistics, EPS, u.dtype)
        blocks.append(Block(window, EPS, then, u, statistics, line))
        x = raw(batch_norm(u, gamma, beta, eps=EPS, statistics=statistics, after=then))
    return blocks


def convolved(x, *parameters, after=None, fn=conv2d_batch_norm):
    blocks = row_of(raw(x), *parameters, after=after)
    return fn(x, *parameters, blocks=blocks, n_threads=1)


def row_problem(n, seed=4):
    rng = np.random.default_rng(seed)
    shapes = [(3, 3, 4, 5), (6, 1, 3, 3), (6,), (6,), (4, 6, 1, 1), (4,), (4,), (4, 1, 2, 2), (4,),
              (4,)]
    return [rng.standard_normal(shape) for shape in shapes[:1 + 3 * n]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_are_of_each_channel_with_sums_in_float64(shape, dtype):
    x = problem(shape, dtype=dtype)[0] + dtype(1000)
    mean, var = batch_statistics(x)
    axes = tuple(i for i in range(x.ndim) if i != 1)
    assert mean.dtype == var.dtype == dtype and mean.shape == var.shape == (shape[1],)
    np.testing.assert_allclose(
        mean, x.astype(np.float64).mean(axis=axes), rtol=1e-6 if dtype is np.float32 else 1e-14
    )
    np.testing.assert_allclose(
        var, x.astype(np.float64).var(axis=axes), rtol=1e-3 if dtype is np.float32 else 1e-9
    )


def test_the_output_by_hand():
    # one channel 1, 3 -> mean 2, var 1: xhat = -1, 1 over sqrt(1 + eps)
    x = np.array([[1.0], [3.0]])
    y = normed(x, np.array([2.0]), np.array([10.0]))
    np.testing.assert_allclose(y[:, 0], 10 + 2 * np.array([-1, 1]) / np.sqrt(1 + EPS), rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_output_has_mean_beta_and_deviation_gamma(shape):
    x, gamma, beta = problem(shape)
    y = normed(x, gamma, beta)
    mean, var = batch_statistics(y)
    np.testing.assert_allclose(mean, beta, atol=1e-12)
    share = batch_statistics(x)[1] / (batch_statistics(x)[1] + EPS)
    np.testing.assert_allclose(var, gamma**2 * share, rtol=1e-9)


def agree(one, other, arrays):
    # In value, gradient and second order.
    results = []
    for fn in (one, other):
        tensors = [Tensor(a, requires_grad=True) for a in arrays]
        y = fn(*tensors)
        g = np.random.default_rng(1).standard_normal(y.shape)
        vectors = [np.random.default_rng(2).standard_normal(a.shape) for a in arrays]
        second = hvp(lambda *t, fn=fn: (fn(*t) * fn(*t) * g).sum(), tensors, vectors)
        results.append([y.data, *(t.data for t in grad(y, tensors, cotangent=g)), *second])
    for fused, simple in zip(*results, strict=True):
        np.testing.assert_allclose(fused, simple, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("after", [None, ops.relu, ops.relu6])
def test_fused_equals_composite_in_value_gradient_and_second_order(shape, after):
    x, gamma, beta = problem(shape)
    arrays = x, 5 * gamma, beta + 2  # so that entries lie on both sides of 0 and of 6
    y = normed(*arrays)
    assert y.size < 10 or ((y > 0) & (y < 6)).any() and (y < 0).any() and (y > 6).any()
    agree(lambda *a: normed(*a, after), lambda *a: composite(*a, after), arrays)


@pytest.mark.parametrize("after", [None, ops.relu, ops.relu6])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_blocks_in_a_row_fused_equal_composite(n, after):
    agree(lambda *a: convolved(*a, after=after),
          lambda *a: convolved(*a, after=after, fn=conv2d_batch_norm.composite), row_problem(n))


# The rectifier between two blocks has a kink within reach of the longer step.
@pytest.mark.parametrize("n, step", [(1, 1e-3), (2, 1e-4)])
def test_gradients_of_two_orders_agree_with_finite_differences_of_blocks(n, step):
    grad_check(convolved, *row_problem(n), rng=np.random.default_rng(3), order=2, step=step)


@pytest.mark.parametrize("wanted", [(0,), (4,), (9,), (2, 8), (3, 7), (7, 8, 9)])
def test_of_blocks_only_what_is_wanted_gets_a_gradient(wanted):
    arrays = row_problem(3)
    full = [Tensor(a, requires_grad=True) for a in arrays]
    some = [Tensor(a, requires_grad=i in wanted) for i, a in enumerate(arrays)]
    for tensors in (full, some):
        (convolved(*tensors) * np.arange(1.0, 5.0)[:, None, None]).sum().backward()
    for i, (one, other) in enumerate(zip(some, full)):
        if i in wanted:
            np.testing.assert_array_equal(one.grad, other.grad)
        else:
            assert one.grad is None


def test_no_rectifier_has_no_gate():
    line = np.ones(2), np.zeros(2)
    assert gate_of(line, None) is None and gate_of(line, ops.relu6).top == 6


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_three_orders_agree_with_finite_differences(shape):
    grad_check(normed, *problem(shape), rng=np.random.default_rng(3), order=3, step=1e-3)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_only_what_is_wanted_gets_a_gradient(wanted):
    arrays = problem((4, 3, 5, 2))
    full = [Tensor(a, requires_grad=True) for a in arrays]
    some = [Tensor(a, requires_grad=i in wanted) for i, a in enumerate(arrays)]
    for tensors in (full, some):
        (normed(*tensors) * np.arange(5.0)[:, None]).sum().backward()
    for i in range(3):
        if i in wanted:
            np.testing.assert_array_equal(some[i].grad, full[i].grad)
        else:
            assert some[i].grad is None


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_float32_stays_and_agrees_with_float64_in_any_layout(layout):
    x, gamma, beta = problem((8, 5, 6, 7), dtype=np.float32)
    if layout == "NHWC":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    g = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    results = []
    for dtype in (np.float32, np.float64):
        tensors = [Tensor(a.astype(dtype), requires_grad=True) for a in (x, gamma, beta)]
        y = normed(*tensors)
        results.append([y, *grad(y, tensors, cotangent=g.astype(dtype))])
    for single, double in zip(*results):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single.data, double.data, rtol=2e-4, atol=2e-4)


def test_a_constant_channel_has_output_beta_and_finite_gradients():
    x = Tensor(np.full((4, 2), 3.0), requires_grad=True)
    gamma, beta = Tensor(np.ones(2), requires_grad=True), Tensor(
        np.array([5.0, -1.0]), requires_grad=True
    )
    y = normed(x, gamma, beta)
    np.testing.assert_array_equal(y.data, np.broadcast_to(beta.data, (4, 2)))
    ops.sum(y * y).backward()
    assert all(np.isfinite(t.grad).all() for t in (x, gamma, beta))
