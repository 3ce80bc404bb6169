import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.bits import conv, pack, pool, xnor
from minicomp.kernels.int8 import checks

compiled = pytest.mark.parametrize("isa", cpu.distinct("bits")[1:])
rng = np.random.default_rng(0)
FILTERS = xnor.pack(pack.pack_signs(rng.choice([-1, 1], (70, 3, 3, 20))), 20)
SECOND = xnor.pack(pack.pack_signs(rng.choice([-1, 1], (20, 4, 4, 70))), 70)
LAST = xnor.pack(pack.pack_signs(rng.choice([-1, 1], (5, 20))), 20)
T70, T20 = (pack.Thresholds(rng.integers(-4, 5, n).astype(np.int32), rng.random(n) < 0.5)
            for n in (70, 20))


def a_net(acc, outs, isa, calls, n_threads=1):
    # A little of everything, each value to its array in outs; returns the last.
    how = {"isa": isa, "calls": calls, "n_threads": n_threads}
    a = pack.pack_sums(acc, T20, out=outs[0], **how)
    b = conv.conv2d(a, FILTERS, T70, padding=(1, 1), out=outs[1], **how)
    c = pool.max_pool(b, T70.below, kernel=(2, 2), stride=(2, 2), out=outs[2], **how)
    d = conv.conv(c, SECOND, out=outs[3], **how)
    e = xnor.linear(c.reshape(len(c), -1), SECOND, T20, out=outs[4], **how)
    xnor.gemm(e, LAST, out=outs[5], **how)
    return d, outs[5]


def arrays(n):
    maps = [(n, 8, 8, 1), (n, 8, 8, 2), (n, 4, 4, 2)]
    return [*(np.zeros(s, np.uint64) for s in maps), np.zeros((n, 1, 1, 20), np.int32),
            np.zeros((n, 1), np.uint64), np.zeros((n, 5), np.int32)]


@compiled
@pytest.mark.parametrize("n_threads", [1, 2])
def test_calls_do_what_their_entries_do_whenever_they_are_run(isa, n_threads):
    acc, outs = np.zeros((2, 8, 8, 20), np.int32), arrays(2)
    calls = checks.some_calls("bits")
    last = a_net(acc, outs, isa, calls, n_threads)
    assert len(calls) == 6 and not any(out.any() for out in outs)
    for seed in range(3):
        acc[...] = np.random.default_rng(seed).integers(-9, 10, acc.shape)
        calls.run()
        for mine, at_once in zip(last, a_net(acc, arrays(2), isa, None)):
            np.testing.assert_array_equal(mine, at_once, strict=True)
            assert mine.any()
        for mine, wanted in zip(last, a_net(acc, arrays(2), "ref", None)):
            np.testing.assert_array_equal(mine, wanted, strict=True)
    with pytest.raises(ValueError, match="calls that have been run must stay as they are"):
        a_net(acc, arrays(2), isa, calls)


@compiled
def test_calls_of_another_room_are_refused(isa):
    a = np.zeros((1, 1), np.uint64)
    with pytest.raises(ValueError, match="calls must be made by some_calls, got a Calls"):
        xnor.gemm(a, LAST, isa=isa, calls=checks.some_calls("int8"))
