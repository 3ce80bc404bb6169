import numpy as np
import pytest

from minicomp.compress import Magnitude, SoftSharing
from minicomp.compress.share.mixture import assigned, gaussian_kl, merged, mixture_nll
from minicomp.compress.share.soft_sharing import OTHER, ZERO, neg_log_hyper
from minicomp.compress.technique import Run, kept
from minicomp.gradcheck import grad_check
from minicomp.tensor import Tensor, grad

RNG = np.random.default_rng(6)
MU, LOG_LAM = np.array([0.0, -1.0, 0.5, 2.0]), np.array([3.0, 1.0, 0.0, 2.0])
PI = np.array([0.7, 0.1, 0.1, 0.1])


def density(x, mu, lam):
    return np.sqrt(lam / (2 * np.pi)) * np.exp(-lam * (x - mu) ** 2 / 2)


def test_the_likelihood_is_that_of_the_densities_and_its_slopes_those_of_differences():
    w = RNG.standard_normal(9)
    each = sum(p * density(w, m, np.exp(g)) for p, m, g in zip(PI, MU, LOG_LAM))
    args = [Tensor(a, requires_grad=True) for a in (w, MU, LOG_LAM, np.log(PI))]
    np.testing.assert_allclose(mixture_nll(*args).item(), -np.log(each).sum(), rtol=1e-12)
    grad_check(mixture_nll, *[a.data for a in args], rng=RNG)
    fast = grad(mixture_nll(*args), args)
    slow = grad(mixture_nll.composite(*args), args)
    for a, b in zip(fast, slow):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)
    far = mixture_nll(np.full(3, 1e3), MU, LOG_LAM, np.log(PI))
    assert np.isfinite(far) and far > 1e6


def test_the_hyper_prior_is_that_of_gamma_densities():
    log_lam = np.array([7.0, 6.0, 8.0])
    (a0, b0), (a, b) = ZERO, OTHER
    want = sum((1 - p) * g + q * np.exp(g) for p, q, g in zip((a0, a, a), (b0, b, b), log_lam))
    assert neg_log_hyper(Tensor(log_lam)).item() == pytest.approx(want, rel=1e-6)


def test_kl_between_components_by_integration():
    x = np.linspace(-60, 60, 200001)
    kl = gaussian_kl(MU, LOG_LAM)
    for i in range(4):
        p = density(x, MU[i], np.exp(LOG_LAM[i]))
        for j in range(4):
            log_q = 0.5 * LOG_LAM[j] - np.exp(LOG_LAM[j]) * (x - MU[j]) ** 2 / 2
            log_p = 0.5 * LOG_LAM[i] - np.exp(LOG_LAM[i]) * (x - MU[i]) ** 2 / 2
            want = (p * (log_p - log_q)).sum() * (x[1] - x[0])
            assert kl[i, j] == pytest.approx(want, abs=1e-6)


def test_components_merge_by_hand():
    mu, log_lam = np.array([0.0, 1.0, 1.001, 0.002, 5.0]), np.zeros(5)
    pi = np.array([0.6, 0.1, 0.3, 0.05, 0.05])
    m, g, p = merged(mu, log_lam, pi, 0.01)
    np.testing.assert_allclose(m, [0, (0.1 * 1 + 0.3 * 1.001) / 0.4, 5])
    np.testing.assert_allclose(p, [0.65, 0.4, 0.05])
    np.testing.assert_allclose(g, 0, atol=1e-12)
    assert len(merged(mu, log_lam, pi, 0.0)[0]) == 5
    chain = np.array([3.0, 2.9, 2.8, 0.1, 0.0])  # each next to the one before
    assert merged(chain, log_lam, pi, 0.006)[0].tolist()[0] == 0.0
    assert len(merged(chain, log_lam, pi, 0.006)[0]) == 2


def test_each_weight_has_the_component_of_largest_responsibility():
    w = RNG.uniform(-3, 3, (4, 5))
    dense = np.stack([p * density(w, m, np.exp(g)) for p, m, g in zip(PI, MU, LOG_LAM)])
    np.testing.assert_array_equal(assigned(w, MU, LOG_LAM, PI), dense.argmax(axis=0))


def test_weights_gather_at_components_and_most_at_0(blobs, net):
    start = Magnitude(sparsity=0.2).apply(net(), None, Run(None))
    left = []
    for pi0 in (0.3, 0.95):
        training = SoftSharing(components=5, pi0=pi0, tau=0.05).training(
            epochs=20, optimizer="adam", lr=0.015, batch_size=32)
        made = training.apply(start, blobs(), Run(np.random.default_rng(0)))
        for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
            form = made.forms()[name]
            assert form.kind == "codebook" and form.pinned_zero and form.k <= 5
            assert not form.dense().data[~start.forms()[name].mask].any()
            means = form.centroids.dense().data[1:]
            assert (np.diff(means) > 0).all()
        left.append(kept(made))
    assert left[1] < 0.8 * left[0]
