import itertools

import numpy as np
import pytest

from minicomp.compress.share.vectors import (beam_codes, kmeans_vectors, least_squares_codebooks,
                                             nearest_vector, residual_quantize, residual_sum,
                                             vector_starts)

RNG = np.random.default_rng(2)


def rng():
    return np.random.default_rng(0)


def error(x, codes, codebooks):
    return float(np.square(x - residual_sum(codes, codebooks)).sum())


def test_k_means_by_hand():
    x = np.array([[0, 0], [0, 1], [5, 5], [6, 5]])
    centroids, index = kmeans_vectors(x, 2, starts=x[:2])
    assert centroids.tolist() == [[0, 0.5], [5.5, 5]] and index.tolist() == [0, 0, 1, 1]
    assert kmeans_vectors(x, 2, starts=x[:2], iterations=0)[1].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("n, k, d", [(6, 2, 1), (7, 3, 2), (8, 2, 3)])
def test_of_many_starts_the_best_is_the_least_of_all_partitions(n, k, d):
    x = RNG.standard_normal((n, d))
    least = np.inf
    for labels in itertools.product(range(k), repeat=n):
        parts = [x[np.equal(labels, j)] for j in range(k)]
        least = min(least, sum(np.square(p - p.mean(axis=0)).sum() for p in parts if len(p)))
    found = [kmeans_vectors(x, k, starts=x[list(at)]) for at in itertools.combinations(range(n), k)]
    errors = [np.square(x - c[i]).sum() for c, i in found]
    np.testing.assert_allclose(min(errors), least, rtol=1e-12)


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_the_error_falls_with_iterations_and_every_vector_has_its_nearest(init):
    x, errors = RNG.standard_normal((200, 3)), []
    for iterations in (0, 1, 2, 5, 100):
        c, index = kmeans_vectors(x, 12, init=init, rng=rng(), iterations=iterations)
        distance = np.square(x[:, None] - c).sum(axis=2)
        assert (distance[np.arange(200), index] <= distance.min(axis=1) + 1e-12).all()
        errors.append(distance.min(axis=1).sum())
    assert (np.diff(errors) <= 1e-12).all() and errors[-1] < 0.9 * errors[0]


def test_as_many_centroids_as_vectors_leave_nothing_and_empty_ones_are_filled():
    x = RNG.standard_normal((9, 2))
    c, index = kmeans_vectors(x, 9, init="random", rng=rng())
    np.testing.assert_array_equal(c[index], x)
    far = np.concatenate([x[:3], [[100.0, 100.0]]])  # no vector is nearest to it
    c, index = kmeans_vectors(x, 4, starts=far)
    assert set(index) == {0, 1, 2, 3}
    same = np.ones((5, 2))
    c, index = kmeans_vectors(same, 3, init="k-means++", rng=rng())
    np.testing.assert_array_equal(c[index], same)


def test_plus_plus_draws_far_apart():
    x = np.concatenate([np.zeros((500, 2)), [[3.0, 4.0]]])
    hits = [(vector_starts(x, 2, init="k-means++", rng=np.random.default_rng(i)) != 0).any()
            for i in range(20)]
    assert all(hits)
    drawn = vector_starts(x, 501, init="random", rng=rng())
    assert np.count_nonzero(drawn) == 2  # each vector once


@pytest.mark.parametrize("t, k", [(2, 3), (3, 2)])
def test_a_wide_beam_finds_the_best_of_all_sums(t, k):
    x, books = RNG.standard_normal((20, 2)), RNG.standard_normal((t, k, 2))
    sums = [sum(books[j, c] for j, c in enumerate(codes))
            for codes in itertools.product(range(k), repeat=t)]
    least = np.square(x[:, None] - np.array(sums)).sum(axis=2).min(axis=1).sum()
    errors = [error(x, beam_codes(x, books, beam), books) for beam in (1, 2, k**t)]
    np.testing.assert_allclose(errors[2], least)
    assert errors[0] >= errors[1] >= errors[2] and errors[0] > errors[2]


def test_a_beam_of_one_takes_the_nearest_of_each_stage():
    x, books = RNG.standard_normal((30, 3)), RNG.standard_normal((2, 4, 3))
    codes = beam_codes(x, books, 1)
    np.testing.assert_array_equal(codes[0], nearest_vector(x, books[0]))
    np.testing.assert_array_equal(codes[1], nearest_vector(x - books[0][codes[0]], books[1]))


def test_codebooks_of_least_squares():
    x, codes = RNG.standard_normal((40, 3)), RNG.integers(0, 4, (2, 40))
    books = RNG.standard_normal((2, 4, 3))
    solved = least_squares_codebooks(x, codes, books)
    A = np.concatenate([np.eye(4)[c] for c in codes], axis=1)
    best = A @ np.linalg.lstsq(A, x, rcond=None)[0]
    np.testing.assert_allclose(residual_sum(codes, solved), best, atol=1e-6)


def test_stages_rounds_and_a_beam_lower_the_error():
    x = RNG.standard_normal((300, 4))
    how = {"rng": None, "init": "random"}
    errors = [error(x, *residual_quantize(x, 8, t, **how | {"rng": rng()})) for t in (1, 2, 3)]
    assert (np.diff(errors) < 0).all()
    beam = error(x, *residual_quantize(x, 8, 3, beam=8, **how | {"rng": rng()}))
    both = error(x, *residual_quantize(x, 8, 3, beam=8, rounds=5, **how | {"rng": rng()}))
    assert both < beam < errors[2] and both < 0.93 * errors[2]
    one = residual_quantize(x, 8, 1, rounds=3, **how | {"rng": rng()})
    c, index = kmeans_vectors(x, 8, init="random", rng=rng())
    np.testing.assert_array_equal(one[1][0], c)
    np.testing.assert_array_equal(one[0][0], index)


def test_wrong_values_are_refused():
    x = np.ones((4, 2))
    for k in (0, 5):
        with pytest.raises(ValueError, match=rf"k must be in \[1, 4\].*got {k}"):
            kmeans_vectors(x, k, rng=rng())
    with pytest.raises(ValueError, match="init must be one of k-means"):
        kmeans_vectors(x, 2, init="linear", rng=rng())
    with pytest.raises(ValueError, match="rng must be given"):
        kmeans_vectors(x, 2)
    with pytest.raises(ValueError, match=r"starts must have shape \(2, 2\), got \(2, 3\)"):
        kmeans_vectors(x, 2, starts=np.ones((2, 3)))
    for bad in (np.ones(4), np.full((4, 2), np.nan), np.ones((0, 2))):
        with pytest.raises(ValueError, match=r"x must hold vectors \(n, d\)"):
            kmeans_vectors(bad, 1, rng=rng())
    for name, value in (("stages", 0), ("beam", 0), ("rounds", -1)):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            residual_quantize(x, 2, **{"stages": 2, "rng": rng(), name: value})
