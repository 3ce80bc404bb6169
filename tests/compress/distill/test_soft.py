import math

import numpy as np
import pytest

from minicomp.compress.distill.soft import (
    distillation,
    high_temperature_gradient,
    mean_targets,
    soft_gradient,
    soft_loss,
    soft_targets,
)
from minicomp.gradcheck import grad_check
from minicomp.tensor import Tensor

rng = np.random.default_rng(0)
Z, V, Y = 3 * rng.standard_normal((6, 5)), 3 * rng.standard_normal((6, 5)), rng.integers(0, 5, 6)


def loss_by_loops(z, v, y, T, alpha):
    total = 0.0
    for row, teacher, label in zip(z, v, y):
        q = [math.exp(a / T) for a in row]
        p = [math.exp(a / T) for a in teacher]
        hard = [math.exp(a) for a in row]
        soft = sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q))
        total += (1 - alpha) * -math.log(hard[label] / sum(hard)) + alpha * T * T * soft
    return total / len(z)


@pytest.mark.parametrize("T, alpha", [(1.0, 0.5), (4.0, 0.9), (20.0, 1.0), (2.0, 0.0)])
def test_the_loss_is_the_printed_one_and_its_gradient_that_of_differences(T, alpha):
    value, dz = distillation(Z, V, Y, T, alpha)
    assert value == pytest.approx(loss_by_loops(Z, V, Y, T, alpha), rel=1e-12)
    h = 1e-5
    for i, k in np.ndindex(Z.shape):
        d = np.zeros_like(Z)
        d[i, k] = h
        up, down = (loss_by_loops(Z + s * d, V, Y, T, alpha) for s in (1, -1))
        assert dz[i, k] == pytest.approx((up - down) / (2 * h), abs=1e-8)


def test_gradients_become_the_matching_of_logits_as_t_grows():
    # eq. (4): the difference falls with 1 / T beside gradients that fall with 1 / T^2
    gaps = []
    for T in (10.0, 100.0, 1000.0):
        exact, limit = soft_gradient(Z, soft_targets(V, T), T), high_temperature_gradient(Z, V, T)
        gaps.append(np.abs(exact - limit).max() / np.abs(limit).max())
    assert gaps[1] < 0.15 * gaps[0] and gaps[2] < 0.15 * gaps[1] and gaps[2] < 0.01


def test_means_of_teachers():
    z = rng.standard_normal((3, 4, 5))
    p = [[[math.exp(v / 2) for v in row] for row in one] for one in z]
    p = [[[v / sum(row) for v in row] for row in one] for one in p]
    arithmetic = [[sum(p[m][n][k] for m in range(3)) / 3 for k in range(5)] for n in range(4)]
    products = [[math.prod(p[m][n][k] for m in range(3)) ** (1 / 3) for k in range(5)]
                for n in range(4)]
    geometric = [[v / sum(row) for v in row] for row in products]
    np.testing.assert_allclose(mean_targets(z, 2.0, "arithmetic"), arithmetic, rtol=1e-12)
    np.testing.assert_allclose(mean_targets(z, 2.0, "geometric"), geometric, rtol=1e-12)


def test_the_loss_that_trains_is_the_soft_term():
    p = soft_targets(V, 3.0)
    assert soft_loss(Tensor(Z), p, 3.0).item() * 9 == pytest.approx(
        distillation(Z, V, Y, 3.0, 1.0)[0], rel=1e-12)
    grad_check(lambda z: soft_loss(z, p, 3.0), Z, rng=np.random.default_rng(1))
    assert soft_loss(Tensor(V), p, 3.0).item() == pytest.approx(0, abs=1e-12)
    certain = np.eye(5)[Y]  # a teacher whose other probabilities are 0 to the bit
    assert np.isfinite(soft_loss(Tensor(Z), certain, 3.0).item())


@pytest.mark.peers
def test_the_loss_is_that_of_torch():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    for T, alpha in ((1.0, 0.5), (4.0, 0.9), (20.0, 1.0)):
        z = torch.tensor(Z, requires_grad=True)
        soft = F.kl_div(F.log_softmax(z / T, 1), F.softmax(torch.tensor(V) / T, 1),
                        reduction="batchmean")
        loss = (1 - alpha) * F.cross_entropy(z, torch.tensor(Y)) + alpha * T * T * soft
        loss.backward()
        value, dz = distillation(Z, V, Y, T, alpha)
        assert value == pytest.approx(loss.item(), rel=1e-12)
        np.testing.assert_allclose(dz, z.grad.numpy(), rtol=1e-10, atol=1e-13)
