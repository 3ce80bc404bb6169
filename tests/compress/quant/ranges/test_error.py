import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.quant.ranges import Histogram, mse_range, range_error
from minicomp.grid import affine_params, code_range, dequantize, quantize, symmetric_scale


def quantized(x, lo, hi, bits, grid, even):
    if even:
        scale, z = symmetric_scale(hi, bits=bits, grid=grid), 0
    else:
        scale, z = affine_params(lo, hi, bits=bits, grid=grid)
    q = quantize(x, scale, z, bits=bits, grid=grid)
    return dequantize(q, scale, z, midrise=grid == "midrise")


GRIDS = [("unsigned", False), ("full", False), ("full", True), ("narrow", True), ("midrise", True)]


@pytest.mark.parametrize("grid, even", GRIDS)
@pytest.mark.parametrize("norm", [1.0, 2.0, 2.4])
def test_the_error_is_that_of_the_quantizer(grid, even, norm):
    x = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    for bits in (2, 4, 8):
        for T in (0.3, 1.7, 5.0):
            lo = -T if even else -0.6 * T
            back = quantized(x, lo, T, bits, grid, even)
            expected = (np.abs(x - back.astype(np.float64)) ** norm).sum()
            got = range_error(x, lo, T, bits=bits, grid=grid, symmetric=even, norm=norm)
            assert got == pytest.approx(expected, rel=1e-4)
            twice = range_error(x, lo, T, np.full(x.shape, 2.0), bits=bits, grid=grid,
                                symmetric=even, norm=norm)
            assert twice == pytest.approx(2 * got, rel=1e-12)


@pytest.mark.parametrize("grid, even", GRIDS)
def test_no_range_of_a_dense_grid_errs_less(grid, even):
    rng = np.random.default_rng(1)
    tensors = [rng.standard_normal(300), rng.laplace(size=300), np.abs(rng.standard_normal(300)),
               np.append(rng.standard_normal(300), 1000.0), rng.random(3) - 0.5]
    for x in (t.astype(np.float32) for t in tensors):
        for bits in (2, 3):
            how = {"bits": bits, "grid": grid, "symmetric": even}
            least = range_error(x, *mse_range(x, **how), **how)
            peak, f = np.abs(x).max(), np.geomspace(1e-4, 1.0, 25)
            ends = ([(-peak * s, peak * s) for s in f] if even else
                    [(min(x.min(), 0) * s, max(x.max(), 0) * t) for s in f for t in f])
            brute = min(range_error(x, *end, **how) for end in ends)
            assert least <= brute * (1 + 1e-9)


def test_an_outlier_is_given_up():
    x = np.append(np.linspace(-1, 1, 2001), 50.0).astype(np.float32)
    lo, hi = mse_range(x, bits=8)
    assert hi > 10  # one clipped number costs (50 - T)^2: more than the steps of all others
    lo, hi = mse_range(np.tile(np.linspace(-1, 1, 2001), 1000).tolist() + [50.0], bits=4)
    assert 0.9 < hi < 1.2 and -1.2 < lo < -0.9


def test_a_grid_that_fits_exactly_is_found():
    # Multiples of 0.3 on 0..15 of them: every other range errs.
    x = (0.3 * np.arange(16)).astype(np.float32)
    lo, hi = mse_range(x, bits=4)
    assert lo == 0 and hi == pytest.approx(4.5, rel=1e-4)
    assert range_error(x, lo, hi, bits=4) < 1e-6


def test_one_sided_and_constant_tensors():
    assert mse_range(np.zeros(5)) == (0.0, 0.0)
    for value in (3.4, -3.4):
        lo, hi = mse_range(np.full(7, value))
        assert (lo, hi) == pytest.approx((min(value, 0), max(value, 0)), rel=1e-3)
    lo, hi = mse_range(np.linspace(2, 3.4, 500), bits=8)
    assert lo == 0 and hi == pytest.approx(3.4, rel=1e-2)
    lo, hi = mse_range(np.linspace(2, 3.4, 500), bits=8, grid="narrow")
    assert -lo == hi == pytest.approx(3.4, rel=2e-2)


@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from(GRIDS))
def test_never_worse_than_min_max(seed, bits, how):
    x = np.random.default_rng(seed).standard_t(2, size=50).astype(np.float32)
    how = {"bits": bits, "grid": how[0], "symmetric": how[1]}
    peak = float(np.abs(x).max())
    ends = (-peak, peak) if how["symmetric"] else (min(x.min(), 0.0), max(x.max(), 0.0))
    assert range_error(x, *mse_range(x, **how), **how) <= range_error(x, *ends, **how)


def test_a_histogram_gives_almost_the_range_of_the_numbers():
    x = np.random.default_rng(2).laplace(size=20_000).astype(np.float32)
    h = Histogram()
    h.update(x)
    for bits in (2, 4, 8):
        exact = range_error(x, *mse_range(x, bits=bits), bits=bits)
        ours = range_error(x, *mse_range(*h.points(), bits=bits), bits=bits)
        assert ours <= exact * 1.001


def test_many_bits_stay_quick():
    x = np.random.default_rng(3).standard_normal(1000)
    lo, hi = mse_range(x, bits=16)
    assert lo == pytest.approx(x.min(), rel=0.1) and hi == pytest.approx(x.max(), rel=0.1)


def test_bad_input():
    with pytest.raises(ValueError, match="at least one number"):
        mse_range(np.zeros(0))
    with pytest.raises(ValueError, match="weights as many"):
        mse_range(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="weights as many, at least 0"):
        mse_range(np.ones(3), np.array([1.0, -1.0, 1.0]))
    with pytest.raises(ValueError, match="finite"):
        mse_range(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="bits must be"):
        mse_range(np.zeros(3), bits=0)
    assert code_range(8, "narrow") == (-127, 127)
