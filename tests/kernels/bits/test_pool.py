import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.bits.pack import pack_signs, unpack_signs
from minicomp.kernels.bits.pool import max_pool
from minicomp.kernels.int8.pool import max_pool_ref

isa = pytest.mark.parametrize("isa", cpu.distinct("bits"))
# kernel, stride, padding, count on a map of 7 x 8: one that hangs over the end, one with windows
# of padding alone, and all of it
WINDOWS = [((2, 2), (2, 2), (0, 0), (3, 4)), ((3, 3), (2, 2), (1, 1), (4, 4)),
           ((2, 3), (2, 3), (2, 3), (5, 4)), ((1, 1), (1, 1), (0, 0), (7, 8)),
           ((7, 8), (1, 1), (0, 0), (1, 1))]


@isa
@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("c", [1, 7, 64, 65, 130, 600])
def test_every_rung_takes_the_largest_or_the_least(isa, windows, c):
    how = dict(zip(("kernel", "stride", "padding", "count"), windows))
    rng = np.random.default_rng(c)
    x, lowest = rng.choice(np.int8([-1, 1]), (2, 7, 8, c)), rng.random(c) < 0.5
    # As codes 0 and 1: what is the largest of x is that of codes, the least that of codes 1 - x.
    codes = ((1 + np.where(lowest, -x, x)) // 2).astype(np.uint8)
    wanted = (2 * max_pool_ref(codes, **how).astype(np.int8) - 1) * np.where(lowest, -1, 1)
    words = pack_signs(x)
    words.setflags(write=False)
    for n_threads in (1, 2):
        out = ~pack_signs(wanted)
        assert max_pool(words, lowest, **how, isa=isa, n_threads=n_threads, out=out) is out
        np.testing.assert_array_equal(unpack_signs(out, c), wanted)


def test_by_hand():
    x = pack_signs(np.array([[[[-1, 1], [-1, 1]], [[1, 1], [-1, -1]]]]))
    how = {"kernel": (2, 2), "stride": (2, 2)}
    assert max_pool(x, np.array([False, False]), **how).tolist() == [[[[0b11]]]]
    assert max_pool(x, np.array([True, True]), **how).tolist() == [[[[0b00]]]]
    assert max_pool(x, np.array([False, True]), **how).tolist() == [[[[0b01]]]]
    assert max_pool(x[:0], np.array([True, True]), **how).shape == (0, 1, 1, 1)


def test_what_is_refused():
    x, none = pack_signs(np.ones((1, 3, 3, 5))), np.zeros(5, bool)
    how = {"kernel": (2, 2), "stride": (2, 2)}
    for bad, says in (
            (lambda: max_pool(x[0], none, **how), "x must be integers, in an array with 4 axes"),
            (lambda: max_pool(x, none.astype(int), **how), r"lowest must be an array \(C,\) of"),
            (lambda: max_pool(x, none[:4], **how), "x must have no bit set behind the last of 4"),
            (lambda: max_pool(x, np.zeros(70, bool), **how), "x must have 2 words for 70 bits"),
            (lambda: max_pool(x, none, kernel=(9, 2), stride=(1, 1)), "a window of 9 does not fit"),
            (lambda: max_pool(x, none, **how, out=x), "out must be a writable")):
        with pytest.raises(ValueError, match=says):
            bad()
