"""Training in fixed point: the rounding's pins, what lies on which grid, keys, and the stall."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from minicomp.compress.quant.fixed_point import (Converting, FixedPointHook,
                                                 FixedPointTraining, arrived, converted)
from minicomp.compress.quant.nodes import grids
from minicomp.compress.technique import Run
from minicomp.errors import UserError
from minicomp.grid import fixed_point, round_fixed
from minicomp.models import MLP
from minicomp.nn import Conv2d, Flatten, Linear, MaxPool2d, Model, ReLU, chain
from minicomp.nn.init import initialise
from minicomp.tensor import Tensor, grad

SMALL = {"epochs": 2, "batch_size": 20, "lr": 0.05, "momentum": 0.0, "schedule": "constant"}


# --- the rounding, as the paper has it ---


def test_nearest_takes_half_a_step_down():
    eps = 2.0**-3
    x = np.array([eps / 2, np.nextafter(eps / 2, 1), -eps / 2, 3 * eps / 2, -3 * eps / 2])
    assert fixed_point(x, 2, 3).tolist() == [0, 1, -1, 1, -2]
    for to, code in ((1, 1), (-1, 0)):
        assert fixed_point(np.nextafter(np.float32([eps / 2]), np.float32(to)), 2, 3) == code
    # the float next to -1/2 of a step: its distance to the grid below is half a step, once rounded
    for dtype in (np.float32, np.float64):
        x = np.nextafter(np.array([-eps / 2], dtype), dtype(0))
        assert fixed_point(x, 2, 3) == 0


def test_both_ends_saturate_and_the_grid_is_exact():
    x = np.array([-99, -2.01, -2, -1.875, 1.875, 1.876, 2, np.inf])
    wanted = [-2, -2, -2, -1.875, 1.875, 1.875, 1.875, 1.875]
    for dtype in (np.float32, np.float64):
        for how in ({}, {"rounding": "stochastic", "key": 3}):
            got = round_fixed(x.astype(dtype), il=2, fl=3, **how)
            assert got.dtype == dtype and got.tolist() == wanted
    codes = np.arange(-16, 16) / 8
    assert (round_fixed(codes, il=2, fl=3, rounding="stochastic", key=1) == codes).all()


def test_stochastic_rounding_is_unbiased_where_nearest_is_not():
    x = np.full(100_000, 0.3 * 2.0**-3, np.float32)
    assert round_fixed(x, il=2, fl=3).max() == 0
    mean = round_fixed(x, il=2, fl=3, rounding="stochastic", key=7).astype(np.float64).mean()
    assert abs(mean - float(x[0])) < 5 * 2.0**-3 * np.sqrt(0.21 / x.size)


@pytest.mark.parametrize("how, says", [
    ({"rounding": "up"}, "rounding must be nearest or stochastic, got 'up'"),
    ({"rounding": "stochastic"}, "stochastic rounding needs one"),
    ({"key": 1}, "key belongs to stochastic rounding"),
])
def test_wrong_rounding_is_refused(how, says):
    for fn in (fixed_point, lambda x, il, fl, **k: round_fixed(x, il=il, fl=fl, **k)):
        with pytest.raises(ValueError, match=says):
            fn(np.ones(2, np.float32), 2, 3, **how)


# --- what a node does ---


def test_a_node_rounds_forward_and_the_gradient_of_an_example_backward():
    # <4, 1> forward, <2, 2> backward of a mean over 5 examples.
    x = Tensor(np.array([0.3, 0.2, -9.0, 7.9]), requires_grad=True)
    y = converted(x, il=4, fl=1, key=None, back=(2, 2, None), examples=5)
    assert y.data.tolist() == [0.5, 0, -8, 7.5]
    g = np.array([0.03, 0.02, 9.0, -0.11])  # 5 g: 0.15, 0.1, 45, -0.55
    got = grad(y, x, cotangent=g).data
    np.testing.assert_allclose(got, np.array([0.25, 0, 1.75, -0.5]) / 5, rtol=1e-15)
    assert np.array_equal(grad(y, x, create_graph=True, cotangent=Tensor(g)).data, got)


def test_a_node_draws_forward_and_backward_by_its_keys():
    x = Tensor(np.full(1000, 0.1, np.float32), requires_grad=True)
    y = converted(x, il=4, fl=1, key=5, back=(2, 2, 6), examples=1)
    np.testing.assert_array_equal(y.data, round_fixed(x.data, il=4, fl=1, rounding="stochastic",
                                                      key=5))
    g = np.full(1000, 0.1, np.float32)
    np.testing.assert_array_equal(
        grad(y, x, cotangent=g).data, round_fixed(g, il=2, fl=2, rounding="stochastic", key=6))


def test_what_became_of_a_step():
    before = np.array([0.0, 1.0, 2.0, 3.0])
    wanted, after = before + [0.25, -0.25, 0.0, 1.5], np.array([0.0, 0.0, 2.0, 4.0])
    assert arrived(before, wanted, after) == (1, 3, 2.0, 2.0)


# --- the training ---


def on_grid(a, il, fl):
    return np.array_equal(a, round_fixed(a, il=il, fl=fl))


def test_weights_outputs_and_gradients_lie_on_their_grids(watching, blobs, net, monkeypatch):
    technique, seen = FixedPointTraining(il=2, fl=6, act_il=5, act_fl=3, grad_il=2, grad_fl=5), []
    passed = []
    plain = Converting.forward

    def forward(self, x, **kw):
        y = plain(self, x, **kw)
        if kw["training"]:
            passed.append(y.data)
        return y
    monkeypatch.setattr(Converting, "forward", forward)

    def look(state):
        seen.append(1)
        for name, form in state.model.forms().items():
            assert form.kind == "fixed" and on_grid(form.latent.data, 2, 6), name
        assert all(on_grid(g, 2, 5) for g in state.weight_grads.values())
        assert all(on_grid(v, 2, 5) for v in state.optimizer.state["v"].values())
        assert state.weight_grads["fc1.weight"].any()
        assert state.optimizer.state["v"]["fc1.weight.latent"].any()

    watching(technique.training(**SMALL | {"momentum": 0.9}), after_step=look).apply(
        net(), blobs(), Run(np.random.default_rng(0)))
    assert len(seen) == 16 and len(passed) == 16 * 4  # the input, two hidden layers, the logits
    assert all(on_grid(y, 5, 3) for y in passed) and any(y.any() for y in passed)


def test_nodes_stand_behind_each_layer_and_at_the_end():
    model = initialise(Model(chain(
        ("conv", Conv2d(1, 2, 3)), ("relu", ReLU()), ("pool", MaxPool2d(2)), ("flatten", Flatten()),
        ("fc", Linear(8, 3))), input_shape=(1, 6, 6)), rng=np.random.default_rng(0))
    left = FixedPointTraining(act_il=5, act_fl=4).sketch(model, rng=np.random.default_rng(0))
    assert list(grids(left)) == ["x_q", "relu_q", "fc_q"]
    for layer in grids(left).values():
        assert type(layer).__name__ == "ActQuant" and layer.kind == "ActQuant"
        assert (layer.bits, layer.grid, layer.scale, layer.zero_point) == (9, "full", 2.0**-4, 0)
    again = FixedPointTraining(act_il=2, act_fl=4).sketch(left, rng=np.random.default_rng(0))
    assert [layer.bits for layer in grids(again).values()] == [6, 6, 6]


def test_the_net_that_is_left_gives_what_validation_saw(blobs, net):
    from minicomp.train import evaluate

    rows = []
    log = lambda row: rows.append(row) if row["event"] in ("epoch", "fixed-point") else None
    left = FixedPointTraining(fl=8).training(**SMALL).apply(
        net(), blobs(), Run(np.random.default_rng(0), log=log))
    epochs = [row for row in rows if row["event"] == "epoch"]
    assert evaluate(left, blobs().val).errors == epochs[-1]["val_errors"]
    stats = [row for row in rows if row["event"] == "fixed-point"]
    assert [row["epoch"] for row in stats] == [1, 2]
    assert all(0 < row["lost"] < 1 and 0.9 < row["arrived"] < 1.1 for row in stats)


def test_formats_by_pattern(net):
    technique = FixedPointTraining(fl={"fc2": 4}, il={"fc3": 5})
    left = technique.sketch(net(), rng=np.random.default_rng(0))
    forms = left.forms()
    assert {name: (form.il, form.fl) for name, form in forms.items()} == {
        "fc1.weight": (2, 14), "fc1.bias": (2, 14), "fc2.weight": (2, 4), "fc2.bias": (2, 4),
        "fc3.weight": (5, 14), "fc3.bias": (5, 14)}


def test_the_same_seed_gives_the_same_bits(bits, blobs, net):
    apply = FixedPointTraining(fl=6).training(**SMALL).apply
    one, other = (apply(net(), blobs(), Run(np.random.default_rng(4))) for _ in range(2))
    assert bits(one) == bits(other)


def test_a_batch_is_not_split_over_threads(blobs, monkeypatch):
    # Each shard would draw as if it were the batch's first rows.
    seen, plain = [], Converting.forward

    def forward(self, x, **kw):
        seen.append(len(x.data)) if kw["training"] else None
        return plain(self, x, **kw)
    monkeypatch.setattr(Converting, "forward", forward)
    model = MLP([12, 400, 600, 4], rng=np.random.default_rng(0))  # large enough to be split
    FixedPointTraining().training(**SMALL | {"epochs": 1, "batch_size": 160}).apply(
        model, blobs(), Run(np.random.default_rng(0), n_threads=2))
    assert seen == [160] * 4


def test_keys_of_steps_and_places_differ(watching, blobs, net):
    keys = []

    def look(state):
        keys.extend(key for layer in grids(state.model).values() for key in layer.keys)
        assert {layer.examples for layer in grids(state.model).values()} == {20}

    watching(FixedPointTraining().training(**SMALL), after_step=look).apply(
        net(), blobs(), Run(np.random.default_rng(0)))
    assert len(keys) == 16 * 4 * 2 == len(set(keys))
    run = Run(np.random.default_rng(0))
    one, other = (FixedPointHook(FixedPointTraining(), net(), run) for _ in range(2))  # two seeds
    assert one.key(0, 1, 2) != other.key(0, 1, 2)


def test_an_epoch_is_counted_from_its_start(net):
    said = []
    hook = FixedPointHook(FixedPointTraining(), net(), Run(np.random.default_rng(0), said.append))
    for counts in ((3, 4, 1.0, 2.0), (0, 0, 0.0, 0.0)):
        hook.slots["epoch"] += counts
        hook.after_epoch(SimpleNamespace(epoch=0))
    assert [(row["lost"], row["arrived"]) for row in said] == [(0.75, 0.5), (0.0, 1.0)]


def test_updates_below_half_a_step_stall_under_nearest_and_not_under_stochastic(blobs, net):
    # The paper's claim, on a small run: at 6 fractional bits most updates are lost, and only
    # stochastic rounding still learns, as well as float.
    errors, rows = {}, {}
    training = SMALL | {"epochs": 6, "lr": 0.02}
    for rounding in ("nearest", "stochastic"):
        said = []
        log = lambda row: said.append(row) if row["event"] in ("epoch", "fixed-point") else None
        FixedPointTraining(il=4, fl=6, grad_fl=6, rounding=rounding).training(**training).apply(
            net(), blobs(), Run(np.random.default_rng(0), log=log))
        rows[rounding], epoch = said[-2:]
        errors[rounding] = epoch["val_errors"]
    assert rows["nearest"]["lost"] > 0.9 and rows["nearest"]["arrived"] < 0.6
    assert 0.85 < rows["stochastic"]["arrived"] < 1.15
    assert errors["stochastic"] < 0.7 * errors["nearest"], errors


def test_what_was_pruned_stays_pruned(blobs, net):
    model = net()
    w = model.forms()["fc1.weight"]
    mask = np.abs(w.values()) > 0.2
    model.set_form("fc1.weight", w.masked(mask))
    left = FixedPointTraining(fl=9).training(**SMALL).apply(
        model, blobs(), Run(np.random.default_rng(0)))
    assert not left.forms()["fc1.weight"].dense().data[~mask].any()


@pytest.mark.parametrize("knobs, says", [
    ({"il": 12, "fl": 14}, r"il \+ fl in \[1, 24\], got il = 12, fl = 14"),
    ({"act_il": 9, "act_fl": 10}, r"act_il \+ act_fl must be in \[1, 16\], got 9 \+ 10"),
    ({"grad_il": 2, "grad_fl": -4}, r"grad_il \+ grad_fl must be in \[1, 24\], got 2 \+ -4"),
    ({"rounding": "up"}, "rounding must be one of nearest, stochastic"),
    ({"fl": 14.5}, "fl must be an integer"),
])
def test_wrong_formats_are_refused(knobs, says):
    with pytest.raises(UserError, match=says):
        FixedPointTraining(**knobs)


def test_a_pattern_that_makes_no_format_is_refused(net):
    with pytest.raises(UserError, match="fixed-point: fc2: il must be at least 1"):
        FixedPointTraining(fl={"fc2": 23}).check(net())


def test_a_saturating_start_is_clipped(blobs):
    model = MLP([12, 4], rng=np.random.default_rng(0))
    model.forms()["fc1.weight"].value.data[0, 0] = 50
    left = FixedPointTraining(il=2, fl=4).sketch(model, rng=np.random.default_rng(0))
    assert left.forms()["fc1.weight"].dense().data[0, 0] == 2 - 2.0**-4
    assert dataclasses.asdict(FixedPointTraining())["rounding"] == "stochastic"
