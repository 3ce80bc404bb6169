import numpy as np
import pytest

from minicomp.grid import (affine_params, code_range, dequantize, fake_quantize, lsq_quantize,
                           quantize, symmetric_scale)
from minicomp.grid.affine import TINY
from minicomp.tensor import Tensor, grad


def test_ranges_of_codes():
    assert code_range(8, "narrow") == (-127, 127) and code_range(8, "full") == (-128, 127)
    assert code_range(4, "unsigned") == (0, 15) and code_range(1, "midrise") == (-1, 0)
    for bits, grid in ((0, "full"), (17, "full"), (1, "narrow"), (True, "full"), (2.0, "full")):
        with pytest.raises(ValueError, match="bits must be an integer in"):
            code_range(bits, grid)
    with pytest.raises(ValueError, match="grid must be one of"):
        code_range(4, "wide")


def test_affine_parameters_by_hand():
    for lo, hi, scale, zero_point in ((2.0, 3.4, 3.4 / 255, 0), (-1.0, 3.0, 4 / 255, 64),
                                      (0.0, 0.0, 1.0, 0), (-3.4, -2.0, 3.4 / 255, 255)):
        s, z = affine_params(lo, hi)
        assert s == np.float32(scale) and z == zero_point
    s, z = affine_params([-1.0, 0.0], [2.0, 1.5], bits=4, grid="full")
    np.testing.assert_array_equal(s, np.float32([0.2, 0.1]))
    assert z.tolist() == [-3, -8]
    assert affine_params(0, 1e-45)[0] == TINY


def test_wrong_ranges_are_refused():
    for lo, hi, wrong in ((np.nan, 1, "r_min must be finite"), (0, np.inf, "r_max must be finite"),
                          (2, 1, "r_min must be at most r_max"), (-1e39, 1e39, "fit into float32")):
        with pytest.raises(ValueError, match=wrong):
            affine_params(lo, hi, bits=1)
    with pytest.raises(ValueError, match="a zero point needs grid full or unsigned"):
        affine_params(0, 1, grid="narrow")


def test_symmetric_scales_by_hand():
    assert symmetric_scale(2.54) == np.float32(0.02)
    assert symmetric_scale(1.0, grid="full", divisor=127.5) == np.float32(1 / 127.5)
    assert symmetric_scale(1.5, bits=2, grid="midrise") == 1
    assert symmetric_scale(0.0) == 1 and symmetric_scale(1e-44) == TINY
    assert symmetric_scale(0.0, grid="midrise") == TINY  # nothing is 0 there, this nearly
    for peak in (np.nan, np.inf, -1.0):
        with pytest.raises(ValueError, match="peak must be finite and at least 0"):
            symmetric_scale(peak)


def test_codes_are_rounded_half_to_even_and_saturate():
    x = np.array([-9, -1.5, -0.5, 0.5, 1.5, 2.5, 9, np.inf, -np.inf], np.float32)
    assert quantize(x, 1.0, bits=3).tolist() == [-3, -2, 0, 0, 2, 2, 3, 3, -3]
    assert quantize(x, 1.0, 2, bits=2, grid="unsigned").tolist() == [0, 0, 2, 2, 3, 3, 3, 3, 0]
    assert quantize(x, 1.0, bits=2, grid="midrise").tolist() == [-2, -2, -1, 0, 1, 1, 1, 1, -2]
    assert dequantize(np.array([-2, 1]), 2.0, midrise=True).tolist() == [-3, 3]


def test_division_and_the_reciprocal_differ_at_a_tie():
    # scales of 100 channels, each with values half-way between its codes
    scale = np.random.default_rng(0).uniform(0.01, 0.1, (100, 1)).astype(np.float32)
    ties = (np.arange(-99, 100, 2) / 2).astype(np.float32) * scale
    differ = quantize(ties, scale) != quantize(ties, scale, rounding="reciprocal")
    assert 0 < differ.sum() < ties.size / 2
    assert quantize(np.array([4.0, 6.0]), 2, rounding="reciprocal").tolist() == [2, 3]


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0.0, [1.0, 0.0, 1.0]])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match="scale must be finite and not 0"):
        quantize(np.array([0.3, 5, -7], np.float32), np.asarray(scale, np.float32))


def test_other_wrong_arguments_are_refused():
    for wrong, more in (("x must be numbers", {"x": np.array([np.nan])}),
                        ("zero_point must hold integers", {"zero_point": 0.5}),
                        ("rounding must be divide or reciprocal", {"rounding": "up"})):
        with pytest.raises(ValueError, match=wrong):
            quantize(**({"x": np.zeros(1), "scale": 1.0} | more))


def test_fake_quantization_is_the_codes_decoded_and_passes_what_is_inside():
    x = np.linspace(-3, 3, 61, dtype=np.float32)
    for scale, zero_point, grid, bits in ((0.3, 0, "narrow", 4), (0.2, 5, "unsigned", 4)):
        lo, hi = code_range(bits, grid)
        t = Tensor(x, requires_grad=True)
        y = fake_quantize(t, np.float32(scale), np.float32(zero_point), lo=lo, hi=hi)
        q = quantize(x, np.float32(scale), zero_point, bits=bits, grid=grid)
        np.testing.assert_array_equal(y.data, dequantize(q, scale, zero_point))
        assert not np.signbit(y.data[y.data == 0]).any()
        unclipped = np.rint(x / np.float32(scale)) + zero_point
        np.testing.assert_array_equal(grad(y.sum(), t).data, (lo <= unclipped) & (unclipped <= hi))


def test_a_learnt_step_by_hand():
    v, s = (Tensor(np.array(a, np.float32), requires_grad=True)
            for a in ([-3.0, -0.7, 0.2, 0.6, 5.0], [0.5]))
    y = lsq_quantize(v, s, lo=-2, hi=1, gain=0.5)
    assert y.data.tolist() == [-1, -0.5, 0, 0.5, 0.5]
    g = grad(y.sum(), [v, s])
    assert g[0].data.tolist() == [0, 1, 1, 0, 0]
    # lo + (-1 + 1.4) + (0 - 0.4) + hi + hi, times the gain
    np.testing.assert_allclose(g[1].data, [0.5 * (-2 + 0.4 - 0.4 + 1 + 1)], atol=1e-6)
