import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.int8.conv import conv, conv2d, conv2d_ref, conv_ref, scratch_bytes, sizes_of
from minicomp.kernels.int8.gemm import pack
from minicomp.kernels.int8.requantize import ROUNDINGS, requantizer

isa = pytest.mark.parametrize("isa", cpu.distinct("int8"))


def make(N, H, W, C, O, KH, KW, groups=1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (N, H, W, C), np.uint8)
    w = rng.integers(-128, 128, (O, KH, KW, C // groups), np.int8)
    return x, w, rng.integers(-10000, 10000, O, np.int32)


def agree(x, w, offset, isa, *, groups=1, stride=(1, 1), padding=(0, 0), rounding="single",
          most=2):
    how = {"stride": stride, "padding": padding, "zero_point": 77}
    r = requantizer(np.random.default_rng(len(w)).uniform(1e-5, 1e-3, len(w)), zero_point=100,
                    lo=3, hi=250, rounding=rounding)
    packed = pack(w, groups=groups)
    sums = conv_ref(x, w, offset, groups=groups, **how)
    codes = conv2d_ref(x, w, offset, r, groups=groups, **how)
    for n_threads in range(1, most + 1):
        # Fresh memory may hold what an earlier call left: what is not written must be seen.
        for entry, wanted in ((conv, sums), (lambda *a, **k: conv2d(*a, r, **k), codes)):
            got = entry(x, packed, offset, out=~wanted, isa=isa, n_threads=n_threads, **how)
            np.testing.assert_array_equal(got, wanted, strict=True)


# N, H, W, C, O, KH, KW, groups, stride, padding: each way through the kernel
WAYS = {
    "a product": (2, 5, 6, 7, 20, 1, 1, 1, (1, 1), (0, 0)),
    "in place": (2, 9, 9, 4, 50, 3, 3, 1, (1, 1), (0, 0)),
    "in place, framed": (2, 9, 8, 4, 17, 3, 3, 1, (2, 1), (1, 2)),
    "in place, runs of 4": (1, 7, 9, 2, 16, 3, 2, 1, (1, 2), (1, 0)),
    "columns, one channel": (3, 12, 12, 1, 20, 5, 5, 1, (1, 1), (0, 0)),
    "columns, three channels": (2, 8, 8, 3, 33, 3, 3, 1, (2, 2), (1, 1)),
    "columns, long runs": (1, 6, 6, 11, 10, 3, 3, 1, (1, 1), (1, 1)),
    "columns, a short row": (2, 5, 3, 64, 70, 3, 3, 1, (1, 1), (0, 0)),
    "1 x 1, stride 2": (2, 7, 7, 8, 24, 1, 1, 1, (2, 2), (0, 0)),
    "groups in place": (2, 6, 6, 8, 6, 3, 3, 2, (1, 1), (1, 1)),
    "groups in columns": (2, 6, 6, 6, 36, 3, 3, 2, (1, 1), (1, 1)),
    "depthwise": (2, 6, 6, 5, 5, 3, 3, 5, (1, 1), (1, 1)),
    "groups, 1 x 1": (1, 3, 5, 8, 8, 1, 1, 4, (1, 1), (0, 0)),
    "one pixel": (1, 1, 1, 1, 1, 1, 1, 1, (1, 1), (0, 0)),
    "padding alone": (1, 1, 1, 4, 3, 3, 3, 1, (1, 1), (2, 2)),
    "no image": (0, 5, 5, 4, 3, 3, 3, 1, (1, 1), (0, 0)),
    "columns in blocks": (1, 40, 100, 3, 4, 3, 3, 1, (1, 1), (1, 1)),
}


@isa
@pytest.mark.parametrize("way", WAYS)
def test_ways(isa, way):
    *shape, groups, stride, padding = WAYS[way]
    arrays = make(*shape, groups)
    for a in arrays:
        a.setflags(write=False)
    agree(*arrays, isa, groups=groups, stride=stride, padding=padding)


@settings(max_examples=40)
@given(data=st.data())
def test_any_convolution(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    KH, KW, ph, pw, groups = draw(1, 5), draw(1, 5), draw(0, 3), draw(0, 3), draw(1, 3)
    H, W = draw(max(1, KH - 2 * ph), 9), draw(max(1, KW - 2 * pw), 9)
    arrays = make(draw(1, 3), H, W, groups * draw(1, 9), groups * draw(1, 20), KH, KW, groups)
    how = {"groups": groups, "stride": (draw(1, 3), draw(1, 3)), "padding": (ph, pw),
           "rounding": data.draw(st.sampled_from(ROUNDINGS))}
    for isa in cpu.distinct("int8"):
        agree(*arrays, isa, most=1, **how)


@isa
def test_nothing_saturates(isa):
    x, w = np.full((1, 6, 6, 8), 255, np.uint8), np.full((20, 3, 3, 8), -128, np.int8)
    agree(x, w, np.int32([2**30] * 20), isa)


@isa
def test_scratch_of_the_caller_is_enough_and_all_that_is_written(isa):
    x, w, offset = make(2, 9, 9, 3, 20, 3, 3)
    packed, how = pack(w), {"stride": (1, 1), "padding": (1, 1), "zero_point": 7}
    s = sizes_of(x.shape, packed, **how)
    room = np.full(scratch_bytes(s, n_threads=2) + 128, 77, np.uint8)
    out = np.full((4, 9, 9, 20), 77, np.int32)
    got = conv(x, packed, offset, out=out[1:3], scratch=room[64:-64], isa=isa, n_threads=2, **how)
    np.testing.assert_array_equal(got, conv_ref(x, w, offset, groups=1, **how))
    assert (room[:64] == 77).all() and (room[-64:] == 77).all()
    assert (out[[0, 3]] == 77).all() and got.base is out


X, W, OFFSET = make(2, 5, 5, 4, 6, 3, 3)


@pytest.mark.parametrize("change, says", [
    ({"x": X[0]}, "x must be integers, in an array with 4 axes"),
    ({"x": X.astype(np.int8)}, "x must be codes, uint8, got int8"),
    ({"x": X[..., :3]}, r"a convolution in 1 groups needs x \(N, H, W, C\)"),
    ({"w": pack(W.reshape(6, -1))}, "a convolution in 1 groups needs x"),
    ({"w": W}, "w must be Panels, made by pack"),
    ({"offset": OFFSET[:5]}, r"offset must have shape \(6,\), got \(5,\)"),
    ({"stride": (0, 1)}, "stride must be at least 1"),
    ({"padding": (-1, 1)}, "padding must be at least 0"),
    ({"x": X[:, :2]}, "a window of 3 does not fit 2 entries"),
    ({"zero_point": 256}, r"zero_point must be in \[0, 255\]"),
    ({"out": np.zeros((2, 3, 3, 5), np.int32)}, "out must be a writable, contiguous array"),
    ({"scratch": np.zeros(3, np.uint8), "padding": (1, 1)}, "scratch must be a writable, contig"),
    ({"isa": "mmx"}, "isa must be auto or one of"),
    ({"n_threads": 0}, "n_threads must be in"),
])
def test_refusals(change, says):
    with pytest.raises(ValueError, match=says):
        conv(**{"x": X, "w": pack(W), "offset": OFFSET, **change})
