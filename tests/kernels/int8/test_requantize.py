import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.int8.requantize import (ROUNDINGS, Requantizer, multiplier, requantize,
                                              requantize_ref, requantizer)

isa = pytest.mark.parametrize("isa", cpu.distinct("int8"))
RULES = [(rounding, first) for rounding in ROUNDINGS for first in (False, True)]
rules = pytest.mark.parametrize("rounding, zero_first", RULES)


def accumulators(rng, m, factors):
    # Around what makes a code, near ties, beyond, and the ends of int32.
    spread = 300 / np.maximum(np.abs(factors), 1e-9)
    acc = np.clip(rng.normal(size=(m, len(factors))) * spread, -2**31, 2**31 - 1).astype(np.int64)
    ties = np.rint((rng.integers(-300, 300, acc.shape) + 0.5) / np.where(factors, factors, 1))
    acc = np.where(rng.random(acc.shape) < 0.5, acc, ties + rng.integers(-1, 2, acc.shape))
    acc = np.clip(acc, -2**31, 2**31 - 1).astype(np.int32)
    acc.reshape(-1)[:6] = [0, 1, -1, -2**31, 2**31 - 1, 128][: acc.size]
    return acc


def agree(acc, r, isa, most=2):
    wanted = requantize_ref(acc, r)
    for n_threads in range(1, most + 1):
        got = requantize(acc, r, isa=isa, n_threads=n_threads)
        np.testing.assert_array_equal(got, wanted, strict=True)


@isa
@rules
@pytest.mark.parametrize("channels", [1, 7, 8, 16, 33, 64])
def test_every_rung_gives_the_bits_of_the_reference(isa, rounding, zero_first, channels):
    rng = np.random.default_rng(channels)
    m = 2.0 ** rng.uniform(-20, 4, channels) * rng.choice([1, 1, -1], channels)
    m[0] = 0.5 if channels > 1 else m[0]
    m[channels // 2] *= channels == 1
    r = requantizer(m, zero_point=rng.integers(256), lo=rng.integers(0, 50, channels),
                    hi=rng.integers(50, 256, channels), rounding=rounding, zero_first=zero_first)
    acc = accumulators(rng, 65, m)
    acc.setflags(write=False)
    agree(acc, r, isa)


@settings(max_examples=20)
@rules
@given(exponent=st.integers(-70, 29), zero=st.integers(0, 255), seed=st.integers(0, 2**20))
def test_factors_of_any_size(rounding, zero_first, exponent, zero, seed):
    rng = np.random.default_rng(seed)
    m = np.ldexp(rng.uniform(0.5, 1, 17), exponent) * rng.choice([1, -1], 17)
    m[0] = np.ldexp(0.5, exponent)  # a power of two: ties
    r = requantizer(m, zero_point=zero, lo=0, hi=255, rounding=rounding, zero_first=zero_first)
    acc = accumulators(rng, 9, m)
    for isa in cpu.distinct("int8"):
        agree(acc, r, isa, most=1)


@isa
@rules
@pytest.mark.parametrize("n", [1, 2, 29, 30, 31, 32, 33, 61, 62])
def test_every_shift_with_ties_on_both_sides_of_zero(isa, rounding, zero_first, n):
    # M = 2^30 2^-n: ties wherever there can be some.
    m = np.float64([2.0 ** (30 - n), -(2.0 ** (30 - n)), 1.25 * 2.0 ** (30 - n)])
    r = requantizer(m, zero_point=9, lo=0, hi=255, rounding=rounding, zero_first=zero_first)
    assert r.shift.tolist() == [n] * 3
    half = np.arange(-40, 41).astype(np.int64) << max(n - 31, 0)
    acc = np.concatenate([half, half - 1, half + 1, [-2**31, 2**31 - 1]])
    agree(np.stack([np.clip(acc, -2**31, 2**31 - 1).astype(np.int32)] * 3, axis=1), r, isa)


@isa
def test_by_hand(isa):
    acc = np.int32([[100], [5], [-5], [15], [2995]])
    for rounding, codes in (("single", [10, 0, 0, 1, 255]), ("gemmlowp", [10, 1, 0, 2, 255]),
                            ("float", [10, 0, 0, 2, 255])):
        r = requantizer([0.1], zero_point=0, lo=0, hi=255, rounding=rounding)
        assert (r.m0.item(), r.shift.item()) == (1717986918, 34)
        assert requantize(acc, r, isa=isa).ravel().tolist() == codes
    # With the zero point before rounding, gemmlowp's tie at -0.5 + 3 goes away from zero: upward.
    for first, code in ((False, 2), (True, 3)):
        r = requantizer([0.25], zero_point=3, lo=0, hi=255, rounding="gemmlowp", zero_first=first)
        assert requantize(np.int32([[-2]]), r, isa=isa).item() == code
    # Under float 0.5 + 3 is a tie to 4, 0.5 one to 0.
    for first, code in ((False, 3), (True, 4)):
        r = requantizer([0.5], zero_point=3, lo=0, hi=255, rounding="float", zero_first=first)
        assert requantize(np.int32([[1]]), r, isa=isa).item() == code


@given(m=st.floats(1e-9, 2.0**29), acc=st.integers(-2**31, 2**31 - 1))
def test_single_rounds_the_product_of_whole_numbers(m, acc):
    m0, n = (int(v) for v in multiplier(m))
    assert abs(Fraction(m0, 2**n) / Fraction(m) - 1) <= Fraction(1, 2**31)
    wanted = min(max((2 * acc * m0 + 2**n) // 2 ** (n + 1), 0), 255)
    r = requantizer([m], zero_point=0, lo=0, hi=255)
    assert requantize(np.int32([[acc]]), r).item() == wanted


@isa
def test_shapes_and_where_it_writes(isa):
    r = requantizer([0.3] * 5, zero_point=3, lo=0, hi=255)
    acc = np.arange(-60, 60, dtype=np.int32).reshape(2, 3, 4, 5)
    out = np.full(acc.shape, 77, np.uint8)
    assert requantize(acc, r, out=out, isa=isa) is out
    np.testing.assert_array_equal(out, requantize_ref(acc, r), strict=True)
    np.testing.assert_array_equal(requantize(acc[:, ::2], r, isa=isa), out[:, ::2], strict=True)
    assert requantize(acc[:0], r, isa=isa).shape == (0, 3, 4, 5)


GOOD = requantizer([0.3, 0.7], zero_point=3, lo=0, hi=255)


@pytest.mark.parametrize("change, says", [
    ({"m0": np.int32([1, 2**30])}, r"r.m0 must be 0 or of magnitude in \[2\^30, 2\^31\)"),
    ({"m0": np.int64([2**30, 2**30])}, r"r.m0 must be an array \(O,\) of int32, got int64"),
    ({"m0": [2**30, 2**30]}, "r.m0 must be an array"),
    ({"shift": np.int32([0, 3])}, r"r.shift must be integers in \[1, 62\], got 0..3"),
    ({"shift": np.int32([31])}, r"r.shift must be an array \(O,\) of int32, got int32 \(1,\)"),
    ({"factor": np.float32([1, np.inf])}, "r.factor must be finite"),
    ({"lo": np.uint8([9, 0]), "hi": np.uint8([8, 0])}, "lo be at most r.hi"),
    ({"zero_point": 256}, r"r.zero_point must be in \[0, 255\], got 256"),
    ({"rounding": "up"}, "r.rounding must be one of single, gemmlowp, float, got 'up'"),
    ({"zero_first": 1}, "r.zero_first must be true or false"),
])
def test_a_requantizer_that_a_kernel_cannot_trust_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(GOOD, **change)


def test_a_requantizer_is_read_only_and_apart_from_what_it_was_made_of():
    m0 = np.full(1, 2**30, np.int32)
    r = Requantizer(m0, np.int32([31]), np.float32([0.5]), 0, np.uint8([0]), np.uint8([255]))
    m0[0] = 7
    assert r.m0.item() == 2**30
    with pytest.raises(ValueError, match="read-only"):
        r.m0[0] = 7


@pytest.mark.parametrize("acc, r, how, says", [
    (np.zeros((2, 3), np.int32), GOOD, {}, "r must be of 3 channels, got 2"),
    (np.zeros((2, 2), np.int64), GOOD, {}, "acc must be an array of int32, got int64"),
    (np.zeros((2, 2), np.int32), "r", {}, "r must be a Requantizer, got a str"),
    (np.zeros((2, 2), np.int32), GOOD, {"out": np.zeros((2, 2), np.int8)}, "out must be a wr"),
    (np.zeros((2, 2), np.int32), GOOD, {"isa": "mmx"}, "isa must be auto or one of"),
    (np.zeros((2, 2), np.int32), GOOD, {"n_threads": 0}, "n_threads must be in"),
])
def test_refusals(acc, r, how, says):
    with pytest.raises(ValueError, match=says):
        requantize(acc, r, **how)
