import itertools

import numpy as np
import pytest
from scipy.stats import norm

from minicomp.compress import LloydMax, net_of
from minicomp.compress.quant.lloyd_max import lloyd_max
from minicomp.compress.technique import Run

RNG = np.random.default_rng(3)
GAUSS = norm.ppf((np.arange(20000) + 0.5) / 20000)  # as many quantiles of a Gaussian

# Max 1960, table I: the positive levels for a Gaussian of variance 1, and the squared error
MAX = {2: ([0.7980], 0.3634), 4: ([0.4528, 1.510], 0.1175),
       8: ([0.2451, 0.7560, 1.344, 2.152], 0.03454)}


def test_by_hand():
    levels, error = lloyd_max(np.array([0, 1, 10, 11, 4.0]), 2)
    np.testing.assert_allclose(levels, [5 / 3, 10.5])
    np.testing.assert_allclose(error, 0 + (5 / 3) ** 2 + (2 / 3) ** 2 + (7 / 3) ** 2 + 0.5)


@pytest.mark.parametrize("method", ["optimal", "lloyd"])
@pytest.mark.parametrize("k", MAX)
def test_levels_of_a_gaussian_are_those_that_max_printed(k, method):
    levels, error = lloyd_max(GAUSS, k, method=method)
    np.testing.assert_allclose(levels[k // 2:], MAX[k][0], rtol=0.004)
    np.testing.assert_allclose(error / len(GAUSS), MAX[k][1], rtol=0.005)


@pytest.mark.parametrize("method", ["optimal", "lloyd"])
@pytest.mark.parametrize("k", [2, 3, 7, 16])
def test_both_conditions_hold(k, method):
    x = RNG.laplace(size=700)
    levels, error = lloyd_max(x, k, method=method)
    cell = np.abs(x[:, None] - levels).argmin(axis=1)  # eq. (1)
    np.testing.assert_allclose(levels, [x[cell == i].mean() for i in range(len(levels))])  # (2)
    np.testing.assert_allclose(error, np.square(x - levels[cell]).sum(), rtol=1e-9)


@pytest.mark.parametrize("n, k", [(1, 1), (5, 2), (8, 3), (8, 8), (8, 12)])
def test_optimal_is_the_least_of_all_partitions(n, k):
    x = np.sort(RNG.standard_normal(n))
    best = min((sum(np.square(part - part.mean()).sum() for part in np.split(x, cuts))
                for size in range(min(k, n)) for cuts in itertools.combinations(range(1, n), size)))
    np.testing.assert_allclose(lloyd_max(x, k)[1], best, atol=1e-12)


def test_lloyd_ends_above_the_optimum_where_it_is_local():
    x = np.concatenate([RNG.normal(c, 0.1, n) for c, n in ((0, 500), (5, 5), (9, 5), (13, 5))])
    assert lloyd_max(x, 4, method="lloyd")[1] > 3 * lloyd_max(x, 4)[1]


@pytest.mark.peers
@pytest.mark.parametrize("k", [2, 5, 16])
def test_the_error_is_that_of_kmeans1d(k):
    kmeans1d = pytest.importorskip("kmeans1d")
    x = RNG.standard_normal(500)
    clusters, centroids = kmeans1d.cluster(x, k)
    theirs = np.square(x - np.array(centroids)[clusters]).sum()
    np.testing.assert_allclose(lloyd_max(x, k)[1], theirs, rtol=1e-9)


def test_the_model_holds_them():
    w = RNG.standard_normal((40, 30)).astype(np.float32)
    model = LloydMax(bits=3).apply(net_of(w), None, Run(np.random.default_rng(0)))
    form = next(iter(model.forms().values()))
    levels = lloyd_max(w, 8)[0].astype(np.float32)
    np.testing.assert_array_equal(form.centroids.dense().data, levels)
    error = np.square(form.dense().data.astype(np.float64) - w).sum()
    np.testing.assert_allclose(error, lloyd_max(w, 8)[1], rtol=1e-5)
    even = np.clip(np.floor(w / (np.abs(w).max() / 4)), -4, 3) + 0.5
    assert np.square(even * (np.abs(w).max() / 4) - w).sum() > 1.8 * error


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        lloyd_max(GAUSS, 0)
    with pytest.raises(ValueError, match="method must be one of optimal, lloyd"):
        lloyd_max(GAUSS, 2, method="best")
    for bad in (np.zeros(0), np.array([1, np.nan])):
        with pytest.raises(ValueError, match="x must hold at least one number and no NaN"):
            lloyd_max(bad, 2)
