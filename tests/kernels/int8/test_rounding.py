import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.int8.rounding import (draws, nearest_round, nearest_round_ref,
                                            stochastic_round, stochastic_round_ref)

isa = pytest.mark.parametrize("isa", cpu.distinct("int8"))
SIZES = [0, 1, 2, 63, 64, 65, 255, 256, 257, 511, 16383, 16384, 16385, 40001]
HALF = np.float32(0.5)


def make(n, seed=0):
    # Ties, numbers on the grid, next to it and beyond the ends, among others.
    rng = np.random.default_rng(seed + n)
    x = (rng.normal(size=n) * 3).astype(np.float32)
    kind = rng.integers(0, 8, n)
    x = np.where(kind == 0, np.rint(8 * x) / 8, x)
    x = np.where(kind == 1, (np.rint(8 * x) + HALF) / 8, x)
    x = np.where(kind == 2, np.nextafter((np.rint(8 * x) + HALF) / 8, np.float32(9)), x)
    x = np.where(kind == 3, 100 * x, x).astype(np.float32)
    x[:9] = [0, -0.0, 1e-30, -1e-30, np.inf, -np.inf, -0.0625 + 2.0**-28, 3e38, -3e38][:n]
    x.setflags(write=False)
    return x


@isa
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("values", [False, True])
def test_every_rung_and_number_of_threads_gives_the_same_bits(isa, n, values):
    x = make(n)
    nearest = nearest_round_ref(x, 3, -64, 63, values=values)
    for n_threads in (1, 2):
        how = {"values": values, "isa": isa, "n_threads": n_threads}
        got = nearest_round(x, 3, -64, 63, **how)
        np.testing.assert_array_equal(got, nearest, strict=True)
        assert not values or not np.signbit(got[got == 0]).any()
        for key in (0, 1, 2**64 - 1):
            wanted = stochastic_round_ref(x, 3, -64, 63, key=key, values=values)
            got = stochastic_round(x, 3, -64, 63, key=key, **how)
            np.testing.assert_array_equal(got, wanted, strict=True)
            assert not values or not np.signbit(got[got == 0]).any()


@isa
@given(
    seed=st.integers(0, 2**32), fl=st.integers(-100, 100), bits=st.integers(1, 24),
    exponent=st.integers(-140, 120), key=st.integers(0, 2**64 - 1), values=st.booleans(),
)
def test_any_format_and_range(isa, seed, fl, bits, exponent, key, values):
    x = np.ldexp(np.random.default_rng(seed).normal(size=67), exponent).astype(np.float32)
    lo, hi, how = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, {"values": values}
    np.testing.assert_array_equal(nearest_round(x, fl, lo, hi, isa=isa, **how),
                                  nearest_round_ref(x, fl, lo, hi, **how), strict=True)
    np.testing.assert_array_equal(stochastic_round(x, fl, lo, hi, key=key, isa=isa, **how),
                                  stochastic_round_ref(x, fl, lo, hi, key=key, **how), strict=True)


@isa
def test_shapes_and_strides(isa):
    x = make(240).reshape(4, 6, 10)
    for view in (x, x.T, x[::2, ::-1]):
        wanted = stochastic_round_ref(view, 3, -64, 63, key=5)
        np.testing.assert_array_equal(stochastic_round(view, 3, -64, 63, key=5, isa=isa), wanted,
                                      strict=True)
    zero_d = stochastic_round(np.array(0.25, np.float32), 3, -64, 63, key=5, isa=isa)
    assert zero_d.shape == () and zero_d == 2


@isa
def test_nearest_by_hand(isa):
    # Steps of 1/4 in [-1, 3/4]: a tie goes down, as in the paper, below 0 too.
    x = np.array([0.125, 0.126, 0.124, -0.125, -0.124, 0.375, 0.74, 0.9, 7, -0.95, -9], np.float32)
    got = nearest_round(x, 2, -4, 3, isa=isa)
    assert got.tolist() == [0, 1, 0, -1, 0, 1, 3, 3, 3, -4, -4]
    assert nearest_round(x, 2, -4, 3, values=True, isa=isa).tolist() == (got / 4).tolist()


@isa
@pytest.mark.parametrize("part", [0.0, 1e-4, 0.125, 0.3, 0.5, 0.97])
def test_the_mean_is_the_number_and_the_variance_d_eps_less_d(isa, part):
    n, eps = 200_000, 2.0**-4
    x = np.full(n, -3 * eps + part * eps, np.float32)
    got = stochastic_round(x, 4, -128, 127, key=11, values=True, isa=isa).astype(np.float64)
    d = float(x[0]) + 3 * eps
    assert set(np.unique(got / eps)) <= {-3.0, -2.0}
    sigma = np.sqrt(d * (eps - d) / n)
    assert abs(got.mean() - float(x[0])) <= 5 * sigma
    assert abs(got.var() - d * (eps - d)) <= 5 * eps * sigma + 1e-12


@isa
def test_numbers_on_the_grid_stay_and_beyond_it_saturate(isa):
    grid = np.arange(-128, 128, dtype=np.float32) / 16
    for key in range(20):
        got = stochastic_round(grid, 4, -128, 127, key=key, isa=isa)
        assert got.tolist() == list(range(-128, 128))
    ends = np.array([-8.01, -1e9, -np.inf, 7.9375, 7.94, 1e9, np.inf], np.float32)
    wanted = [-128] * 3 + [127] * 4
    assert stochastic_round(ends, 4, -128, 127, key=0, isa=isa).tolist() == wanted
    assert nearest_round(ends, 4, -128, 127, isa=isa).tolist() == wanted


@isa
def test_the_probability_is_off_by_less_than_the_bound(isa):
    # Whatever is drawn, d < 2^-24 goes up only where u is 0, and d = 1 - 2^-24 but for one u.
    u = draws(2_000_000, 3)
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    assert np.array_equal(u * np.float32(2**24), np.rint(u * np.float32(2**24)))
    x = np.full(u.size, 2.0**-25, np.float32)
    assert np.array_equal(stochastic_round(x, 0, -2, 2, key=3, isa=isa) == 1, u == 0)
    x = np.full(u.size, 1 - 2.0**-24, np.float32)
    assert np.array_equal(stochastic_round(x, 0, -2, 2, key=3, isa=isa) == 0,
                          u == np.float32(1 - 2.0**-24))


def test_draws_are_splitmix64():
    # By Python's integers: entries 2 j and 2 j + 1 are the low and the high half of output j.
    def output(state):
        z = state & (2**64 - 1)
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        z = (z ^ z >> 27) * 0x94D049BB133111EB & (2**64 - 1)
        return z ^ z >> 31

    assert output(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # the published first output of seed 0
    for key in (0, 12345, 2**64 - 1):
        outputs = [output(key + (j + 1) * 0x9E3779B97F4A7C15) for j in range(4)]
        wanted = [half >> 8 for z in outputs for half in (z & 0xFFFFFFFF, z >> 32)]
        assert (draws(7, key) * 2.0**24).tolist() == wanted[:7]


def test_draws_are_uniform_and_neighbours_independent():
    u = draws(400_000, 99).astype(np.float64)
    counts = np.bincount((u * 100).astype(int), minlength=100)
    assert ((counts - 4000) ** 2 / 4000).sum() < 160  # chi-square, 99 degrees of freedom, 1e-4
    for lag in (1, 2, 3, 256, 16384):
        r = np.corrcoef(u[:-lag], u[lag:])[0, 1]
        assert abs(r) < 4.5 / np.sqrt(u.size)
    other = draws(400_000, 100)
    assert abs(np.corrcoef(u, other)[0, 1]) < 4.5 / np.sqrt(u.size)


@isa
@pytest.mark.parametrize("at", [0, 300, 499])
def test_nan_has_no_code_and_stays_nan_as_a_value(isa, at):
    x = make(500).copy()
    x[at] = np.nan
    for how, ref in ((nearest_round, nearest_round_ref), (stochastic_round, stochastic_round_ref)):
        more = {"key": 4} if how is stochastic_round else {}
        with pytest.raises(ValueError, match="x must be numbers, got NaN"):
            how(x, 3, -64, 63, isa=isa, **more)
        got = how(x, 3, -64, 63, values=True, isa=isa, **more)
        assert np.isnan(got[at]) and np.isnan(got).sum() == 1
        np.testing.assert_array_equal(got, ref(x, 3, -64, 63, values=True, **more))


F32 = np.ones(3, np.float32)


@pytest.mark.parametrize("args, more, says", [
    ((np.ones(3), 3, -4, 3), {}, "x must be an array of float32, got float64"),
    (([1.0], 3, -4, 3), {}, "x must be an array of floats"),
    ((F32, 101, -4, 3), {}, r"fl must be in \[-100, 100\], got 101"),
    ((F32, 1.0, -4, 3), {}, "fl must be an integer"),
    ((F32, 3, -(2**24) - 1, 3), {}, "lo must be in"),
    ((F32, 3, 4, 3), {}, r"hi must be in \[4, 16777216\], got 3"),
    ((F32, 3, -4, 3), {"key": -1}, "key must be in"),
    ((F32, 3, -4, 3), {"key": 2**64}, "key must be in"),
    ((F32, 3, -4, 3), {"n_threads": 0}, "n_threads must be in"),
    ((F32, 3, -4, 3), {"isa": "mmx"}, "isa must be auto or one of"),
])
def test_refusals(args, more, says):
    with pytest.raises(ValueError, match=says):
        stochastic_round(*args, **{"key": 1, **more})
