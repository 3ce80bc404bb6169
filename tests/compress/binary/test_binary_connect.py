"""BinaryConnect: signs and draws, where gradients go, clipping, rates, the three ways to use it."""

from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import BinaryConnect, Run
from minicomp.compress.binary.binary_connect import ways
from minicomp.compress.binary.signs import Connected, draw, glorot
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Binary, Dense
from minicomp.nn.losses import cross_entropy
from minicomp.tensor import Tensor
from minicomp.train import evaluate

RNG = np.random.default_rng


def data(n=80):
    # Three classes by three of twelve inputs.
    x = RNG(0).standard_normal((2 * n, 12)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return SimpleNamespace(train=Split(x[:n], y[:n]), val=Split(x[n:], y[n:]))


def net():
    return MLP([12, 24, 3], rng=RNG(1))


def trained(seed=3, **knobs):
    knobs = {"epochs": 2, "batch_size": 20, "lr": 0.02} | knobs
    own = {name: knobs.pop(name) for name in list(knobs) if name in BinaryConnect.knobs()}
    rows, threads = [], knobs.pop("n_threads", 1)
    run = Run(RNG(seed), rows.append, n_threads=threads)
    return BinaryConnect(**own).training(**knobs).apply(net(), data(), run), rows


def test_h_is_that_of_glorot():
    assert glorot((300, 784)) == pytest.approx((1.5 / 1084) ** 0.5)
    assert glorot((50, 20, 5, 5)) == pytest.approx((1.5 / (25 * 70)) ** 0.5)


def test_what_is_drawn_has_the_mean_of_the_clipped_weight():
    w = np.array([-0.6, -0.5, -0.2, 0.0, 0.3, 0.5, 0.7], np.float32)
    drawn = draw(np.broadcast_to(w, (20_000, 7)), 0.5, rng=RNG(0))
    assert set(np.unique(drawn)) == {-0.5, 0.5} and drawn.dtype == np.float32
    # of +-1/2 the standard deviation is at most 1/2: five of the mean's
    np.testing.assert_allclose(drawn.mean(axis=0), np.clip(w, -0.5, 0.5), atol=0.018)


@pytest.mark.parametrize("stochastic", [False, True])
def test_gradients_with_respect_to_signs_reach_the_floats_which_are_clipped(stochastic):
    w = RNG(0).standard_normal((5, 8)).astype(np.float32)
    form = Connected(w)
    form.H, form.stochastic = 0.5, stochastic
    form.project()
    np.testing.assert_array_equal(form.latent.data, np.clip(w, -0.5, 0.5))
    decoded = form.dense(training=True, rng=RNG(1))
    want = draw(np.clip(w, -0.5, 0.5), 0.5, rng=RNG(1)) if stochastic else np.where(w < 0, -.5, .5)
    np.testing.assert_array_equal(decoded.data, want)
    g = RNG(2).standard_normal((5, 8)).astype(np.float32)
    np.testing.assert_array_equal(form.pull_back(decoded, g)["latent"], g)
    np.testing.assert_array_equal(form.dense().data, np.where(w < 0, -0.5, 0.5))
    form.ends = "real"
    np.testing.assert_array_equal(form.dense().data, np.clip(w, -0.5, 0.5))


def test_without_training_it_is_the_projection_alone():
    model = net()
    made = BinaryConnect().training(epochs=0).apply(model, None, Run(None))
    for name in ("fc1.weight", "fc2.weight"):
        w, form = model.forms()[name].dense().data, made.forms()[name]
        assert type(form) is Binary
        np.testing.assert_array_equal(form.dense().data,
                                      np.float32(glorot(w.shape)) * np.where(w < 0, -1, 1))


def test_a_net_of_signs_learns_and_takes_a_bit_a_weight(tmp_path):
    made, _ = trained(epochs=30, real={"fc2": True})
    assert evaluate(made, data().val).error < 0.35, "of 2/3 by chance"
    assert type(made.forms()["fc2.weight"]) is Dense
    minicomp.save(made, tmp_path / "m.mcz")
    row = minicomp.show(tmp_path / "m.mcz").rows[0]
    assert row.form == "binary" and row.parts["values"] == 12 * 24 / 8


def test_a_drawn_net_is_the_same_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr("minicomp.train._splits", lambda model, batch_size: True)
    one, two = (trained(stochastic=True, ends="real", n_threads=n)[0] for n in (1, 2))
    for name, form in one.forms().items():
        np.testing.assert_allclose(form.dense().data, two.forms()[name].dense().data, atol=1e-6)
    other = trained(stochastic=True, ends="real", seed=4)[0].forms()["fc1.weight"].dense().data
    assert np.abs(other - one.forms()["fc1.weight"].dense().data).max() > 1e-3


def test_one_weight_is_drawn_a_step(watching):
    seen = []
    training = watching(BinaryConnect(stochastic=True).training(epochs=1, batch_size=20),
                        after_backward=lambda s: seen.append(s.weights["fc1.weight"].data.copy()))
    training.apply(net(), data(), Run(RNG(0)))
    H = np.float32(glorot((24, 12)))
    assert len(seen) == 4 and all(set(np.unique(w)) == {-H, H} for w in seen)
    assert all((a != b).any() for a, b in zip(seen, seen[1:]))


def test_rates_are_divided_by_glorots_number_to_a_power():
    def moved(power):
        made, _ = trained(lr_scale=power, ends="real", size="one", lr=1e-3, epochs=1, batch_size=80,
                          schedule="constant", momentum=0.0)
        return made.forms()["fc1.weight"].dense().data - net().forms()["fc1.weight"].dense().data

    h, once = glorot((24, 12)), moved(0)
    for power in (1, 2):
        np.testing.assert_allclose(moved(power), once * h**-power, rtol=1e-2, atol=1e-6)
    assert np.abs(once).max() > 1e-5


def test_the_squared_hinge_takes_the_place_of_cross_entropy():
    losses = [next(r["loss"] for r in trained(epochs=1, batch_size=80, loss=loss)[1]
                   if r["event"] == "epoch") for loss in ("cross-entropy", "squared-hinge")]
    forms = BinaryConnect().training(epochs=0).apply(net(), None, Run(None))
    z, y = forms(data().train.x).data, data().train.y
    t = np.where(np.arange(3) == y[:, None], 1, -1)
    assert losses[1] == pytest.approx(float((np.maximum(0, 1 - t * z) ** 2).mean()), rel=1e-5)
    assert losses[0] != losses[1]


def test_three_ways_have_the_errors_and_bytes_of_their_files(tmp_path):
    made, rows = trained(stochastic=True, ends="real", epochs=8)
    H = {name: glorot(made.forms()[name].shape) for name in ("fc1.weight", "fc2.weight")}
    real, signs, mean = ways(made, H, data().val, rng=RNG(0), draws=3)
    assert real.bytes == minicomp.save(made, tmp_path / "r.mcz")
    assert real.score == evaluate(made, data().val)
    only = trained(stochastic=True, epochs=8)[0]  # what it ends with is not what it trains by
    assert signs.bytes == minicomp.save(only, tmp_path / "s.mcz")
    assert signs.score.errors == evaluate(only, data().val).errors
    assert mean.bytes == pytest.approx(3 * signs.bytes, rel=0.02)
    rng, logits = RNG(0), 0.0
    for _ in range(3):
        for name, h in H.items():
            w = made.forms()[name].dense().data
            only.set_form(name, Dense(draw(w, h, rng=rng)))
        logits = logits + only(data().val.x).data / 3
    assert mean.score.loss == pytest.approx(cross_entropy(Tensor(logits), data().val.y).item(),
                                            rel=1e-5)
    with pytest.raises(KeyError):
        ways(made, {"fc9.weight": 1.0}, data().val, rng=RNG(0))
    told = [r["text"] for r in rows if r["event"] == "say"]
    assert len(told) == 1 and "real weights" in told[0] and f"({real.bytes:,} bytes)" in told[0]


def test_no_layer_left_is_refused():
    with pytest.raises(UserError, match="^binary-connect: real must leave a layer"):
        BinaryConnect(real=True).apply(net(), data(), Run(None))
