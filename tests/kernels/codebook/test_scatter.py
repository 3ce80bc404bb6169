import math

import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.codebook.scatter import scatter_add, scatter_add_ref

isa = pytest.mark.parametrize("isa", cpu.distinct("codebook"))


def make(n, k, zeros=0.0, dtype=np.uint8):
    # Large numbers that cancel, each with its own negative somewhere, among small ones: in which
    # order they are added decides what is left of the small ones.
    rng = np.random.default_rng(n + k)
    g, index = rng.normal(size=n), rng.integers(0, k, n)
    index[rng.random(n) < zeros] = 0
    pairs = rng.permutation(n)[: n // 3 * 2].reshape(2, -1)
    g[pairs[0]] = rng.normal(size=n // 3) * 10.0 ** rng.integers(8, 18, n // 3)
    g = g.astype(np.float32)
    g[pairs[1]], index[pairs[1]] = -g[pairs[0]], index[pairs[0]]
    return g, index.astype(dtype)


@isa
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 511, 512, 513, 5003])
@pytest.mark.parametrize("k", [1, 2, 16, 64, 255, 256])
def test_every_rung_adds_the_same_bits(isa, n, k):
    for zeros in (0.0, 0.5, 0.92, 1.0):
        g, index = make(n, k, zeros)
        g.setflags(write=False), index.setflags(write=False)
        wanted = scatter_add_ref(g, index, k)
        np.testing.assert_array_equal(scatter_add(g, index, k, isa=isa), wanted, strict=True)


@isa
@pytest.mark.parametrize("dtype, k", [(np.uint16, 257), (np.uint16, 4000), (np.uint32, 70000)])
def test_wide_indices(isa, dtype, k):
    g, index = make(3001, k, 0.3, dtype)
    wanted = scatter_add_ref(g, index, k)
    np.testing.assert_array_equal(scatter_add(g, index, k, isa=isa), wanted, strict=True)


@isa
def test_dense_and_sparse_stretches_take_turns(isa):
    g, index = make(6000, 200)
    index[700:2900], index[4000:5300:2] = 0, 0
    wanted = scatter_add_ref(g, index, 200)
    np.testing.assert_array_equal(scatter_add(g, index, 200, isa=isa), wanted, strict=True)


@isa
def test_sums_are_exact_but_for_one_rounding(isa):
    rng = np.random.default_rng(0)
    g, index = rng.normal(size=40_000).astype(np.float32), rng.integers(0, 16, 40_000, np.uint8)
    got = scatter_add(g, index, 16, isa=isa)
    for j in range(16):
        mine = g[index == j].astype(np.float64)
        assert abs(got[j] - math.fsum(mine)) <= 2.0**-24 * (1 + 1e-6) * abs(got[j])


@isa
def test_a_case_by_hand_with_strides(isa):
    # Figure 3 of Han et al. 2016: gradients of a 4 x 4 layer, by the colours of its weights.
    index = np.array([[3, 0, 2, 1], [1, 1, 0, 3], [0, 3, 1, 0], [3, 1, 2, 2]], np.uint8)
    g = np.array([[-3, -1, 3, 2], [-1, 1, -2, 12], [-1, 2, 4, 1], [-7, -2, 1, -2]], np.float32)
    wanted = [-3, 4, 2, 4]  # hundredths
    assert scatter_add(g.T, index.T, 4, isa=isa).tolist() == wanted
    assert scatter_add(g.T.copy(), index.T.copy(), 4, isa=isa).tolist() == wanted


@isa
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_an_index_past_the_sums_is_named(isa, dtype):
    index = np.zeros(70, dtype)
    index[69] = 5
    with pytest.raises(ValueError, match=r"index must be in \[0, 4\], got 5"):
        scatter_add(np.ones(70, np.float32), index, 5, isa=isa)


@pytest.mark.parametrize("g, index, k, says", [
    (np.ones(3), np.zeros(3, np.uint8), 2, "float32"),
    (np.ones(3, np.float32), np.zeros(3, np.int64), 2, "uint8, uint16 or uint32"),
    (np.ones(3, np.float32), np.zeros(4, np.uint8), 2, "the shape of index"),
    (np.ones(3, np.float32), np.zeros(3, np.uint8), -1, "k must be at least 0"),
])
def test_refusals(g, index, k, says):
    with pytest.raises(ValueError, match=says):
        scatter_add(g, index, k)
