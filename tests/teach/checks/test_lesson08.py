import numpy as np
import pytest
from minicomp.teach.checks import lesson08

W = np.array([[3.0, 0.0], [0.0, 2.0]])


def test_the_nearest_matrix_by_hand():
    near, lost, numbers = lesson08.low_rank(W, 1)
    np.testing.assert_allclose(near, [[3.0, 0.0], [0.0, 0.0]], atol=1e-15)
    assert (lost, numbers) == (pytest.approx(4.0), 4)


@pytest.mark.parametrize(
    "wrong, slug",
    [
        (lambda near, lost, n: (near + np.diag([0.125, 0.0]), lost, n), "not-nearest"),
        (lambda near, lost, n: (W, lost, n), "rank"),
        (lambda near, lost, n: (near, 1.001 * lost, n), "wrong-value"),
        (lambda near, lost, n: (near[:1], lost, n), "wrong-value"),
    ],
)
def test_a_matrix_is_judged_by_rank_and_distance_too(wrong, slug):
    case = {"w": W, "t": 1}
    assert lesson08._nothing_is_nearer(case, lesson08.low_rank(**case)) is None
    assert lesson08._nothing_is_nearer(case, wrong(*lesson08.low_rank(**case))).slug == slug


def test_an_error_of_nothing_but_rounding_is_right_where_the_error_is_0():
    case = {"w": W, "t": 2}
    assert lesson08._right_matrix(case, (W, 1e-31, 8)) is None
    assert lesson08._right_matrix(case, (W, 1e-6, 8)).slug == "wrong-value"
    assert lesson08._right_matrix(case, W).slug == "wrong-type"


def test_ranks_by_hand():
    # 3 x 4: rank 1 is 7 numbers, whole 12. 3 x 9: rank 1 is 12, rank 2 is 24, whole 27.
    layers = (np.array([4.0, 3.0, 2.0]), np.array([9.0, 4.0, 1.0])), ((3, 4), (3, 9))
    for numbers, ranks in ((19, [1, 1]), (24, [3, 1]), (36, [3, 2]), (38, [3, 2]), (39, [3, 3])):
        assert lesson08.choose_ranks(*layers, 4 * numbers + 3) == ranks
        assert lesson08._ranks(*layers, 4 * numbers + 3) == ranks


@pytest.mark.parametrize("C, K, L", [(1, 1, 1), (3, 2, 4), (2, 5, 1)])
def test_three_short_filters_are_the_outer_product(C, K, L):
    rng = np.random.default_rng(C)
    x, (a, b, c) = rng.normal(size=(C, 6, 7)), (rng.normal(size=n) for n in (C, K, L))
    windows = np.lib.stride_tricks.sliding_window_view(x, (K, L), (1, 2))
    right = np.einsum("jpquv,j,u,v->pq", windows, a, b, c)
    for fn in (lesson08.flattened_conv, lesson08._chain):
        y, products = fn(x, a, b, c)
        np.testing.assert_allclose(y, right, atol=1e-12)
        assert products == C * 42 + K * y.shape[0] * 7 + L * y.size


@pytest.mark.parametrize(
    "spectra, shapes, budget, why",
    [
        (([3.0, 2.0, 1.0],), ((3, 8),), 44, None),
        (([3.0, 2.0, 1.0],), ((3, 8),), 43, "rank 1 everywhere"),
        (([3.0, 2.0, 1.0],), ((3, 8),), 44.0, "whole number of bytes"),
        (([3.0, 2.0],), ((3, 8),), 88, "min"),
        (([3.0, 2.0],), ((2, 8),), 88, "a shape"),
        (([1.0, 2.0, 3.0],), ((3, 8),), 88, "fall"),
        (([3.0, 2.0, 0.0],), ((3, 8),), 88, "above 0"),
        ((), ((3, 8),), 88, "as many"),
    ],
)
def test_inputs_that_may_expose_a_variant(spectra, shapes, budget, why):
    said = lesson08._valid_layers(tuple(map(np.array, spectra)), shapes, budget)
    assert said is None if why is None else why in said
