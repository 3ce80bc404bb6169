import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minicomp.compress.quant.ranges.histogram import BINS, Histogram


def histogram(*batches):
    h = Histogram()
    for batch in batches:
        h.update(batch)
    return h


def test_by_hand():
    # peak 3 < 4: bins of 4 / BINS = 2^-14; -0.5 is bin 2^13 below 0, 3 bin 3 2^14 above.
    h = histogram(np.array([0.0, -0.5, 3.0], np.float32), np.array([-0.0], np.float32))
    assert (h.width, h.min, h.max, h.total, h.zeros) == (2.0**-14, -0.5, 3.0, 4, 2)
    assert (h.sum, h.squares) == (2.5, 9.25)
    assert [np.flatnonzero(row).tolist() for row in h.counts] == [[2**13], [0, 3 * 2**14]]
    assert h.counts[1, 0] == 2


floats = st.floats(-(2.0**60), 2.0**60, width=32)


@given(arrays(np.float32, st.integers(1, 40), elements=floats), st.randoms())
def test_neither_order_nor_batches_matter(x, random):
    cuts = sorted(random.choices(range(len(x) + 1), k=3))
    parts = np.split(np.array(random.sample(list(x), len(x)), np.float32), cuts)
    whole, cut = histogram(x), histogram(*parts)
    np.testing.assert_array_equal(whole.counts, cut.counts)
    assert (whole.width, whole.zeros, whole.total) == (cut.width, cut.zeros, cut.total)
    assert (whole.min, whole.max) == (cut.min, cut.max)


@given(arrays(np.float32, st.integers(1, 40), elements=floats))
def test_it_is_numpys_histogram_at_its_edges(x):
    h = histogram(x)
    counts, width = h.magnitudes(BINS)
    edges = np.arange(len(counts) + 1) * (width or 1.0)
    expected, _ = np.histogram(np.abs(x.astype(np.float64)), edges)
    np.testing.assert_array_equal(counts, expected)
    assert counts[-1] > 0 and counts.sum() == x.size


@pytest.mark.parametrize("bins", [1, 7, 2048, 5000])
def test_magnitudes_merge_whole_bins_and_end_at_the_largest(bins):
    rng = np.random.default_rng(0)
    for scale in (1e-30, 0.7, 1.0, 3e20):
        h = histogram((scale * rng.standard_normal(1000)).astype(np.float32))
        fine, w = h.magnitudes(BINS)
        counts, width = h.magnitudes(bins)
        merged = round(width / w)
        assert counts.sum() == 1000 and counts[-1] > 0
        assert bins - bins**2 / 2**15 < len(counts) <= bins
        np.testing.assert_array_equal(counts, np.add.reduceat(fine, range(0, len(fine), merged)))


def test_zeros_can_be_left_out():
    h = histogram(np.array([0.0, 0.0, 1e-9, 1.0], np.float32))
    assert h.magnitudes(64)[0][0] == 3 and h.magnitudes(64, zeros=False)[0][0] == 1


@pytest.mark.parametrize("half", [1, 4, 1024])
def test_signed_has_zero_in_the_middle_and_splits_nothing(half):
    x = np.random.default_rng(1).standard_normal(3000).astype(np.float32) + 0.3
    h = histogram(x)
    counts, width = h.signed(half)
    n, half_bin = len(counts), round(width / h.width / 2)
    less = half_bin - 1  # merged less, there would be more bins than asked
    assert less == 0 or -(-(int(h.peak / h.width) + 1 - less) // (2 * less)) > half
    assert n % 2 == 1 and n <= 2 * half + 1 and counts.sum() == 3000
    # Bins are closed at the end towards 0: here no x lies on an edge.
    expected, _ = np.histogram(x.astype(np.float64), (np.arange(n + 1) - n / 2) * width)
    np.testing.assert_array_equal(counts, expected)


def test_points_are_the_numbers_to_half_a_bin():
    x = np.sort(np.random.default_rng(2).standard_normal(500)).astype(np.float32)
    x[:7] = 0
    h = histogram(x)
    at, n = h.points()
    assert (np.diff(at) > 0).all() and n.sum() == 500 and n[at == 0] == 7
    assert np.abs(np.repeat(at, n.astype(int)) - np.sort(x)).max() <= h.width / 2
    assert h.min <= at[0] and at[-1] <= h.max


def test_the_line_runs_through_zero():
    h = histogram(np.array([-0.5, 0.25, 3.0], np.float32))
    at = np.flatnonzero(h.line()) - BINS
    assert (at * h.width).tolist() == [-0.5 - h.width, 0.25, 3.0]  # bins end at -0.5, begin at 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint8])
def test_dtypes_widen_first(dtype):
    # 70,000 numbers of float16 overflow any sum in their own type.
    h = histogram(np.full((700, 100), 60, dtype))
    assert h.total == 70_000 and h.sum == 60 * 70_000 and h.squares == 3600 * 70_000


@pytest.mark.parametrize("peak", [5e-324, 1.4e-45, 2.0**-120, 1.7e308])
def test_the_ends_of_the_floats(peak):
    h = histogram(np.array([peak, -peak, 0.0]))
    assert h.counts.sum() == 3 and h.magnitudes(64)[0].sum() == 3 and h.peak == peak


def test_bad_batches_change_nothing():
    h = histogram(np.array([1.0, -2.0]))
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="x must be finite numbers"):
            h.update(np.array([0.5, bad]))
    with pytest.raises(ValueError, match="x must be numbers, got dtype"):
        h.update(np.array(["a"]))
    h.update(np.zeros((0, 4)))
    assert (h.total, h.min, h.max) == (2, -2.0, 1.0)


def test_a_stream_of_zeros_then_numbers():
    h = histogram(np.zeros(5), np.array([-4.0]), np.zeros(2))
    assert h.zeros == 7 and h.counts[1, 0] == 7 and h.counts[0].sum() == 1
    assert histogram(np.zeros(3)).magnitudes() == (np.array([3.0]), 0.0)
