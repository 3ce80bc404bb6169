import itertools
import math

import numpy as np
import pytest

from minicomp.grid.powers import additive_levels, ap2, power_codes, power_levels
from minicomp.tensor import Tensor, grad, raw


def test_levels_by_hand():
    assert power_levels(-1, 2).tolist() == [0, -0.5, -0.25, 0.25, 0.5]
    assert power_levels(3, 0).tolist() == [0]
    assert additive_levels(2).tolist() == [0, -1, 1]
    assert additive_levels(3).tolist() == [0, -1, -0.5, -0.25, 0.25, 0.5, 1]
    # 4 bits: p of 1, 1/2, 1/8 and p~ of 1/4, the largest 5/4
    want = np.array([1, 2, 3, 4, 5 + 1, 8, 10]) / 10
    np.testing.assert_array_equal(additive_levels(4)[8:], want.astype(np.float32))


# Levels of the authors' code, which names three bases by hand, for its magnitude bits B = bits - 1.
BASES = {
    2: [[2.0**-i for i in (1, 2, 3)]],
    3: [[2.0**-1, 2.0**-2, 2.0**-4], [2.0**-3]],
    4: [[2.0**-1, 2.0**-3, 2.0**-5], [2.0**-2, 2.0**-4, 2.0**-6]],
    5: [[2.0**-1, 2.0**-3, 2.0**-6], [2.0**-2, 2.0**-4, 2.0**-7], [2.0**-5]],
    6: [[2.0 ** -(3 * i + j) for i in range(3)] for j in (1, 2, 3)],
}


@pytest.mark.parametrize("B", BASES)
def test_additive_levels_are_those_of_the_authors_code(B):
    sums = sorted(sum(t) for t in itertools.product(*[[0.0, *base] for base in BASES[B]]))
    want = np.array(sums[1:]) / sums[-1]
    np.testing.assert_array_equal(additive_levels(B + 1)[2**B:], want.astype(np.float32))


@pytest.mark.parametrize("bits", range(2, 9))
def test_additive_levels_are_symmetric_and_all_different(bits):
    levels = additive_levels(bits)
    assert len(np.unique(levels)) == len(levels) == 2**bits - 1
    np.testing.assert_array_equal(np.sort(levels)[::-1], -np.sort(levels))


def test_codes_by_hand():
    # levels +-2, +-1, +-0.5 and 0; parts at 1.5 2^k, and at half the least power
    w = np.array([0, 0.2, 0.25, 0.74, 0.75, 1.49, 1.5, 2.9, 99, -0.25, -0.8])
    want = [0, 0, 0.5, 0.5, 1, 1, 2, 2, 2, -0.5, -1]
    assert power_levels(1, 3)[power_codes(w, 1, 3)].tolist() == want
    # parts at 2^(k + 1/2): 0.354, 0.7072, 1.415; only 0 is 0
    w = np.array([0, 1e-9, 0.7071, 0.7072, 1.414, 1.415, 9, -1e-9, -0.8])
    want = [0, 0.5, 0.5, 1, 1, 2, 2, -0.5, -1]
    assert power_levels(1, 3)[power_codes(w, 1, 3, meet="log")].tolist() == want


@pytest.mark.parametrize("top, n", [(0, 1), (3, 4), (-120, 7), (120, 60)])
def test_arithmetic_codes_are_of_the_nearest_level(top, n):
    levels = power_levels(top, n)
    rng = np.random.default_rng(0)
    w = (rng.standard_normal(2000) * levels.max()).astype(np.float32)
    w = np.append(w, levels)
    got = levels[power_codes(w, top, n)]
    best = abs(w[:, None].astype(np.float64) - levels).min(axis=1)
    np.testing.assert_array_equal(abs(w.astype(np.float64) - got), best)
    np.testing.assert_array_equal(got[2000:], levels)


def test_log_codes_round_the_exponent():
    w = np.random.default_rng(1).standard_normal(5000)
    got = power_levels(4, 40)[power_codes(w, 4, 40, meet="log")]
    np.testing.assert_array_equal(got, np.sign(w) * np.exp2(np.rint(np.log2(abs(w)))))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"exponents must be in \[-126, 127\], got 3 up to -125"):
        power_levels(-125, 3)
    with pytest.raises(ValueError, match=r"exponents must be in \[-126, 127\], got 1 up to 128"):
        power_levels(128, 1)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        power_codes(np.ones(2), 0, 0)
    with pytest.raises(ValueError, match="meet must be one of arithmetic, log, got 'up'"):
        power_codes(np.ones(2), 0, 1, meet="up")
    with pytest.raises(ValueError, match="w must be finite"):
        power_codes(np.array([1, np.nan]), 0, 1)
    for bits in (1, 9):
        with pytest.raises(ValueError, match=rf"bits must be in \[2, 8\], got {bits}"):
            additive_levels(bits)


def test_ap2_by_hand_and_by_logarithms():
    x = np.array([3, -5, 0.7, 1, -1, 0, 1.4142135, 1.4142137, 2.0**-140, 2.0**127], np.float32)
    want = [4, -4, 0.5, 1, -1, 0, 1, 2, 2.0**-140, 2.0**127]
    np.testing.assert_array_equal(raw(ap2(x)), np.array(want, np.float32), strict=True)
    for dtype in (np.float32, np.float64):
        x = (np.random.default_rng(0).standard_normal(2000) * 10).astype(dtype)
        want = np.sign(x) * 2.0 ** np.rint(np.log2(np.abs(x.astype(np.float64))))
        np.testing.assert_array_equal(raw(ap2(x)), want.astype(dtype), strict=True)
    root = math.sqrt(2)  # rounded up: log2 of the float below is still below 1/2
    assert raw(ap2(np.array([root, np.nextafter(root, 0)]))).tolist() == [2, 1]
    t = Tensor(x, requires_grad=True)
    np.testing.assert_array_equal(grad((ap2(t) * x).sum(), t).data, x)  # straight through
