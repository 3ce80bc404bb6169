import numpy as np
import pytest

from minicomp import ops
from minicomp.gradcheck import adjoint_check, grad_check
from minicomp.tensor import PRIMITIVES, primitive, rules


@pytest.fixture
def wrong():
    # x -> x^3 by a primitive whose gradient is right at order 1 and wrong at order 2 where `factor`
    # is not 1.
    before = dict(PRIMITIVES)

    def make(first: float, second: float):
        @primitive
        def cube(x):
            return x**3

        @primitive
        def slope(x):
            return 3.0 * x**2

        rules(cube, lambda g, y, x: g * slope(x) * first)
        rules(slope, lambda g, y, x: g * x * 6.0 * second)
        PRIMITIVES.clear()
        PRIMITIVES.update(before)
        return cube

    yield make
    PRIMITIVES.clear()
    PRIMITIVES.update(before)


def points(seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 2.0, (3, 4)), rng


def test_a_right_gradient_passes_at_every_order(wrong):
    x, rng = points()
    assert grad_check(wrong(1.0, 1.0), x, rng=rng, order=3) < 1e-8


@pytest.mark.parametrize("factor", [0.0, -1.0, 2.0, 1.0 + 1e-5])
def test_a_wrong_first_gradient_is_caught(wrong, factor):
    x, rng = points()
    with pytest.raises(AssertionError, match="order 1"):
        grad_check(wrong(factor, 1.0), x, rng=rng)


@pytest.mark.parametrize("factor", [0.0, 2.0, 1.0 + 1e-5])
def test_a_wrong_second_gradient_is_caught_by_order_two_only(wrong, factor):
    x, rng = points()
    assert grad_check(wrong(1.0, factor), x, rng=rng) < 1e-8
    with pytest.raises(AssertionError, match="order 2"):
        grad_check(wrong(1.0, factor), x, rng=rng, order=2)


def test_a_small_wrong_entry_of_many_is_caught():
    before = dict(PRIMITIVES)

    @primitive
    def copy_but_one(x):
        return x * 1.0

    def rule(g, y, x):
        mask = np.ones(g.shape)
        mask.flat[17] = 0.0
        return g * mask

    rules(copy_but_one, rule)
    PRIMITIVES.clear()
    PRIMITIVES.update(before)
    rng = np.random.default_rng(1)
    with pytest.raises(AssertionError, match="order 1"):
        grad_check(copy_but_one, rng.standard_normal((20, 20)), rng=rng)


def test_several_arguments_and_outputs():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
    assert grad_check(lambda a, b: ops.tanh(ops.matmul(a, b)), a, b, rng=rng, order=3) < 1e-7


def test_linear_and_constant_functions_have_zero_higher_derivatives():
    x, rng = points()
    assert grad_check(lambda x: x * 3.0, x, rng=rng, order=3) < 1e-9


def test_only_float64_is_checked():
    with pytest.raises(TypeError, match=r"arrays\[1\] must be float64, got float32"):
        grad_check(ops.add, np.ones(2), np.ones(2, np.float32), rng=np.random.default_rng(0))


def test_adjoint_check_passes_what_is_adjoint():
    rng = np.random.default_rng(3)
    A = rng.standard_normal((6, 5))
    assert adjoint_check(lambda x: ops.matmul(A, x), rng.standard_normal((5, 2)), rng=rng) < 1e-14


def test_adjoint_check_catches_what_is_not():
    before = dict(PRIMITIVES)

    @primitive
    def skewed(x):
        return x * 2.0

    rules(skewed, lambda g, y, x: g * (2.0 + 1e-9))
    PRIMITIVES.clear()
    PRIMITIVES.update(before)
    rng = np.random.default_rng(4)
    with pytest.raises(AssertionError, match="relative difference"):
        adjoint_check(skewed, np.abs(rng.standard_normal(5)) + 1.0, rng=np.random.default_rng(9))
