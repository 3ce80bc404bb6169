import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.bits.conv import (conv, conv2d, conv2d_ref, conv_ref, scratch_words,
                                        sizes_of)
from minicomp.kernels.bits.pack import Thresholds, pack_signs
from minicomp.kernels.bits.xnor import pack
from minicomp.kernels.int8.conv import conv_ref as int8_conv_ref

isa = pytest.mark.parametrize("isa", cpu.distinct("bits"))


def make(N, H, W, C, O, KH, KW, seed=0):
    rng = np.random.default_rng(seed)
    return rng.choice(np.int8([-1, 1]), (N, H, W, C)), rng.choice(np.int8([-1, 1]), (O, KH, KW, C))


def agree(x, w, isa, *, most=2, **how):
    rng, O = np.random.default_rng(len(w)), len(w)
    t = Thresholds(rng.integers(-4, 5, O).astype(np.int32), rng.random(O) < 0.5)
    maps, packed = pack_signs(x), pack(pack_signs(w), w.shape[3])
    maps.setflags(write=False)
    sums, words = conv_ref(x, w, **how), conv2d_ref(x, w, t, **how)
    for n_threads in range(1, most + 1):
        # Fresh memory may hold what an earlier call left: what is not written must be seen.
        at = {"isa": isa, "n_threads": n_threads, **how}
        np.testing.assert_array_equal(conv(maps, packed, out=~sums, **at), sums, strict=True)
        got = conv2d(maps, packed, t, out=~words, **at)
        np.testing.assert_array_equal(got, words, strict=True)


# N, H, W, C, O, KH, KW, stride, padding: each way through the kernel
WAYS = {
    "a product": (2, 5, 6, 70, 20, 1, 1, (1, 1), (0, 0)),
    "1 x 1, stride 2": (2, 7, 7, 8, 24, 1, 1, (2, 2), (0, 0)),
    "one word": (2, 9, 8, 20, 50, 3, 3, (1, 1), (1, 1)),
    "whole words": (1, 6, 6, 64, 65, 3, 3, (1, 1), (1, 1)),
    "many words": (2, 5, 4, 300, 17, 3, 3, (1, 2), (1, 0)),
    "far padding": (1, 2, 3, 65, 9, 2, 3, (1, 1), (3, 4)),
    "one pixel": (1, 1, 1, 1, 1, 1, 1, (1, 1), (0, 0)),
    "padding alone": (1, 1, 1, 4, 3, 3, 3, (1, 1), (2, 2)),
    "no image": (0, 5, 5, 4, 3, 3, 3, (1, 1), (0, 0)),
    "columns in blocks": (2, 12, 11, 512, 9, 5, 5, (1, 1), (2, 2)),
}


@isa
@pytest.mark.parametrize("pad", [-1, 0, 1])
@pytest.mark.parametrize("way", WAYS)
def test_ways(isa, way, pad):
    *shape, stride, padding = WAYS[way]
    agree(*make(*shape), isa, stride=stride, padding=padding, pad=pad)


@settings(max_examples=30)
@given(data=st.data())
def test_any_convolution(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    KH, KW, ph, pw = draw(1, 4), draw(1, 4), draw(0, 5), draw(0, 5)
    H, W = draw(max(1, KH - 2 * ph), 9), draw(max(1, KW - 2 * pw), 9)
    arrays = make(draw(1, 3), H, W, draw(1, 130), draw(1, 70), KH, KW)
    how = {"stride": (draw(1, 3), draw(1, 3)), "padding": (ph, pw), "pad": draw(-1, 1)}
    for isa in cpu.distinct("bits"):
        agree(*arrays, isa, most=1, **how)


@isa
def test_zero_padding_is_that_of_integers(isa):
    # The integer convolution of room int8 on codes 0, 1, 2 with zero point 1: another path.
    x, w = make(2, 6, 7, 33, 12, 3, 2)
    how = {"stride": (2, 1), "padding": (1, 1)}
    codes = (x + 1).astype(np.uint8)
    offset = -w.sum(axis=(1, 2, 3), dtype=np.int32)
    wanted = int8_conv_ref(codes, w, offset, groups=1, zero_point=1, **how)
    got = conv(pack_signs(x), pack(pack_signs(w), 33), isa=isa, **how)
    np.testing.assert_array_equal(got, wanted, strict=True)


@isa
def test_scratch_of_the_caller_is_enough_and_all_that_is_written(isa):
    x, w = make(2, 9, 9, 70, 20, 3, 3)
    maps, packed, how = pack_signs(x), pack(pack_signs(w), 70), {"padding": (1, 1)}
    n = scratch_words(sizes_of(maps.shape, packed, **how), n_threads=2)
    room, out = np.full(n + 16, 77, np.uint64), np.full((4, 9, 9, 20), 77, np.int32)
    got = conv(maps, packed, out=out[1:3], scratch=room[8:-8], isa=isa, n_threads=2, **how)
    np.testing.assert_array_equal(got, conv_ref(x, w, **how))
    assert (room[:8] == 77).all() and (room[-8:] == 77).all()
    assert (out[[0, 3]] == 77).all() and got.base is out


X, W = (pack_signs(a) for a in make(2, 5, 5, 70, 6, 3, 3))


@pytest.mark.parametrize("change, says", [
    ({"x": X[0]}, "x must be integers, in an array with 4 axes"),
    ({"x": X.astype(np.int64)}, "x must be words of bits, uint64, got int64"),
    ({"x": X[..., :1]}, r"a convolution needs x \(N, H, W, words\)"),
    ({"x": X | np.uint64(2**6)}, "x must have no bit set behind the last of 70"),
    ({"w": pack(W[:, 0, 0], 70)}, "a convolution needs x"),
    ({"w": W}, "w must be Panels, made by pack"),
    ({"stride": (0, 1)}, "stride must be at least 1"),
    ({"x": X[:, :2]}, "a window of 3 does not fit 2 entries"),
    ({"pad": 2}, r"pad must be in \[-1, 1\], got 2"),
    ({"out": np.zeros((2, 3, 3, 5), np.int32)}, "out must be a writable, contiguous array"),
    ({"scratch": np.zeros(3, np.uint64)}, "scratch must be a writable, contiguous array of at lea"),
    ({"isa": "mmx"}, "isa must be auto or one of"),
    ({"n_threads": 0}, "n_threads must be in"),
])
def test_refusals(change, says):
    with pytest.raises(ValueError, match=says):
        conv(**{"x": X, "w": pack(W, 70), **change})
