import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.maps import dense

RUNGS = cpu.distinct("maps")
isa = pytest.mark.parametrize("isa", RUNGS)
SIZES = [
    (1, 1, 1),
    (64, 800, 50),
    (5, 33, 7),
    (65, 17, 63),
    (63, 64, 65),
    (128, 100, 10),
    (1, 784, 30),
    (2, 0, 3),
    (0, 4, 3),
]


def whole(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


@isa
@pytest.mark.parametrize("n, i, o", SIZES)
def test_whole_numbers_are_exact(isa, n, i, o):
    rng = np.random.default_rng(0)
    x, w, b, g = whole(rng, n, i), whole(rng, o, i), whole(rng, o), whole(rng, n, o)
    np.testing.assert_array_equal(
        dense.linear(x, w, b, isa=isa), dense.linear_ref(x, w, b), strict=True
    )
    np.testing.assert_array_equal(
        dense.linear(x, w, isa=isa), dense.linear_ref(x, w, None), strict=True
    )
    np.testing.assert_array_equal(dense.linear_input_grad(g, w, isa=isa), g @ w, strict=True)
    for got, e in zip(dense.linear_weight_grad(x, g, isa=isa), (g.T @ x, g.sum(axis=0))):
        np.testing.assert_array_equal(got, e, strict=True)


@isa
def test_rounding_stays_within_its_bound(isa):
    rng = np.random.default_rng(1)
    x, w, b, g = (
        rng.standard_normal(s).astype(np.float32) for s in ((70, 300), (90, 300), (90,), (70, 90))
    )
    wide = [a.astype(np.float64) for a in (x, w, b, g)]

    def all_of(x, w, b, g):
        return x @ w.T + b, g @ w, g.T @ x, g.sum(axis=0)

    got = (
        dense.linear(x, w, b, isa=isa),
        dense.linear_input_grad(g, w, isa=isa),
        *dense.linear_weight_grad(x, g, isa=isa),
    )
    for y, exact, size, n in zip(got, all_of(*wide), all_of(*map(np.abs, wide)), (301, 90, 70, 70)):
        assert (np.abs(y - exact) <= (n + 1) * 2.0**-24 * size).all()


@isa
def test_read_only_strided_and_other_dtypes(isa):
    rng = np.random.default_rng(2)
    x, w, b, g = whole(rng, 20, 30), whole(rng, 40, 30), whole(rng, 40), whole(rng, 20, 40)
    y, dx, (dw, db) = dense.linear_ref(x, w, b), g @ w, dense.linear_weight_grad_ref(x, g)
    wide = [np.repeat(a, 2, axis=-1)[..., ::2] for a in (x, w, b, g)]
    turned = [np.asfortranarray(a) for a in (x, w, b, g)]
    double = [a.astype(np.float64) for a in (x, w, b, g)]
    for x, w, b, g in (wide, turned, double):
        for a in (x, w, b, g):
            a.setflags(write=False)
        assert dense.linear(x, w, b, isa=isa).dtype == x.dtype
        np.testing.assert_array_equal(dense.linear(x, w, b, isa=isa), y)
        np.testing.assert_array_equal(dense.linear_input_grad(g, w, isa=isa), dx)
        for got, e in zip(dense.linear_weight_grad(x, g, isa=isa), (dw, db)):
            np.testing.assert_array_equal(got, e)


@pytest.mark.parametrize("o", [33, 65])
def test_a_row_does_not_depend_on_its_batch_on_the_tile(o):
    if "avx512" not in RUNGS:
        pytest.skip("the tile is the avx512 rung")
    rng = np.random.default_rng(3)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((150, 77), (o, 77), (o,)))
    y = dense.linear(x, w, b, isa="avx512")
    for rows in (slice(0, 30), slice(100, 150), slice(7, 9)):
        np.testing.assert_array_equal(dense.linear(x[rows], w, b, isa="avx512"), y[rows])


@isa
def test_one_row_is_left_to_blas(isa):
    # The kernel would copy W into tiles first: six times the time of reading it once.
    rng = np.random.default_rng(4)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((1, 784), (300, 784), (300,)))
    y = dense.linear(x, w, b, isa=isa)
    np.testing.assert_array_equal(y, dense.linear_ref(x, w, b), strict=True)


@isa
def test_shapes_that_do_not_fit_are_named(isa):
    x, w, g = np.ones((4, 3), np.float32), np.ones((5, 3), np.float32), np.ones((4, 5), np.float32)
    for call in (
        lambda: dense.linear(x, w[:, :2], isa=isa),
        lambda: dense.linear(x, w, np.ones(4, np.float32), isa=isa),
        lambda: dense.linear_input_grad(g[:, :4], w, isa=isa),
        lambda: dense.linear_weight_grad(x[:3], g, isa=isa),
        lambda: dense.sgd(w, w.copy(), w[:2], lr=0.1, momentum=0.9, isa=isa),
        lambda: dense.relu_dx(g, g[:2], isa=isa),
    ):
        with pytest.raises(ValueError, match="the shapes do not fit each other"):
            call()


@isa
@pytest.mark.parametrize("n, i, o", SIZES)
def test_relu_in_the_same_pass(isa, n, i, o):
    rng = np.random.default_rng(6)
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((n, i), (o, i), (o,)))
    if n and i > 1:
        x[0, 0] = np.nan  # and no sum loses it
    y = dense.linear(x, w, b, relu=True, isa=isa)
    np.testing.assert_array_equal(y, np.maximum(dense.linear(x, w, b, isa=isa), 0), strict=True)
    g = rng.standard_normal(y.shape).astype(np.float32)
    for a in (g, np.asfortranarray(g), g.astype(np.float64)):
        got = dense.relu_dx(a, y.astype(a.dtype), isa=isa)
        np.testing.assert_array_equal(got, np.where(y > 0, a, 0).astype(a.dtype), strict=True)


@isa
@pytest.mark.parametrize("shape", [(0,), (1,), (63,), (64,), (65,), (5, 7, 3)])
def test_sgd_gives_the_references_bits(isa, shape):
    rng = np.random.default_rng(4)
    w, v, g = (rng.standard_normal(shape).astype(np.float32) for _ in range(3))
    g.setflags(write=False)
    ours, theirs = (w.copy(), v.copy()), (w.copy(), v.copy())
    for lr, decay in ((0.1, 0.0), (0.03, 0.25)):
        dense.sgd(*ours, g, lr=lr, momentum=0.9, decay=decay, isa=isa)
        dense.sgd_ref(*theirs, g, lr, 0.9, decay)
    for a, e in zip(ours, theirs):
        np.testing.assert_array_equal(a, e, strict=True)
    assert not w.size or not np.array_equal(ours[0], w)


@isa
def test_sgd_of_strided_and_double_arrays_works_in_place(isa):
    rng = np.random.default_rng(5)
    for make in (
        lambda: rng.standard_normal((6, 4)),
        lambda: rng.standard_normal((6, 4)).astype(np.float32).T,
    ):
        w, v, g = make(), make(), make()
        before, e = w, (w.copy(), v.copy())
        dense.sgd(w, v, g, lr=0.5, momentum=0.5, decay=0.1, isa=isa)
        dense.sgd_ref(*e, g, 0.5, 0.5, 0.1)
        assert before is w
        np.testing.assert_array_equal(w, e[0])
        np.testing.assert_array_equal(v, e[1])
