import numpy as np
import pytest

from minicomp.grid.uniform import (from_sign_magnitude, from_twos_complement, sign_magnitude,
                                   twos_complement, uniform_codes, uniform_levels)


def test_levels_by_hand():
    assert uniform_levels(-1, 1, 3).tolist() == [-1, 0, 1]
    assert uniform_levels(-1, 1, 4, ends="cells").tolist() == [-0.75, -0.25, 0.25, 0.75]
    x = np.array([-9, -0.51, -0.5, 0.49, 0.5, 9, np.inf])
    assert uniform_codes(x, -1, 1, 3).tolist() == [0, 0, 0, 1, 2, 2, 2]  # half to even
    assert uniform_codes(x, -1, 1, 4, ends="cells").tolist() == [0, 0, 1, 2, 3, 3, 3]


@pytest.mark.parametrize("ends", ["kept", "cells"])
@pytest.mark.parametrize("n", [2, 3, 16, 255])
def test_codes_are_of_the_nearest_level(ends, n):
    x = np.random.default_rng(0).uniform(-0.3, 2.4, 2000)
    levels = uniform_levels(-0.3, 2.4, n, ends=ends)
    got = levels[uniform_codes(x, -0.3, 2.4, n, ends=ends)]
    best = np.abs(x[:, None] - levels).min(axis=1)
    np.testing.assert_allclose(np.abs(got - x), best, atol=1e-12)
    np.testing.assert_array_equal(uniform_codes(levels, -0.3, 2.4, n, ends=ends), np.arange(n))
    step = 2.7 / (n - 1 if ends == "kept" else n)
    assert best.max() <= step / 2 + 1e-12
    np.testing.assert_allclose(np.diff(levels), step)


@pytest.mark.parametrize("bits", range(2, 9))
def test_bit_patterns_of_all_codes(bits):
    half = 1 << bits - 1
    q = np.arange(-half, half)
    np.testing.assert_array_equal(twos_complement(q, bits),
                                  [int(np.binary_repr(v, bits), 2) for v in q])
    np.testing.assert_array_equal(from_twos_complement(np.arange(2 * half), bits),
                                  np.roll(q, half))
    signed = q[1:]
    want = [int(f"{int(v < 0)}{abs(v):0{bits - 1}b}", 2) for v in signed]
    np.testing.assert_array_equal(sign_magnitude(signed, bits), want)
    np.testing.assert_array_equal(from_sign_magnitude(np.array(want), bits), signed)
    assert from_sign_magnitude(np.array([0, half]), bits).tolist() == [0, 0]  # two zeros
    with pytest.raises(ValueError, match=f"codes must be in .{1 - half}, {half - 1}"):
        sign_magnitude(q, bits)


def test_8_bits_of_twos_complement_are_numpys():
    q = np.arange(-128, 128)
    np.testing.assert_array_equal(twos_complement(q, 8), q.astype(np.int8).view(np.uint8))


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="ends must be one of kept, cells, got 'mid'"):
        uniform_levels(0, 1, 3, ends="mid")
    for a, b in ((1, 1), (2, 1), (0, np.inf), (np.nan, 1)):
        with pytest.raises(ValueError, match="a and b must be finite and a below b"):
            uniform_levels(a, b, 3)
    with pytest.raises(ValueError, match="n must be at least 2, got 1"):
        uniform_levels(0, 1, 1)
    with pytest.raises(ValueError, match="x must be numbers, got NaN"):
        uniform_codes(np.array([np.nan]), 0, 1, 3)
    for bits in (1, 33):
        with pytest.raises(ValueError, match=rf"bits must be in \[2, 32\], got {bits}"):
            twos_complement(np.array([0]), bits)
    with pytest.raises(ValueError, match="codes must be integers, got float64"):
        sign_magnitude(np.array([0.0]), 4)
