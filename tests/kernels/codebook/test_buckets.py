import math

import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.codebook.buckets import Places, add, add_ref, decode
from minicomp.kernels.splitmix import splitmix64

isa = pytest.mark.parametrize("isa", cpu.distinct("codebook"))


def make(shape, k, seed=0):
    rng = np.random.default_rng(seed)
    places = Places(rng.integers(0, k, shape), rng.random(shape) < 0.5, k)
    return places, rng.normal(size=shape).astype(np.float32), rng.normal(size=k).astype(np.float32)


@isa
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 7, 64, 65, 5003])
@pytest.mark.parametrize("k", [1, 2, 65, 3000])
def test_every_rung_and_number_of_threads_adds_the_same_bits(isa, threads, n, k):
    # Large numbers that cancel among small ones: the order decides what is left of those.
    places, g, _ = make((n,), k, n + k)
    g[n // 2 :] = 1e9 * np.sign(g[n // 2 :])
    g.setflags(write=False)
    got = add(g, places, isa=isa, n_threads=threads)
    np.testing.assert_array_equal(got, add_ref(g, places), strict=True)


@isa
def test_decode_and_add_by_definition(isa):
    places, g, b = make((6, 5), 4)
    sign, bucket = places.sign.astype(np.float32), places.bucket
    np.testing.assert_array_equal(decode(b, places, isa=isa), sign * b[bucket], strict=True)
    got = add(g.T.copy().T, places, isa=isa)
    for j in range(4):
        mine = (sign * g)[bucket == j].astype(np.float64)
        assert got[j] == np.float32(math.fsum(mine))
    for dtype in (np.float32, np.float64):  # adjoint, and the dtype stays
        assert decode(b.astype(dtype), places).dtype == add(g.astype(dtype), places).dtype == dtype
    left = (decode(b.astype(np.float64), places) * g).sum()
    assert left == pytest.approx(b @ add(g.astype(np.float64), places), rel=1e-12)


def test_the_lists_name_every_place_once_and_in_order():
    places, *_ = make((41,), 7)
    lists, starts = places.lists
    assert sorted(lists >> 1) == list(range(41)) and len(starts) == 8 and starts[-1] == 41
    for j, (a, b) in enumerate(zip(starts, starts[1:])):
        mine = lists[a:b] >> 1
        assert (np.diff(mine.astype(int)) > 0).all() and (places.bucket[mine] == j).all()
        np.testing.assert_array_equal(1 - 2 * (lists[a:b] & 1).astype(int), places.sign[mine])


def test_refusals():
    flags = np.zeros(3, bool)
    for bucket, says in ((np.zeros(3), "bucket must be integers"),
                         (np.array([0, 1, 2]), r"bucket must be integers in \[0, 1\], got 0..2"),
                         (np.array([0, 1, -1]), "got -1..1")):
        with pytest.raises(ValueError, match=says):
            Places(bucket, flags, 2)
    with pytest.raises(ValueError, match=r"negative must be bool of shape \(3,\)"):
        Places(np.zeros(3, int), flags[:2], 2)
    places = Places(np.zeros(3, int), flags, 2)
    with pytest.raises(ValueError, match=r"b must have shape \(2,\), got \(3,\)"):
        decode(np.zeros(3, np.float32), places)
    with pytest.raises(ValueError, match=r"g must have shape \(3,\), got \(2,\)"):
        add(np.zeros(2, np.float32), places)
    with pytest.raises(ValueError, match="n_threads"):
        add(np.zeros(3, np.float32), places, n_threads=0)


def test_splitmix64_has_the_published_outputs():
    # of seed 1234567, as the generator's author and others print them
    want = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(4, 1234567).tolist() == want
    assert splitmix64(2, 1234567, first=2).tolist() == want[2:]
