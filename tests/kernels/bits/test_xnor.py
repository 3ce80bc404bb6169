import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.bits.pack import Thresholds, pack_signs, pack_sums_ref
from minicomp.kernels.bits.xnor import gemm, gemm_ref, linear, linear_ref, pack, unpacked

isa = pytest.mark.parametrize("isa", cpu.distinct("bits"))
SIZES = [0, 1, 7, 8, 9, 63, 64, 65]


def signs(*shape, seed=0):
    return np.random.default_rng(seed).choice(np.int8([-1, 1]), shape)


def rule(O, K, seed=0):
    # Thresholds that cut the sums in halves, about.
    rng = np.random.default_rng(seed)
    return Thresholds(rng.integers(-3, 4, O).astype(np.int32) - K % 2, rng.random(O) < 0.5)


def agree(a, w, isa, most=2):
    # a (M, K), w (O, K): +1 and -1
    K, t = a.shape[1], rule(len(w), a.shape[1])
    bits, packed = pack_signs(a), pack(pack_signs(w), K)
    bits.setflags(write=False)
    sums = a.astype(np.int32) @ w.T.astype(np.int32)
    words = pack_sums_ref(sums, t)
    for n_threads in range(1, most + 1):
        # Fresh memory may hold what an earlier call left: what is not written must be seen.
        how = {"isa": isa, "n_threads": n_threads}
        np.testing.assert_array_equal(gemm(bits, packed, out=~sums, **how), sums, strict=True)
        got = linear(bits, packed, t, out=~words, **how)
        np.testing.assert_array_equal(got, words, strict=True)


@isa
@pytest.mark.parametrize("M", SIZES)
def test_sizes(isa, M):
    for O in SIZES:
        for K in (0, 1, 64, 67):
            agree(signs(M, K), signs(O, K, seed=1), isa)


@isa
def test_every_length(isa):
    for K in [*range(1, 131), 959, 1023, 1024, 1025, 1984, 1985, 2047, 3100]:
        agree(signs(5, K, seed=K), signs(17, K, seed=1), isa, most=1)


@isa
@pytest.mark.parametrize("panels", range(1, 9))
def test_every_tile(isa, panels):
    for M in range(1, 10):
        for K in (60, 128, 2090):
            agree(signs(M, K, seed=M), signs(8 * panels - 3, K, seed=1), isa, most=1)


@settings(max_examples=30)
@given(M=st.integers(1, 20), K=st.integers(1, 1500), O=st.integers(1, 140), seed=st.integers(0, 99))
def test_any_shape(M, K, O, seed):
    for isa in cpu.distinct("bits"):
        agree(signs(M, K, seed=seed), signs(O, K, seed=seed + 1), isa, most=1)


@isa
@pytest.mark.parametrize("M", [1, 7])
def test_counts_that_fill_their_bytes(isa, M):
    # All bits differ, in so many words that a byte of counts would overflow.
    for K in (64 * 15, 64 * 31, 64 * 32, 64 * 33, 64 * 47, 64 * 700 + 5):
        agree(np.full((M, K), -1, np.int8), np.full((9, K), 1, np.int8), isa)


@isa
def test_rows_in_more_than_one_block(isa):
    agree(signs(150, 64 * 400), signs(20, 64 * 400, seed=1), isa)


def test_the_references_say_the_same():
    a, w, t = signs(6, 100), signs(70, 100, seed=1), rule(70, 100)
    bits, rows, wanted = pack_signs(a), pack_signs(w), a.astype(np.int32) @ w.T
    np.testing.assert_array_equal(gemm_ref(bits, rows, 100), wanted, strict=True)
    np.testing.assert_array_equal(linear_ref(bits, rows, 100, t), pack_sums_ref(wanted, t))


@isa
def test_where_it_writes(isa):
    a, w = pack_signs(signs(5, 70)), pack(pack_signs(signs(50, 70)), 70)
    room = np.full((7, 50), 77, np.int32)
    assert gemm(a, w, out=room[1:6], isa=isa).base is room
    assert (room[[0, 6]] == 77).all()
    words = np.full((7, 1), 77, np.uint64)
    linear(a, w, rule(50, 70), out=words[1:6], isa=isa)
    assert (words[[0, 6]] == 77).all() and (words[1:6] < 2**50).all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1), (20, 130), (9, 3, 2, 70)])
def test_packing_keeps_every_weight(shape):
    words = pack_signs(signs(*shape))
    packed = pack(words, shape[-1])
    np.testing.assert_array_equal(unpacked(packed), words, strict=True)
    assert packed.shape == shape and packed.nbytes % 64 == 0
    assert packed.data.size == 0 or packed.data.__array_interface__["data"][0] % 64 == 0


def test_the_order_of_packed_weights():
    words = pack_signs(signs(11, 130))
    data = pack(words, 130).data.reshape(2, 3, 8)  # panel, word, column
    np.testing.assert_array_equal(data[0], words[:8].T)
    np.testing.assert_array_equal(data[1, :, :3], words[8:].T)
    assert not data[1, :, 3:].any()


def test_a_map_is_a_row_pixel_after_pixel():
    x, w = signs(3, 2, 4, 70), signs(9, 2, 4, 70, seed=1)
    got = gemm(pack_signs(x).reshape(3, -1), pack(pack_signs(w), 70))
    np.testing.assert_array_equal(got, x.reshape(3, -1).astype(np.int32) @ w.reshape(9, -1).T)


A, W = pack_signs(signs(3, 70)), pack_signs(signs(5, 70))


@pytest.mark.parametrize("change, says", [
    ({"a": A.astype(np.int64)}, "a must be words of bits, uint64, got int64"),
    ({"a": A[0]}, "a must be integers, in an array with 2 axes"),
    ({"a": A[:, :1]}, r"the shapes do not fit each other: a \(3, 1\), w \(5, 70\) in bits"),
    ({"a": A | np.uint64(2**6)}, "a must have no bit set behind the last of 70"),
    ({"w": W}, "w must be Panels, made by pack; got ndarray"),
    ({"out": np.zeros((3, 5), np.int64)}, "out must be a writable, contiguous array of int32"),
    ({"isa": "mmx"}, "isa must be auto or one of"),
    ({"n_threads": 0}, "n_threads must be in"),
])
def test_refusals(change, says):
    with pytest.raises(ValueError, match=says):
        gemm(**{"a": A, "w": pack(W, 70), **change})


@pytest.mark.parametrize("w, n, says", [
    (W.astype(np.int64), 70, "w must be words of bits, uint64, got int64"),
    (W[0], 70, "w must be integers, in an array with 2 or 4 axes"),
    (W, 64, "w must have 1 words for 64 bits"),
    (W | np.uint64(2**63), 70, "w must have no bit set behind the last of 70"),
    (W, -1, "n must be at least 0"),
])
def test_refusals_of_the_packer(w, n, says):
    with pytest.raises(ValueError, match=says):
        pack(w, n)
