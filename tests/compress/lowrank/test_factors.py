import math

import numpy as np
import pytest

from minicomp.compress.lowrank.activation_svd import output_error
from minicomp.compress.lowrank.factors import (
    balanced,
    eckart_young,
    low_rank,
    svd,
    whitened_low_rank,
)
from minicomp.compress.lowrank.randomized import conditioned, randomized_svd
from minicomp.compress.lowrank.ranks import (
    break_even_rank,
    energy_rank,
    ranks_under_budget,
    ranks_under_bytes,
)
from minicomp.compress.lowrank.vbmf import evbmf_noise, evbmf_rank, threshold


def alternating(w, moment, rank, rng):
    # The least |(W - A B) X| by alternating least squares from a random start.
    A = rng.standard_normal((len(w), rank))
    for _ in range(2000):
        B = np.linalg.solve(A.T @ A, A.T @ w)
        A = w @ moment @ B.T @ np.linalg.inv(B @ moment @ B.T)
    return A @ B


def test_no_matrix_of_that_rank_is_nearer_and_the_error_is_what_is_dropped():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((6, 5))
    s = np.linalg.svd(w, compute_uv=False)
    for rank in range(1, 6):
        near = low_rank(w, rank)
        error = np.square(w - near).sum()
        assert np.linalg.matrix_rank(near) == rank
        assert error == pytest.approx(np.square(s[rank:]).sum(), abs=1e-12)
        assert eckart_young(w, rank) == pytest.approx(error, abs=1e-12)
        other = alternating(w, np.eye(5), rank, rng)
        assert np.square(w - other).sum() == pytest.approx(error, abs=1e-9)
    a, b = balanced(svd(w), 5)
    np.testing.assert_allclose(a @ b, w, atol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=1))
    for rank in (0, 6):
        with pytest.raises(ValueError, match=rf"rank must be in 1..5, got {rank}"):
            low_rank(w, rank)


def test_the_whitened_matrix_is_the_best_for_the_inputs():
    rng = np.random.default_rng(1)
    w, X = rng.standard_normal((5, 4)), np.diag([9.0, 3.0, 1.0, 0.2]) @ rng.standard_normal((4, 40))
    moment = X @ X.T / 40
    for rank in (1, 2, 3):
        best = whitened_low_rank(w, moment, rank)
        error = np.square((w - best) @ X).sum() / 40
        assert output_error(w, best, moment) == pytest.approx(error)
        other = alternating(w, moment, rank, rng)
        assert output_error(w, other, moment) == pytest.approx(error, rel=1e-6)
        assert error < output_error(w, low_rank(w, rank), moment) * 0.999
        dropped = np.linalg.svd(w @ np.linalg.cholesky(moment), compute_uv=False)[rank:]
        assert error == pytest.approx(np.square(dropped).sum())
    np.testing.assert_allclose(whitened_low_rank(w, moment, 4), w, atol=1e-12)
    with pytest.raises(ValueError, match="must be positive definite"):
        whitened_low_rank(w, np.diag([1.0, 1.0, 1.0, 0.0]), 1)


def test_break_even_is_the_last_rank_that_holds_fewer_numbers():
    for m in range(1, 12):
        for k in range(1, 12):
            t = break_even_rank(m, k)
            assert t * (m + k) < m * k <= (t + 1) * (m + k)
    with pytest.raises(ValueError, match="sizes must be at least 1, got 0 x 3"):
        break_even_rank(0, 3)


def test_energy_is_of_squares_and_just_reached():
    s = np.array([2.0, 1.0, 1.0, 1.0, 1.0])  # squares 4, 1, 1, 1, 1
    assert [energy_rank(s, e) for e in (0.5, 0.501, 0.625, 0.99, 1.0)] == [1, 2, 2, 5, 5]
    with pytest.raises(ValueError, match=r"energy must be in \(0, 1\], got 0"):
        energy_rank(s, 0)


def cost(ranks, spectra, each, whole):
    return sum(w if t == len(s) else t * e for t, s, e, w in zip(ranks, spectra, each, whole))


def test_ranks_under_a_budget_are_the_optimum_where_they_fill_it():
    # Against all choices, at the budgets that the ranks found take exactly.
    rng = np.random.default_rng(2)
    shapes = [(5, 6), (4, 9)]
    spectra = [np.sort(rng.random(min(shape)))[::-1] for shape in shapes]
    each, whole = [11, 13], [30, 36]
    ranks = [range(1, break_even_rank(*shape) + 1) for shape in shapes]
    choices = [(a, b) for a in (*ranks[0], 5) for b in (*ranks[1], 4)]

    def lost(choice):
        return sum(np.square(s[t:]).sum() for s, t in zip(spectra, choice))

    for budget in range(24, 80):
        found = ranks_under_budget(spectra, each, whole, budget)
        taken = cost(found, spectra, each, whole)
        assert taken <= budget and tuple(found) in choices
        assert ranks_under_bytes(spectra, shapes, 4 * budget) == found
        greedy_fills = all(t < len(s) for t, s in zip(found, spectra)) and taken == budget
        best = min(lost(c) for c in choices if cost(c, spectra, each, whole) <= budget)
        if greedy_fills and budget - 24 < 11:
            assert lost(found) == pytest.approx(best)
        assert lost(found) >= best - 1e-12
    assert ranks_under_budget(spectra, each, whole, 66) == [5, 4], "all of it fits as it is"
    with pytest.raises(ValueError, match="budget must be at least 24, got 23"):
        ranks_under_budget(spectra, each, whole, 23)


def test_a_step_of_most_energy_per_cost_is_taken_first():
    # squares 16, 9, 4, 1 and 25, 16, 1, 0; costs of a rank 20 and 80, of the layers 100 and 400
    spectra = [np.array([4.0, 3.0, 2.0, 1.0]), np.array([5.0, 4.0, 1.0, 0.0])]

    def at(budget):
        return ranks_under_budget(spectra, [20, 80], [100, 400], budget)

    assert at(100) == [1, 1] and at(120) == [2, 1]
    assert at(140) == [3, 1], "4 / 20 and 16 / 80 are equal: the earlier layer"
    assert at(139) == [2, 1]
    assert at(200) == [4, 1], "the 80 of the next step do not fit into the 60 left, another does"
    assert at(220) == [3, 2]


def test_vbmf_finds_the_rank_under_noise_and_its_variance():
    rng = np.random.default_rng(3)
    for L, M, rank, noise in ((20, 60, 3, 0.5), (40, 40, 5, 1.0), (30, 200, 0, 1.0)):
        v = 2 * rng.standard_normal((L, rank)) @ rng.standard_normal((rank, M))
        v = v + noise * rng.standard_normal((L, M))
        assert evbmf_rank(v) == evbmf_rank(v.T) == rank
        found = evbmf_noise(np.linalg.svd(v, compute_uv=False), M)
        assert found == pytest.approx(noise**2, rel=0.1)
    exact = rng.standard_normal((6, 2)) @ rng.standard_normal((2, 9))
    assert evbmf_rank(exact) == 2 and evbmf_rank(np.zeros((3, 4))) == 0


def test_the_threshold_is_where_xi_is_zero_as_the_paper_approximates_it():
    # tau_bar = 2.5129 sqrt(alpha) is exact for square matrices, and close for others.
    for alpha, close in ((1.0, 1e-4), (0.5, 3e-3), (0.1, 0.02)):
        tau = 2.5129 * math.sqrt(alpha)
        assert threshold(alpha) == pytest.approx((1 + tau) * (1 + alpha / tau), rel=close)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_randomised_svd_is_near_the_best_and_orthonormal(dtype):
    rng = np.random.default_rng(4)
    w = (rng.standard_normal((120, 80)) / np.arange(1, 81)).astype(dtype)
    best = math.sqrt(eckart_young(w, 10))
    errors = []
    for power in (0, 1, 2):
        U, s, Vt = randomized_svd(w, 10, power=power, rng=np.random.default_rng(5))
        assert U.dtype == s.dtype == Vt.dtype == dtype
        assert (U.shape, s.shape, Vt.shape) == ((120, 10), (10,), (10, 80))
        eps = 20 * float(np.finfo(dtype).eps)
        assert np.abs(U.T @ U - np.eye(10)).max() < eps
        assert np.abs(Vt @ Vt.T - np.eye(10)).max() < eps
        assert (np.diff(s) <= 0).all()
        errors.append(np.linalg.norm(w - U * s @ Vt) / best)
    assert errors[0] < 1.4 and errors[2] < 1.005 and sorted(errors)[::-1] == errors
    near = randomized_svd(w.T, 80, oversample=9, rng=rng)
    np.testing.assert_allclose(near[0] * near[1] @ near[2], w.T, atol=1e-5)


def plain(w, l, rank, power, rng):
    # Halko et al., algorithms 4.4 and 5.1
    Q = np.linalg.qr(w @ rng.standard_normal((w.shape[1], l)))[0]
    for _ in range(power):
        Q = np.linalg.qr(w @ np.linalg.qr(w.T @ Q)[0])[0]
    U, s, Vt = np.linalg.svd(Q.T @ w, full_matrices=False)
    return Q @ U[:, :rank] * s[:rank] @ Vt[:rank]


@pytest.mark.parametrize("power", [1, 2, 4])
def test_half_the_steps_leave_no_more_than_a_hundredth_more(power):
    # Beside the plain method at the same size of block, 22 + 10 = 32.
    rng, i = np.random.default_rng(12), np.arange(1, 201)
    Q, R = (np.linalg.qr(rng.standard_normal((200, 200)))[0] for _ in "QR")
    for s in (1 / i, i**-0.5, i**-0.1, np.exp(-i / 20), np.where(i < 23, 1, 0.3)):
        w = Q * s @ R
        U, t, Vt = randomized_svd(w, 22, power=power, rng=rng)
        ours = np.linalg.norm(w - U * t @ Vt)
        assert ours <= 1.01 * np.linalg.norm(w - plain(w, 32, 22, power, rng))


def test_the_randomised_svd_holds_where_the_gram_matrix_is_singular():
    rng = np.random.default_rng(6)
    low = (rng.standard_normal((50, 3)) @ rng.standard_normal((3, 40))).astype(np.float32)
    U, s, Vt = randomized_svd(low, 5, rng=rng)
    assert np.abs(U * s @ Vt - low).max() < 3e-7 * s[0] and s[3] < 1e-4 * s[0]
    zero = randomized_svd(np.zeros((9, 7), np.float32), 2, rng=rng)
    assert (zero[1] == 0).all() and all(np.isfinite(f).all() for f in zero)
    rows = conditioned(np.stack([low[0], low[0], low[1]]))
    assert np.abs(rows @ rows.T - np.eye(3)).max() < 1e-5
    for wrong in ({"rank": 0}, {"rank": 8}, {"rank": 1, "power": -1},
                  {"rank": 1, "oversample": -1}):
        with pytest.raises(ValueError, match="must be"):
            randomized_svd(np.zeros((9, 7)), rng=rng, **wrong)
