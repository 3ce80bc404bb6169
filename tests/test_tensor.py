import operator
import threading

import numpy as np
import pytest

from minicomp import ops
from minicomp.tensor import (
    PRIMITIVES,
    Tensor,
    fused,
    grad,
    hvp,
    no_grad,
    primitive,
    raw,
    rules,
    variadic_rule,
)


@pytest.fixture
def scratch(monkeypatch):
    # A PRIMITIVES of which the test's own additions vanish afterwards.
    before = dict(PRIMITIVES)
    yield PRIMITIVES
    PRIMITIVES.clear()
    PRIMITIVES.update(before)


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


# ------------------------------------------------------------------------------------- by hand


def test_gradient_of_a_product_by_hand():
    a, b = leaf(2.0, 3.0), leaf(5.0, 7.0)
    (a * b + a).sum().backward()
    np.testing.assert_array_equal(a.grad, [6.0, 8.0])  # b + 1
    np.testing.assert_array_equal(b.grad, [2.0, 3.0])  # a


def test_derivatives_of_x_cubed_to_order_three():
    x = leaf(2.0)
    y = (x * x * x).sum()
    first = grad(y, x, create_graph=True)
    second = grad(first.sum(), x, create_graph=True)
    third = grad(second.sum(), x)
    assert [first.item(), second.item(), third.item()] == [12.0, 12.0, 6.0]


def test_hvp_by_hand():
    # f = a^2 b: H = [[2b, 2a], [2a, 0]]
    a, b = leaf(3.0), leaf(5.0)
    ha, hb = hvp(lambda a, b: (a * a * b).sum(), [a, b], [np.array([1.0]), np.array([2.0])])
    assert (ha.item(), hb.item()) == (10 * 1 + 6 * 2, 6 * 1)


def test_hvp_columns_are_the_hessian():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((5, 5))
    x = Tensor(rng.standard_normal((5, 1)), True)
    columns = [hvp(lambda x: (x.T @ Tensor(A) @ x).sum(), [x], [e[:, None]])[0] for e in np.eye(5)]
    np.testing.assert_allclose(np.hstack(columns), A + A.T, rtol=1e-14)


def test_hvp_of_what_is_linear_or_absent_is_zero():
    a, b = leaf(1.0, 2.0), leaf(4.0)
    ha, hb = hvp(lambda a, b: (3.0 * a).sum(), [a, b], [np.ones(2), np.ones(1)])
    np.testing.assert_array_equal(ha, [0.0, 0.0])
    np.testing.assert_array_equal(hb, [0.0])


def test_hvp_works_within_no_grad():
    x = leaf(2.0)
    with no_grad():
        assert hvp(lambda x: (x * x).sum(), [x], [np.array([1.0])])[0].item() == 2.0


# ------------------------------------------------------------------------------- accumulation


def test_backward_adds_up_over_calls_and_paths():
    x = leaf(2.0)
    y = x * x
    (y + y).sum().backward()
    assert x.grad.item() == 8.0
    (x * 1.0).sum().backward()
    assert x.grad.item() == 9.0


def test_backward_leaves_gradients_of_intermediate_results_alone():
    x = leaf(2.0)
    y = x * 3.0
    y.sum().backward()
    assert y.grad is None and x.grad.item() == 3.0


def test_gradients_do_not_share_memory_with_each_other():
    a, b = leaf(1.0), leaf(2.0)
    (a + b).backward()
    a.grad += 10.0
    assert b.grad.item() == 1.0


def test_diamond_of_many_paths_is_walked_once():
    # 2^60 paths: only a topological walk ends.
    x = leaf(1.0)
    y = x
    for _ in range(60):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**60


def test_deep_graph_needs_no_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(5000):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1.0


# ---------------------------------------------------------------------------------------- grad


def test_grad_leaves_grad_attributes_alone():
    x = leaf(3.0)
    assert grad((x * x).sum(), x).item() == 6.0
    assert x.grad is None


def test_grad_of_an_intermediate_result():
    x = leaf(3.0)
    y = x * x
    z = (y * y).sum()
    dy, dx = grad(z, [y, x])
    assert (dy.item(), dx.item()) == (18.0, 108.0)


def test_grad_of_the_output_by_itself_is_one():
    x = leaf(3.0)
    y = (x * 2.0).sum()
    assert grad(y, y).item() == 1.0


def test_grad_is_zero_where_there_is_no_dependence():
    x, other = leaf(3.0), leaf(1.0, 2.0)
    np.testing.assert_array_equal(grad((x * x).sum(), [x, other])[1].data, [0.0, 0.0])


def test_grad_with_a_cotangent():
    x = leaf(1.0, 2.0, 3.0)
    g = grad(x * x, x, cotangent=np.array([1.0, 10.0, 100.0]))
    np.testing.assert_array_equal(g.data, [2.0, 40.0, 600.0])


def test_grad_without_create_graph_is_a_constant():
    x = leaf(3.0)
    assert not grad((x * x).sum(), x).requires_grad
    assert grad((x * x).sum(), x, create_graph=True).requires_grad


def test_cotangent_can_be_differentiated():
    x, v = leaf(3.0), leaf(2.0)
    g = grad(x * x, x, create_graph=True, cotangent=v)
    assert grad(g.sum(), v).item() == 6.0


# -------------------------------------------------------------------------------------- no_grad


def test_no_grad_records_nothing_and_ends():
    x = leaf(1.0)
    with no_grad():
        assert not (x * 2.0).requires_grad
    assert (x * 2.0).requires_grad


def test_no_grad_ends_with_an_exception():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="inside"), no_grad():
        raise RuntimeError("inside")
    assert (x * 2.0).requires_grad


def test_no_grad_holds_in_its_own_thread_only():
    x, seen = leaf(1.0), []
    with no_grad():
        thread = threading.Thread(target=lambda: seen.append((x * 2.0).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]


# ---------------------------------------------------------------------------------- the Tensor


def test_operators_take_numbers_and_arrays_on_either_side():
    x = leaf(4.0)
    array = np.array([2.0])
    results = [
        x + 1,
        1 + x,
        x - 1,
        1 - x,
        x * 2,
        2 * x,
        x / 2,
        2 / x,
        -x,
        x**2,
        array + x,
        array - x,
        array * x,
        array / x,
    ]
    assert all(isinstance(y, Tensor) for y in results)
    assert [y.item() for y in results] == [5, 5, 3, -3, 8, 8, 2, 0.5, -4, 16, 6, -2, 8, 0.5]


def test_matmul_operator_on_either_side():
    x, a = Tensor(np.eye(2) * 3.0, True), np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal((x @ a).data, 3 * a)
    np.testing.assert_array_equal((a @ x).data, 3 * a)


def test_shape_attributes_and_methods():
    x = Tensor(np.arange(6.0).reshape(2, 3), True)
    assert (x.shape, x.ndim, x.size, len(x), x.dtype) == ((2, 3), 2, 6, 2, np.float64)
    assert x.T.shape == (3, 2) and x.transpose(1, 0).shape == (3, 2)
    assert x.reshape(3, 2).shape == x.reshape((3, 2)).shape == (3, 2)
    assert (
        x.sum().item() == 15
        and x.mean(axis=0).shape == (3,)
        and x.max(axis=1).data.tolist() == [2, 5]
    )
    assert x[1, 2].item() == 5 and x.astype(np.float32).dtype == np.float32
    assert "requires_grad=True" in repr(x) and "requires_grad" not in repr(x.detach())


def test_detach_shares_memory_and_stops_gradients():
    x = leaf(2.0)
    d = x.detach()
    assert d.data is x.data and not d.requires_grad
    assert grad((x * d).sum(), x).item() == 2.0


def test_a_tensor_does_not_become_an_array_silently():
    with pytest.raises(TypeError, match="use .numpy()"):
        np.asarray(leaf(1.0))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: Tensor(leaf(1.0)), TypeError, "must be an array"),
        (lambda: Tensor(np.arange(3), requires_grad=True), TypeError, "floating point, got int64"),
        (lambda: Tensor(np.ones(2)).sum().backward(), ValueError, "requires_grad=True"),
        (lambda: (leaf(1.0, 2.0) * 2.0).backward(), ValueError, r"shape \(2,\) needs a cotangent"),
        (
            lambda: (leaf(1.0, 2.0) * 2.0).backward(np.ones(3)),
            ValueError,
            r"must have shape \(2,\), got \(3,\)",
        ),
        (lambda: grad(leaf(1.0), np.ones(1)), ValueError, r"inputs\[0\] must be a Tensor"),
        (lambda: grad(leaf(1.0), Tensor(np.ones(1))), ValueError, r"inputs\[0\] must be a Tensor"),
        (
            lambda: hvp(lambda x: x.sum(), [leaf(1.0)], [np.ones(2)]),
            ValueError,
            r"vectors\[0\] must have shape",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_float32_stays_float32_through_a_graph_with_numbers():
    x = leaf(1.0, 2.0, dtype=np.float32)
    y = (x * 2 + 1.5) / 3 - x**2
    y.sum().backward()
    assert y.dtype == x.grad.dtype == np.float32


def test_gradient_has_the_dtype_of_its_tensor():
    x, w = leaf(1.0, dtype=np.float32), leaf(2.0, dtype=np.float64)
    (x * w).sum().backward()
    assert (x.grad.dtype, w.grad.dtype) == (np.float32, np.float64)


# -------------------------------------------------------------------------- defining primitives


def test_a_primitive_on_arrays_is_numpy(scratch):
    @primitive
    def twice(x):
        return 2 * x

    rules(twice, lambda g, y, x: twice(g))
    assert isinstance(twice(np.ones(2)), np.ndarray)
    x = leaf(1.0)
    assert grad(twice(x).sum(), x).item() == 2.0


def test_a_name_is_taken_once(scratch):
    with pytest.raises(AssertionError, match="two primitives are called add"):

        @primitive
        def add(x):
            return x


def test_a_variadic_rule_gets_the_position(scratch):
    @primitive
    def weighted(*xs):
        return sum((i + 1) * x for i, x in enumerate(xs))

    variadic_rule(weighted, lambda i, g, y, *xs: (i + 1) * g)
    xs = [leaf(1.0) for _ in range(3)]
    assert [g.item() for g in grad(weighted(*xs), xs)] == [1.0, 2.0, 3.0]


def test_an_unwanted_gradient_is_not_computed(scratch):
    @primitive
    def product(a, b):
        return a * b

    def never(g, y, a, b):
        raise RuntimeError("asked for the gradient of a constant")

    rules(product, lambda g, y, a, b: g * b, never)
    x = leaf(2.0)
    assert grad(product(x, np.array([3.0])), x).item() == 3.0
    constant = Tensor(np.array([3.0]))
    assert grad(product(x, constant), x).item() == 3.0


def test_a_fused_primitive_runs_its_backward_and_for_more_its_composite(scratch):
    calls = []

    def backward(g, saved, wanted, x):
        calls.append("backward")
        return (3.0 * saved * g,)

    def composite(x):
        calls.append("composite")
        return x * x * x

    @fused(backward=backward, composite=composite)
    def cube(x, *, save):
        return x**3, x * x if save else None

    x = leaf(2.0)
    assert cube(raw(x)).item() == 8.0 and calls == []
    assert grad(cube(x), x).item() == 12.0 and calls == ["backward"]
    first = grad(cube(x), x, create_graph=True)
    assert first.item() == 12.0 and calls == ["backward", "composite"]
    assert grad(first, x).item() == 12.0
    with no_grad():
        assert cube(x).source is None


def test_a_fused_primitive_of_a_repeated_argument(scratch):
    @fused(backward=lambda g, saved, wanted, a, b: (g * b, g * a), composite=lambda a, b: a * b)
    def product(a, b, *, save):
        return a * b, None

    x = leaf(3.0)
    assert grad(product(x, x), x).item() == 6.0
    first = grad(product(x, x), x, create_graph=True)
    assert first.item() == 6.0 and grad(first, x).item() == 2.0


def test_ops_are_listed_under_their_names():
    assert all(PRIMITIVES[name].__name__ == name for name in PRIMITIVES)
    assert PRIMITIVES["add"] is ops.add and ops.add.__doc__


SCALARS = [2.5, 2, np.float64(2.5), np.float32(2.5), np.float16(2.5), np.longdouble(2.5),
           np.int64(2), np.array(2.5), np.array(2.5, np.float32), np.array(2)]


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), ()])
def test_a_scalar_of_any_type_leaves_the_dtype_of_a_tensor(scalar, dtype, shape):
    x = Tensor(np.full(shape, 1.5, dtype), requires_grad=True)
    results = [f(*pair) for pair in ((x, scalar), (scalar, x)) for f in (
        operator.add, operator.sub, operator.mul, operator.truediv, ops.maximum, ops.minimum)]
    results += [x ** scalar, ops.clip(x, lo=scalar, hi=None), ops.clip(x, lo=None, hi=scalar),
                ops.where(np.array(True), x, scalar), ops.where(np.array(False), scalar, x)]
    for y in results:
        assert isinstance(y, Tensor) and y.dtype == dtype and y.shape == shape
        for create_graph in (False, True):
            assert grad(y.sum(), x, create_graph=create_graph).dtype == dtype
    assert (x * scalar).data == pytest.approx(1.5 * float(scalar))
