import importlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp import conv, ops
from minicomp.gradcheck import adjoint_check, grad_check
from minicomp.kernels.maps.conv_pool import Steps
from minicomp.nn.linear import linear, linear_relu
from minicomp.nn.losses import label_cross_entropy, soft_cross_entropy
from minicomp.nn.norm import Block, batch_norm, batch_statistics, conv2d_batch_norm, line_of
from minicomp.tensor import PRIMITIVES, FusedPrimitive, Tensor, grad, raw

# The modules whose primitives are checked here; what techniques add is checked beside them.
MODULES = (
    "minicomp.ops",
    "minicomp.conv",
    "minicomp.nn.linear",
    "minicomp.nn.norm",
    "minicomp.nn.losses",
)


def conv_norm(x, *parameters):
    window, blocks, met = {"stride": (1, 1), "padding": (1, 1), "groups": 1}, [], raw(x)
    for i in range(0, len(parameters), 3):
        w, gamma, beta = map(raw, parameters[i: i + 3])
        u = raw(conv.conv2d(met, w, **window))
        statistics = batch_statistics(u)
        line = line_of(gamma, beta, statistics, 1e-3, u.dtype)
        after = ops.relu6 if i + 3 < len(parameters) else None
        blocks.append(Block(window, 1e-3, after, u, statistics, line))
        met = raw(batch_norm(u, gamma, beta, eps=1e-3, statistics=statistics, after=after))
    return conv2d_batch_norm(x, *parameters, blocks=blocks, n_threads=1)


def normal(*shape):
    return lambda rng: rng.standard_normal(shape)


def apart(*shape):
    # Entries that differ by at least 1 and lie 1/2 off the integers: no kink within reach of a
    # step.
    return (
        lambda rng: rng.permutation(math.prod(shape)).reshape(shape) - math.prod(shape) // 2 + 0.5
    )


def positive(*shape):
    return lambda rng: rng.uniform(0.5, 2.0, shape)


def probabilities(*shape):
    def draw(rng):
        p = rng.random(shape)
        return p / p.sum(axis=1, keepdims=True)

    return draw


POOL = dict(kernel=(3, 2), stride=(2, 1), padding=(1, 0), ceil_mode=True)
CONV = dict(
    stride=(2, 1), padding=(1, 2), groups=2
)  # x (2, 4, 5, 6), w (6, 2, 3, 2) -> (2, 6, 3, 9)
STEPS = Steps((2, 1), (1, 0), (3, 2), (2, 1), (1, 1), True)
ROWS = np.array([0, 2, 2, 1])
TARGET = probabilities(4, 3)(np.random.default_rng(0))
MASK = np.random.default_rng(1).random((3, 4)) > 0.5

# name -> function and one drawer per array: all are checked to order 3
CASES = {
    "add": (ops.add, normal(3, 4), normal(4)),
    "sub": (ops.sub, normal(3, 1), normal(3, 4)),
    "mul": (ops.mul, normal(3, 4), normal(3, 1)),
    "div": (ops.div, normal(3, 4), positive(4)),
    "neg": (ops.neg, normal(3)),
    "power": (lambda x: ops.power(x, exponent=2.5), positive(3, 4)),
    "exp": (ops.exp, normal(3, 4)),
    "log": (ops.log, positive(3, 4)),
    "sqrt": (ops.sqrt, positive(3, 4)),
    "tanh": (ops.tanh, normal(3, 4)),
    "sigmoid": (ops.sigmoid, normal(3, 4)),
    "absolute": (lambda x: ops.absolute(x) * x * x, apart(3, 4)),
    "sign": (lambda x: ops.sign(x) * x * x, apart(3, 4)),
    "relu": (lambda x: ops.relu(x) * x * x, apart(3, 4)),
    "relu6": (lambda x: ops.relu6(x + 3.0) * x * x, apart(3, 4)),
    "clip": (lambda x: ops.clip(x, lo=-2.0, hi=3.0) * x * x, apart(3, 4)),
    "maximum": (
        lambda a, b: ops.maximum(a, b) * a * b,
        apart(3, 4),
        lambda rng: apart(3, 4)(rng) + 0.25,
    ),
    "minimum": (
        lambda a, b: ops.minimum(a, b) * a * b,
        apart(3, 4),
        lambda rng: apart(4)(rng) + 0.25,
    ),
    "where": (lambda a, b: ops.where(MASK, a * a, b * b * a), normal(3, 4), normal(4)),
    "sum": (lambda x: ops.sum(x * x, axis=(0, 2)) * ops.sum(x), normal(2, 3, 4)),
    "mean": (lambda x: ops.mean(x * x, axis=1, keepdims=True) * ops.mean(x), normal(2, 3, 4)),
    "max": (lambda x: ops.max(x, axis=1) * ops.sum(x * x), apart(3, 4)),
    "matmul": (lambda a, b: ops.tanh(ops.matmul(a, b)), normal(2, 3, 4), normal(4, 5)),
    "sum_to": (lambda x: ops.sum_to(x * x * x, np.ones((3, 1))), normal(2, 3, 4)),
    "broadcast_to": (lambda x: ops.broadcast_to(x * x * x, shape=(2, 3, 4)), normal(3, 1)),
    "alias": (lambda x: ops.alias(x * x * x), normal(3)),
    "astype": (lambda x: ops.astype(x * x * x, dtype=np.float64), normal(3)),
    "reshape": (lambda x: ops.reshape(x * x * x, shape=(4, -1)), normal(3, 4)),
    "transpose": (lambda x: ops.transpose(x * x * x, axes=(2, 0, 1)), normal(2, 3, 4)),
    "concat": (
        lambda a, b: ops.concat(a * a, b * b * a[:, :2], a, axis=1),
        normal(3, 4),
        normal(3, 2),
    ),
    "pad": (lambda x: ops.pad(x * x * x, width=((1, 0), (0, 2))), normal(3, 4)),
    "getitem": (lambda x: ops.getitem(x * x * x, key=(ROWS, slice(1, 3))), normal(3, 4)),
    "scatter_add": (
        lambda g: ops.scatter_add(g * g * g, key=(ROWS, slice(1, 3)), shape=(3, 4)),
        normal(4, 2),
    ),
    "take": (lambda x: ops.take(x * x * x, index=ROWS.reshape(2, 2)), normal(3, 4)),
    "index_add": (
        lambda g: ops.index_add(g * g * g, index=ROWS.reshape(2, 2), n=3),
        normal(2, 2, 4),
    ),
    "conv2d": (
        lambda x, w: ops.tanh(conv.conv2d(x, w, **CONV)),
        normal(2, 4, 5, 6),
        normal(6, 2, 3, 2),
    ),
    "conv2d_input_grad": (
        lambda g, w: ops.tanh(conv.conv2d_input_grad(g, w, size=(5, 6), **CONV)),
        normal(2, 6, 3, 9),
        normal(6, 2, 3, 2),
    ),
    "conv2d_weight_grad": (
        lambda x, g: ops.tanh(conv.conv2d_weight_grad(x, g, kernel=(3, 2), **CONV)),
        normal(2, 4, 5, 6),
        normal(2, 6, 3, 9),
    ),
    "conv2d_bias": (
        lambda x, w, b: ops.tanh(conv.conv2d_bias(x, w, b, **CONV)),
        normal(2, 4, 5, 6),
        normal(6, 2, 3, 2),
        normal(6),
    ),
    "max_pool2d": (lambda x: conv.max_pool2d(x * 0.1, **POOL) * ops.sum(x * x), apart(2, 2, 5, 4)),
    "avg_pool2d": (lambda x: ops.tanh(conv.avg_pool2d(x, **POOL)), normal(2, 2, 5, 4)),
    "avg_pool2d_grad": (
        lambda g: ops.tanh(conv.avg_pool2d_grad(g, size=(5, 4), **POOL)),
        normal(2, 2, 3, 3),
    ),
    "linear": (lambda x, w, b: ops.tanh(linear(x, w, b)), normal(3, 4), normal(5, 4), normal(5)),
    "linear_relu": (
        lambda x, w, b: ops.tanh(linear_relu(x, w, b)) * ops.sum(x * x),
        normal(3, 4),
        normal(5, 4),
        normal(5),
    ),
    "conv2d_max_pool": (
        lambda x, w, b: ops.tanh(conv.conv2d_max_pool(x, w, b, steps=STEPS)) * ops.sum(x * x),
        normal(2, 3, 5, 6),
        normal(4, 3, 3, 2),
        normal(4),
    ),
    "batch_norm": (
        lambda x, gamma, beta: ops.tanh(
            batch_norm(x, gamma, beta, eps=1e-3, statistics=batch_statistics(raw(x)))
        ),
        normal(4, 3, 2, 2),
        normal(3),
        normal(3),
    ),
    "conv2d_batch_norm": (
        lambda x, *parameters: ops.tanh(conv_norm(x, *parameters)),
        normal(3, 2, 4, 3),
        normal(4, 2, 3, 3),
        normal(4),
        normal(4),
        normal(2, 4, 3, 3),
        normal(2),
        normal(2),
    ),
    "soft_cross_entropy": (lambda z: soft_cross_entropy(z, target=TARGET), normal(4, 3)),
    "label_cross_entropy": (
        lambda z: label_cross_entropy(z, labels=ROWS, smoothing=0.1, reduction="mean") * ops.sum(z),
        normal(4, 3),
    ),
}


def primitives():
    for name in MODULES:
        importlib.import_module(name)
    return {name: p for name, p in PRIMITIVES.items() if p.fn.__module__ in MODULES}


def drawn(name, seed=0):
    fn, *drawers = CASES[name]
    rng = np.random.default_rng(seed)
    return fn, [np.asarray(draw(rng), np.float64) for draw in drawers], rng


def test_every_primitive_is_checked():
    assert set(primitives()) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_case_calls_its_primitive(name, monkeypatch):
    # A row of the table that does not reach the primitive checks nothing.
    fn, arrays, _ = drawn(name)
    called, before = [], PRIMITIVES[name].fn
    monkeypatch.setattr(PRIMITIVES[name], "fn", lambda *a, **k: called.append(1) or before(*a, **k))
    fn(*(Tensor(a, True) for a in arrays))
    assert called


@pytest.mark.parametrize("name", CASES)
def test_gradients_to_order_three(name):
    fn, arrays, rng = drawn(name)
    assert grad_check(fn, *arrays, rng=rng, order=3) < 1e-7


@pytest.mark.parametrize(
    "name", [name for name, p in primitives().items() if isinstance(p, FusedPrimitive)]
)
def test_fused_equals_its_composite(name):
    fn, arrays, rng = drawn(name)
    fused = PRIMITIVES[name]
    y = fn(*(Tensor(a, True) for a in arrays))
    # The call as the table makes it, on inputs of its own.
    node = next(t for t in walk(y) if t.source is not None and t.source.primitive is fused)
    args, kw = node.source.args, node.source.kw
    inputs = [Tensor(raw(a).copy(), True) for a in args]
    one, two = fused(*inputs, **kw), fused.composite(*inputs, **kw)
    np.testing.assert_allclose(one.data, two.data, rtol=1e-13, atol=1e-13)
    cotangent = rng.standard_normal(one.shape)
    for a, b in zip(grad(one, inputs, cotangent=cotangent), grad(two, inputs, cotangent=cotangent)):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12, atol=1e-13)
    # Each argument's gradient alone, and the gradient that keeps its graph.
    for x, whole in zip(inputs, grad(one, inputs, cotangent=cotangent)):
        np.testing.assert_array_equal(grad(one, x, cotangent=cotangent).data, whole.data)
    again = grad(one, inputs, cotangent=cotangent, create_graph=True)
    for a, b in zip(again, grad(two, inputs, cotangent=cotangent)):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12, atol=1e-13)


def walk(t):
    # t and all that it was computed from
    stack, seen = [t], []
    while stack:
        t = stack.pop()
        seen.append(t)
        if t.source is not None:
            stack += [a for a in t.source.args if isinstance(a, Tensor)]
    return seen


LINEAR = [
    "neg",
    "sum",
    "mean",
    "sum_to",
    "broadcast_to",
    "reshape",
    "transpose",
    "pad",
    "getitem",
    "scatter_add",
    "take",
    "index_add",
    "avg_pool2d",
    "avg_pool2d_grad",
]
LINEAR_CASES = {
    "neg": (ops.neg, (3, 4)),
    "sum": (lambda x: ops.sum(x, axis=1), (3, 4)),
    "mean": (lambda x: ops.mean(x, axis=(0, 2)), (3, 4, 2)),
    "sum_to": (lambda x: ops.sum_to(x, np.ones((1, 4))), (2, 3, 4)),
    "broadcast_to": (lambda x: ops.broadcast_to(x, shape=(5, 3, 4)), (3, 1)),
    "reshape": (lambda x: ops.reshape(x, shape=(2, 6)), (3, 4)),
    "transpose": (lambda x: ops.transpose(x, axes=(1, 2, 0)), (3, 4, 2)),
    "pad": (lambda x: ops.pad(x, width=((2, 1), (0, 3))), (3, 4)),
    "getitem": (lambda x: ops.getitem(x, key=(ROWS, slice(None, None, 2))), (3, 4)),
    "scatter_add": (lambda x: ops.scatter_add(x, key=ROWS, shape=(3, 2)), (4, 2)),
    "take": (lambda x: ops.take(x, index=ROWS), (3, 2)),
    "index_add": (lambda x: ops.index_add(x, index=ROWS, n=5), (4, 2)),
    "avg_pool2d": (lambda x: conv.avg_pool2d(x, **POOL), (2, 2, 5, 4)),
    "avg_pool2d_grad": (lambda g: conv.avg_pool2d_grad(g, size=(5, 4), **POOL), (2, 2, 3, 3)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_gradient_is_the_adjoint(name):
    fn, shape = LINEAR_CASES[name]
    rng = np.random.default_rng(5)
    assert adjoint_check(fn, rng.standard_normal(shape), rng=rng) < 1e-12


# ------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "op, numpy",
    [
        (ops.add, np.add),
        (ops.sub, np.subtract),
        (ops.mul, np.multiply),
        (ops.div, np.divide),
        (ops.maximum, np.maximum),
        (ops.minimum, np.minimum),
    ],
)
def test_binary_operations_are_numpys(op, numpy):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 1, 4)), rng.standard_normal((5, 1))
    np.testing.assert_array_equal(op(a, b), numpy(a, b), strict=True)
    np.testing.assert_array_equal(op(Tensor(a), b).data, numpy(a, b), strict=True)


@pytest.mark.parametrize(
    "op, numpy",
    [
        (ops.neg, np.negative),
        (ops.exp, np.exp),
        (ops.log, np.log),
        (ops.sqrt, np.sqrt),
        (ops.tanh, np.tanh),
        (ops.absolute, np.abs),
        (ops.sign, np.sign),
        (ops.relu, lambda x: np.maximum(x, 0)),
    ],
)
def test_unary_operations_are_numpys(op, numpy):
    x = np.random.default_rng(0).uniform(0.1, 3.0, (3, 4)).astype(np.float32)
    np.testing.assert_array_equal(op(x), numpy(x), strict=True)


def test_sigmoid_does_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        y = ops.sigmoid(np.array([-1000.0, -1.0, 0.0, 1.0, 1000.0]))
    np.testing.assert_allclose(
        y, [0.0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1.0], rtol=1e-15
    )


def test_softmax_family_by_hand_and_without_overflow():
    x = np.array([[0.0, math.log(2.0), math.log(5.0)]])
    np.testing.assert_allclose(ops.softmax(x), [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-15)
    np.testing.assert_allclose(ops.logsumexp(x), [math.log(8.0)], rtol=1e-15)
    np.testing.assert_allclose(
        ops.log_softmax(x + 1e4), np.log([[1 / 8, 2 / 8, 5 / 8]]), atol=1e-11
    )
    assert ops.logsumexp(x, axis=0, keepdims=True).shape == (1, 3) and ops.logsumexp(
        x, axis=0
    ).shape == (3,)


def test_var_divides_by_n():
    x = np.array([[1.0, 3.0], [2.0, 6.0]])
    np.testing.assert_array_equal(ops.var(x, axis=1), [1.0, 4.0])


def test_min_stack_swapaxes_by_hand():
    x = np.array([[3.0, 1.0], [2.0, 5.0]])
    np.testing.assert_array_equal(ops.min(x, axis=0), [2.0, 1.0])
    np.testing.assert_array_equal(ops.stack(x[0], x[1], axis=-1), x.T)
    np.testing.assert_array_equal(ops.swapaxes(x, 0, 1), x.T)


def test_equal_entries_share_the_gradient():
    x = Tensor(np.array([1.0, 2.0, 2.0]), True)
    np.testing.assert_array_equal(grad(ops.max(x), x).data, [0.0, 0.5, 0.5])
    a, b = Tensor(np.array([2.0]), True), Tensor(np.array([2.0]), True)
    assert [g.item() for g in grad(ops.maximum(a, b).sum(), [a, b])] == [0.5, 0.5]


@pytest.mark.parametrize("op, slope", [(ops.relu, 0.0), (ops.absolute, 0.0), (ops.sign, 0.0)])
def test_slopes_at_zero(op, slope):
    x = Tensor(np.array([0.0]), True)
    y = op(x)
    assert not y.requires_grad or grad(y.sum(), x).item() == slope


def test_clip_has_slope_one_at_its_limits_and_open_ends():
    x = Tensor(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), True)
    np.testing.assert_array_equal(grad(ops.clip(x, lo=-1, hi=1).sum(), x).data, [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(grad(ops.clip(x, lo=None, hi=1).sum(), x).data, [1, 1, 1, 1, 0])
    np.testing.assert_array_equal(grad(ops.clip(x, lo=0, hi=None).sum(), x).data, [0, 0, 1, 1, 1])


def test_power_of_zero_and_one():
    x = Tensor(np.array([0.0, 2.0]), True)
    np.testing.assert_array_equal(grad((x**0).sum(), x).data, [0.0, 0.0])
    np.testing.assert_array_equal(grad((x**1).sum(), x).data, [1.0, 1.0])
    np.testing.assert_array_equal(grad((x**2).sum(), x).data, [0.0, 4.0])
    with pytest.raises(TypeError, match="exponent must be a number"):
        x**x


def test_repeated_indices_add_up():
    x = Tensor(np.arange(3.0), True)
    np.testing.assert_array_equal(grad(x[np.array([0, 2, 2, 2])].sum(), x).data, [1, 0, 3])
    np.testing.assert_array_equal(
        grad(ops.take(x, index=np.array([[1, 1], [0, 1]])).sum(), x).data, [1, 3, 0]
    )
    np.testing.assert_array_equal(
        ops.index_add(np.ones((4, 2)), index=ROWS, n=4), [[1, 1], [1, 1], [2, 2], [0, 0]]
    )


def test_boolean_masks_and_newaxis_index():
    x = Tensor(np.arange(6.0).reshape(2, 3), True)
    mask = x.data > 2
    np.testing.assert_array_equal(grad(x[mask].sum(), x).data, mask)
    assert x[None, ..., 1].shape == (1, 2)


def test_matmul_refuses_vectors():
    with pytest.raises(ValueError, match="at least 2 axes"):
        ops.matmul(np.ones(3), np.ones((3, 2)))


@given(st.data())
def test_broadcasting_gradients_have_their_arguments_shapes(data):
    # Any two shapes that broadcast: the gradient of a sum of products is the other's sum over the
    # stretch.
    full = data.draw(st.lists(st.integers(1, 3), min_size=0, max_size=4), label="shape")

    def shrunk():
        cut = data.draw(st.integers(0, len(full)))
        return [1 if data.draw(st.booleans()) else n for n in full[cut:]]

    rng = np.random.default_rng(0)
    a, b = (Tensor(rng.standard_normal(shrunk()), True) for _ in range(2))
    ga, gb = grad((a * b).sum(), [a, b])
    assert (ga.shape, gb.shape) == (a.shape, b.shape)
    whole = np.broadcast_shapes(a.shape, b.shape)
    pads = (1,) * (len(whole) - a.ndim) + a.shape
    axes = tuple(i for i, n in enumerate(pads) if n == 1)
    expected = np.broadcast_to(b.data, whole).sum(axis=axes, keepdims=True).reshape(a.shape)
    np.testing.assert_allclose(ga.data, expected, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("astype", "soft_cross_entropy")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept_forward_and_backward(name, dtype):
    fn, arrays, _ = drawn(name)
    tensors = [Tensor(a.astype(dtype), True) for a in arrays]
    y = fn(*tensors)
    assert y.dtype == dtype
    for g in grad(y.sum(), tensors):
        assert g.dtype == dtype
    for g in grad(fn(*tensors).sum(), tensors, create_graph=True):
        assert g.dtype == dtype


def test_cross_entropy_keeps_float32():
    z = Tensor(np.zeros((4, 3), np.float32), True)
    y = soft_cross_entropy(z, target=TARGET.astype(np.float32))
    assert y.dtype == np.float32 and grad(y.sum(), z).dtype == np.float32


def test_astype_casts_and_its_gradient_casts_back():
    x = Tensor(np.ones(2, np.float32), True)
    y = x.astype(np.float64)
    assert y.dtype == np.float64 and grad(y.sum(), x).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
def test_the_gradient_of_a_table_is_the_same_for_every_type_of_index(dtype):
    # float32 and small unsigned indices take kernels; both ways are differentiable again
    rng = np.random.default_rng(0)
    table, index = rng.normal(size=7).astype(np.float32), rng.integers(0, 7, (30, 9)).astype(dtype)
    g = rng.normal(size=index.shape).astype(np.float32)
    x = Tensor(table, requires_grad=True)
    y = ops.take(x * x, index=index)
    np.testing.assert_array_equal(y.data, (table * table)[index], strict=True)
    first = grad((y * g).sum(), x, create_graph=True)
    sums = np.bincount(index.ravel().astype(int), g.ravel().astype(np.float64), 7)
    np.testing.assert_allclose(first.data, 2 * table * sums, rtol=1e-6)
    np.testing.assert_allclose(grad(first.sum(), x).data, 2 * sums, rtol=1e-6)
    assert first.dtype == np.float32
