"""TWN, TTQ, BWN and ABC-Net: closed forms, gradients, what training with them does."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress import ABCNet, DeadUnits, Magnitude, Run, TTQ, TWN, XNORNet
from minicomp.compress.binary.abc_net import Bases, abc_alphas, abc_bases, abc_shifts, approximation
from minicomp.compress.binary.ttq import Learnt, ttq_codes, ttq_gradients, ttq_scales
from minicomp.compress.binary.training import with_mask_of
from minicomp.compress.binary.twn import twn, twn_alpha, twn_delta, twn_exact_delta
from minicomp.compress.binary.xnor_net import Scaled, bwn, bwn_gradient, bwn_scale
from minicomp.compress.technique import Pipeline
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.grid import ternary_codes
from minicomp.models import MLP
from minicomp.nn import Binary, Dense, Ternary
from minicomp.tensor import grad
from minicomp.train import evaluate

RNG = np.random.default_rng
EVERY = pytest.mark.parametrize("technique", [
    XNORNet(), XNORNet(gradient="printed"), ABCNet(bases=2), ABCNet(per="channel"), TWN(),
    TWN(per="channel", delta="exact"), TTQ()], ids=repr)


def data():
    # Three classes by three of twelve inputs.
    x = RNG(0).standard_normal((160, 12)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    return SimpleNamespace(train=Split(x[:80], y[:80]), val=Split(x[80:], y[80:]))


def net():
    return MLP([12, 24, 3], rng=RNG(1))


# ------------------------------------------------------------------------------------ closed forms


def test_ternary_weights_by_hand():
    w = np.array([1.0, -0.2, 0.5, -0.7, 0.1])  # mean |w| 0.5: Delta 0.35
    assert twn_delta(w) == pytest.approx(0.35)
    codes, alpha = twn(w)
    assert codes.tolist() == [1, 0, 1, -1, 0] and alpha == pytest.approx(2.2 / 3)
    assert twn_alpha(w, np.zeros(5)) == 1.0 and twn_delta(np.zeros(0)) == 0


def test_the_exact_threshold_is_the_best_of_all_and_the_mean_is_near():
    for seed in range(30):
        w = np.rint(3 * RNG(seed).standard_normal(7)) / 4 if seed % 2 else (
            RNG(seed).standard_normal(7))
        errors = [np.square(w - alpha * np.array(t)).sum()
                  for t in itertools.product((-1, 0, 1), repeat=7)
                  for alpha in [abs(w @ t) / max(np.abs(t).sum(), 1)]]
        codes, alpha = twn(w, exact=True)
        assert np.square(w - alpha * codes).sum() == pytest.approx(min(errors), abs=1e-12)
    w = RNG(0).standard_normal(20_000)
    best, mean = (np.square(w - a * q).sum() for q, a in (twn(w, exact=True), twn(w)))
    assert best <= mean < 1.02 * best
    assert twn_exact_delta(np.zeros(3)) == 0


def test_trained_scales_by_hand():
    w = np.array([1.0, -0.04, 0.5, -0.7, 0.05])
    codes = ttq_codes(w, 0.05)  # Delta 0.05, which is not above itself
    assert codes.tolist() == [1, 0, 1, -1, 0]
    assert ttq_scales(w, codes) == pytest.approx((0.75, 0.7))
    assert ttq_scales(w, np.abs(codes)) == pytest.approx((2.2 / 3, 2.2 / 3))
    g = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    dw, dp, dn = ttq_gradients(g, codes, 0.75, 0.7)
    assert dw.tolist() == pytest.approx([0.75, 2, 2.25, 2.8, 5]) and (dp, dn) == (4, -4)


def test_a_filters_scale_is_the_mean_size_and_no_other_is_nearer():
    w = RNG(0).standard_normal((4, 3, 3, 3))
    np.testing.assert_allclose(bwn_scale(w), np.abs(w).mean(axis=(1, 2, 3)))
    best = np.square(w - bwn(w)).sum(axis=(1, 2, 3))
    for factor in (0.9, 1.1):
        assert (np.square(w - factor * bwn(w)).sum(axis=(1, 2, 3)) > best).all()
    c = np.where(w < 0, -0.3, 0.3)
    np.testing.assert_allclose(bwn(c), c)


def test_the_gradient_of_a_scaled_sign_is_by_differences():
    # Of alpha(w) clip(w, -1, 1) with the signs as they are: what the straight-through rule stands
    # for. Its second factor is linear between -1 and 1.
    w, g = RNG(0).uniform(-1.5, 1.5, (3, 8)), RNG(1).standard_normal((3, 8))

    def loss(v):
        # alpha(v) sign(w) + alpha(w) clip(v)
        return (g * (np.abs(v).mean(axis=1, keepdims=True) * np.sign(w)
                     + bwn_scale(w)[:, None] * np.clip(v, -1, 1))).sum()

    h, want = 1e-6, np.zeros_like(w)
    for i in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[i] = h
        want[i] = (loss(w + step) - loss(w - step)) / (2 * h)
    np.testing.assert_allclose(bwn_gradient(g, w), want, rtol=1e-6, atol=1e-8)
    inside = bwn_scale(w)[:, None] * (np.abs(w) <= 1)
    np.testing.assert_allclose(bwn_gradient(g, w, gradient="printed"), g * (1 / 8 + inside))


def test_bases_and_their_regression():
    assert abc_shifts(1).tolist() == [0] and abc_shifts(3).tolist() == [-1, 0, 1]
    w = np.array([-2.0, 0.0, 1.0, 1.0])  # mean 0, std sqrt(3/2)
    assert abc_bases(w, 3).tolist() == [[-1, -1, -1, -1], [-1, 1, 1, 1], [-1, 1, 1, 1]]
    # 2/3 and 4/3, which two equal bases share
    np.testing.assert_allclose(abc_alphas(w, abc_bases(w, 3)), [2 / 3, 2 / 3, 2 / 3], atol=1e-12)
    moved = RNG(0).standard_normal(20)
    np.testing.assert_array_equal(abc_bases(3 * moved + 5, 4), abc_bases(moved, 4))
    errors = []
    for M in (1, 2, 3, 5, 8):
        w = RNG(M).standard_normal((6, 50))
        B = abc_bases(w, M)
        want = np.linalg.lstsq(B.reshape(M, -1).T, w.ravel(), rcond=None)[0]
        np.testing.assert_allclose(abc_alphas(w, B), want, atol=1e-10)
        errors.append(np.square(w - approximation(w, M)).mean())
    assert all(a > b for a, b in zip(errors, errors[1:]))  # of which all are near N(0, 1)


# ---------------------------------------------------------------------------------------- training


def test_the_forms_pull_back_as_the_formulas_say():
    w, g = RNG(0).standard_normal((5, 9)), RNG(1).standard_normal((5, 9))
    mask = RNG(2).random((5, 9)) < 0.7
    mask[3] = False
    for kept in (None, mask):
        form = Learnt(w, equal=False)
        form.scale.data[...] = [[0.8, 1.3]]
        form = form if kept is None else form.masked(kept)
        decoded = form.dense(training=True)
        visible = w if kept is None else np.where(kept, w, 0)
        codes, h = ttq_codes(visible, 0.05), g if kept is None else np.where(kept, g, 0)
        np.testing.assert_allclose(decoded.data, np.where(codes > 0, 0.8, -1.3 * (codes < 0)))
        dw, dp, dn = ttq_gradients(h, codes, 0.8, 1.3)
        pulled = form.pull_back(decoded, g)
        np.testing.assert_allclose(pulled["latent"], dw)
        np.testing.assert_allclose(pulled["scale"], [[dp, dn]])
        bases = Bases(w, True, 2)
        bases = bases if kept is None else bases.masked(kept)
        decoded = bases.dense(training=True)
        alphas = np.array([abc_alphas(r[k], abc_bases(r[k], 2)).sum() if k.any() else 2.0
                           for r, k in zip(w, bases.kept())])
        np.testing.assert_allclose(bases.pull_back(decoded, g)["latent"], h * alphas[:, None])
        scaled = Scaled(w, by_row=True)
        scaled = scaled if kept is None else scaled.masked(kept)
        t = scaled.parameters()["latent"]
        want = bwn_gradient(h, visible, mask=kept) * (1 if kept is None else kept)
        found = grad((scaled.dense(training=True) * g).sum(), t).data
        np.testing.assert_allclose(found * (1 if kept is None else kept), want, rtol=1e-12)


def test_hidden_weights_are_no_part_of_scales_and_go_on_training():
    w, g = RNG(0).standard_normal((5, 9)), RNG(1).standard_normal((5, 9))
    mask = RNG(2).random((5, 9)) < 0.6
    hidden = Dense(w).masked(mask, behind=True)
    visible = np.where(mask, w, 0)
    learnt = with_mask_of(hidden, TTQ(t=0.3).placed("fc", hidden))
    np.testing.assert_allclose(learnt.scale.data[0],
                               ttq_scales(visible, ttq_codes(visible, 0.3)), rtol=1e-6)
    near = with_mask_of(hidden, TWN().placed("fc", hidden))
    codes, alpha = twn(w[mask])
    np.testing.assert_allclose(near.dense().data[mask], alpha * codes, rtol=1e-6)
    scaled = with_mask_of(hidden, XNORNet(gradient="exact").placed("fc", hidden))
    decoded = scaled.dense(training=True)
    np.testing.assert_allclose(np.abs(decoded.data).sum(axis=1), np.abs(visible).sum(axis=1))
    pulled = scaled.pull_back(decoded, g)["latent"]
    np.testing.assert_allclose(pulled[mask], bwn_gradient(
        np.where(mask, g, 0), visible, mask=mask)[mask], rtol=1e-6)
    assert pulled[~mask].all() and XNORNet(gradient="printed").placed("fc", hidden).gradient == (
        "printed")


def test_scales_move_at_a_rate_of_their_own():
    def moved(factor):
        made = TTQ(scale_lr=factor).training(epochs=1, batch_size=80, momentum=0.0).apply(
            net(), data(), Run(RNG(0)))
        start = TTQ().training(epochs=0).apply(net(), None, Run(None))
        return [m.forms()["fc1.weight"].scale.data for m in (made, start)]

    (once, start), (tenth, _) = moved(1.0), moved(0.1)
    np.testing.assert_allclose(once - start, 10 * (tenth - start), rtol=1e-2)
    assert (once != start).all()


@EVERY
def test_without_training_it_is_the_projection_alone(technique):
    model = net()
    made = technique.training(epochs=0).apply(model, None, Run(None))
    w, form = model.forms()["fc1.weight"].dense().data, made.forms()["fc1.weight"]
    want = {
        "xnor-net": bwn, "ttq": lambda w: _ttq(w),
        "abc-net": lambda w: (approximation(w, 2) if technique.bases == 2 else
                              np.stack([approximation(row, 3) for row in w])),
        "twn": lambda w: (np.stack([_twn(row, True) for row in w]) if technique.per == "channel"
                          else _twn(w, False)),
    }[technique.word](w)
    np.testing.assert_allclose(form.dense().data, want, rtol=1e-5, atol=1e-7)
    assert type(form) is (Ternary if technique.word in ("twn", "ttq") else Binary)


def _twn(w, exact):
    codes, alpha = twn(w, exact=exact)
    return alpha * codes


def _ttq(w):
    codes = ternary_codes(w, 0.05 * np.abs(w).max())
    Wp, Wn = ttq_scales(w, codes)
    return np.where(codes > 0, Wp, -Wn * (codes < 0))


@EVERY
def test_a_net_trained_so_learns_and_keeps_its_mask(technique):
    model = Magnitude(sparsity={"fc1": 0.5, "fc2": 0.0}).apply(net(), data(), Run(None))
    training = technique.training(epochs=30, lr=0.1, batch_size=20)
    made = training.apply(model, data(), Run(RNG(2)))
    form = made.forms()["fc1.weight"]
    w = form.dense().data
    assert not w[~model.forms()["fc1.weight"].mask].any() and w.any()
    once = technique.training(epochs=0).apply(model, None, Run(None))
    after, before = (evaluate(m, data().train) for m in (made, once))
    assert after.error < 0.35 < before.error and after.loss < 0.8 * before.loss
    if technique.word == "ttq":
        assert form.scale.data[0, 0] != form.scale.data[0, 1]


@EVERY
def test_a_filter_of_zeros_has_no_scale_and_is_refused_by_name(technique):
    model = net()
    by_row = technique.word == "xnor-net" or technique.per == "channel" if (
        technique.word != "ttq") else False
    w = model.forms()["fc1.weight"].value.data
    w[slice(3, 4) if by_row else slice(None)] = 0
    what = "filter 3 holds" if by_row else "it holds"
    with pytest.raises(UserError, match=f"^{technique.word}: fc1.weight must have a weight that is "
                                        f"not 0 .*, but {what} zeros alone"):
        technique.training(epochs=1).apply(model, data(), Run(RNG(0)))
    if by_row:
        alive = Pipeline(steps=(DeadUnits(), technique.training(epochs=0)))
        assert alive.apply(model, data(), Run(RNG(0))).shapes()["fc1"] == (23,)


def test_the_exact_threshold_of_uniform_and_of_normal_weights():
    # Uniform in -1..1: (sum above)^2 / count ~ (1 - d)(1 + d)^2, largest at 1/3, 2/3 of the mean.
    # Of normal ones it is near 0.6 of the deviation, 3/4 of the mean; the optimum is flat.
    n = np.arange(1, 4001)
    assert twn_exact_delta(n / 4000) == pytest.approx(1 / 3, abs=1e-3)
    normal = RNG(0).standard_normal(200_000)
    assert twn_exact_delta(normal) == pytest.approx(0.6, abs=0.03)
    assert twn_exact_delta(normal) / np.abs(normal).mean() == pytest.approx(0.75, abs=0.04)
