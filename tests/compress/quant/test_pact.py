"""PACT: the slope of a clipping level, its decay, and what they do together."""

from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import PACT, Run
from minicomp.compress.quant.nodes import grids
from minicomp.data import Split
from minicomp.grid import pact_quantize
from minicomp.models import MLP
from minicomp.tensor import Tensor, grad


def test_the_slopes_by_hand_and_by_differences():
    x, alpha, hi = np.array([-1.0, 0.0, 0.6, 1.9, 2.0, 5.0]), 2.0, 3
    t, s = Tensor(x, requires_grad=True), Tensor(np.array([alpha / hi]), requires_grad=True)
    y = pact_quantize(t, s, hi=hi)
    np.testing.assert_allclose(y.data, [0, 0, 2 / 3, 2, 2, 2])
    dx, ds = grad(y.sum(), [t, s])
    assert dx.data.tolist() == [0, 1, 1, 1, 0, 0]
    assert ds.data[0] * hi == pytest.approx(2)  # two x are at least alpha
    # Beyond alpha y = alpha: what is there moves with it.
    h, far = 1e-6, np.array([3.0, 4.0, 5.0])
    up, down = (pact_quantize(far, np.array([(alpha + d) / hi]), hi=hi).sum() for d in (h, -h))
    assert (up - down) / (2 * h) == pytest.approx(3)


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((160, 12)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return SimpleNamespace(train=Split(x[:80], y[:80]), val=Split(x[80:], y[80:]))


def run(lr=0.05, **knobs):
    model = MLP([12, 24, 3], rng=np.random.default_rng(1))
    training = PACT(**knobs).training(epochs=4, lr=lr, batch_size=20, momentum=0.0,
                                      schedule="constant")
    return training.apply(model, data(), Run(np.random.default_rng(2)))


def alpha(model, name="act1_q"):
    layer = grids(model)[name]
    return float(layer.scale) * layer.hi


def test_alpha_decays_as_a_parameter_of_its_own():
    # From 1000 nothing is clipped: 16 steps of (1 - lr lam) are all that moves it.
    for bits in (2, 8):
        made = run(alpha=1000.0, lam=0.1, act_bits=bits)
        assert alpha(made) == pytest.approx(1000 * (1 - 0.05 * 0.1) ** 16, rel=1e-4)
    assert alpha(run(alpha=1000.0, lam=0.0)) == pytest.approx(1000, rel=1e-6)


def test_the_loss_pushes_alpha_out_where_clipping_costs():
    small = run(alpha=0.05, lam=0.0)
    assert alpha(small) > 0.06
    assert alpha(run(alpha=0.05, lam=0.0, lr=1e-9)) == pytest.approx(0.05, rel=1e-4)


def test_where_levels_begin_and_what_has_none():
    model = MLP([12, 24, 3], rng=np.random.default_rng(1))
    made = PACT(alpha=0.0).prepared(model, data(), Run(np.random.default_rng(0)))
    first = np.maximum(data().train.x @ model.forms()["fc1.weight"].dense().data.T, 0).max()
    assert alpha(made) == pytest.approx(first, rel=1e-5)
    assert grids(made)["act1_q"].learns == "pact" and grids(made)["x_q"].learns is None
    assert "x_q.scale" not in made.parameters()
    assert alpha(PACT().prepared(model, None, None)) == pytest.approx(10)
