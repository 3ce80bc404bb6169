import itertools

import numpy as np
import pytest

from minicomp.compress.curvature.layerwise import LayerProblem
from minicomp.compress.quant.adaround import (
    AdaRound, _Task, adaround, annealed, centred, rectified_sigmoid, regularizer, rounding_of,
)
from minicomp.compress.quant.schemes import Scheme
from minicomp.compress.technique import Run
from minicomp.nn import ReLU
from minicomp.tensor import Tensor

RNG = np.random.default_rng


def problem(seed, rows, n):
    mix = np.eye(n) + 0.5 * RNG(seed + 1).standard_normal((n, n))
    X = RNG(seed).standard_normal((3 * n, n)) @ mix
    W, H = RNG(seed + 2).standard_normal((rows, n)), X.T @ X / len(X) + 0.01 * np.eye(n)
    return X, LayerProblem(W, H, np.linalg.inv(H), H @ W.T, n, np.zeros((rows, n), bool), 0.0, 0.0)


def task(p, bits=3, scale=None):
    if scale is None:
        scale = np.abs(p.W).max(axis=1, keepdims=True) / 3
    scale = np.broadcast_to(np.float32(scale), p.dead.shape)
    return _Task(p, Scheme(bits), scale, np.zeros(p.dead.shape, np.int32), p.W)


def test_h_by_hand_and_back():
    assert rectified_sigmoid(np.array([0.0])) == pytest.approx(0.5)
    assert rectified_sigmoid(np.array([-2.5, 2.5])).tolist() == [0, 1]  # 1.2 / (1 + e^2.5) < 0.1
    assert rectified_sigmoid(np.array([-2.3]))[0] > 0
    part = np.linspace(0, 1, 11)
    np.testing.assert_allclose(rectified_sigmoid(rounding_of(part)), part, atol=1e-12)
    assert regularizer(np.array([0.0, 1.0]), 5) == 0 and regularizer(np.array([0.5]), 5) == 1
    assert regularizer(np.array([0.75]), 2) == pytest.approx(0.75)


def test_beta_is_free_then_falls_from_20_to_2():
    assert annealed(0.1) is None and annealed(0.2) == 20 and annealed(1.0) == pytest.approx(2)
    betas = [annealed(d) for d in np.linspace(0.2, 1, 20)]
    assert betas == sorted(betas, reverse=True)


def learnt(t, slope=None):
    return adaround(t.down, t.part, slope or t.slope, lo=t.lo, hi=t.hi, lam=t.unit)


def test_every_h_is_0_or_1_at_the_end():
    _, p = problem(0, 6, 20)
    t, seen = task(p), []

    def slope(u):
        seen.append(u - t.down)
        return t.slope(u)

    learnt(t, slope)
    inside = (t.down >= t.lo) & (t.down < t.hi)
    first, last = (h[inside] for h in (seen[0], seen[-1]))
    np.testing.assert_allclose(first, t.part[inside], atol=1e-4)  # it begins at the floats
    assert np.mean((first < 0.01) | (first > 0.99)) < 0.1
    assert np.mean((last < 0.01) | (last > 0.99)) > 0.99


def test_half_of_the_rows_reach_the_best_of_all_256_roundings_and_the_others_come_close():
    every = np.array(list(itertools.product((0, 1), repeat=8)), np.float32)
    _, p = problem(3, 40, 8)
    t = task(p)
    best = np.min([t.error(t.codes(t.down + up[None])) for up in every], axis=0)
    up = learnt(t)
    found, plain = (t.error(t.codes(u)) for u in (t.down + up, np.rint(t.down + t.part)))
    reached = np.mean(found <= best * (1 + 1e-9))
    assert reached >= 0.5 and np.mean(plain <= best * (1 + 1e-9)) < 0.3
    assert found.sum() < 1.4 * best.sum() and plain.sum() > 2.5 * best.sum()


def test_behind_a_relu_only_what_passes_it_counts():
    # Half of the outputs are cut off: knowing that, the others come out better.
    off = {True: 0.0, False: 0.0}
    for seed, activation in itertools.product(range(3), off):
        X, p = problem(seed, 40, 8)
        p.X, p.Z = X, X @ p.W.T
        scale = np.broadcast_to(np.float32(np.abs(p.W).max(axis=1, keepdims=True) / 3), (40, 8))
        done = AdaRound(activation=activation).round(
            p, Scheme(3), scale, np.zeros((40, 8), np.int32), p.W, None, Run(RNG(0)), ReLU())
        off[activation] += np.square(np.maximum(X @ done.rows.T, 0) - np.maximum(p.Z, 0)).sum()
    assert off[True] < 0.97 * off[False]


@pytest.mark.parametrize("act", [None, ReLU()])
def test_the_slope_is_the_gradient(act):
    X, p = problem(5, 3, 6)
    t = task(p, bits=8, scale=0.01)
    if act is not None:
        p.X, p.Z = X, X @ p.W.T + 0.1
        t.behind(act, len(X) * 50, RNG(0))

    def loss(u):
        D = t.values(u).astype(np.float64) - p.W
        if act is None:
            return np.einsum("oc,cd,od->", D, p.H, D)
        z = act(Tensor(X @ t.values(u).astype(np.float64).T)).data
        return np.square(z - np.maximum(X @ p.W.T + 0.1, 0)).sum() / len(X)

    u = (t.down + RNG(1).random(t.down.shape) * 40).astype(np.float32)
    g, eps = t.slope(u), 0.25
    for at in np.ndindex(*u.shape):
        step = np.zeros_like(u)
        step[at] = eps
        assert g[at] == pytest.approx((loss(u + step) - loss(u - step)) / (2 * eps),
                                      rel=0.02, abs=2e-3 * float(np.abs(g).max()))


def test_without_its_bias_a_row_s_error_is_that_of_centred_inputs():
    X = np.concatenate([RNG(0).random((50, 4)), np.ones((50, 1))], axis=1)
    H, mean = centred(X.T @ X / 50, 4)
    np.testing.assert_allclose(mean, X[:, :4].mean(axis=0))
    np.testing.assert_allclose(H, np.cov(X[:, :4].T, bias=True))
    assert centred(np.eye(3), 3)[1] is None
