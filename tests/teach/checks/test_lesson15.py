import numpy as np
import pytest
from minicomp import grad
from minicomp.compress import Balanced
from minicomp.compress.technique import Run
from minicomp.models import MLP
from minicomp.nn import Hashed
from minicomp.nn.forms.hashed import hash_places
from minicomp.kernels.splitmix import splitmix64
from minicomp.teach.checks import lesson15


@pytest.mark.parametrize("m, n, K, seed", [(3, 5, 4, 0), (2, 7, 1000, 9), (1, 1, 1, 3)])
def test_places_are_those_of_the_library(m, n, K, seed):
    right = [a.reshape(m, n) for a in hash_places(m * n, K, seed)]
    for mine, theirs in zip(lesson15.hash_map(splitmix64(m * n, seed), m, n, K), right):
        assert np.array_equal(mine, theirs)


def test_a_place_by_hand():
    bucket, sign = lesson15.hash_map(np.array([2**63 + 1, 2**62], np.uint64), 2, 1, 4)
    assert (bucket.tolist(), sign.tolist()) == ([[2], [1]], [[-1], [1]])


def test_a_gradient_by_hand():
    # Bucket 0 holds entries 0 and 2, of which one is negative; nobody is in bucket 2.
    to_b, to_x = lesson15.bucket_backward(
        np.array([[2.0]]), np.array([[1.0, 2.0, 3.0]]), np.array([4.0, 5.0, 6.0]),
        np.array([[0, 1, 0]]), np.array([[1, 1, -1]]))
    assert to_b.tolist() == [2 * 1 - 2 * 3, 2 * 2, 0]
    assert to_x.tolist() == [[8.0, 10.0, -8.0]]


def test_gradients_are_what_the_librarys_form_gives():
    shape, K, rng = (4, 6), 5, np.random.default_rng(0)
    form = Hashed(rng.normal(size=K).astype(np.float32), shape, seed=2)
    bucket, sign = (a.reshape(shape) for a in hash_places(24, K, 2))
    g, x = (rng.normal(size=(3, n)).astype(np.float32) for n in shape)
    V = form.dense(training=True)
    to_b, to_x = lesson15.bucket_backward(g, x, form.buckets.dense().data, bucket, sign)
    np.testing.assert_allclose(form.pull_back(V, g.T @ x)["buckets"], to_b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(g @ V.data, to_x, rtol=1e-5)
    theirs = grad(x @ V.T, list(form.parameters().values()), cotangent=g)
    np.testing.assert_allclose(theirs[0].data, to_b, rtol=1e-4, atol=1e-5)


def test_cells_by_hand_and_in_plain_numpy():
    codes, means, scale = lesson15.equal_cells(np.array([-3.0, -1.0, 0.0, 4.0]), 2)
    assert (codes.tolist(), means.tolist()) == ([0, 0, 1, 1], [-2.0, 2.0])
    assert scale == pytest.approx((0.5 * 8) / (4 * 0.25))
    for case in lesson15._CELLS.parts[0].cases(None):
        for mine, plain in zip(lesson15.equal_cells(**case), lesson15._cells(**case)):
            np.testing.assert_allclose(mine, plain, rtol=1e-6)


def test_even_levels_are_those_of_the_technique():
    model = MLP([9, 4], rng=np.random.default_rng(1))
    w = model.forms()["fc1.weight"].dense().data
    got = Balanced(bits=2).apply(model, None, Run(np.random.default_rng(0)))
    codes, _, scale = lesson15.equal_cells(w.ravel(), 4)
    np.testing.assert_allclose(got.forms()["fc1.weight"].dense().data.ravel(),
                               scale * (codes - 1.5), rtol=1e-6)
