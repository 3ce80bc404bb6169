import numpy as np
import pytest
from minicomp.teach.checks import lesson11

LAYER = {"w": np.array([[0.75, 0.5]]), "w_hat": np.array([[1.0, 0.0]]), "b": np.array([3.0]),
         "x": np.array([[4.0, 0.0], [8.0, 2.0]])}


def test_a_bias_by_hand_gives_the_mean_back():
    right = lesson11.corrected_bias(**LAYER)
    np.testing.assert_allclose(right, 3 - (0.25 * 6 - 0.5 * 1))
    assert lesson11._mean_is_back(LAYER, right) is None
    assert lesson11._mean_is_back(LAYER, right + 1e-3).slug == "wrong-value"
    assert lesson11._mean_is_back(LAYER, right[0]).slug == "wrong-shape"


def test_the_threshold_without_faults_is_the_entrys():
    # The mutants are switches of one function: with none set it must be right.
    for case in (*lesson11._KL.parts[0].cases(None), lesson11._golden()):
        np.testing.assert_allclose(lesson11._threshold(**case), lesson11.kl_threshold(**case),
                                   rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "acc, m, zero_point, right",
    [
        (100, 0.1, 0, (1717986918, 34, 10)),
        (15, 0.1, 0, (1717986918, 34, 1)),  # 0.1 is above M0 2^-n: no tie
        (3, 0.5, 0, (2**30, 31, 2)),
        (-3, 0.5, 10, (2**30, 31, 9)),  # -1.5, upward
        (5, 1 - 2.0**-40, 0, (2**30, 30, 5)),
    ],
)
def test_sums_become_codes_by_hand(acc, m, zero_point, right):
    m0, n, codes = lesson11.requantize(np.array([acc], np.int32), m, zero_point)
    assert (m0, n, *codes.tolist()) == right
    plain = lesson11._codes(np.array([acc], np.int32), m, zero_point)
    assert (*plain[:2], *plain[2].tolist()) == right
