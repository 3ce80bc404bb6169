import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.int8.gemm import gemm, gemm_ref, linear, linear_ref, pack, unpacked
from minicomp.kernels.int8.requantize import ROUNDINGS, requantizer

isa = pytest.mark.parametrize("isa", cpu.distinct("int8"))
SIZES = [0, 1, 63, 64, 65]


def make(M, K, O, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (M, K), np.uint8)
    w = rng.integers(-128, 128, (O, K), np.int8)
    return a, w, rng.integers(-10000, 10000, O, np.int32)


def rule(O, **how):
    rng = np.random.default_rng(O)
    return requantizer(rng.uniform(1e-5, 1e-3, O), zero_point=100, lo=rng.integers(0, 20, O),
                       hi=rng.integers(200, 256, O), **how)


def agree(a, w, offset, isa, r=None, most=2):
    packed = pack(w)
    wanted = gemm_ref(a, w, offset)
    for n_threads in range(1, most + 1):
        # Fresh memory may hold what an earlier call left: what is not written must be seen.
        out = np.full(wanted.shape, -2**31, np.int32)
        got = gemm(a, packed, offset, out=out, isa=isa, n_threads=n_threads)
        np.testing.assert_array_equal(got, wanted, strict=True)
        if r is not None:
            codes = linear_ref(a, w, offset, r)
            out = ~codes
            linear(a, packed, offset, r, out=out, isa=isa, n_threads=n_threads)
            np.testing.assert_array_equal(out, codes, strict=True)


@isa
@pytest.mark.parametrize("M", SIZES)
@pytest.mark.parametrize("O", SIZES)
def test_sizes(isa, M, O):
    for K in (0, 1, 64, 67):
        a, w, offset = make(M, K, O)
        for array in (a, w, offset):
            array.setflags(write=False)
        agree(a, w, offset, isa, rule(O))


@settings(max_examples=30)
@given(M=st.integers(1, 30), K=st.integers(1, 40), O=st.integers(1, 140),
       rounding=st.sampled_from(ROUNDINGS), first=st.booleans(), seed=st.integers(0, 99))
def test_any_shape_and_rule(M, K, O, rounding, first, seed):
    a, w, offset = make(M, K, O, seed)
    for isa in cpu.distinct("int8"):
        agree(a, w, offset, isa, rule(O, rounding=rounding, zero_first=first), most=1)


@isa
@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
def test_every_tile(isa, vectors):
    for M in range(1, 15):  # rows of a tile
        for K in (1, 2, 3, 4, 7, 8, 9):
            agree(*make(M, K, 16 * vectors - 3, M), isa, most=1)


@isa
@pytest.mark.parametrize("M", [1, 7])
def test_nothing_saturates(isa, M):
    # 255 x -128 in every pair: sums of two of them leave 16 bits.
    a, w = np.full((M, 1001), 255, np.uint8), np.full((70, 1001), -128, np.int8)
    w[1], w[2, ::2] = 127, 127
    agree(a, w, np.int32([2**30] * 70), isa)


@isa
def test_rows_in_more_than_one_block(isa):
    agree(*make(200, 9001, 40), isa)


@isa
def test_a_row_does_not_depend_on_its_neighbours(isa):
    a, w, offset = make(9, 100, 70)
    packed = pack(w)
    whole = gemm(a, packed, offset, isa=isa)
    for M in range(1, 9):
        np.testing.assert_array_equal(gemm(a[:M], packed, offset, isa=isa), whole[:M], strict=True)


@isa
def test_where_it_writes(isa):
    a, w, offset = make(5, 33, 50)
    packed, r = pack(w), rule(50)
    room = np.full((7, 50), 77, np.int32)
    assert gemm(a, packed, offset, out=room[1:6], isa=isa).base is room
    np.testing.assert_array_equal(room[1:6], gemm_ref(a, w, offset))
    assert (room[[0, 6]] == 77).all()
    codes = np.full((7, 50), 77, np.uint8)
    linear(a, packed, offset, r, out=codes[1:6], isa=isa)
    np.testing.assert_array_equal(codes[1:6], linear_ref(a, w, offset, r))
    assert (codes[[0, 6]] == 77).all()


@pytest.mark.parametrize("shape, groups", [
    ((0, 5), 1), ((5, 0), 1), ((1, 1), 1), ((20, 25), 1), ((130, 7), 1), ((6, 3, 3, 5), 3),
    ((40, 2, 2, 4), 2)])
def test_packing_keeps_every_weight(shape, groups):
    w = np.random.default_rng(0).integers(-128, 128, shape, np.int8)
    packed = pack(w, groups=groups)
    np.testing.assert_array_equal(unpacked(packed), w, strict=True)
    assert packed.data.size == 0 or packed.data.__array_interface__["data"][0] % 64 == 0


def test_the_order_of_packed_weights():
    # 80 channels: panels of 3 and 2 vectors, in each the steps of four k one after another.
    w = np.random.default_rng(1).integers(-128, 128, (80, 9), np.int8)
    data = pack(w).data
    step = data[: 3 * 3 * 64].reshape(3, 3, 16, 4)
    np.testing.assert_array_equal(step[1, 2], w[32:48, 4:8])
    assert not step[2, :, :, 1:].any()  # behind the ninth k
    np.testing.assert_array_equal(data[3 * 3 * 64:].reshape(3, 2, 16, 4)[0, 1], w[64:80, :4])


A, W, OFFSET = make(3, 4, 5)


@pytest.mark.parametrize("change, says", [
    ({"a": A.astype(np.int8)}, "a must be codes, uint8, got int8"),
    ({"a": A[0]}, "a must be integers, in an array with 2 axes"),
    ({"a": A[:, :3]}, r"the shapes do not fit each other: a \(3, 3\), w \(5, 4\)"),
    ({"w": W}, "w must be Panels, made by pack; got ndarray"),
    ({"offset": OFFSET[:4]}, "the shapes do not fit"),
    ({"offset": OFFSET.astype(np.int64)}, "offset must be an array of int32, got int64"),
    ({"out": np.zeros((3, 5), np.int64)}, "out must be a writable, contiguous array of int32"),
    ({"out": np.zeros((5, 3), np.int32).T}, "out must be a writable, contiguous"),
    ({"isa": "mmx"}, "isa must be auto or one of"),
    ({"n_threads": 0}, "n_threads must be in"),
])
def test_refusals(change, says):
    with pytest.raises(ValueError, match=says):
        gemm(**{"a": A, "w": pack(W), "offset": OFFSET, **change})


@pytest.mark.parametrize("w, groups, says", [
    (W.astype(np.int16), 1, "w must be an array of int8, got int16"),
    (W[0], 1, "w must be integers, in an array with 2 or 4 axes"),
    (W, 5, "groups must divide the 5 channels of a convolution, got 5"),
    (np.zeros((6, 1, 1, 2), np.int8), 4, "groups must divide the 6 channels"),
    (np.full((1, 66_000), -128, np.int8), 1, r"255 sum \|w\| is below 2\^31"),
])
def test_refusals_of_the_packer(w, groups, says):
    with pytest.raises(ValueError, match=says):
        pack(w, groups=groups)
