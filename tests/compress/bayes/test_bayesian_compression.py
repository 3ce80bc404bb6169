import numpy as np
import pytest

from minicomp.compress import BayesianCompression, DeadUnits
from minicomp.compress.bayes.bayesian_compression import (
    JEFFREYS, grid_of_variance, posterior_variance)
from minicomp.compress.bayes.grouped import GroupedConv2d, GroupedLinear, gaussian_slopes
from minicomp.compress.bayes.horseshoe import half_cauchy_slopes, kinds_of
from minicomp.compress.bayes.noisy import noisy, quiet
from minicomp.compress.technique import Run
from minicomp.nn import Conv2d, Dense, Linear, Model, chain
from minicomp.tensor import Tensor, no_grad

RNG = np.random.default_rng(8)


def test_the_divergence_from_a_standard_normal_by_differences():
    def kl(mu, v):
        return (np.exp(v) + mu**2 - 1 - v) / 2

    mu, v, h = RNG.standard_normal(20), RNG.standard_normal(20), 1e-6
    d_mu, d_v = gaussian_slopes(mu, v)
    np.testing.assert_allclose(d_mu, (kl(mu + h, v) - kl(mu - h, v)) / (2 * h), atol=1e-8)
    np.testing.assert_allclose(d_v, (kl(mu, v + h) - kl(mu, v - h)) / (2 * h), atol=1e-8)


def test_the_variance_of_a_product_is_that_of_draws():
    mu, log_var, z, z_log_var = 1.5, -1.0, -0.7, -2.0
    draws = (mu + np.exp(log_var / 2) * RNG.standard_normal(400_000)) * (
        z + np.exp(z_log_var / 2) * RNG.standard_normal(400_000))
    found = posterior_variance(mu, log_var, z, np.exp(z_log_var))
    assert found == pytest.approx(draws.var(), rel=0.02)


def test_rounding_adds_the_share_of_the_variance():
    step, bits = grid_of_variance(1.0, 1e-4, 1.0)
    w = RNG.uniform(-1, 1, 100_000)
    assert np.square(w - step * np.rint(w / step)).mean() == pytest.approx(1e-4, rel=0.02)
    assert step * (2 ** (bits - 1) - 1) >= 1.0 > step * (2 ** (bits - 2) - 1)
    assert grid_of_variance(1.0, 1e-4, 4.0)[0] == pytest.approx(2 * step)
    step, bits = grid_of_variance(1.0, 1e-20, 1.0)  # finer than the most bits
    assert bits == 12 and step == pytest.approx(1 / 2047)
    assert grid_of_variance(0.0, 0.0, 1.0)[0] == 1.0


@pytest.mark.parametrize("layer, kind, x", [
    (Linear(6, 3), GroupedLinear, RNG.standard_normal((4, 6))),
    (Conv2d(2, 3, 2), GroupedConv2d, RNG.standard_normal((2, 2, 3, 3)))])
def test_outputs_have_the_moments_of_drawn_weights(layer, kind, x):
    form = layer.forms["weight"]
    w = RNG.standard_normal(form.shape).astype(np.float32)
    layer.forms["weight"] = Dense(w)
    layer.forms["bias"] = Dense(RNG.standard_normal(3).astype(np.float32))
    net = noisy(Model(chain(("a", layer)), input_shape=x.shape[1:]), -2.0,
                JEFFREYS)
    made = net.nodes[0].layer
    assert type(made) is kind
    made.buffers["z"][...] = RNG.uniform(0.5, 2, made.buffers["z"].shape)
    x, rng, draws = Tensor(x.astype(np.float32)), np.random.default_rng(0), 800
    with no_grad():
        got = np.stack([made(x, training=True, rng=rng).data for _ in range(draws)])
        bias, want = layer.decode()["bias"], []
        for _ in range(draws):
            z = made.buffers["z"] + np.exp(-1) * rng.standard_normal(made.buffers["z"].shape)
            drawn = made.spread(z) * (w + np.exp(-1) * rng.standard_normal(w.shape))
            want.append(layer(x, weights={"weight": Tensor(drawn.astype(np.float32)),
                                          "bias": bias}).data)
        mean = layer(x, weights={"weight": Tensor(w * made.spread(made.buffers["z"])),
                                 "bias": bias}).data
        np.testing.assert_allclose(made(x).data, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got.mean(0), mean, atol=0.7)
    np.testing.assert_allclose(got.std(0), np.std(want, axis=0), rtol=0.15)
    assert quiet(net).nodes[0].layer.kind == layer.kind


def test_inputs_that_say_nothing_are_dropped_and_units_follow(blobs, net):
    data = blobs()
    for split in (data.train, data.val):
        split.x[:, 6:] = np.random.default_rng(1).standard_normal(split.x[:, 6:].shape)
    training = BayesianCompression(log_var=-5.0, share=1.0).training(
        epochs=20, optimizer="adam", lr=0.015, batch_size=32)
    made = training.apply(net(), data, Run(np.random.default_rng(0)))
    form = made.forms()["fc1.weight"]
    inputs = form.dense().data.any(axis=0)
    assert form.kind == "affine" and form.bits < 8
    assert inputs[:6].all() and inputs[6:].sum() <= 4
    smaller = DeadUnits().apply(made, data, Run(None))
    assert smaller.forms()["fc1.weight"].shape[0] < 20
    np.testing.assert_allclose(smaller(data.val.x).data, made(data.val.x).data, atol=1e-4)


def test_the_slopes_of_half_cauchy_scales_by_differences():
    tau = np.array([1.0, 0.1, 3.0])

    def kl(mean, log_var):
        gamma, inverse = (np.exp(sign * m + np.exp(v) / 2) for sign, m, v in
                          zip((1, -1), mean, log_var))
        return (gamma / tau**2 + inverse - mean[0] / 2 + mean[1] / 2 - log_var.sum(0) / 2).sum()

    mean, log_var, h = RNG.standard_normal((2, 3)), RNG.standard_normal((2, 3)), 1e-6
    for at, slope in enumerate(half_cauchy_slopes(mean, log_var, tau)):
        for i in np.ndindex(2, 3):
            step = np.zeros((2, 2, 3))
            step[at][i] = h
            up, down = kl(mean + step[0], log_var + step[1]), kl(mean - step[0], log_var - step[1])
            assert slope[i] == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("half", ["gamma", "inverse"])
def test_the_divergence_of_a_scale_is_that_of_draws(half):
    # Differences of KL between two posteriors, as constants are left out.
    from scipy import stats

    prior = (stats.gamma(0.5, scale=0.3) if half == "gamma" else stats.invgamma(0.5))
    sign, scale = (1, 0.3) if half == "gamma" else (-1, 1.0)

    def drawn(mu, var):
        x = stats.lognorm(np.sqrt(var), scale=np.exp(mu)).rvs(400_000, random_state=3)
        return (stats.lognorm(np.sqrt(var), scale=np.exp(mu)).logpdf(x) - prior.logpdf(x)).mean()

    def told(mu, var):
        return np.exp(sign * mu + var / 2) / scale - sign * mu / 2 - np.log(var) / 2

    a, b = (0.4, 0.3), (-0.7, 0.8)
    assert told(*a) - told(*b) == pytest.approx(drawn(*a) - drawn(*b), abs=0.02)


def test_horseshoe_scales_have_the_moments_of_their_draws():
    layer = kinds_of(0.1)[Linear].of(Linear(5, 3), -1.0)
    assert layer.expected() == pytest.approx(np.exp(np.exp(-1.0) / 2), rel=1e-5)  # 1 at the mode
    layer.buffers["scale"] += RNG.normal(0, 0.5, (2, 6)).astype(np.float32)
    weights = {name: Tensor(a) for name, a in layer.buffers.items()}
    draws = layer.drawn(weights, 200_000, np.random.default_rng(0)).data
    mean, var = layer.moments()
    np.testing.assert_allclose(draws.mean(0), mean, rtol=0.03)
    np.testing.assert_allclose(draws.var(0), var, rtol=0.15)
    common = np.corrcoef(np.log(draws[:, 0]), np.log(draws[:, 1]))[0, 1]
    assert common == pytest.approx(0.5, abs=0.02)  # the layer's scale is half of each variance


def test_a_horseshoe_drops_inputs_that_say_nothing(blobs, net):
    data = blobs()
    for split in (data.train, data.val):
        split.x[:, 6:] = np.random.default_rng(1).standard_normal(split.x[:, 6:].shape)
    training = BayesianCompression(prior="horseshoe", tau=0.1, log_var=-5.0, threshold=-2.0
                                   ).training(epochs=20, optimizer="adam", lr=0.02, batch_size=32)
    made = training.apply(net(), data, Run(np.random.default_rng(0)))
    inputs = made.forms()["fc1.weight"].dense().data.any(axis=0)
    assert inputs[:6].all() and inputs[6:].sum() <= 4


def test_of_a_layer_that_is_all_noise_one_group_stays():
    # log alpha is cut to 8, where all of them may lie.
    net = noisy(Model(chain(("a", Linear(6, 3))), input_shape=(6,)), -2.0, JEFFREYS)
    layer = net.nodes[0].layer
    layer.forms["weight"] = Dense(np.ones((3, 6), np.float32))
    layer.buffers["z_log_var"][:] = 9.0
    kept = BayesianCompression(threshold=3.0, share=1e-6).known("a", layer)
    assert kept.mask.any(axis=0).tolist() == [True] + 5 * [False]
