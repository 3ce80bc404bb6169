import numpy as np
import pytest

from minicomp.compress import SparseVD
from minicomp.compress.bayes.divergence import (
    certain, kl_log_uniform, kl_slope, log_alpha, slopes)
from minicomp.compress.bayes.noisy import NoisyConv2d, NoisyLinear, noisy, quiet
from minicomp.compress.technique import Run, kept
from minicomp.nn import Conv2d, Dense, Linear, Model, chain
from minicomp.tensor import Tensor, grad, no_grad

RNG = np.random.default_rng(4)


def integrated(a):
    # KL(N(1, alpha) || log-uniform), 0 at alpha = infinity: E log|w| - log(alpha) / 2 less the same
    # of a standard normal. The singularity of log|w| at w = 0 is where w = t^3 has none.
    sigma = np.exp(a / 2)
    edge = np.cbrt(1 + 12 * sigma)
    t = (np.arange(40000) + 0.5) / 40000 * 2 * edge - edge
    w, dw = t**3, 3 * t**2 * (2 * edge / 40000)
    density = np.exp(-((w - 1) ** 2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))
    normal = -(np.euler_gamma + np.log(2)) / 2  # E log|z|
    return float((np.log(np.abs(w)) * density * dw).sum()) - a / 2 - normal


def test_the_divergence_is_that_of_numeric_integration():
    for a in np.linspace(-6, 6, 13):
        assert kl_log_uniform(a) == pytest.approx(integrated(a), abs=0.01), a
    a, h = np.linspace(-7, 7, 60), 1e-5
    want = (kl_log_uniform(a + h) - kl_log_uniform(a - h)) / (2 * h)
    np.testing.assert_allclose(kl_slope(a), want, atol=1e-9)
    assert (kl_slope(a) < 0).all()


def test_slopes_are_those_of_differences():
    theta, log_var, h = RNG.standard_normal(200), RNG.uniform(-6, 2, 200), 1e-6

    def kl(theta, log_var):
        return kl_log_uniform(log_alpha(theta, log_var))

    d_theta, d_var = slopes(theta, log_var)
    inside = np.abs(log_alpha(theta, log_var)) < 7.9
    want = (kl(theta + h, log_var) - kl(theta - h, log_var)) / (2 * h)
    np.testing.assert_allclose(d_theta[inside], want[inside], rtol=1e-4, atol=1e-6)
    want = (kl(theta, log_var + h) - kl(theta, log_var - h)) / (2 * h)
    np.testing.assert_allclose(d_var[inside], want[inside], rtol=1e-4, atol=1e-6)


def test_what_stays_by_hand():
    theta, log_var = np.array([1.0, 0.1, 0.01, 0.0]), np.full(4, -2.0)
    assert certain(theta, log_var).tolist() == [True, True, False, False]  # -2, 2.6, 7.2
    assert certain(theta, log_var, mask=np.array([0, 1, 1, 1], bool)).tolist() == [0, 1, 0, 0]
    assert certain(theta[2:], log_var[2:]).tolist() == [True, False]
    assert not certain(theta, log_var, mask=np.zeros(4, bool)).any()


@pytest.mark.parametrize("layer, x", [
    (Linear(6, 3), RNG.standard_normal((4, 6))),
    (Conv2d(4, 6, 2, padding=1, groups=2), RNG.standard_normal((2, 4, 3, 3)))])
def test_outputs_have_the_moments_of_drawn_weights(layer, x):
    # Against weights drawn one at a time; a masked weight has no noise.
    form = layer.forms["weight"]
    w = RNG.standard_normal(form.shape).astype(np.float32)
    mask = RNG.random(form.shape) < 0.7
    layer.forms["weight"] = Dense(w, mask)
    net = Model(chain(("a", layer)), input_shape=x.shape[1:])
    log_var = RNG.uniform(-2, 0, form.shape).astype(np.float32)
    made = noisy(net, -1.0).nodes[0].layer
    assert type(made) in (NoisyLinear, NoisyConv2d)
    made.buffers["log_var"][...] = log_var
    x, rng, draws = Tensor(x.astype(np.float32)), np.random.default_rng(0), 800
    with no_grad():
        got = np.stack([made(x, training=True, rng=rng).data for _ in range(draws)])
        noise = rng.standard_normal((draws, *form.shape)).astype(np.float32)
        drawn = np.where(mask, w + np.exp(log_var / 2) * noise, 0)
        bias = layer.decode()["bias"]
        want = np.stack([layer(x, weights={"weight": Tensor(a), "bias": bias}).data
                         for a in drawn])
        np.testing.assert_array_equal(made(x).data, layer(x).data)
    np.testing.assert_allclose(got.mean(0), want.mean(0), atol=0.4)
    np.testing.assert_allclose(got.std(0), want.std(0), rtol=0.14)


def test_log_var_learns_by_the_noise_and_copies_are_apart():
    net = noisy(Model(chain(("a", Linear(3, 2))), input_shape=(3,)), -2.0)
    layer, x = net.nodes[0].layer, Tensor(np.ones((5, 3), np.float32))
    t, h = layer.grids["log_var"], 1e-2

    def loss():
        y = layer(x, training=True, rng=np.random.default_rng(1))
        return (y * y).sum()

    slope = grad(loss(), t).data[1, 2]
    t.data[1, 2] += h
    up = loss().item()
    t.data[1, 2] -= 2 * h
    assert slope == pytest.approx((up - loss().item()) / (2 * h), rel=0.02)
    other = layer.copy()
    other.grids["log_var"].data[...] = 0
    assert (layer.buffers["log_var"] != 0).all() and (other.buffers["log_var"] == 0).all()
    assert quiet(net).nodes[0].layer.kind == "Linear" and not quiet(net).grids()


def test_training_drops_what_the_data_do_not_ask_for(blobs, net):
    # Four classes by the first of twelve inputs: the others' weights go.
    data = blobs()
    for split in (data.train, data.val):
        split.x[:, 4:] = np.random.default_rng(1).standard_normal(split.x[:, 4:].shape)
    left = []
    for weight in (0.0, 1.0):
        training = SparseVD(log_var=-6.0, weight=weight).training(
            epochs=20, optimizer="adam", lr=0.01, batch_size=32)
        made = training.apply(net(), data, Run(np.random.default_rng(0)))
        left.append(kept(made))
        w = made.forms()["fc1.weight"].dense().data
    assert left[1] < 0.5 * left[0]
    assert (w[:, 4:] != 0).mean() < 0.6 * (w[:, :4] != 0).mean()
