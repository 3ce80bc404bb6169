import numpy as np
import pytest
from minicomp.conv import conv2d
from minicomp.nn import Dictionary
from minicomp.teach.checks import lesson09
from minicomp.teach.checks.lesson09 import TWO

RNG = np.random.default_rng


def drawn(O, C, K, L, k, s, seed=0):
    rng = RNG(seed)
    return (rng.normal(size=(k, C)), rng.integers(0, k, (O, K, L, s)),
            rng.normal(size=(O, K, L, s)))


def test_a_filter_by_hand():
    W, P = lesson09.decode(TWO, np.array([[[[0, 1], [1, 1]]]]), np.array([[[[2, -1], [1, 0.5]]]]))
    assert W.tolist() == [[[[2, 0]], [[-3, 4.5]], [[5, -1.5]]]]  # (filter, channel, row, column)
    assert P.tolist() == [[[[2, -1], [0, 1.5]]]]


@pytest.mark.parametrize("sizes", [(3, 4, 2, 3, 5, 2), (1, 1, 1, 1, 1, 1), (2, 3, 1, 2, 2, 4)])
def test_filters_and_p_are_those_of_the_librarys_form(sizes):
    D, I, c = drawn(*sizes)
    W, P = lesson09.decode(D, I, c)
    counts = np.full(I[..., 0].size, I.shape[3])
    form = Dictionary(D, counts, I.ravel(), c.ravel(), W.shape)
    np.testing.assert_allclose(form.dense().data, W, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(form.P(), P.reshape(form.P().shape), rtol=1e-6)
    for mine, plain in zip((W, P), lesson09._decoded(D, I, c)):
        np.testing.assert_allclose(mine, plain, atol=1e-12)


def test_a_convolution_by_hand_and_its_products():
    # Two atoms of one channel on three pixels; one filter of two places, one look-up each.
    y, products = lesson09.lookup_conv(
        np.array([[[1.0, 2.0, 4.0]]]), np.array([[1.0], [3.0]]), np.array([[[[0], [1]]]]),
        np.array([[[[1.0], [2.0]]]]))
    assert (y.tolist(), products) == ([[[1 + 2 * 6, 2 + 2 * 12]]], 2 * 3 + 2 * 2)


def test_it_is_the_dense_convolution_of_the_decoded_filters():
    D, I, c = drawn(4, 3, 2, 3, 5, 2)
    x = RNG(1).normal(size=(3, 6, 5))
    y, _ = lesson09.lookup_conv(x, D, I, c)
    np.testing.assert_allclose(y, conv2d(x[None], lesson09.decode(D, I, c)[0])[0], atol=1e-12)


def test_pursuit_by_hand():
    D = np.array([[1.0, 0.0], [0.6, 0.8]])
    assert lesson09.pursuit(np.array([1.0, 1.0]), D, 1).tolist() == [0, pytest.approx(1.4)]
    assert lesson09.pursuit(np.array([1.0, 1.0]), D, 2).tolist() == pytest.approx([0.25, 1.25])
    assert lesson09.pursuit(np.array([3.0, 0.0]), 2 * D, 2).tolist() == [1.5, 0]


def test_the_plain_pursuit_of_the_mutants_is_right_but_for_their_slips():
    for case in lesson09._atoms(lesson09_draw()):
        np.testing.assert_allclose(lesson09._pursued(**case), lesson09.pursuit(**case), atol=1e-8)


def lesson09_draw():
    from minicomp.reference.draw import Draw

    return Draw(3)
