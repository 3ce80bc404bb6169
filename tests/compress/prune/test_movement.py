"""Movement pruning: score, gradient through the mask, schedule, and the claim on a changed task."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit as sigmoid

from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.gradual import Gradual
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.movement import (
    Movement,
    MovementScore,
    Scores,
    movement_scores,
    movement_step,
    penalty_gradient,
)
from minicomp.compress.scores import smallest_mask
from minicomp.compress.schedule import agp_sparsity
from minicomp.compress.technique import Run, weights
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn.forms import Codebook, Half
from minicomp.train import evaluate


def toy(seed=0, n=240, d=8, used=slice(0, 2)):
    # Two classes by the sum of the inputs `used`.
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    split = Split(x, (x[:, used].sum(axis=1) > 0).astype(np.int64))
    return SimpleNamespace(train=split, val=split,
                           calibration=lambda k, rng: split.take(rng.choice(n, k, replace=False)))


def zeros(model):
    return {n: int((~model.forms()[n].mask).sum()) for n in weights(model).values()}


def run(model, data, seed=0, *, train=None, **knobs):
    extra = {k: knobs.pop(k) for k in ("log", "checkpoint", "n_threads") if k in knobs}
    training = Movement(**knobs).training(**train or {})
    return training.apply(model, data, Run(np.random.default_rng(seed), **extra))


@pytest.fixture
def finished(monkeypatch):
    # The hook of every training and the forms as it leaves them, while their masks are behind.
    seen, hooks_of = [], Movement.hooks

    def hooks(self, model, data, run):
        made = hooks_of(self, model, data, run)
        seen.append((made[0], model.forms()))
        return made
    monkeypatch.setattr(Movement, "hooks", hooks)
    return seen


# --------------------------------------------------------------------------------------- by hand


def test_a_weight_that_moves_away_from_0_gains():
    # A step of descent on g moves w by -g: up for g < 0.
    # Away from 0: (w > 0, g < 0), (w < 0, g > 0).
    w, g = np.array([1.0, 1.0, -2.0, -2.0, 5.0]), np.array([-3.0, 3.0, 1.0, -1.0, 0.0])
    s = movement_step(np.full(5, 0.5), w, g, 0.1)
    np.testing.assert_allclose(s, [0.8, 0.2, 0.7, 0.3, 0.5])
    assert movement_step(np.zeros(2, np.float32), w[:2], g[:2], 0.1).dtype == np.float32


def test_scores_are_the_sum_over_the_steps():
    w, g = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([[-1.0, 1.0], [2.0, 3.0]])
    np.testing.assert_allclose(movement_scores(w, g, 2.0), [-2 * (-1 + 1), -2 * (2 - 3)])
    s = np.zeros(2)
    for each in zip(w, g):
        s = movement_step(s, *each, 2.0)
    np.testing.assert_allclose(movement_scores(w, g, 2.0), s)


def test_the_penaltys_gradient_by_differences():
    s, h = np.array([-30.0, -2.0, 0.0, 0.7, 30.0]), 1e-5
    np.testing.assert_allclose(
        penalty_gradient(s, 3.0), 3 * (sigmoid(s + h) - sigmoid(s - h)) / (2 * h), atol=1e-9
    )
    np.testing.assert_allclose(sigmoid(np.array([0.0, np.log(3)])), [0.5, 0.75])
    assert sigmoid(np.array([-np.inf, -1e4, 1e4])).tolist() == [0, 0, 1]


def test_the_ramp_lies_between_warm_up_and_cool_down():
    t0, n, dt = Movement(sparsity=0.8, warmup=0.1, cooldown=0.3, prunings=6).ramp_steps(100)
    assert (t0, n, dt) == (10, 6, 10)
    scores = Scores(Movement(sparsity=0.8, warmup=0.1, cooldown=0.3, prunings=6), MLP([2, 2]))
    parts = [scores.part(SimpleNamespace(steps=100), t) for t in (0, 10, 40, 70, 100)]
    assert scores.settled(100) == 70
    np.testing.assert_allclose(parts, [0, 0, 1 - 0.5**3, 1, 1])
    for steps in range(1, 30):
        t0, n, dt = Movement(warmup=0.4, cooldown=0.5, prunings=7).ramp_steps(steps)
        assert n >= 1 and dt >= 1 and t0 + n * dt <= steps


# --------------------------------------------------------------- the whole of it beside plain loops


def reference(W1, b1, W2, b2, x, y, *, lr, momentum, steps, sparsity, t0, n, dt):
    # Full batches, float64, every entry by itself; masks are set after steps t0, t0 + dt, ...
    params = [a.astype(np.float64) for a in (W1, b1, W2, b2)]
    v, S = [np.zeros_like(p) for p in params], [
        np.zeros_like(W1, np.float64), np.zeros_like(W2, np.float64)
    ]
    M, taken = [np.ones(W1.shape, bool), np.ones(W2.shape, bool)], []
    for t in range(steps):
        A1, A2 = params[0] * M[0], params[2] * M[1]
        pre = x @ A1.T + params[1]
        hidden = np.maximum(pre, 0)
        z = hidden @ A2.T + params[3]
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        dz = p.copy()
        dz[np.arange(len(y)), y] -= 1
        dz /= len(y)
        G2, db2 = dz.T @ hidden, dz.sum(axis=0)
        dh = (dz @ A2) * (pre > 0)
        G1, db1 = dh.T @ x, dh.sum(axis=0)
        for s, w, g in ((S[0], params[0], G1), (S[1], params[2], G2)):
            for i in np.ndindex(s.shape):
                s[i] -= g[i] * w[i]                      # straight through: masked entries too
        for p_, v_, g in zip(params, v, (G1 * M[0], db1, G2 * M[1], db2)):
            v_ *= momentum
            v_ += g
            p_[...] -= lr * v_
        if t + 1 >= t0 and (t + 1 - t0) % dt == 0:
            s_t = agp_sparsity(t + 1, s_i=0, s_f=sparsity, t0=t0, n=n, dt=dt)
            M = [smallest_mask(s, s_t) for s in S]
            taken.append([m.copy() for m in M])
    return params, M, S, taken


def test_the_whole_training_agrees_with_plain_loops(finished):
    data, model = toy(n=60), MLP([8, 7, 2], rng=np.random.default_rng(1))
    knobs = {"sparsity": 0.6, "warmup": 0.1, "cooldown": 0.4, "prunings": 5}
    train = {"epochs": 40, "lr": 0.1, "batch_size": 60, "schedule": "constant"}
    start = [
        model.forms()[k].value.data.copy()
        for k in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
    ]
    t0, n, dt = Movement(**knobs).ramp_steps(40)
    params, M, S, taken = reference(
        *start, data.train.x, data.train.y, lr=0.1, momentum=0.9, steps=40, sparsity=0.6,
        t0=t0, n=n, dt=dt,
    )
    made = run(model, data, train=train, **knobs)
    for name, w, m, s in zip(("fc1.weight", "fc2.weight"), (params[0], params[2]), M, S):
        score = finished[0][0].slots[f"score.{name}"]
        np.testing.assert_array_equal(made.forms()[name].mask, m)
        np.testing.assert_allclose(made.forms()[name].dense().data, w * m, atol=2e-5)
        np.testing.assert_allclose(score, 1000 * s, atol=2e-3 * np.abs(1000 * s).max())  # lr_scores
    np.testing.assert_allclose(made.forms()["fc1.bias"].dense().data, params[1], atol=2e-5)
    back = sum(int((~a[k] & b[k]).sum()) for a, b in zip(taken, taken[1:]) for k in (0, 1))
    assert back > 0, "a masked weight came back"
    assert (taken[-1][0] != taken[5][0]).any(), "the mask follows the scores in the cool-down"


# ------------------------------------------------------------------------------------- invariants


@given(
    st.floats(0, 0.95),
    st.sampled_from(["local", "global"]),
    st.integers(0, 2),
    st.integers(0, 2**32 - 1),
)
def test_exactly_the_fraction_is_zero(s, scope, epochs, seed):
    model = MLP([8, 9, 2], rng=np.random.default_rng(seed))
    made = run(model, toy(), sparsity=s, scope=scope, train={"epochs": epochs, "batch_size": 60})
    z = zeros(made)
    assert (
        sum(z.values()) == round(s * 90)
        if scope == "global"
        else list(z.values()) == [round(s * 72), round(s * 18)]
    )
    for name in z:
        form = made.forms()[name]
        assert form.kind == "dense" and (form.dense().data[~form.mask] == 0).all()


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("variant", ["hard", "soft"])
@pytest.mark.parametrize("first, s", [(0.6, 0.0), (0.6, 0.3), (0.3, 0.6), (0.5, 0.5)])
def test_what_was_pruned_stays_pruned_and_counts(first, s, variant, scope):
    model = Magnitude(sparsity=first).apply(
        MLP([8, 9, 2], rng=np.random.default_rng(2)), None, Run(None)
    )
    made = run(model, toy(), sparsity=s, scope=scope, variant=variant,
               train={"epochs": 2, "batch_size": 40, "weight_decay": 0.01})
    for name, count in zeros(made).items():
        assert not (made.forms()[name].mask & ~model.forms()[name].mask).any()
        size, had = made.forms()[name].mask.size, int((~model.forms()[name].mask).sum())
        if variant == "hard" and scope == "local":
            assert count == max(round(s * size), had)
    if variant == "hard" and scope == "global":
        assert sum(zeros(made).values()) == max(round(s * 90), sum(zeros(model).values()))


def scored(technique, shape):
    # A net of one layer whose weight is scored, and a state of its training at the end of the ramp.
    model = MLP(shape, rng=np.random.default_rng(0))
    scores = Scores(technique, model)
    state = SimpleNamespace(model=model, step=90, steps=100, weight_grads={})
    return scores, state, model.forms()["fc1.weight"]


def test_only_kept_weights_learn_and_every_score_moves():
    scores, state, form = scored(Movement(sparsity=0.5, lr_scores=2.0), [3, 2])
    form.remask(np.array([[True, False, True], [False, True, True]]))
    w, g = form.values().copy(), np.float32([[1, 2, 3], [4, 5, 6]])
    state.weight_grads = {"fc1.weight": g, "fc1.bias": np.ones(2, np.float32)}
    scores.after_backward(state)
    np.testing.assert_array_equal(state.weight_grads["fc1.weight"], g * form.mask)
    np.testing.assert_array_equal(state.weight_grads["fc1.bias"], 1)
    np.testing.assert_allclose(scores.slots["score.fc1.weight"], -2 * g * w)
    np.testing.assert_array_equal(form.dense().data, np.where(form.mask, w, 0))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adamax"])
def test_zeros_stay_zero_under_momentum_and_decay(optimizer):
    model, data = MLP([8, 9, 2], rng=np.random.default_rng(3)), toy()
    train = {"optimizer": optimizer, "weight_decay": 0.1, "lr": 0.05, "batch_size": 40}
    made = run(model, data, sparsity=0.7, train={"epochs": 2, "nesterov": True, **train})
    later = FineTune(epochs=2, **train).apply(made, data, Run(np.random.default_rng(1)))
    for name in zeros(made):
        gone = ~made.forms()[name].mask
        assert (later.forms()[name].dense().data[gone] == 0).all()
        assert (
            later.forms()[name].dense().data[~gone] != made.forms()[name].dense().data[~gone]
        ).any()


def test_threads_change_nothing_but_rounding():
    model, data = MLP([8, 400, 2], rng=np.random.default_rng(3)), toy(n=24000)
    one, two = (
        run(model, data, sparsity=0.7, train={"epochs": 1, "batch_size": 12000}, n_threads=k)
        for k in (1, 2)
    )
    for name in zeros(one):
        differ = (one.forms()[name].mask != two.forms()[name].mask).mean()
        assert differ < 0.01


def test_the_best_epoch_is_one_at_the_final_sparsity():
    # 4 epochs; the ramp ends with the third.
    model, data = MLP([8, 9, 2], rng=np.random.default_rng(4)), toy()
    made = run(
        model, data, sparsity=0.9, cooldown=0.25,
        train={"epochs": 4, "batch_size": 40, "keep_best": True},
    )
    assert zeros(made) == {"fc1.weight": 65, "fc2.weight": 16}


def test_a_form_keeps_its_kind():
    model = MLP([8, 9, 2], rng=np.random.default_rng(6))
    model.set_form("fc1.weight", Half(model.forms()["fc1.weight"].value.data))
    made = run(model, toy(), sparsity=0.5, train={"epochs": 1})
    assert [made.forms()[n].kind for n in ("fc1.weight", "fc2.weight")] == ["half", "dense"]
    assert not any(form.behind or form.trainable for form in made.forms().values())


def test_a_sketch_has_as_many_zeros():
    model = MLP([8, 9, 2], rng=np.random.default_rng(7))
    technique = Movement(sparsity={"fc1": 0.5, "fc2": 0.25})
    assert zeros(technique.sketch(model, rng=None)) == {"fc1.weight": 36, "fc2.weight": 4}


# ------------------------------------------------------------------------------------------- soft


def test_soft_masks_are_by_threshold_and_a_larger_penalty_masks_more(finished):
    model, data, counts = MLP([8, 9, 2], rng=np.random.default_rng(8)), toy(), []
    for penalty in (0.0, 0.002, 0.01):
        made = run(
            model, data, variant="soft", penalty=penalty, lr_scores=100.0, warmup=0.0,
            cooldown=0.4, threshold=0.2, prunings=12,
            train={"epochs": 10, "lr": 0.05, "batch_size": 40},
        )
        counts.append(sum(zeros(made).values()))
    assert counts[0] < counts[1] < counts[2] < 90
    # 60 steps; the last mask is set after the last of them, at tau = 0.2
    held = 0
    for hook, forms in finished:
        for name, form in forms.items():
            kept = sigmoid(hook.slots.get(f"score.{name}", np.zeros(1))) > 0.2
            if name in hook.allowed and kept.any():
                np.testing.assert_array_equal(form.mask, kept)
                held += 1
    assert held >= 4


def test_soft_threshold_and_penalty_rise_with_the_part_of_the_ramp():
    technique = Movement(
        variant="soft", threshold=0.4, penalty=2.0, lr_scores=0.5, warmup=0.0, cooldown=0.0,
        prunings=10,
    )
    scores, state, form = scored(technique, [3, 1])
    score = scores.slots["score.fc1.weight"]
    score[...] = np.log([[0.1 / 0.9, 0.3 / 0.7, 0.5 / 0.5]])  # sigmoid(S) = .1, .3, .5
    for part, kept in ((0.0, [1, 1, 1]), (0.5, [0, 1, 1]), (1.0, [0, 0, 1])):
        scores.remask(state.model, part)
        np.testing.assert_array_equal(form.mask, [np.array(kept, bool)])
    before = score.copy()
    state.step, state.steps = 50, 100  # half of the ramp: 1 - 0.5^3 of the penalty
    state.weight_grads = {"fc1.weight": np.zeros((1, 3), np.float32)}
    scores.after_backward(state)
    np.testing.assert_allclose(score, before - 0.5 * 0.875 * 2.0 * np.array([[0.09, 0.21, 0.25]]))


def test_soft_does_not_mask_the_last_weights_of_a_layer():
    scores, state, form = scored(Movement(variant="soft"), [3, 2])
    form.remask(np.array([[True, False, True], [False, True, True]]))
    scores.slots["score.fc1.weight"][...] = -50.0
    scores.remask(state.model, 1.0)
    np.testing.assert_array_equal(form.mask, [[True, False, True], [False, True, True]])


# ---------------------------------------------------------------------------------------- the claim


def test_on_a_changed_task_movement_keeps_what_magnitude_drops():
    # The first task reads inputs 0..9, the second 10..19: of the large weights none is of use.
    rng = np.random.default_rng(9)
    first, second = toy(d=20, used=slice(0, 10), n=600), toy(1, d=20, used=slice(10, 20), n=600)
    model = FineTune(epochs=20, lr=0.1, batch_size=50).apply(MLP([20, 2], rng=rng), first, Run(rng))
    train = {"epochs": 6, "lr": 0.003, "batch_size": 50}
    moved = run(model, second, sparsity=0.5, train=train)
    large = (
        Gradual(ramp=0.7, sparsity=0.5)
        .training(**train)
        .apply(model, second, Run(np.random.default_rng(0)))
    )
    by_movement, by_size = (m.forms()["fc1.weight"].mask for m in (moved, large))
    assert by_movement[:, 10:].mean() > 0.9 and by_size[:, 10:].mean() < 0.2
    assert evaluate(moved, second.val).error < 0.6 * evaluate(large, second.val).error


# ---------------------------------------------------------------------------- the criterion alone


def test_the_criterion_is_the_score_of_a_short_training(bits):
    # One batch an epoch, so that the loops above are its reference; nothing is masked.
    data, model = toy(n=60), MLP([8, 7, 2], rng=np.random.default_rng(1))
    start = [
        model.forms()[k].value.data.copy()
        for k in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
    ]
    criterion = MovementScore(samples=1000, epochs=1, lr=0.1, batch_size=60)
    S = reference(
        *start, data.train.x, data.train.y, lr=0.1, momentum=0.9, steps=1, sparsity=0.0,
        t0=9, n=1, dt=1,
    )[2]
    given = bits(model)
    found = criterion.scores(model, data, Run(np.random.default_rng(0)))
    assert bits(model) == given and model.forms()["fc1.weight"].mask is None
    for s, node in zip(S, ("fc1", "fc2")):
        np.testing.assert_allclose(found[node], 1000 * s, atol=1e-4 * np.abs(1000 * s).max())
    before = bits(model)
    pruned = criterion.__class__(sparsity=0.5, samples=30).apply(
        model, data, Run(np.random.default_rng(0))
    )
    assert bits(model) == before and sum(zeros(pruned).values()) == round(0.5 * 70)


def test_the_criterion_trains_on_as_many_threads_as_it_is_given(monkeypatch):
    threads, fit = [], FineTune.fit

    def spy(self, model, data, run, hooks=()):
        threads.append(run.n_threads)
        return fit(self, model, data, run, hooks)

    monkeypatch.setattr(FineTune, "fit", spy)
    model = MLP([8, 7, 2], rng=np.random.default_rng(1))
    MovementScore().scores(model, toy(n=60), Run(np.random.default_rng(0), n_threads=2))
    assert threads == [2]


# ----------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("knobs, message", [
    (
        {"sparsity": {"fc1": 0.5}, "scope": "global"},
        "scope global needs one sparsity for all layers",
    ),
    (
        {"warmup": 0.5, "cooldown": 0.5},
        r"warmup and cooldown must leave part of .* to the ramp, got 0.5 \+ 0.5",
    ),
])
def test_wrong_knobs(knobs, message):
    with pytest.raises(UserError, match=message):
        Movement(**knobs)


def test_what_a_model_does_not_allow():
    model = MLP([8, 9, 2], rng=np.random.default_rng(0))
    shared = model.copy()
    shared.set_form("fc1.weight", Codebook(np.zeros((9, 8), int), [0.0, 1.0], pinned_zero=True))
    with pytest.raises(
        UserError,
        match="movement: fc1.weight must hold plain values.* got a codebook; prune before sharing",
    ):
        run(shared, toy())
    with pytest.raises(UserError, match="movement: fc1.weight must hold plain values"):
        MovementScore().apply(shared, toy(), Run(np.random.default_rng(0)))
    model.forms()["fc1.weight"].value.data[0, 0] = np.nan
    with pytest.raises(UserError, match="movement: fc1.weight must hold finite numbers"):
        run(model, toy())
