import math

import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.maps import norm
from minicomp.kernels.layout import as_nhwc

RUNGS = cpu.distinct("maps")
isa = pytest.mark.parametrize("isa", RUNGS)
shapes = pytest.mark.parametrize(
    "shape", [(1, 1), (64, 65), (5, 63, 3, 4), (2, 64, 1, 1), (3, 17, 5, 7)]
)


def real(shape, seed=0, scale=1.0, mean=0.0):
    rng = np.random.default_rng(seed)
    a = (mean + scale * rng.standard_normal(shape)).astype(np.float32)
    a.setflags(write=False)
    return a


@isa
@shapes
def test_moments_and_sums_are_the_references_to_double_precision(isa, shape):
    x, g = real(shape), real(shape, 1)
    mean, var = norm.moments(x, isa=isa)
    expected, spread = norm.moments_ref(x)
    assert mean.dtype == var.dtype == np.float64
    np.testing.assert_allclose(mean, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(var, spread, rtol=1e-12, atol=1e-13)
    around = mean.astype(np.float32)
    for got, e in zip(norm.sums(g, x, around, isa=isa), norm.sums_ref(g, x, around)):
        np.testing.assert_allclose(got, e, rtol=1e-12, atol=1e-11)


@isa
def test_variance_survives_a_large_mean(isa):
    x = real((1000, 3), mean=4096.0, scale=2.0**-6)
    np.testing.assert_allclose(
        norm.moments(x, isa=isa)[1], x.astype(np.float64).var(axis=0), rtol=1e-9
    )


@isa
def test_variance_of_a_constant_is_zero_and_never_negative(isa):
    assert (norm.moments(np.full((77, 5), 0.1, np.float32), isa=isa)[1] == 0.0).all()


@isa
@shapes
def test_affine_and_blend_give_the_references_bits(isa, shape):
    x, g = real(shape), real(shape, 1)
    a, b, d = real(3 * shape[1], 2).reshape(3, -1)
    for other in (x, np.asfortranarray(x), as_nhwc(x) if x.ndim == 4 else x):
        np.testing.assert_array_equal(norm.affine(other, a, b, isa=isa), norm.affine_ref(x, a, b))
        np.testing.assert_array_equal(
            norm.blend(g, other, a, b, d, isa=isa), norm.blend_ref(g, x, a, b, d), strict=True
        )


@isa
@shapes
@pytest.mark.parametrize("top", [0.75, math.inf])
def test_a_gate_has_the_references_bits_in_every_pass(isa, shape, top):
    x, g = real(shape), real(shape, 1)
    a, b, d, p, q = real(5 * shape[1], 2).reshape(5, -1)
    gate = norm.Gate(p, q, top)
    np.testing.assert_array_equal(
        norm.affine(x, p, q, top, isa=isa), norm.affine_ref(x, p, q, top), strict=True)
    np.testing.assert_array_equal(
        norm.blend(g, x, a, b, d, gate, isa=isa), norm.blend_ref(g, x, a, b, d, gate), strict=True)
    for got, e in zip(norm.sums(g, x, d, gate, isa=isa), norm.sums_ref(g, x, d, gate)):
        np.testing.assert_allclose(got, e, rtol=1e-12, atol=1e-11)


@isa
def test_a_gate_is_closed_at_its_limits_and_for_nan(isa):
    x = np.array([[-1.0], [0.0], [1.0], [6.0], [7.0], [np.nan]], np.float32)
    x = np.concatenate([x] * 17, axis=1)
    one, nought = np.ones(17, np.float32), np.zeros(17, np.float32)
    y = norm.affine(x, one, nought, 6.0, isa=isa)
    np.testing.assert_array_equal(y[:, 0], [0, 0, 1, 6, 6, np.nan])
    g, gate = np.ones_like(x), norm.Gate(one, nought, 6.0)
    s, _ = norm.sums(g[:5], x[:5], nought, gate, isa=isa)
    np.testing.assert_array_equal(s, 1)
    dx = norm.blend(g[:5], x[:5], one, nought, nought, gate, isa=isa)
    np.testing.assert_array_equal(dx[:, 3], [0, 0, 1, 0, 0])


@isa
@pytest.mark.parametrize("rows", [1, 3, 77])
def test_bits_do_not_depend_on_threads(isa, rows):
    x, g, v = real((rows, 33)), real((rows, 33), 1), real((33,), 2)
    for one, two in zip(*(norm.sums(g, x, v, isa=isa, n_threads=n) for n in (1, 2))):
        np.testing.assert_array_equal(one, two)
    one, two = (norm.affine(x, v, v, 6.0, isa=isa, n_threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match="n_threads must be"):
        norm.affine(x, v, v, n_threads=0)


@isa
def test_shapes_that_do_not_fit_are_named(isa):
    x, short = real((4, 3)), real((2,))
    for call in (
        lambda: norm.affine(x, short, short, isa=isa),
        lambda: norm.blend(x[:2], x, *real((3, 3)), isa=isa),
        lambda: norm.sums(x[:, :2], x, real((3,)), isa=isa),
        lambda: norm.sums(x, x, real((3,)), norm.Gate(short, short, 6.0), isa=isa),
    ):
        with pytest.raises(ValueError, match="arrays must have shape"):
            call()


@isa
def test_float64_and_empty_batches_run_the_reference(isa):
    x, ones = np.ones((0, 3), np.float32), np.ones(3, np.float32)
    assert norm.affine(x, ones, ones, isa=isa).shape == (0, 3)
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 2))
    assert norm.affine(x, np.ones(3), np.ones(3), isa=isa).dtype == np.float64
    np.testing.assert_array_equal(norm.moments(x, isa=isa)[0], x.mean(axis=(0, 2, 3)))
