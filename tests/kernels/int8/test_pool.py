import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.int8.pool import avg_pool, avg_pool_ref, max_pool, max_pool_ref
from minicomp.kernels.int8.requantize import ROUNDINGS, requantizer

isa = pytest.mark.parametrize("isa", cpu.distinct("int8"))
SIZES = [0, 1, 20, 63, 64, 65, 130]
# kernel, stride, padding, count on a map of 7 x 8: one that hangs over the end, one larger than the
# map, and all of it
WINDOWS = [((2, 2), (2, 2), (0, 0), (3, 4)), ((3, 3), (2, 2), (1, 1), (4, 4)),
           ((2, 3), (2, 3), (0, 1), (4, 3)), ((1, 1), (1, 1), (0, 0), (7, 8)),
           ((8, 9), (2, 2), (0, 0), (1, 1)), ((7, 8), (1, 1), (0, 0), (1, 1))]


def maps(c, n=2, seed=0):
    x = np.random.default_rng(seed + c).integers(0, 256, (n, 7, 8, c)).astype(np.uint8)
    x.setflags(write=False)
    return x


@isa
@pytest.mark.parametrize("windows", WINDOWS)
def test_every_rung_gives_the_same_bits(isa, windows):
    how = dict(zip(("kernel", "stride", "padding", "count"), windows))
    for i, c in enumerate(SIZES):
        x = maps(c)
        wanted = max_pool_ref(x, **how)
        np.testing.assert_array_equal(max_pool(x, **how, isa=isa), wanted, strict=True)
        out = np.empty(wanted.shape, np.uint8)
        assert max_pool(x, **how, isa=isa, n_threads=2, out=out) is out
        np.testing.assert_array_equal(out, wanted, strict=True)
        r = requantizer(1.3 / np.prod(how["kernel"]), zero_point=77, lo=3, hi=250,
                        rounding=ROUNDINGS[i % 3], zero_first=i in (1, 2))
        wanted = avg_pool_ref(x, r, zero_point=99, **how)
        for n_threads in (1, 2):
            got = avg_pool(x, r, zero_point=99, **how, isa=isa, n_threads=n_threads)
            np.testing.assert_array_equal(got, wanted, strict=True)


@isa
def test_by_hand(isa):
    x = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1)
    how = {"kernel": (2, 2), "stride": (1, 1), "isa": isa}
    assert max_pool(x, **how)[0, ..., 0].tolist() == [[4, 5], [7, 8]]
    assert max_pool(x[:0], **how).shape == (0, 2, 2, 1)
    r = requantizer(0.25, zero_point=4, lo=0, hi=255)  # the grid of x: sums 8, 12, 20, 24 less 16
    assert avg_pool(x, r, zero_point=4, **how)[0, ..., 0].tolist() == [[2, 3], [5, 6]]
    r = requantizer(0.125, zero_point=4, lo=0, hi=255)  # ties upward: -8/8, -4/8, 4/8, 8/8
    assert avg_pool(x, r, zero_point=4, **how)[0, ..., 0].tolist() == [[3, 4], [5, 5]]


def test_what_is_refused():
    x, how = maps(4), {"kernel": (2, 2), "stride": (2, 2)}
    r = requantizer(0.25, zero_point=0, lo=0, hi=255)
    for bad, says in (
            (lambda: max_pool(x[0], **how), "x must be integers, in an array with 4 axes"),
            (lambda: max_pool(x.astype(np.int8), **how), "x must be codes, uint8, got int8"),
            (lambda: max_pool(x, kernel=(9, 2), stride=(1, 1)), "a window of 9 does not fit 7"),
            (lambda: max_pool(x, **how, count=(5, 4)), r"count must be at most \(4, 4\), got"),
            (lambda: max_pool(x, **how, out=x), "out must be a writable"),
            (lambda: avg_pool(x, requantizer([1, 1], zero_point=0, lo=0, hi=255), zero_point=0,
                              **how), "r must be of 1 channels, got 2"),
            (lambda: avg_pool(x, r, zero_point=0, kernel=(3000, 3000), stride=(1, 1),
                              padding=(3000, 3000)), "kernel must have at most")):
        with pytest.raises(ValueError, match=says):
            bad()
