"""Group lasso: the proximal step, what becomes 0, and that its removal changes nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.channels.groups import groups
from minicomp.compress.prune.group_lasso import (
    GroupLasso,
    Proximal,
    group_prox,
    survivors,
    unit_norms,
)
from minicomp.compress.technique import Run
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP, MODELS
from minicomp.nn import Add, Conv2d, Dense, Flatten, Linear, Model, Node, ReLU, Sigmoid, chain
from minicomp.nn.forms import Codebook
from minicomp.nn.init import he_normal
from minicomp.optim import OPTIMIZERS
from minicomp.train import evaluate


def toy(n=400):
    # Three informative inputs of ten.
    x = np.random.default_rng(0).standard_normal((n, 10)).astype(np.float32)
    y, half = np.argmax(x[:, :3], axis=1), n // 2
    return SimpleNamespace(
        train=Split(x[:half], y[:half]), val=Split(x[half:], y[half:])
    )


def drawn(nodes, shape, rng):
    model = Model(nodes, input_shape=shape)
    for name, form in model.forms().items():
        model.set_form(name, Dense(he_normal(form.shape, rng=rng) if len(form.shape) > 1 else
                                   rng.standard_normal(form.shape).astype(np.float32)))
    return model


def residual(rng):
    # fc1 and fc3 are added, so their units are the same ones.
    nodes = chain(
        ("fc1", Linear(10, 8)), ("relu1", ReLU()),
        ("fc2", Linear(8, 7)), ("relu2", ReLU()),
        ("fc3", Linear(7, 8)),
    )
    nodes += (Node("add", Add(), ("relu1", "fc3")), Node("relu3", ReLU(), ("add",)),
              Node("fc4", Linear(8, 3), ("relu3",)))
    return drawn(nodes, (10,), rng)


def padded(rng):
    nodes = chain(
        ("conv1", Conv2d(1, 6, 3, padding=1)), ("relu1", ReLU()),
        ("conv2", Conv2d(6, 5, 3, padding=1)), ("relu2", ReLU()),
        ("flat", Flatten()), ("fc", Linear(5 * 36, 3)),
    )
    return drawn(nodes, (1, 6, 6), rng)


def shrink(technique, model, found, rate):
    # The hook's step after one of an optimizer with this learning rate and no momentum.
    optimizer = SimpleNamespace(momentum=0.0, rate=lambda name: rate)
    Proximal(technique, found).after_step(SimpleNamespace(model=model, optimizer=optimizer))


# -------------------------------------------------------------------------------- the proximal step


def test_the_step_by_hand():
    # |(3, 4)| = 5 shrinks by 2 to 3; |(1, 0)| = 1 and |(0, 0)| become 0.
    np.testing.assert_allclose(group_prox(np.array([5.0, 1.0, 2.0, 0.0]), 2.0), [0.6, 0, 0, 0])
    np.testing.assert_array_equal(group_prox(np.array([5.0, 0.0]), 0.0), [1, 0])


@given(st.integers(1, 8), st.floats(0, 3), st.integers(0, 2**32 - 1))
def test_nothing_near_is_better_than_the_proximal_step(n, t, seed):
    # The objective is convex: a minimum among all near it is the minimum.
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(n)

    def cost(x):
        return 0.5 * np.square(x - w).sum(axis=-1) + t * np.linalg.norm(x, axis=-1)
    best = w * group_prox(np.array([np.linalg.norm(w)]), t)
    for size in (1e-3, 0.1, 1.0):
        assert (cost(best + size * rng.standard_normal((300, n))) >= cost(best) - 1e-12).all()
    assert cost(best) <= min(cost(w), cost(np.zeros(n))) + 1e-12


@given(st.lists(st.floats(0, 10), min_size=1, max_size=9), st.floats(0, 5), st.floats(0, 5))
def test_norms_fall_by_t_stop_at_0_and_two_steps_are_one(norms, s, t):
    norms = np.array(norms)
    once = norms * group_prox(norms, t)
    np.testing.assert_allclose(once, np.maximum(norms - t, 0), atol=1e-12)
    twice = once * group_prox(once, s)
    np.testing.assert_allclose(twice, norms * group_prox(norms, s + t), atol=1e-12)


def test_units_are_measured_with_their_bias_over_all_tied_layers():
    model = residual(np.random.default_rng(1))
    tied, alone = sorted(groups(model), key=lambda g: -len(g.nodes))
    value = {name: form.value.data for name, form in model.forms().items()}
    parts = [
        np.concatenate([value[f"{n}.weight"], value[f"{n}.bias"][:, None]], 1)
        for n in ("fc1", "fc3", "fc2")
    ]
    np.testing.assert_allclose(
        unit_norms(model, tied), np.linalg.norm(np.concatenate(parts[:2], 1), axis=1), rtol=1e-6
    )
    np.testing.assert_allclose(
        unit_norms(model, alone), np.linalg.norm(parts[2], axis=1), rtol=1e-6
    )


def test_a_step_shrinks_every_layer_of_a_group_alike_and_no_other():
    model = residual(np.random.default_rng(2))
    before = {n: f.value.data.copy() for n, f in model.forms().items()}
    technique = GroupLasso(lam={"fc[13]": 3.0, "fc2": 0.0})
    shrink(technique, model, technique.found(model), 0.5)
    norms = np.sqrt(
        sum(
            np.square(before[f"fc{i}.weight"]).sum(1) + before[f"fc{i}.bias"] ** 2 for i in (1, 3)
        )
    )
    factor = np.maximum(0, 1 - 1.5 / norms)
    assert (factor > 0).any()
    for i in (1, 3):
        np.testing.assert_allclose(
            model.forms()[f"fc{i}.weight"].value.data,
            before[f"fc{i}.weight"] * factor[:, None],
            atol=1e-6,
        )
        np.testing.assert_allclose(
            model.forms()[f"fc{i}.bias"].value.data, before[f"fc{i}.bias"] * factor, atol=1e-6
        )
    for name in ("fc2.weight", "fc2.bias", "fc4.weight", "fc4.bias"):
        np.testing.assert_array_equal(model.forms()[name].value.data, before[name])


# ------------------------------------------------------------------------------------------ removal


@pytest.mark.parametrize(
    "make", [residual, padded, lambda rng: MLP([10, 9, 7, 3], rng=rng, activation=Sigmoid)]
)
def test_removing_what_is_0_changes_no_output(make):
    rng = np.random.default_rng(3)
    model = make(rng)
    technique = GroupLasso(lam=1.0)
    found = technique.found(model)
    for group in found:  # about half of the units of each group become 0
        technique = GroupLasso(lam=float(np.median(unit_norms(model, group))))
        shrink(technique, model, [group], 1.0)
    zero = {g.name: int((unit_norms(model, g) == 0).sum()) for g in found}
    assert all(0 < z < g.size for g, z in zip(found, zero.values()))
    data = SimpleNamespace(
        train=Split(np.zeros((1, *model.input_shape), np.float32), np.zeros(1, np.int64)),
    )
    rows = []
    small = GroupLasso().training(epochs=0).apply(model, data, Run(rng, log=rows.append))
    assert (
        rows[-1]["units"] == zero
        and small.count() == model.count() - rows[-1]["weights"] < model.count()
    )
    x = rng.standard_normal((30, *model.input_shape)).astype(np.float32)
    np.testing.assert_allclose(small(x).data, model(x).data, atol=1e-5)


def test_units_that_a_shuffle_or_groups_hold_stay(built_in):
    for name in MODELS:
        model = built_in(name, rng=np.random.default_rng(4))
        for group in groups(model):
            node = group.nodes[0]
            model.forms()[f"{node}.weight"].value.data[0] = 0
            if f"{node}.bias" in model.forms():
                model.forms()[f"{node}.bias"].value.data[0] = 0
            kept = survivors(model, group)
            assert (~kept <= (unit_norms(model, group) == 0)).all()


# ---------------------------------------------------------------------------------------- training


def test_the_penalty_removes_units_and_none_go_without_it(bits):
    rng = np.random.default_rng(5)
    model, data = MLP([10, 24, 16, 3], rng=rng), toy()
    before = bits(model)
    knobs = {"epochs": 40, "lr": 0.05, "batch_size": 50}
    plain, slim = (
        GroupLasso(lam=lam).training(**knobs).apply(model, data, Run(np.random.default_rng(0)))
        for lam in (0.0, 0.06)
    )
    assert bits(model) == before and plain.shapes()["fc1"] == (24,)
    units = [slim.shapes()[n][0] for n in ("fc1", "fc2")]
    assert 2 <= min(units) and sum(units) <= 20, units
    a, b = evaluate(slim, data.val).error, evaluate(plain, data.val).error
    assert a <= b + 0.01 and a < 0.1, (a, b)


def test_lam_means_the_same_under_any_momentum():
    # The shrink of a step, as the norms lose it: with momentum m it is lr lam / (1 - m).
    model, data = MLP([10, 24, 3], rng=np.random.default_rng(6)), toy()
    for form in model.forms().values():
        form.value.data[:] += 1.0
    model.forms()["fc2.weight"].value.data[:] = 0  # so that fc1 has no gradient in the first step
    norms = unit_norms(model, groups(model)[0])
    for knobs, step in (
        ({"momentum": 0.0}, 0.1),
        ({"momentum": 0.75}, 0.4),
        ({"optimizer": "adam"}, 0.1),
    ):
        training = GroupLasso(lam=0.2).training(
            epochs=1, lr=0.5, batch_size=200, schedule="constant", **knobs
        )
        small = training.apply(model, data, Run(np.random.default_rng(0)))
        np.testing.assert_allclose(unit_norms(small, groups(small)[0]), norms - step, rtol=1e-4)


def test_more_penalty_leaves_fewer_units():
    model, data = MLP([10, 24, 16, 3], rng=np.random.default_rng(5)), toy()
    counts = [
        GroupLasso(lam=lam)
        .training(epochs=40, lr=0.05, batch_size=50)
        .apply(model, data, Run(np.random.default_rng(0)))
        .count()
        for lam in (0.01, 0.03, 0.06)
    ]
    assert counts[0] > counts[1] > counts[2]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_any_optimizer_with_momentum_and_decay_ends_with_exact_zeros(optimizer):
    model, data = MLP([10, 24, 3], rng=np.random.default_rng(6)), toy()
    lr, lam = (0.05, 0.08) if optimizer == "sgd" else (0.01, 2.5)
    small = (
        GroupLasso(lam=lam)
        .training(epochs=30, lr=lr, optimizer=optimizer, weight_decay=1e-3, batch_size=50)
        .apply(model, data, Run(np.random.default_rng(0)))
    )
    assert 1 <= small.shapes()["fc1"][0] < 20
    assert (unit_norms(small, groups(small)[0]) > 0).all()


# ---------------------------------------------------------------------------------------- mistakes


def test_mistakes_are_one_clear_error():
    model, data, rng = (
        MLP([10, 9, 3], rng=np.random.default_rng(0)), toy(), np.random.default_rng(0)
    )
    with pytest.raises(
        UserError, match="group-lasso: lam 1000 leaves none of the 9 units of fc1; a smaller one"
    ):
        GroupLasso(lam=1000.0).apply(model, data, Run(rng))
    with pytest.raises(
        UserError, match="group-lasso: lam@fc2 matches no layer whose channels can be removed"
    ):
        GroupLasso(lam={"fc2": 0.1}).apply(model, data, Run(rng))
    with pytest.raises(
        UserError, match="group-lasso: the model has no layer whose channels can be removed"
    ):
        GroupLasso().apply(MLP([10, 3]), data, Run(rng))
    with pytest.raises(UserError, match="lam must be one value for the layers tied together"):
        GroupLasso(lam={"fc1": 0.1, "fc3": 0.2}).apply(residual(rng), data, Run(rng))
    shared = model.copy()
    shared.set_form("fc1.weight", Codebook(np.ones((9, 10), int), [0.0, 1.0], pinned_zero=True))
    with pytest.raises(
        UserError, match="group-lasso: fc1.weight must hold plain values.* got a codebook"
    ):
        GroupLasso().apply(shared, data, Run(rng))
    model.forms()["fc1.weight"].value.data[0, 0] = np.nan
    with pytest.raises(UserError, match="group-lasso: fc1.weight must hold finite numbers"):
        GroupLasso().apply(model, data, Run(rng))


def test_a_group_steps_by_its_own_rate():
    # Of two layers the slow one shrinks by its own rate, not by the largest.
    model = MLP([10, 6, 5, 3], rng=np.random.default_rng(3))
    before = {g.name: unit_norms(model, g) for g in groups(model)}
    optimizer = OPTIMIZERS["sgd"](model.parameters(), lr={"*": 0.1, "fc1": 0.01})
    technique = GroupLasso(lam=1.0)
    state = SimpleNamespace(model=model, optimizer=optimizer)
    Proximal(technique, technique.found(model)).after_step(state)
    for group in groups(model):
        rate = 0.01 if group.name == "fc1" else 0.1
        np.testing.assert_allclose(
            unit_norms(model, group), np.maximum(before[group.name] - rate, 0), atol=1e-6
        )


def test_a_group_of_different_rates_is_refused():
    rng = np.random.default_rng(4)
    message = r"group-lasso: fc1\+fc3 must have one .* 0.01 for fc1.weight, .* 0.05 for fc3.weight"
    with pytest.raises(UserError, match=message):
        GroupLasso().training(epochs=1, schedule="constant", lr={"*": 0.05, "fc1": 0.01}).apply(
            residual(rng), toy(), Run(rng)
        )
