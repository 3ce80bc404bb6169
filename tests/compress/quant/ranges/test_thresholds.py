import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from minicomp.compress.quant.ranges import (
    histogram_percentile, js_divergences, js_threshold, kl_divergences, kl_threshold,
    reverse_divergences, symmetric_kl_threshold)
from minicomp.compress.quant.ranges.variants import signed_kl_threshold

THRESHOLDS = (kl_threshold, symmetric_kl_threshold, js_threshold)


def read_literally(counts, levels):
    # The slides' loop, bin by bin; P and Q of every cut.
    for i in range(levels, len(counts) + 1):
        P = counts[:i].astype(float)
        P[i - 1] += counts[i:].sum()
        Q = np.zeros(i)
        for level in range(levels):
            mine = [k for k in range(i) if k * levels // i == level]
            full = [k for k in mine if counts[k] > 0]
            for k in full:
                Q[k] = counts[mine].sum() / len(full)
        yield i, P, Q


def histograms(n, seed=0):
    rng = np.random.default_rng(seed)
    yield rng.integers(0, 50, n)
    yield rng.integers(0, 3, n) * (rng.random(n) < 0.4) + (np.arange(n) == 2)
    yield np.histogram(np.abs(rng.standard_normal(3000)), n)[0]
    yield np.histogram(np.abs(rng.standard_cauchy(3000)), n)[0]


@pytest.mark.parametrize("levels, n", [(1, 2), (2, 9), (8, 64), (7, 50)])
def test_divergences_against_the_published_loop(levels, n):
    for counts in histograms(n):
        kl, back = kl_divergences(counts, levels=levels), reverse_divergences(counts, levels=levels)
        js = js_divergences(counts, levels=levels, block=5)
        for i, P, Q in read_literally(counts, levels):
            at = i - levels
            void = P[-1] > 0 and counts[i - 1] == 0
            assert (kl[at] == np.inf) == void
            if not void:
                assert kl[at] == pytest.approx(entropy(P, Q), abs=1e-11)
                assert back[at] == pytest.approx(entropy(Q, P), abs=1e-11)
            if Q.any():  # a cut without anything inside has no Q
                assert js[at] == pytest.approx(jensenshannon(P, Q) ** 2, abs=1e-11)
            else:
                assert js[at] >= np.log(2) / 2
        assert (kl >= 0).all() and (back >= 0).all() and (js >= 0).all()
        assert (js <= np.log(2) + 1e-12).all()


def test_by_hand():
    # Two levels, cuts 2, 3, 4. P = 4 4, Q = 4 2: KL = log(4/3)/2 + log(3/2 4/4 ... ) below.
    counts = np.array([4, 2, 1, 1])
    first = 0.5 * np.log(0.5 / (4 / 6)) + 0.5 * np.log(0.5 / (2 / 6))  # outliers 2 join the 2
    P, Q = np.array([4, 2, 2]) / 8, np.array([3, 3, 1]) / 7  # levels {0, 1}, {2}
    second = float(np.sum(P * np.log(P / Q)))
    P, Q = np.array([4, 2, 1, 1]) / 8, np.array([3, 3, 1, 1]) / 8
    third = float(np.sum(P * np.log(P / Q)))
    np.testing.assert_allclose(kl_divergences(counts, levels=2), [first, second, third], rtol=1e-12)
    assert third < first and third < second
    T, kl = kl_threshold(counts, 0.5, levels=2)
    assert T == 4.5 * 0.5 and kl == pytest.approx(third)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_all_mass_below_the_first_cut_loses_nothing(threshold):
    counts = np.zeros(2048)
    counts[:128] = np.random.default_rng(0).integers(1, 1000, 128)
    assert threshold(counts, 0.01) == (128.5 * 0.01, 0.0)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_one_far_outlier_does_not_move_the_threshold_to_it(threshold):
    counts = np.zeros(2048)
    counts[:128] = 1000 * np.exp(-np.arange(128) / 40)
    counts[2047] = 1
    T, divergence = threshold(counts, 1.0)
    assert T < 130 and 0 < divergence < 0.1


def test_p_sums_the_outliers_and_q_does_not():
    # Were they in Q too, the cut at L would cost nothing: P = Q.
    counts = np.array([3.0, 3.0, 2.0, 2.0])
    P, Q = np.array([3, 7]) / 10, np.array([3, 3]) / 6
    expected = np.sum(P * np.log(P / Q))
    assert kl_divergences(counts, levels=2)[0] == pytest.approx(expected) and expected > 0.05


def test_a_cut_whose_last_bin_is_empty_is_skipped():
    counts = np.array([5.0, 4.0, 0.0, 0.0, 1.0])
    assert np.isinf(kl_divergences(counts, levels=2)).tolist() == [False, True, True, False]
    assert np.isfinite(js_divergences(counts, levels=2)).all()
    # Nothing lies beyond: a cut behind the last count is sound.
    assert np.isfinite(kl_divergences(np.array([5.0, 4.0, 1.0, 0.0]), levels=2)).all()


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_thresholds_scale_with_the_numbers_and_not_with_their_count(threshold):
    counts, _ = np.histogram(np.abs(np.random.default_rng(0).standard_normal(20_000)), 512)
    T, divergence = threshold(counts, 1.0, levels=32)
    assert threshold(1000 * counts, 0.25, levels=32) == (T / 4, pytest.approx(divergence))
    assert 32 < T < 512  # saturated


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_bad_input(threshold):
    for counts in ([], [[1.0]], [1.0, -1.0], [0.0] * 4, [1.0, np.nan]):
        with pytest.raises(ValueError, match="counts must be one row of finite numbers"):
            threshold(counts, 1.0, levels=1)
    with pytest.raises(ValueError, match="at least 2 levels = 256 bins.*got 128"):
        threshold(np.ones(128), 1.0)


def test_percentiles_of_a_histogram():
    counts = np.array([90, 9, 0, 1, 0])
    for p, right in ((50, 1), (90, 1), (90.5, 2), (99, 2), (99.5, 4), (100, 4)):
        assert histogram_percentile(counts, 0.5, percentile=p) == 0.5 * right
        assert histogram_percentile(counts, 0.5, percentile=p, edge="left") == 0.5 * (right - 1)
    for p in (0, 100.1, np.nan):
        with pytest.raises(ValueError, match=r"percentile must be in \(0, 100\]"):
            histogram_percentile(counts, 0.5, percentile=p)
    with pytest.raises(ValueError, match="edge must be left or right"):
        histogram_percentile(counts, 0.5, edge="middle")


def mxnet_literally(c, levels):
    # As MXNet has it, but that the last level ends with its last bin.
    middle, found = len(c) // 2, []
    for i in range(levels // 2, middle + 1):
        inside = c[middle - i:middle + i + 1].astype(float)
        p = inside.copy()
        p[0] += c[:middle - i].sum()
        p[-1] += c[middle + i + 1:].sum()
        q, merged = np.zeros(len(p)), len(p) // levels
        for level in range(levels):
            stop = len(p) if level == levels - 1 else (level + 1) * merged
            part = slice(level * merged, stop)
            full = (p[part] != 0).sum()
            if full:
                q[part] = inside[part].sum() / full
        q[p == 0] = 0
        p, q = (np.where(v == 0, 1e-4, v - 1e-4 * (v == 0).sum() / (v != 0).sum()) for v in (p, q))
        found.append((entropy(p, q), i))
    return min(found)


@pytest.mark.parametrize("n, levels", [(101, 15), (64 * 2 + 1, 31)])
def test_the_mxnet_variant_against_its_loop(n, levels):
    rng = np.random.default_rng(0)
    for x in (rng.standard_normal(4000), rng.laplace(size=4000), np.abs(rng.standard_normal(4000))):
        peak = np.abs(x).max()
        c, edges = np.histogram(x, n, range=(-peak, peak))
        T, kl = signed_kl_threshold(c, 2 * peak / n, levels=levels)
        expected, i = mxnet_literally(c, levels)
        assert kl == pytest.approx(expected, abs=1e-12)
        assert T == pytest.approx(edges[n // 2 + i + 1])


def test_bad_input_of_variants():
    with pytest.raises(ValueError, match="variant must be one of mxnet, onnxruntime"):
        signed_kl_threshold(np.ones(9), 1.0, levels=3, variant="ncnn")
    with pytest.raises(ValueError, match="an odd number of bins, got 8"):
        signed_kl_threshold(np.ones(8), 1.0, levels=3)
    with pytest.raises(ValueError, match=r"levels must be in \[2, 8\]"):
        signed_kl_threshold(np.ones(9), 1.0, levels=9)
