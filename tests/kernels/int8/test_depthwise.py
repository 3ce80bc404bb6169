import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.int8.conv import conv2d_ref, conv_ref
from minicomp.kernels.int8.depthwise import depthwise, pack_depthwise
from minicomp.kernels.int8.requantize import ROUNDINGS, requantizer

isa = pytest.mark.parametrize("isa", cpu.distinct("int8"))
# Channels, rounding, kernel, stride, padding: each number of channels beside those of a block once.
CASES = [(1, "single", (3, 3), (1, 1), (1, 1)), (15, "float", (5, 5), (2, 2), (2, 2)),
         (17, "gemmlowp", (3, 3), (2, 2), (1, 1)), (31, "float", (3, 3), (1, 1), (1, 1)),
         (33, "single", (5, 5), (1, 1), (2, 2)), (63, "gemmlowp", (2, 7), (3, 1), (0, 3)),
         (64, "single", (3, 3), (2, 2), (1, 1)), (65, "float", (5, 5), (1, 1), (2, 2)),
         (80, "single", (3, 3), (1, 1), (1, 1)), (96, "gemmlowp", (3, 3), (2, 2), (1, 1)),
         (130, "single", (3, 3), (1, 1), (0, 0))]


def drawn(rng, c, kernel, *, rounding="single", zero_first=False, extreme=False):
    # Filters, offsets and a requantizer whose codes fill 0..255, or saturate.
    kh, kw = kernel
    w = rng.integers(-128, 128, (c, kh, kw, 1)).astype(np.int8)
    if extreme:
        w = rng.choice(np.int8([-128, 127]), w.shape)
    offset = rng.integers(-5000, 5000, c).astype(np.int32)
    m = rng.uniform(0.5, 2, c) * rng.choice([-1, 1], c) / (64 * kh * kw)
    m[:: 7] = 0
    lo = rng.integers(0, 100, c)
    r = requantizer(m, zero_point=int(rng.integers(0, 256)), lo=lo, hi=lo + 120, rounding=rounding,
                    zero_first=zero_first)
    return w, offset, r


def check(x, w, offset, r, isa, **how):
    wanted = conv2d_ref(x, w, offset, r, groups=len(w), **how)
    packed = pack_depthwise(w, offset, r, isa=isa)
    np.testing.assert_array_equal(depthwise(x, packed, **how), wanted, strict=True)
    out = np.empty(wanted.shape, np.uint8)
    assert depthwise(x, packed, out=out, n_threads=2, **how) is out
    np.testing.assert_array_equal(out, wanted, strict=True)


@isa
def test_every_rung_gives_the_same_bits(isa):
    for c, rounding, kernel, stride, padding in CASES:
        rng = np.random.default_rng(c)
        w, offset, r = drawn(rng, c, kernel, rounding=rounding, zero_first=c in (17, 65))
        x = rng.integers(0, 256, (2, 7, 9, c)).astype(np.uint8)
        x.setflags(write=False)
        check(x, w, offset, r, isa, stride=stride, padding=padding, zero_point=c)


@isa
def test_sums_have_the_same_bits_on_every_rung(isa):
    for c, _, kernel, stride, padding in CASES:
        rng = np.random.default_rng(c)
        w, offset, _ = drawn(rng, c, kernel)
        x = rng.integers(0, 256, (2, 7, 9, c)).astype(np.uint8)
        how = {"stride": stride, "padding": padding, "zero_point": 7}
        for n_threads in (1, 2):
            for given in (None, offset[::-1].copy()):
                wanted = conv_ref(x, w, offset if given is None else given, groups=c, **how)
                got = depthwise(x, pack_depthwise(w, offset, None, isa=isa), offset=given,
                                n_threads=n_threads, **how)
                np.testing.assert_array_equal(got, wanted, strict=True)


@isa
def test_the_largest_sums_and_rows_longer_than_a_strip(isa):
    rng = np.random.default_rng(0)
    w, offset, r = drawn(rng, 33, (3, 3), extreme=True)
    x = rng.choice(np.uint8([0, 255]), (1, 3, 205, 33), p=[0.1, 0.9])
    for stride in ((1, 1), (2, 2)):
        check(x, w, offset, r, isa, stride=stride, padding=(1, 1), zero_point=255)
    w, offset, r = drawn(rng, 3, (15, 16))  # a window larger than a strip
    x = rng.integers(0, 256, (1, 16, 18, 3)).astype(np.uint8)
    check(x, w, offset, r, isa, stride=(1, 1), padding=(2, 20), zero_point=3)


@isa
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), c=st.integers(1, 70), kernel=st.tuples(*[st.integers(1, 6)] * 2),
       stride=st.tuples(*[st.integers(1, 3)] * 2), padding=st.tuples(*[st.integers(0, 4)] * 2),
       rounding=st.sampled_from(ROUNDINGS), zero_first=st.booleans())
def test_any_geometry(isa, seed, c, kernel, stride, padding, rounding, zero_first):
    rng = np.random.default_rng(seed)
    w, offset, r = drawn(rng, c, kernel, rounding=rounding, zero_first=zero_first)
    x = rng.integers(0, 256, (rng.integers(1, 3), *rng.integers(6, 9, 2), c)).astype(np.uint8)
    check(x, w, offset, r, isa, stride=stride, padding=padding, zero_point=int(rng.integers(256)))


@isa
def test_by_hand(isa):
    # 2 x 2 windows of ones and of 1, 2, 3, 4 over 0..8, zero point 1, halved: a tie goes up.
    x = np.stack([np.arange(9), np.arange(9)], -1).astype(np.uint8).reshape(1, 3, 3, 2)
    w = np.int8([[[1, 1], [1, 1]], [[1, 2], [3, 4]]])[..., None]
    r = requantizer([0.5, 0.5], zero_point=10, lo=0, hi=[255, 30])
    packed = pack_depthwise(w, np.int32([-4, -10]), r, isa=isa)
    y = depthwise(x, packed, zero_point=1)
    # sums 8 - 4, 12 - 4, 20 - 4, 24 - 4; 27 - 10, 37 - 10, 57 - 10, 67 - 10
    assert y[0, ..., 0].tolist() == [[12, 14], [18, 20]]
    assert y[0, ..., 1].tolist() == [[19, 24], [30, 30]]
    assert depthwise(x[:0], packed, zero_point=1).shape == (0, 2, 2, 2)


def test_what_is_refused():
    rng = np.random.default_rng(0)
    w, offset, r = drawn(rng, 4, (3, 3))
    packed, x = pack_depthwise(w, offset, r), np.zeros((1, 5, 5, 4), np.uint8)
    for bad, says in (
            (lambda: pack_depthwise(w[..., 0], offset, r), "w must be integers, in an array"),
            (lambda: pack_depthwise(w, offset[:2], r), "offset must be of 4 channels, got 2"),
            (lambda: pack_depthwise(w[:2], offset[:2], r), "r must be of 2 channels, got 4"),
            (lambda: depthwise(x[..., :3], packed, zero_point=0), "x must have 4 channels, got 3"),
            (lambda: depthwise(x.astype(np.int16), packed, zero_point=0), "x must be codes, uint8"),
            (lambda: depthwise(x, packed, zero_point=256), r"zero_point must be in \[0, 255\]"),
            (lambda: depthwise(x, packed, zero_point=0, out=x), "out must be a writable"),
            (lambda: depthwise(x, packed, zero_point=0, padding=(1, 1), out=x), "not overlap"),
            (lambda: depthwise(x[:, :2], packed, zero_point=0), "a window of 3 does not fit 2")):
        with pytest.raises(ValueError, match=says):
            bad()
