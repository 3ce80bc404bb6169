import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.bits.pack import (Thresholds, pack_signs, pack_signs_ref, pack_sums,
                                        pack_sums_ref, unpack_signs)

isa = pytest.mark.parametrize("isa", cpu.distinct("bits"))
SIZES = [0, 1, 7, 8, 9, 63, 64, 65, 127, 128, 130]
LEAST, LARGEST = -(2**31), 2**31 - 1


def sums_of(M, O, seed=0):
    # Small sums, of which many meet their threshold, and thresholds at the ends too.
    rng = np.random.default_rng(seed)
    acc = rng.integers(-3, 4, (M, O)).astype(np.int32)
    at = rng.integers(-3, 4, O).astype(np.int32)
    at[::5], at[1::7] = LEAST, LARGEST
    return acc, Thresholds(at, rng.random(O) < 0.5)


def test_bits_by_hand():
    x = np.float32([0.0, -0.0, -1e-45, 2.0, -3.0, np.inf, -np.inf])
    assert pack_signs(x).tolist() == [0b0101011]
    assert unpack_signs(pack_signs(x), 7).tolist() == [1, 1, -1, 1, -1, 1, -1]
    late = -np.ones(130, np.float32)
    late[64], late[129] = 1, 1
    assert pack_signs(late).tolist() == [0, 1, 2]
    t = Thresholds(np.int32([2, 2, 2, 2]), np.array([False, True, False, True]))
    assert pack_sums(np.int32([[2, 2, 1, 3], [3, 3, 2, 1]]), t).tolist() == [[0b0011], [0b1101]]
    always = Thresholds(np.int32([LEAST, LEAST]), np.array([False, True]))
    assert pack_sums(np.int32([[-5, -5], [LARGEST, LARGEST]]), always).tolist() == [[1], [1]]


@isa
@pytest.mark.parametrize("n_threads", [1, 2])
def test_every_rung_packs_the_same(isa, n_threads):
    for n in SIZES:
        for m in (0, 1, 5):
            x = np.random.default_rng(n).integers(-2, 3, (m, n)).astype(np.float32)
            x.setflags(write=False)
            wanted = pack_signs_ref(x)
            assert wanted.shape == (m, -(-n // 64))
            got = pack_signs(x, out=~wanted, isa=isa, n_threads=n_threads)
            np.testing.assert_array_equal(got, wanted, strict=True)
            np.testing.assert_array_equal(unpack_signs(got, n), np.where(x >= 0, 1, -1))
            acc, t = sums_of(m, n)
            acc.setflags(write=False)
            wanted = pack_sums_ref(acc, t)
            got = pack_sums(acc, t, out=~wanted, isa=isa, n_threads=n_threads)
            np.testing.assert_array_equal(got, wanted, strict=True)


@isa
def test_a_sum_at_either_end(isa):
    acc = np.int32([LEAST, LEAST + 1, -1, 0, 1, LARGEST - 1, LARGEST])
    for at in acc:
        for below in (False, True):
            t = Thresholds(np.full(7, at, np.int32), np.full(7, below))
            wanted = [int(a <= at if below else a >= at) for a in acc.tolist()]
            assert [int(pack_sums(acc, t, isa=isa)[0]) >> i & 1 for i in range(7)] == wanted


@settings(max_examples=20)
@given(shape=st.lists(st.integers(1, 4), min_size=0, max_size=3), n=st.integers(1, 200),
       dtype=st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u1"]))
def test_any_numbers_go_there_and_back(shape, n, dtype):
    x = np.random.default_rng(n).integers(-5, 5, (*shape, n)).astype(dtype)
    np.testing.assert_array_equal(unpack_signs(pack_signs(x), n), np.where(x >= 0, 1, -1))


@isa
@pytest.mark.parametrize("at", [0, 63, 64, 99])
def test_nan_has_no_sign(isa, at):
    x = np.ones((3, 100), np.float32)
    x[1, at] = np.nan
    with pytest.raises(ValueError, match="x must have no NaN, which has no sign"):
        pack_signs(x, isa=isa)
    with pytest.raises(ValueError, match="x must have no NaN"):
        pack_signs(x.astype(np.float64), isa=isa)


@pytest.mark.parametrize("bad, says", [
    (lambda: Thresholds(np.int64([1]), np.array([True])), "t.at must be an array .* of int32"),
    (lambda: Thresholds(np.int32([1]), np.array([1])), "t.below must be an array .* of bool"),
    (lambda: Thresholds(np.int32([1, 2]), np.array([True])), "t.below must be an array"),
    (lambda: unpack_signs(np.uint64([8]), 3), "x must have no bit set behind the last of 3"),
    (lambda: unpack_signs(np.uint64([8, 0]), 3), "x must have 1 words for 3 bits"),
    (lambda: unpack_signs(np.int64([8]), 3), "x must be words of bits, uint64, got int64"),
    (lambda: pack_sums(np.zeros((2, 3), np.int32), sums_of(1, 2)[1]), "t must be of 3 channels"),
])
def test_refusals(bad, says):
    with pytest.raises(ValueError, match=says):
        bad()
