import numpy as np
import pytest
from minicomp import Tensor, grad
from minicomp.compress.distill.soft import high_temperature_gradient, soft_loss
from minicomp.nn.losses import cross_entropy
from minicomp.teach.checks import lesson18


def test_soft_targets_by_hand():
    z = np.array([[0.0, np.log(9.0)]])
    np.testing.assert_allclose(lesson18.soft_targets(z, 1.0), [[0.1, 0.9]])
    np.testing.assert_allclose(lesson18.soft_targets(z, 2.0), [[0.25, 0.75]])


@pytest.mark.parametrize("T, alpha", [(1.0, 0.0), (2.0, 0.5), (20.0, 0.9)])
def test_the_closed_form_is_what_the_trainings_loss_has_as_gradient(T, alpha):
    rng = np.random.default_rng(0)
    z, v, y = Tensor(rng.normal(size=(4, 5)), requires_grad=True), rng.normal(size=(4, 5)), [
        0, 4, 2, 2]
    p = lesson18.soft_targets(v, T)
    loss = cross_entropy(z, np.array(y)) * (1 - alpha) + soft_loss(z, p, T) * (alpha * T * T)
    found = lesson18.kd_gradient(z.data, v, np.array(y), T, alpha)
    np.testing.assert_allclose(found, grad(loss, z).data, rtol=1e-8, atol=1e-12)


def test_with_the_square_the_soft_gradient_does_not_vanish_at_high_temperatures():
    rng = np.random.default_rng(0)
    z, v = rng.normal(size=(2, 3, 10))
    far = lesson18.kd_gradient(z, v, np.zeros(3, int), 1e4, 1.0)
    limit = high_temperature_gradient(z, v, 1.0) / 3  # of the batch mean
    np.testing.assert_allclose(far, limit, rtol=1e-2, atol=1e-5)


def test_maps_by_hand():
    a = np.array([[[[1.0, 2.0]]]])
    b = np.array([[[[3.0, 0.0]], [[0.0, 2.0]]]])
    q, G = lesson18.map_targets(a, b)
    np.testing.assert_allclose(q, [[9 / np.hypot(9, 4), 4 / np.hypot(9, 4)]])
    np.testing.assert_allclose(G, [[[1.5, 2.0]]])
