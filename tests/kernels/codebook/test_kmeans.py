import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.codebook import kmeans

RUNGS = cpu.distinct("codebook")
isa = pytest.mark.parametrize("isa", RUNGS)


def sums(x, isa="ref"):
    x = np.sort(np.asarray(x, np.float32))
    p1, p2, _ = kmeans.running_sums(x, isa=isa)
    return np.arange(len(x) + 1.0), p1, p2


def brute_force(x, k):
    # The least squared error over every way to cut the sorted values into k intervals.
    x = np.sort(np.asarray(x, np.float64))
    cuts = itertools.combinations(range(1, len(x)), k - 1)
    return min(
        sum(((x[a:b] - x[a:b].mean()) ** 2).sum() for a, b in itertools.pairwise((0, *c, len(x))))
        for c in cuts
    )


@isa
def test_running_sums_by_hand(isa):
    p1, p2, centre = kmeans.running_sums(np.array([-3, 1, 2, 4, 9], np.float32), isa=isa)
    assert centre == 2
    np.testing.assert_array_equal(p1, [6, 1, 0, 0, 2, 9])  # of -5, -1, 0, 2, 7, and 0 at the median
    np.testing.assert_array_equal(p2, [-26, -1, 0, 0, 4, 53])


@isa
def test_a_large_value_costs_the_others_no_digits(isa):
    # With sums from the left -1e12^2 would swallow the squares of the others.
    p = sums([-1e12, 1.0, 1.5, 2.0, 2.5, 3.0], isa=isa)
    assert kmeans.cost(*p, np.array([1, 3, 6])) == pytest.approx(0.125 + 0.5, rel=1e-12)


@isa
@given(st.data())
def test_partition_is_the_least_by_brute_force(isa, data):
    n = data.draw(st.integers(1, 9))
    values = st.one_of(st.integers(-3, 3), st.floats(-100, 100, width=32))
    x = np.array(data.draw(st.lists(values, min_size=n, max_size=n)), np.float32)
    k = data.draw(st.integers(1, n))
    p = sums(x)
    starts, _ = kmeans.partition(*p, k, isa=isa)
    assert (
        starts[0] == 0 and starts[-1] == n and len(starts) == k + 1 and (np.diff(starts) > 0).all()
    )
    scale = float(np.square(x.astype(np.float64)).sum())
    assert kmeans.cost(*p, starts) == pytest.approx(brute_force(x, k), abs=1e-13 * max(scale, 1))


@pytest.mark.parametrize("isa", RUNGS[1:2])
@pytest.mark.parametrize(
    "n, k", [(63, 5), (64, 64), (65, 2), (65, 64), (700, 1), (700, 40), (3000, 256)]
)
@pytest.mark.parametrize("kind", ["normal", "heavy", "whole"])
def test_the_sweep_is_as_good_as_layer_by_layer(isa, n, k, kind):
    rng = np.random.default_rng(n + k)
    x = {
        "normal": rng.normal(size=n),
        "heavy": rng.standard_t(1.5, n),
        "whole": rng.integers(0, n // 3, n),
    }[kind]
    _, _, p2 = p = sums(x)
    got, best = kmeans.partition(*p, k, isa=isa)[0], kmeans.partition_ref(*p, k)
    assert len(got) == k + 1
    assert kmeans.cost(*p, got) == pytest.approx(
        kmeans.cost(*p, best), rel=1e-9, abs=1e-12 * (p2[-1] - p2[0])
    )
    if kind == "normal":  # no ties: the optimum is one
        np.testing.assert_array_equal(got, best)


@isa
def test_ties_between_penalties_are_spliced(isa):
    # Evenly spaced pairs: f(k) is linear in k over a long stretch, so no penalty singles out a k
    # in it.
    x = np.repeat(np.arange(0, 160, 10), 2) + np.tile([0, 1], 16)
    p = sums(x)
    for k in range(16, 33):
        starts, _ = kmeans.partition(*p, k, isa=isa)
        assert len(starts) == k + 1
        assert kmeans.cost(*p, starts) == pytest.approx((32 - k) * 0.5, abs=1e-9)


@isa
def test_a_hint_changes_nothing(isa):
    rng = np.random.default_rng(3)
    p = sums(rng.laplace(size=500))
    plain, penalty = kmeans.partition(*p, 20, isa=isa)
    for first in (penalty, 0.0, 1e-9, 1.0, 1e9, np.inf):
        starts, _ = kmeans.partition(*p, 20, penalty=first, isa=isa)
        np.testing.assert_array_equal(starts, plain)


@isa
def test_counts_weigh(isa):
    # 0 three times and 4, against 5: with counts (3, 1, 1) the cut lies before 4, not before 0's
    # neighbour.
    p0, p1, p2 = np.array([0, 3, 4, 5.0]), np.array([0, 0, 4, 9.0]), np.array([0, 0, 16, 41.0])
    np.testing.assert_array_equal(kmeans.partition(p0, p1, p2, 2, isa=isa)[0], [0, 1, 3])


@pytest.mark.parametrize("k", [0, 4])
def test_k_out_of_range(k):
    with pytest.raises(ValueError, match=rf"k must be in \[1, 3\], got {k}"):
        kmeans.partition(*sums([1, 2, 3]), k)


@isa
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 255, 256, 257, 9000])
def test_nearest_equals_the_reference(isa, n):
    rng = np.random.default_rng(n)
    x = (rng.integers(-500, 500, n) / 8).astype(np.float32)  # many of them on an edge
    x[::7], x[3::50], x[5::50] = np.nan, np.inf, -np.inf
    x.setflags(write=False)
    for m in (0, 1, 15, 63, 64, 65, 255, 4095):
        edges = np.sort(rng.integers(-500, 500, m) / 8).astype(np.float32)  # with equal ones
        edges.setflags(write=False)
        for threads in (1, 2):
            got = kmeans.nearest(x, edges, isa=isa, n_threads=threads)
            np.testing.assert_array_equal(got, kmeans.nearest_ref(x, edges), strict=True)


@isa
def test_nearest_keeps_shape_and_takes_strides(isa):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::2, ::-1]
    edges = np.array([3, 10.5, 17], np.float32)
    np.testing.assert_array_equal(
        kmeans.nearest(x, edges, isa=isa), np.digitize(x, edges, right=True)
    )


def test_unordered_edges_are_refused():
    with pytest.raises(ValueError, match="edges must be ascending"):
        kmeans.nearest(np.zeros(3, np.float32), np.array([1, 0], np.float32))
