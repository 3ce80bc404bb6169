from dataclasses import replace

import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.int8.requantize import ROUNDINGS
from minicomp.kernels.int8.wiring import (MOST_ADDED, add, add_ref, adder, concat, concat_ref,
                                          look_up, look_up_ref, shuffle, shuffle_ref)

isa = pytest.mark.parametrize("isa", cpu.distinct("int8"))
SIZES = [0, 1, 63, 64, 65, 40001]


def drawn(seed, *shape):
    x = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    x.setflags(write=False)
    return x


@isa
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_sums_have_the_same_bits_on_every_rung(isa, rounding):
    cases = [(2, n, 1.0) for n in SIZES] + [(1, 65, 1.0), (3, 200, 1.0), (MOST_ADDED, 65, 1.0),
             (2, 65, 2.0**-20), (2, 65, 2.0**20), (2, 65, 2.0**-40)]
    for inputs, n, size in cases:
        rng = np.random.default_rng(inputs)
        a = adder(rng.uniform(0.1, 1, inputs) * size / inputs, rng.integers(0, 256, inputs),
                  zero_point=120, lo=5, hi=251, rounding=rounding)
        xs = [drawn(i, n) for i in range(inputs)]
        wanted = add_ref(xs, a)
        for n_threads in (1, 2):
            got = add(xs, a, isa=isa, n_threads=n_threads)
            np.testing.assert_array_equal(got, wanted, strict=True)


@isa
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_sums_at_their_ends_and_ties(isa, rounding):
    # All pairs of codes: of one factor, whose sums end in halves, and of the largest there are.
    every = np.arange(65536)
    xs = [(every & 255).astype(np.uint8), (every >> 8).astype(np.uint8)]
    for factors in ([0.25, 0.25], [0.5, 0.5], [0.75, 0.125], [1 - 2.0**-32, 1 - 2.0**-32]):
        a = adder(factors, [128, 127], zero_point=100, lo=0, hi=255, rounding=rounding)
        np.testing.assert_array_equal(add(xs, a, isa=isa), add_ref(xs, a), strict=True)
    ends = [np.uint8([0, 255] * 40)] * MOST_ADDED
    for zero in (0, 255):
        a = adder([1 - 2.0**-32] * MOST_ADDED, [zero] * MOST_ADDED, zero_point=9, lo=0, hi=255,
                  rounding=rounding)
        np.testing.assert_array_equal(add(ends, a, isa=isa), add_ref(ends, a), strict=True)


@isa
def test_sums_beyond_every_integer_saturate(isa):
    far = replace(adder([1, 1], [0, 100], zero_point=9, lo=3, hi=250, rounding="float"),
                  factor=np.float32([1e30, 1e30]))
    xs = [np.uint8([0, 50, 250]), np.uint8([50, 50, 50])]
    np.testing.assert_array_equal(add(xs, far, isa=isa), np.uint8([3, 9, 250]), strict=True)


@isa
def test_a_sum_by_hand_and_in_place(isa):
    # halves of 3 - 2 and of 0 - 2: 0.5, -1; then of -1: -0.5
    x, y = np.uint8([3, 0, 1]), np.uint8([2, 2, 2])
    for rounding, wanted in (("single", [11, 9, 10]), ("gemmlowp", [11, 9, 9]),
                             ("float", [10, 9, 10])):
        a = adder([0.5, 0.5], [2, 2], zero_point=10, lo=0, hi=255, rounding=rounding)
        assert add([x, y], a, isa=isa).tolist() == wanted
        z = x.copy()
        assert add([z, y], a, isa=isa, out=z) is z
        assert z.tolist() == wanted


@isa
def test_tables(isa):
    table = drawn(2, 256)
    for n in SIZES:
        x = drawn(1, n)
        for n_threads in (1, 2):
            y = look_up(x, table, isa=isa, n_threads=n_threads)
            np.testing.assert_array_equal(y, look_up_ref(x, table), strict=True)
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(look_up(every, table, isa=isa), table, strict=True)
    z = x.copy()
    np.testing.assert_array_equal(look_up(z, table, isa=isa, out=z), table[x], strict=True)


@isa
def test_channels_side_by_side(isa):
    for channels in ([3], [1, 2], [64, 1, 65], [20, 0, 44]):
        xs = [drawn(c, 2, 5, 70, c) for c in channels]
        tables = [drawn(100 + c, 256) for c in channels]
        wanted = concat_ref(xs, tables)
        for n_threads in (1, 2):
            got = concat(xs, tables, isa=isa, n_threads=n_threads)
            np.testing.assert_array_equal(got, wanted, strict=True)


@isa
def test_shuffled_channels(isa):
    x = drawn(0, 2, 3, 60, 120)
    for groups in (1, 2, 3, 4, 5, 120):
        for n_threads in (1, 2):
            got = shuffle(x, groups, isa=isa, n_threads=n_threads)
            np.testing.assert_array_equal(got, shuffle_ref(x, groups), strict=True)
    assert shuffle(np.uint8([0, 1, 2, 3, 4, 5]), 2, isa=isa).tolist() == [0, 3, 1, 4, 2, 5]


def test_what_is_refused():
    x, table = drawn(0, 4, 6), drawn(1, 256)
    a = adder([1, 1], [0, 0], zero_point=0, lo=0, hi=255)
    for bad, says in (
            (lambda: add([x], a), "a must be an Adder of 1 inputs, got a Adder of 2"),
            (lambda: add([x, x[:2]], a), "xs must be 1..64 arrays of one shape"),
            (lambda: add([x, x], replace(a, shift=63)), r"a.shift must be in \[1, 62\], got 63"),
            (lambda: add([x, x], replace(a, zero=np.int32([0, 256]))), "a.zero must be integers"),
            (lambda: add([x, x], a, out=x), "out must be a writable"),
            (lambda: look_up(x, table[:255]), r"table must be of shape \(256,\), got \(255,\)"),
            (lambda: look_up(x.astype(int), table), "x must be codes, uint8"),
            (lambda: concat([x, x[:3]], [table, table]), "xs must be arrays alike but in channels"),
            (lambda: shuffle(x, 4), r"groups must divide the channels of x, \(4, 6\), got 4")):
        with pytest.raises(ValueError, match=says):
            bad()
    room = np.zeros(10, np.uint8)
    for bad in (lambda: look_up(room[:9], table, out=room[1:]),
                lambda: shuffle(room, 2, out=room)):
        with pytest.raises(ValueError, match="out must not overlap what is read"):
            bad()
