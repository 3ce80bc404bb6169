import numpy as np
import pytest
from minicomp.teach.checks import lesson12

CLIPPED = {"g": np.array([1.0, -2.0]), "v": np.array([3.0, -5.0]), "scale": 0.5, "bits": 3}


def test_the_slope_where_all_is_clipped_is_that_of_differences():
    right = lesson12.step_gradient(**CLIPPED)
    assert right == pytest.approx((3 + 6) / np.sqrt(2 * 3))  # by hand: 1 x 3 and -2 x -3
    assert lesson12._as_differences_say(CLIPPED, right) is None
    assert lesson12._as_differences_say(CLIPPED, 1.001 * right).slug == "wrong-value"


@pytest.mark.parametrize(
    "wrong, slug",
    [
        (lambda w, b: (w, b + 0.01), "wrong-value"),
        (lambda w, b: (2 * w, b), "wrong-value"),
        (lambda w, b: (w[0], b), "wrong-shape"),
        (lambda w, b: w, "wrong-type"),
    ],
)
def test_a_fold_is_judged_by_what_it_computes(wrong, slug):
    one = np.ones(2)
    case = {"w": np.arange(8.0).reshape(2, 4, 1, 1), "gamma": 2 * one, "beta": one, "mean": one,
            "var": 3 * one, "eps": 1.0}
    right = lesson12.fold_batch_norm(**case)
    np.testing.assert_allclose(right[0], case["w"])  # gamma / sigma = 2 / 2
    assert lesson12._same_outputs(case, right) is None
    assert lesson12._same_outputs(case, wrong(*right)).slug == slug
