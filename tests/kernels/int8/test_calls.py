import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.int8 import checks, conv, gemm, pool, wiring
from minicomp.kernels.int8.depthwise import depthwise, pack_depthwise
from minicomp.kernels.int8.requantize import requantizer

compiled = pytest.mark.parametrize("isa", cpu.distinct("int8")[1:])
rng = np.random.default_rng(0)
FILTERS = rng.integers(-128, 128, (8, 3, 3, 3), np.int8)
EACH = rng.integers(-128, 128, (8, 3, 3, 1), np.int8)
LAST = rng.integers(-128, 128, (5, 64), np.int8)
R = requantizer([1e-3] * 8, zero_point=99, lo=0, hi=255)
MEAN = requantizer([0.25], zero_point=99, lo=0, hi=255)
ADDER = wiring.adder([0.5, 0.5], [99, 99], zero_point=99, lo=0, hi=255)
TABLE = rng.permutation(256).astype(np.uint8)


def a_net(x, outs, isa, calls, n_threads=1):
    # A little of everything, each value to its array in outs; returns the last.
    how = {"isa": isa, "calls": calls, "n_threads": n_threads}
    offset, pads = np.arange(8, dtype=np.int32), {"padding": (1, 1), "zero_point": 99}
    each = pack_depthwise(EACH, offset, R, isa=isa)
    a = conv.conv2d(x, gemm.pack(FILTERS), offset, R, out=outs[0], **pads, **how)
    b = depthwise(a, each, out=outs[1], calls=calls, n_threads=n_threads, **pads)
    c = wiring.add([a, b], ADDER, out=outs[2], **how)
    d = wiring.look_up(c, TABLE, out=outs[3], **how)
    e = wiring.shuffle(d, 2, out=outs[4], **how)
    f = wiring.concat([e, d], [TABLE, TABLE], out=outs[5], **how)
    g = pool.max_pool(f, kernel=(2, 2), stride=(2, 2), out=outs[6], **how)
    h = pool.avg_pool(g, MEAN, kernel=(2, 2), stride=(2, 2), zero_point=99, out=outs[7], **how)
    i = h.reshape(len(x), 64)
    return gemm.gemm(i, gemm.pack(LAST), offset[:5], out=outs[8], **how)


def arrays(n):
    maps = [(n, 8, 8, 8)] * 5 + [(n, 8, 8, 16), (n, 4, 4, 16), (n, 2, 2, 16)]
    return [np.zeros(s, np.uint8) for s in maps] + [np.zeros((n, 5), np.int32)]


@compiled
@pytest.mark.parametrize("n_threads", [1, 2])
def test_calls_do_what_their_entries_do_whenever_they_are_run(isa, n_threads):
    x, outs, calls = np.zeros((2, 8, 8, 3), np.uint8), arrays(2), checks.some_calls()
    last = a_net(x, outs, isa, calls, n_threads)
    assert len(calls) == 10 and not any(out.any() for out in outs)  # concat is two
    for seed in range(3):
        x[...] = np.random.default_rng(seed).integers(0, 256, x.shape)
        calls.run()
        np.testing.assert_array_equal(last, a_net(x, arrays(2), isa, None), strict=True)
    with pytest.raises(ValueError, match="calls that have been run must stay as they are"):
        a_net(x, arrays(2), isa, calls)


@compiled
def test_calls_hold_what_they_read(isa):
    calls, out = checks.some_calls(), np.zeros((1, 5), np.int32)
    a = np.full((1, 64), 3, np.uint8)
    gemm.gemm(a, gemm.pack(LAST), np.zeros(5, np.int32), out=out, isa=isa, calls=calls)
    del a
    calls.run()
    np.testing.assert_array_equal(out[0], 3 * LAST.sum(axis=1, dtype=np.int32))


@compiled
def test_refusals(isa):
    a, w, offset = np.zeros((4, 64), np.uint8), gemm.pack(LAST), np.zeros(5, np.int32)
    with pytest.raises(ValueError, match="calls must be made by some_calls, got a list"):
        gemm.gemm(a, w, offset, isa=isa, calls=[])
    with pytest.raises(ValueError, match="calls must be None on the rung ref"):
        gemm.gemm(a, w, offset, isa="ref", calls=checks.some_calls())
    with pytest.raises(ValueError, match="what calls read must be contiguous"):
        gemm.gemm(np.zeros((4, 128), np.uint8)[:, ::2], w, offset, calls=checks.some_calls())
