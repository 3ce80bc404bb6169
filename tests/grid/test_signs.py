import numpy as np
import pytest

from minicomp.grid import binarize, hard_sign, stochastic_signs, ternary_codes
from minicomp.tensor import Tensor, grad

X = np.array([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 1.5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_signs_by_hand(dtype):
    x = X.astype(dtype)
    want = np.array([-1, -1, -1, 1, 1, 1, 1, 1], dtype)
    np.testing.assert_array_equal(binarize(x), want, strict=True)
    t = Tensor(x, requires_grad=True)
    np.testing.assert_array_equal(hard_sign(t).data, want, strict=True)
    slope = grad((hard_sign(t) * 3.0).sum(), t).data
    np.testing.assert_array_equal(slope, np.array([0, 3, 3, 3, 3, 3, 3, 0], dtype), strict=True)


def test_stochastic_signs_are_by_hand_and_unbiased():
    # p = 0, 0, 1/4, 1/2, 1/2, 3/4, 1, 1
    assert stochastic_signs(X, np.full(8, 0.5)).tolist() == [-1, -1, -1, -1, -1, 1, 1, 1]
    assert stochastic_signs(X, np.full(8, 0.2)).tolist() == [-1, -1, 1, 1, 1, 1, 1, 1]
    u = np.random.default_rng(0).random((20_000, 8))
    drawn = stochastic_signs(np.broadcast_to(X, u.shape), u)
    # of +-1 the standard deviation is at most 1: 5 / sqrt(20,000)
    np.testing.assert_allclose(drawn.mean(axis=0), np.clip(X, -1, 1), atol=0.036)
    assert (drawn[:, [0, 1]] == -1).all() and (drawn[:, [6, 7]] == 1).all()


def test_ternary_codes_by_hand():
    codes = ternary_codes(X, 0.5)
    assert codes.tolist() == [-1, -1, 0, 0, 0, 0, 1, 1] and codes.dtype == np.int8
    assert ternary_codes(X.reshape(2, 4), [[1.0], [0.0]]).tolist() == [[-1, 0, 0, 0], [0, 1, 1, 1]]
