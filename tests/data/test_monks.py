import numpy as np
import pytest

from minicomp.data import monks


def test_cases_are_the_432_in_the_order_of_the_files():
    a = monks.cases()
    assert a.shape == (432, 6) and len(np.unique(a, axis=0)) == 432
    assert a[0].tolist() == [1, 1, 1, 1, 1, 1] and a[1].tolist() == [1, 1, 1, 1, 1, 2]
    # data_5 and data_432 of the published files, counted from 1
    assert a[4].tolist() == [1, 1, 1, 1, 3, 1] and a[431].tolist() == [3, 3, 2, 3, 4, 2]


def test_rules_by_hand():
    a = np.array([[1, 1, 2, 3, 4, 2], [1, 2, 2, 3, 1, 2], [2, 3, 2, 1, 3, 1], [2, 3, 2, 3, 4, 1]])
    assert monks.rule(1, a).tolist() == [1, 1, 0, 0]
    assert monks.rule(2, a).tolist() == [1, 1, 1, 0]
    assert monks.rule(3, a).tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match=r"problem must be in \[1, 3\], got 4"):
        monks.rule(4, a)


@pytest.mark.parametrize("problem, size, positive", [(1, 124, 216), (2, 169, 142), (3, 122, 228)])
def test_generated_sets_have_the_published_sizes_and_noise(problem, size, positive):
    # positives among the 432: 216, 142 and 228, as in the published test files
    (a, y), (cases, truth) = monks.generate(problem)
    assert len(a) == len(y) == size and len(np.unique(a, axis=0)) == size
    assert truth.sum() == positive and len(cases) == 432
    assert (y != monks.rule(problem, a)).sum() == (6 if problem == 3 else 0)


def test_generated_sets_are_the_same_everywhere():
    # PCG64.random_raw is fixed by NumPy: these numbers hold on every version and platform
    weights = np.array([432, 144, 48, 24, 8, 2])
    sums = [
        int((a @ weights * (1 + y)).sum()) for (a, y), _ in (monks.generate(p) for p in (1, 2, 3))
    ]
    assert sums == [243106, 284538, 243768]
