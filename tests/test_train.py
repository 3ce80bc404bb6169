import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from minicomp import train
from minicomp.compress.finetune import FineTune
from minicomp.compress.technique import Run
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.kernels.threads import blas
from minicomp.models import MLP, LeNet5
from minicomp.nn import (
    Add,
    BatchNorm1d,
    BatchNorm2d,
    Codebook,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Model,
    Node,
    ReLU,
    ReLU6,
    Tanh,
    chain,
    cross_entropy,
)
from minicomp.nn.init import initialise, lecun_uniform
from minicomp.optim import SGD, Adam, cosine
from minicomp.tensor import Tensor
from minicomp.train import Hook, Score, evaluate, fit, parameters_of

RNG = np.random.default_rng
CALLS = ("before_batch", "loss", "after_backward", "after_step", "after_epoch")


def hook(name="test", **given):
    # A hook of these functions; its loss stands in the place of cross-entropy.
    made = Hook()
    made.name, made.replaces = name, "loss" in given
    for key, value in given.items():
        assert hasattr(made, key)
        setattr(made, key, value)
    return made


def blobs(n=230, seed=0, noise=1.0):
    # Three Gaussian clouds in 8 dimensions; train, val and test drawn alike.
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((3, 8))
    y = rng.integers(0, 3, 2 * n)
    x = (centres[y] + noise * rng.standard_normal((2 * n, 8))).astype(np.float32)
    return SimpleNamespace(
        train=SimpleNamespace(x=x[:n], y=y[:n]), val=SimpleNamespace(x=x[n:], y=y[n:])
    )


def net(p=0.0, seed=1):
    model = MLP([8, 16, 3], rng=np.random.default_rng(seed))
    drop = (Node("act1", ReLU(), ("fc1",)), Node("drop", Dropout(p), ("act1",)))
    return model.edit({"act1": drop}) if p else model


def conv_net(seed=1):
    rng = np.random.default_rng(seed)
    model = Model(
        chain(
            ("conv", Conv2d(1, 4, 3, bias=False)),
            ("bn", BatchNorm2d(4)),
            ("relu", ReLU()),
            ("pool", MaxPool2d(2)),
            ("flatten", Flatten()),
            ("fc1", Linear(36, 12)),
            ("bn1", BatchNorm1d(12)),
            ("fc2", Linear(12, 3)),
        ),
        input_shape=(1, 8, 8),
    )
    for name, form in model.forms().items():
        if len(form.shape) > 1:
            model.set_form(name, Dense(lecun_uniform(form.shape, rng=rng)))
    return model


def images(n=100, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2 * n, 1, 8, 8)).astype(np.float32), rng.integers(0, 3, 2 * n)
    x[np.arange(2 * n), 0, y, y] += 3
    return SimpleNamespace(
        train=SimpleNamespace(x=x[:n], y=y[:n]), val=SimpleNamespace(x=x[n:], y=y[n:])
    )


def run(model, data, *, epochs=4, seed=5, make=None, **kw):
    optimizer = (
        make(model) if make else SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    )
    kw = {"batch_size": 32, "schedule": cosine()} | kw
    return fit(
        model, data, epochs=epochs, optimizer=optimizer, rng=np.random.default_rng(seed), **kw
    )


def bits(model) -> bytes:
    return b"".join(a.tobytes() for a in model.state_dict().values())


def without_time(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


# ----------------------------------------------------------------------------------- one plain loop


def test_one_epoch_is_the_loop_written_out():
    # Three batches of 32, 32 and 16; each step: gradient of the mean loss, momentum, weight
    # decay, cosine.
    data, model, mine = blobs(80), net(), net()
    history = run(model, data, epochs=1)
    order = np.random.default_rng(5).permutation(80)
    params = mine.parameters()
    v = {n: np.zeros_like(p.data) for n, p in params.items()}
    total = 0.0
    for step, start in enumerate((0, 32, 64)):
        rows = order[start : start + 32]
        for p in params.values():
            p.grad = None
        loss = cross_entropy(mine(data.train.x[rows], training=True), data.train.y[rows])
        loss.backward()
        total += loss.item() * len(rows)
        lr = 0.1 * 0.5 * (1 + np.cos(np.pi * step / 3))
        for n, p in params.items():
            v[n] = 0.9 * v[n] + p.grad + 1e-3 * p.data
            p.data -= (lr * v[n]).astype(np.float32)
    for n, p in model.parameters().items():
        np.testing.assert_allclose(p.data, params[n].data, rtol=1e-5, atol=1e-6)
    assert history[0]["loss"] == pytest.approx(total / 80)
    assert history[0]["lr"] == pytest.approx(0.1 * 0.5 * (1 + np.cos(np.pi * 2 / 3)))


def test_it_learns():
    data = blobs(noise=0.5)
    model = net()
    before = evaluate(model, data.val).error
    history = run(model, data, epochs=6)
    assert evaluate(model, data.val).error < 0.1 < before
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["val_errors"] == evaluate(model, data.val).errors
    assert history[-1]["val_size"] == 230


@pytest.mark.parametrize(
    "make, data", [(lambda: net(0.3), blobs()), (conv_net, images())], ids=["mlp", "conv"]
)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(make, data):
    a, b, c = make(), make(), make()
    ha, hb = run(a, data), run(b, data)
    run(c, data, seed=6)
    assert bits(a) == bits(b) != bits(c)
    assert without_time(ha) == without_time(hb)


def test_pictures_that_lie_channels_last_give_the_same_bits(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.random((80, 3, 8, 8), dtype=np.float32)
    y = rng.integers(0, 3, 80)
    data, nets, looked = SimpleNamespace(train=Split(x, y), val=Split(x, y)), [], []
    for most in (train.TURNED, 0):
        monkeypatch.setattr(train, "TURNED", most)
        layers = chain(("c", Conv2d(3, 4, 3)), ("f", Flatten()), ("fc", Linear(144, 3)))
        nets.append(initialise(Model(layers, input_shape=(3, 8, 8)), rng=np.random.default_rng(1)))
        run(nets[-1], data)
        rows = train._examples(x, None)(np.array([5, 2]))
        looked.append(rows.transpose(0, 2, 3, 1).flags.c_contiguous)
        np.testing.assert_array_equal(rows, x[[5, 2]])
    assert looked == [True, False] and bits(nets[0]) == bits(nets[1])


def test_everything_stays_float32():
    # No float64 in a gradient, an update or an activation: NumPy 2 leaks it through np.float64
    # scalars.
    seen = []

    def watch(state):
        seen.extend(g.dtype for g in state.weight_grads.values())
        seen.append(state.output.dtype)
        seen.append(state.loss.dtype)

    model = conv_net()
    optimizer = Adam(model.parameters(), lr=np.float64(0.01))
    fit(
        model,
        images(),
        epochs=2,
        optimizer=optimizer,
        rng=np.random.default_rng(0),
        batch_size=32,
        schedule=lambda done: np.float64(1 - done),
        hooks=[hook(after_backward=watch)],
    )
    seen += [a.dtype for a in model.state_dict().values()]
    seen += [a.dtype for named in optimizer.state.values() for a in named.values()]
    assert set(seen) == {np.dtype(np.float32)} and type(optimizer.lr) is float


def test_masks_hold_through_training():
    data, model = blobs(), net()
    mask = np.random.default_rng(3).random((16, 8)) < 0.5
    model.set_form("fc1.weight", Dense(model.forms()["fc1.weight"].dense().data, mask))
    after = []
    run(
        model,
        data,
        hooks=[
            hook(
                after_step=lambda s: after.append(
                    np.count_nonzero(s.model.forms()["fc1.weight"].value.data[~mask])
                )
            )
        ],
    )
    assert not any(after) and len(after) == 32
    assert np.all(model.forms()["fc1.weight"].dense().data[mask] != 0)


def test_a_pinned_zero_holds_through_training():
    # The pinned centroid does receive a gradient, the sum over the pruned weights: only project()
    # holds it at 0.
    data, model, seen = blobs(), net(), []
    codes = np.random.default_rng(3).integers(0, 4, (16, 8))
    model.set_form("fc1.weight", Codebook(codes, [0.0, -0.5, 0.3, 0.8], pinned_zero=True))
    run(
        model,
        data,
        hooks=[
            hook(
                after_step=lambda s: seen.extend(
                    [
                        s.grads["fc1.weight.centroids"][0],
                        s.model.forms()["fc1.weight"].centroids.value.data[0],
                    ]
                )
            )
        ],
    )
    assert all(seen[::2]) and not any(seen[1::2])
    assert not model.forms()["fc1.weight"].dense().data[codes == 0].any()


# ------------------------------------------------------------------------------------------- events


def test_events_are_called_in_order_and_see_the_step():
    data, model, seen = blobs(70), net(), []
    x_seen = []

    def note(name):
        def event(state):
            seen.append((name, state.epoch, state.step))
            if name == "loss":
                x_seen.append(state.batch[0])
                return cross_entropy(state.output, state.batch[1])
            if name == "before_batch":
                assert state.batch[0].dtype == np.float32 and state.steps == 6
            if name in ("after_backward", "after_step"):
                assert set(state.weight_grads) == set(model.forms())
                if name == "after_step":
                    assert set(state.grads) == set(model.parameters())
                assert (
                    state.output.shape == (len(state.batch[1]), 3)
                    and not state.output.requires_grad
                )
                assert state.loss.item() == pytest.approx(
                    cross_entropy(state.output, state.batch[1]).item(), rel=1e-6
                )
            return None

        return event

    run(model, data, epochs=2, hooks=[hook(**{name: note(name) for name in CALLS})])
    want = []
    for epoch in (0, 1):
        for step in range(3 * epoch, 3 * epoch + 3):
            want += [(name, epoch, step) for name in CALLS[:4]]
        want.append(("after_epoch", epoch, 3 * epoch + 3))
    assert seen == want
    assert [len(x) for x in x_seen] == [32, 32, 6] * 2


def test_an_event_may_change_batch_loss_and_gradients():
    data, frozen = blobs(64), net()
    before = bits(frozen)
    zero = {
        "after_backward": lambda s: s.weight_grads.update(
            {n: np.zeros_like(g) for n, g in s.weight_grads.items()}
        )
    }
    run(frozen, data, hooks=[hook(**zero)], make=lambda m: SGD(m.parameters(), lr=0.1))
    assert bits(frozen) == before

    plain, doubled = net(), net()
    run(plain, data, make=lambda m: SGD(m.parameters(), lr=0.2))
    run(
        doubled,
        data,
        make=lambda m: SGD(m.parameters(), lr=0.1),
        hooks=[hook(loss=lambda s: cross_entropy(s.output, s.batch[1]) * 2.0)],
    )
    np.testing.assert_allclose(
        doubled.forms()["fc1.weight"].dense().data,
        plain.forms()["fc1.weight"].dense().data,
        rtol=2e-5,
        atol=1e-6,
    )

    shuffled, seen = net(), []
    run(
        shuffled,
        data,
        hooks=[
            hook(
                before_batch=lambda s: setattr(s, "batch", (s.batch[0] * 0, s.batch[1])),
                after_backward=lambda s: seen.append(np.abs(s.weight_grads["fc1.weight"]).max()),
            )
        ],
    )
    assert not any(seen)


def test_validation_sees_what_after_epoch_left():
    data, model = blobs(), net()

    def wipe(state):
        for form in state.model.forms().values():
            form.value.data[...] = 0

    history = run(model, data, epochs=1, hooks=[hook(after_epoch=wipe)])
    assert (
        history[0]["val_errors"] == evaluate(model, data.val).errors == np.count_nonzero(data.val.y)
    )


# ---------------------------------------------------------------------------------- hooks together


def last_loss(hooks=(), n_threads=1, **kw):
    # The loss of the first step of a training, as its hooks see it.
    seen = []
    run(net(), blobs(32), epochs=1, n_threads=n_threads, **kw,
        hooks=[*hooks, hook("watch", after_backward=lambda s: seen.append(s.loss.item()))])
    return seen[0]


def test_losses_are_summed_and_the_base_is_weighed_by_all():
    base = last_loss()
    halves = [hook("a"), hook("b")]
    for h in halves:
        h.base_weight = 0.5
    assert last_loss(halves) == pytest.approx(base / 4, rel=1e-6)
    term = hook("more", loss=lambda s: (s.output * s.output).mean())
    term.replaces = False
    more = last_loss([term])
    assert last_loss([term, *halves]) == pytest.approx(more - base + base / 4, rel=1e-6)


def test_label_smoothing_stays_when_a_hook_brings_a_loss():
    term = hook("more", loss=lambda s: (s.output * 0.0).mean())
    term.replaces = False
    assert last_loss([term], label_smoothing=0.3) == last_loss(label_smoothing=0.3) != last_loss()


def test_one_hook_may_replace_the_loss_and_two_are_refused():
    ours = hook("ours", loss=lambda s: cross_entropy(s.output, s.batch[1]) * 3.0)
    assert last_loss([ours]) == pytest.approx(3 * last_loss(), rel=1e-6)
    with pytest.raises(UserError, match="ours and theirs cannot train together: each replaces the"):
        last_loss([ours, hook("theirs", loss=ours.loss)])


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_penalty_counts_once_a_step_for_any_number_of_threads(n_threads, monkeypatch):
    # With lr 1 and a gradient of 0 from the examples, one step takes away the penalty's gradient.
    monkeypatch.setattr(train, "_splits", lambda model, batch_size: True)
    model, calls = net(), []

    def penalty(parts, weights):
        calls.append(1)
        return (weights["fc1.weight"] * weights["fc1.weight"]).sum() * 0.25

    silent = hook("silent", penalty=penalty, after_backward=lambda s: s.weight_grads.update(
        {n: g * 0 for n, g in s.weight_grads.items()}))
    before = model.forms()["fc1.weight"].dense().data.copy()
    run(model, blobs(32), epochs=1, hooks=[silent], n_threads=n_threads,
        make=lambda m: SGD(m.parameters(), lr=1.0), schedule=None)
    np.testing.assert_allclose(model.forms()["fc1.weight"].dense().data, before / 2, rtol=1e-6)
    assert len(calls) == 1


def test_a_hook_sees_nodes_and_trains_parameters_of_its_own():
    model, own, shapes = net(), Tensor(np.ones((16, 3), np.float32), requires_grad=True), []

    def loss(state):
        shapes.append(state.taps["act1"].shape)
        d = state.taps["act1"] @ own - np.float32(0.5)
        return (d * d).mean()

    probe = hook("probe", loss=loss, parameters=lambda: {"w": own})
    probe.replaces, probe.taps = False, ("act1",)
    params = parameters_of(model, [probe])
    assert list(params)[-1] == "probe.w" and params["probe.w"] is own
    before = own.data.copy()
    run(model, blobs(40), epochs=1, hooks=[probe],
        make=lambda m: SGD(parameters_of(m, [probe]), lr=0.1))
    assert shapes == [(32, 16), (8, 16)] and (own.data != before).any()


def test_what_hooks_remember_comes_back_with_the_checkpoint(tmp_path):
    class Counting(Hook):
        name = "counting"

        def __init__(self):
            super().__init__()
            self.slots = {"n": np.zeros(1, np.int64)}
            self.own = Tensor(np.zeros(2, np.float32), requires_grad=True)

        def parameters(self):
            return {"own": self.own}

        def loss(self, state):
            d = self.own - np.array([1, 2], np.float32)
            return (d * d).sum()

        def after_step(self, state):
            self.slots["n"] += 1

    def trained(where, stop=None):
        counting = Counting()
        make = lambda m: SGD(parameters_of(m, [counting]), lr=0.1)  # noqa: E731
        log = stop_at(stop) if stop else None
        run(net(), blobs(), epochs=3, hooks=[counting], make=make, checkpoint=where, log=log)
        return counting

    whole = trained(tmp_path / "a")
    with pytest.raises(Stop):
        trained(tmp_path / "b", stop=12)
    with pytest.raises(UserError, match="hooks"):
        run(net(), blobs(), epochs=3, checkpoint=tmp_path / "b")
    again = trained(tmp_path / "b")
    assert again.slots["n"][0] == whole.slots["n"][0] == 24
    np.testing.assert_array_equal(again.own.data, whole.own.data)


def test_epochs_before_a_hook_is_settled_are_no_candidates_for_the_best():
    # Eight steps an epoch: settled at step 9, the second epoch is the first that counts.
    late = hook("late", settled=lambda steps: 9)
    errors, kept = iter([0, 5, 7, 6]), []

    def score(model, split, **_):
        kept.append(model.state_dict()["fc1.bias"])
        return Score(next(errors), 10, 0.0)

    model = net()
    with pytest.MonkeyPatch.context() as m:
        m.setattr(train, "evaluate", score)
        run(model, blobs(), epochs=4, hooks=[late], keep_best=True)
    np.testing.assert_array_equal(model.state_dict()["fc1.bias"], kept[1])


def test_weights_are_decoded_once_a_step(monkeypatch):
    monkeypatch.setattr(train, "_splits", lambda model, batch_size: True)
    model, calls = net(), []
    form = model.forms()["fc1.weight"]
    decode = form.dense
    monkeypatch.setattr(form, "dense", lambda **kw: calls.append(kw) or decode(**kw))
    run(model, blobs(96), epochs=1, n_threads=2)
    # three steps of two shards each, and the validation
    assert [kw.get("training", False) for kw in calls] == [True] * 3 + [False]


def test_the_log_counts_steps_and_epochs():
    log = []
    history = run(net(), blobs(70), epochs=2, log=log.append)
    progress = [row for row in log if row["event"] == "progress"]
    assert [row["done"] for row in progress] == [1, 2, 3, 4, 5, 6] and progress[0]["total"] == 6
    epochs = [row for row in log if row["event"] == "epoch"]
    assert [
        {k: v for k, v in row.items() if k not in ("event", "epochs")} for row in epochs
    ] == history


def test_augmentation_is_called_on_every_training_batch_with_the_rng():
    sizes, draws, seen = [], [], []

    def augment(x, *, rng):
        sizes.append(len(x))
        draws.append(rng.random())
        return x * 0

    run(
        net(),
        blobs(70),
        epochs=2,
        augment=augment,
        hooks=[hook(before_batch=lambda s: seen.append(np.abs(s.batch[0]).max()))],
    )
    assert sizes == [32, 32, 6] * 2 and len(set(draws)) == 6 and seen == [0] * 6


# ------------------------------------------------------------------- early stopping, the best epoch


def scripted(errors, **kw):
    # fit with the validation errors of each epoch given; returns epochs run and the epoch that is
    # left.
    model = net()
    marks = iter(range(1, 100))

    def mark(state):
        state.model.forms()["fc2.bias"].value.data[...] = next(marks)

    with pytest.MonkeyPatch.context() as patch:
        script = iter(errors)
        patch.setattr(train, "evaluate", lambda *a, **k: Score(next(script), 10, 0.0))
        settled = kw.pop("settled", 0)  # epochs before the first that counts, of one step each
        hooks = [hook(after_epoch=mark), hook("late", settled=lambda steps: settled + 1)]
        history = run(model, blobs(32), epochs=len(errors), hooks=hooks, **kw)
    return len(history), model.forms()["fc2.bias"].value.data[0]


@pytest.mark.parametrize(
    "errors, kw, want",
    [
        ([5, 3, 4, 4, 4], {}, (5, 5)),
        ([5, 3, 4, 4, 4], {"keep_best": True}, (5, 2)),
        ([5, 3, 4, 3, 4], {"keep_best": True}, (5, 4)),  # the last of equals
        ([5, 3, 4, 4, 4, 2], {"patience": 3}, (5, 2)),
        ([5, 3, 4, 4, 2, 2], {"patience": 3}, (6, 6)),
        (
            [5, 3, 3, 3, 3, 2],
            {"patience": 3},
            (5, 5),
        ),  # equal is not fewer; the last of equals is kept
        ([5, 4, 3, 2, 1, 0], {"patience": 1}, (6, 6)),
        ([5, 6, 1], {"patience": 1}, (2, 1)),
        ([1, 2, 5, 3, 4], {"keep_best": True, "settled": 2}, (5, 4)),
        ([1, 2, 5, 6, 7, 8], {"patience": 2, "settled": 2}, (5, 3)),
    ],
)
def test_patience_and_keep_best(errors, kw, want):
    assert scripted(errors, **kw) == want


def test_keep_best_restores_masks_and_running_statistics_too():
    data, model = images(), conv_net()
    saved = []
    run(
        model,
        data,
        epochs=5,
        keep_best=True,
        hooks=[hook(after_epoch=lambda s: saved.append(s.model.state_dict()))],
    )
    history = [evaluate(_loaded(s), data.val).errors for s in saved]
    best = max(i for i, e in enumerate(history) if e == min(history))
    assert b"".join(a.tobytes() for a in saved[best].values()) == bits(model)


def _loaded(state):
    model = conv_net()
    model.load_state_dict(state)
    return model


# -------------------------------------------------------------------------------- numerical trouble


def test_a_loss_that_is_not_finite_is_one_clear_error_and_changes_nothing():
    data, model = blobs(64), net()
    data.train.x[40, 0] = np.nan
    optimizer = SGD(model.parameters(), lr=0.1)
    kept = {}

    def keep(state):
        kept.update(bits=bits(state.model), step=state.step)

    with pytest.raises(
        UserError,
        match=r"the loss must stay finite, got nan at step [01]; a smaller learning rate "
        r"than 0\.\d+ may help",
    ) as caught:
        fit(
            model,
            data,
            epochs=1,
            optimizer=optimizer,
            rng=np.random.default_rng(0),
            batch_size=32,
            schedule=cosine(),
            hooks=[hook(before_batch=keep)],
        )
    assert "\n" not in str(caught.value)
    assert bits(model) == kept["bits"]
    assert optimizer.lr == 0.1  # not the scheduled one: the caller may try again


def test_a_weight_that_the_last_step_made_nan_is_one_clear_error():
    model = net()

    def spoil(state):  # the loss of this step was finite
        for g in state.weight_grads.values():
            g[:] = np.nan

    with pytest.raises(UserError, match=r"weight must stay finite, got NaN or infinity after step "
                                        r"1; a smaller learning rate than 0\.1 may help"):
        fit(model, blobs(32), epochs=1, optimizer=SGD(model.parameters(), lr=0.1), batch_size=32,
            rng=np.random.default_rng(0), hooks=[hook(after_backward=spoil)])


@pytest.mark.parametrize(
    "kw, message",
    [
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"n_threads": 0}, r"n_threads must be in \[1, 256\], got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(kw, message):
    with pytest.raises(ValueError, match=message):
        run(net(), blobs(10), **kw)


def test_no_training_examples_and_no_epochs():
    data = blobs(10)
    empty = SimpleNamespace(
        train=SimpleNamespace(x=data.train.x[:0], y=data.train.y[:0]), val=data.val
    )
    with pytest.raises(ValueError, match="data.train must hold at least one example"):
        run(net(), empty)
    model = net()
    before = bits(model)
    assert run(model, data, epochs=0) == [] and bits(model) == before


def test_a_model_without_validation_examples_trains():
    data = blobs(40)
    data.val = SimpleNamespace(x=data.val.x[:0], y=data.val.y[:0])
    assert run(net(), data, epochs=1)[0]["val_size"] == 0
    assert evaluate(net(), data.val) == Score(0, 0, 0.0) and Score(0, 0, 0.0).error == 0


# ------------------------------------------------------------------------------------------ threads


@pytest.fixture
def split(monkeypatch):
    # These nets are too small for their batches to be split over threads; here they are.
    monkeypatch.setattr(train, "_splits", lambda model, batch_size: True)


def test_batches_are_split_where_it_pays_and_no_batch_statistics_forbid_it():
    assert not train._splits(net(), 64) and train._splits(LeNet5(), 64)
    assert not train._splits(conv_net(), 10**6) and train._splits(net(), 10**6)


def test_two_threads_are_close_to_one_and_deterministic(split):
    data = blobs()
    one, two, again = net(), net(), net()
    run(one, data)
    run(two, data, n_threads=2)
    run(again, data, n_threads=2)
    assert bits(two) == bits(again) != bits(one)
    for a, b in zip(one.state_dict().values(), two.state_dict().values()):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_two_threads_average_over_unequal_shards(split):
    # 5 examples: shards of 2 and 3, whose mean losses weigh 2/5 and 3/5.
    data = blobs(5)
    seen = {}
    for n in (1, 2):

        def keep(state, n=n):
            seen[n] = (dict(state.weight_grads), state.loss.item(), state.output.data)

        run(net(), data, epochs=1, n_threads=n, hooks=[hook(after_backward=keep)])
    assert seen[1][1] == pytest.approx(seen[2][1], rel=1e-6)
    np.testing.assert_allclose(seen[1][2], seen[2][2], rtol=1e-5, atol=1e-6)
    for name, g in seen[1][0].items():
        np.testing.assert_allclose(g, seen[2][0][name], rtol=1e-4, atol=1e-6)


def test_dropout_draws_differ_between_the_shards_and_repeat_with_the_seed(split):
    data = blobs(64)
    a, b = net(0.5), net(0.5)
    run(a, data, n_threads=2)
    run(b, data, n_threads=2)
    assert bits(a) == bits(b)
    x = np.ones((8, 8), np.float32)
    twice = SimpleNamespace(train=SimpleNamespace(x=x, y=np.zeros(8, int)), val=data.val)
    outputs = []
    run(
        net(0.5),
        twice,
        epochs=1,
        n_threads=2,
        hooks=[hook(after_backward=lambda s: outputs.append(s.output.data))],
    )
    assert not np.array_equal(outputs[0][:4], outputs[0][4:])


def test_batch_statistics_are_those_of_the_whole_batch_for_any_thread_count():
    data = images(40)
    one, two = conv_net(), conv_net()
    run(one, data, epochs=1)
    run(two, data, epochs=1, n_threads=2)
    for name in one.buffers():
        np.testing.assert_allclose(one.buffers()[name], two.buffers()[name], rtol=1e-3, atol=1e-4)


def test_evaluation_counts_the_same_for_any_thread_count_and_batches_of_any_size():
    data, model = blobs(230), net()
    scores = [evaluate(model, data.val, batch_size=50, n_threads=n) for n in (1, 2, 3)]
    assert scores[0] == scores[1] == scores[2] and scores[0].size == 230
    z = model(data.val.x).data
    assert scores[0].errors == np.count_nonzero(z.argmax(axis=1) != data.val.y)
    assert scores[0].loss == pytest.approx(
        cross_entropy(model(data.val.x), data.val.y).item(), rel=1e-5
    )
    assert evaluate(model, data.val, batch_size=7).errors == scores[0].errors
    assert Score(3, 12, 0.0).error == 0.25


def test_evaluation_leaves_running_statistics_and_dropout_alone():
    model = conv_net()
    before = bits(model)
    evaluate(model, images().val)
    assert bits(model) == before
    assert evaluate(net(0.9), blobs().val).loss == pytest.approx(evaluate(net(), blobs().val).loss)


def test_a_thread_that_fails_says_why(split):
    def fail(state):
        raise RuntimeError("no loss today")

    with pytest.raises(RuntimeError, match="no loss today"):
        run(net(), blobs(), n_threads=2, hooks=[hook(loss=fail)])


# -------------------------------------------------------------------------------------- checkpoints


class Stop(Exception):
    pass


def stop_at(step):
    # A log that ends the run when a step is done.
    def log(row):
        if row["event"] == "progress" and row["done"] == step + 1:
            raise Stop

    return log


def test_a_used_generator_cannot_take_up_a_threaded_run(tmp_path, split):
    # Threads draw from spawned streams: a generator that has spawned would give other bits, so it
    # is refused.
    rng, kw = np.random.default_rng(5), dict(
        epochs=2, batch_size=32, checkpoint=tmp_path, n_threads=2
    )
    with pytest.raises(Stop):
        model = net(0.3)
        fit(
            model,
            blobs(),
            optimizer=SGD(model.parameters(), lr=0.1),
            rng=rng,
            log=stop_at(9),
            **kw,
        )
    with pytest.raises(UserError, match="rng has drawn since the run began"):
        model = net(0.3)
        fit(model, blobs(), optimizer=SGD(model.parameters(), lr=0.1), rng=rng, **kw)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    "make, data", [(lambda: net(0.3), blobs()), (conv_net, images())], ids=["mlp", "conv"]
)
@pytest.mark.parametrize(
    "optimizer", [None, lambda m: Adam(m.parameters(), lr=0.01)], ids=["sgd", "adam"]
)
def test_a_run_that_was_stopped_ends_in_the_same_bits(
    tmp_path, monkeypatch, make, data, n_threads, optimizer
):
    if make is not conv_net:
        monkeypatch.setattr(train, "_splits", lambda model, batch_size: True)
    kw = dict(epochs=4, n_threads=n_threads, make=optimizer, keep_best=True)
    whole = make()
    history = run(whole, data, **kw)
    part, log = make(), []
    for step in (0, 9, 12):  # in the first epoch, then twice later
        with pytest.raises(Stop):
            run(make(), data, checkpoint=tmp_path, log=stop_at(step), **kw)
    resumed = run(part, data, checkpoint=tmp_path, log=log.append, **kw)
    assert bits(part) == bits(whole)
    assert without_time(resumed) == without_time(history)
    assert 0 < len([r for r in log if r["event"] == "epoch"]) < 4  # it did take up the checkpoint
    again = make()
    assert without_time(run(again, data, checkpoint=tmp_path, **kw)) == without_time(history)
    assert bits(again) == bits(whole)


def test_early_stopping_is_resumed_too(tmp_path):
    data, kw = blobs(noise=3.0), dict(epochs=12, patience=2)
    whole, part = net(), net()
    history = run(whole, data, **kw)
    assert len(history) < 12
    with pytest.raises(Stop):
        run(net(), data, checkpoint=tmp_path, log=stop_at(9), **kw)
    assert without_time(run(part, data, checkpoint=tmp_path, **kw)) == without_time(history)
    assert bits(part) == bits(whole)
    assert without_time(run(net(), data, checkpoint=tmp_path, **kw)) == without_time(history)


KILLED = textwrap.dedent("""
    import os, signal, sys
    sys.path[:0] = sys.argv[3:]
    from minicomp import train
    import importlib.util
    spec = importlib.util.spec_from_file_location("t", sys.argv[1])
    t = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(t)
    def die(row):
        if where == "step" and row.get("done") == 21:
            os.kill(os.getpid(), signal.SIGKILL)
    replace, calls = os.replace, []
    def half(a, b):
        calls.append(a)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(a, b)
    where, folder = sys.argv[2].split(":", 1)
    if where == "write":
        os.replace = half
    t.run(t.net(0.3), t.blobs(), checkpoint=folder, keep_best=True, log=die)
""")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("where", ["step", "write"])
def test_a_run_that_was_killed_ends_in_the_same_bits(tmp_path, where):
    whole, part = net(0.3), net(0.3)
    history = run(whole, blobs(), keep_best=True)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, __file__, f"{where}:{tmp_path}", *sys.path],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(tmp_path.glob(".*.tmp")) == (where == "write")
    log = []
    assert without_time(
        run(part, blobs(), checkpoint=tmp_path, keep_best=True, log=log.append)
    ) == without_time(history)
    assert [r["epoch"] for r in log if r["event"] == "epoch"] == [3, 4]
    assert bits(part) == bits(whole)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.write_bytes(p.read_bytes()[:-30]),
        lambda p: p.write_bytes(p.read_bytes()[:200]),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"\x00" * 100),
        lambda p: p.write_bytes(
            b"".join([p.read_bytes()[:300], b"\xff" * 64, p.read_bytes()[364:]])
        ),
        lambda p: np.savez(p, notes=np.frombuffer(b"[]", np.uint8)),
        lambda p: np.savez(p, other=np.zeros(3)),
    ],
)
def test_a_spoilt_checkpoint_is_one_clear_error(tmp_path, spoil):
    run(net(), blobs(), checkpoint=tmp_path)
    spoil(tmp_path / "fit.npz")
    with pytest.raises(
        UserError, match="checkpoint .*fit.npz cannot be used: .*; delete it to start again"
    ) as e:
        run(net(), blobs(), checkpoint=tmp_path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "kw",
    [
        {"epochs": 5},
        {"batch_size": 16},
        {"seed": 6},
        {"make": lambda m: SGD(m.parameters(), lr=0.2)},
        {"make": lambda m: Adam(m.parameters(), lr=0.1)},
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, kw):
    run(net(), blobs(), checkpoint=tmp_path)
    model = net(seed=9)
    before = bits(model)
    with pytest.raises(
        UserError, match="it is of another run: .* not .*; delete it to start again"
    ):
        run(model, blobs(), checkpoint=tmp_path, **kw)
    assert bits(model) == before


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(net(), blobs(), checkpoint=tmp_path)
    other = MLP([8, 17, 3], rng=np.random.default_rng(0))
    with pytest.raises(UserError, match=r"fc1.weight must have shape \(17, 8\), got \(16, 8\)"):
        run(other, blobs(), checkpoint=tmp_path)


def test_any_bit_generator_can_be_resumed(tmp_path):
    data = blobs()
    for kind in (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64):
        results = []
        for folder in (None, tmp_path / kind.__name__, tmp_path / kind.__name__):
            model = net()
            stop = stop_at(9) if folder and len(results) == 1 else None
            try:
                fit(
                    model,
                    data,
                    epochs=2,
                    optimizer=SGD(model.parameters(), lr=0.1),
                    batch_size=32,
                    log=stop,
                    rng=np.random.Generator(kind(3)),
                    checkpoint=folder,
                )
            except Stop:
                pass
            results.append(bits(model))
        assert results[0] == results[2], kind


@pytest.mark.parametrize("wrong", [{"lr": 0.02}, {"weight_decay": 1e-3}, {"schedule": "step"},
                                   {"label_smoothing": 0.1}, {"shift": 1}, {"momentum": 0.5}])
def test_a_checkpoint_of_other_knobs_is_refused(wrong, tmp_path):
    knobs = {"epochs": 2, "lr": 0.01, "batch_size": 16}
    with pytest.raises(Stop):
        FineTune(**knobs).apply(conv_net(), images(), Run(RNG(0), stop_at(9), tmp_path))
    with pytest.raises(UserError, match="of another run"):
        FineTune(**knobs | wrong).apply(conv_net(), images(), Run(RNG(0), checkpoint=tmp_path))
    FineTune(**knobs).apply(conv_net(), images(), Run(RNG(0), checkpoint=tmp_path))


def test_the_best_epoch_is_that_of_hooks_too():
    counting = hook("counting", after_step=lambda s: counting.slots["n"].__iadd__(1))
    counting.slots = {"n": np.zeros(1, np.int64)}
    errors = iter([5, 1, 3])
    with pytest.MonkeyPatch.context() as m:
        m.setattr(train, "evaluate", lambda *a, **k: Score(next(errors), 10, 0.0))
        run(net(), blobs(), epochs=3, hooks=[counting], keep_best=True)
    assert counting.slots["n"][0] == 16  # of eight steps an epoch, two epochs


def test_a_hook_that_replaces_the_loss_must_return_one():
    with pytest.raises(UserError, match="must return one, got None"):
        last_loss([hook("ours", loss=lambda state: None)])


# ------------------------------------------------------------------------------- batches, and zeros


def sizes_of_batches(n, batch_size, model):
    seen = []
    spy = hook(before_batch=lambda state: seen.append(len(state.batch[1])))
    data = images(n)
    run(model, data, epochs=1, batch_size=batch_size, hooks=[spy])
    return seen


@pytest.mark.parametrize(
    "n, batch_size, want",
    [(57, 56, [57]), (65, 32, [32, 33]), (66, 32, [32, 32, 2]), (64, 32, [32, 32]), (3, 2, [3])],
)
def test_an_example_alone_joins_the_batch_before_where_statistics_are_taken(n, batch_size, want):
    assert sizes_of_batches(n, batch_size, conv_net()) == want


def test_an_example_alone_is_a_batch_where_no_statistics_are_taken():
    model = Model(chain(("flatten", Flatten()), ("fc", Linear(64, 3))), input_shape=(1, 8, 8))
    assert sizes_of_batches(5, 2, model) == [2, 2, 1]


def test_running_statistics_are_those_of_the_data_when_one_example_is_left_over():
    # 57 examples in batches of 56: of the one alone the variance would be that of one image.
    data, model = images(57), conv_net()
    model.set_form("conv.weight", Dense(np.abs(model.forms()["conv.weight"].value.data)))
    run(model, data, epochs=60, batch_size=56, make=lambda m: SGD(m.parameters(), lr=1e-12))
    whole = conv_net()
    whole.load_state_dict(model.state_dict())
    got = model.node("bn1").layer.buffers["running_var"].copy()
    for _ in range(100):
        whole(data.train.x, training=True)
    np.testing.assert_allclose(got, whole.node("bn1").layer.buffers["running_var"], rtol=0.02)


@pytest.mark.parametrize("n, batch_size, says", [(5, 1, "batch_size"), (1, 4, "examples of data")])
def test_one_example_has_no_statistics(n, batch_size, says):
    with pytest.raises(ValueError, match=f"{says}.* must be at least 2 where batch norm"):
        run(conv_net(), images(n), batch_size=batch_size)


def zeroed(*names):
    model = MLP([8, 16, 16, 3], rng=RNG(0))
    for name in names:
        model.set_form(name, Dense(np.zeros(model.forms()[name].shape)))
    return model


@pytest.mark.parametrize(
    "names",
    [
        ("fc1.weight", "fc2.weight", "fc3.weight"),
        ("fc1.weight", "fc2.weight"),
        ("fc1.weight", "fc3.weight"),
        ("fc2.weight", "fc3.weight"),
    ],
)
def test_a_net_that_nobody_drew_is_refused_by_name(names):
    with pytest.raises(UserError, match=f"all 0 are {', '.join(names)}: draw them with"):
        run(zeroed(*names), blobs())


@pytest.mark.parametrize("name", ["fc1.weight", "fc2.weight"])
@pytest.mark.parametrize("activation, learns", [(ReLU, False), (ReLU6, False), (Tanh, True)])
def test_a_layer_of_zeros_learns_before_an_activation_that_is_not_flat_there(
    name, activation, learns
):
    model = MLP([8, 16, 16, 3], rng=RNG(0), activation=activation)
    model.set_form(name, Dense(np.zeros(model.forms()[name].shape)))
    if learns:
        run(model, blobs(), epochs=1)
        assert model.forms()[name].nonzeros()
    else:
        with pytest.raises(UserError, match=f"all 0 are {name}: draw them with"):
            run(model, blobs(), epochs=1)
        with zeros_allowed():  # and it is right: nothing of the layer moves
            run(model, blobs(), epochs=1)
        assert not model.forms()[name].nonzeros()


@contextlib.contextmanager
def zeros_allowed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_refuse_zeros", lambda model: None)
        yield


@pytest.mark.parametrize("make", [lambda: zeroed("fc3.weight"), lambda: MLP([8, 3])])
def test_a_last_layer_of_zeros_learns(make):
    model = make()
    run(model, blobs(), epochs=1)
    assert all(form.nonzeros() for form in model.forms().values())


def test_zeros_learn_where_a_way_leads_around_them():
    # A residual branch and a classifier that begin at 0, as in Fixup (Zhang et al. 2019).
    nodes = [Node("a", Linear(8, 8)), Node("branch", Linear(8, 8), ("a",)),
             Node("sum", Add(), ("a", "branch")), Node("out", Linear(8, 3), ("sum",))]
    model = Model(nodes, input_shape=(8,))
    model.set_form("a.weight", Dense(np.eye(8)))
    run(model, blobs(), epochs=2)
    assert all(form.nonzeros() for form in model.forms().values())


def test_what_was_pruned_to_nothing_may_train_on():
    model = MLP([8, 16, 16, 3], rng=RNG(0))
    for name in ("fc1.weight", "fc2.weight"):
        form = model.forms()[name]
        model.set_form(name, form.masked(np.zeros(form.shape, bool)))
    run(model, blobs(), epochs=1)


def test_fits_that_overlap_leave_blas_as_they_found_it():
    # The second begins inside the first and ends after it.
    inside, over = threading.Event(), threading.Event()

    def first():
        wait = hook(after_epoch=lambda state: (inside.set(), over.wait(20)) and None)
        run(net(), blobs(), epochs=1, hooks=[wait])

    with blas(2):
        before = blas_threads()
        thread = threading.Thread(target=first)
        thread.start()
        assert inside.wait(20)

        def ends_later(state):
            over.set()
            thread.join(20)
            assert blas_threads() == {1}

        run(net(), blobs(), epochs=1, hooks=[hook(after_epoch=ends_later)])
        assert blas_threads() == before


def blas_threads():
    return {library["num_threads"] for library in threadpool_info()
            if library["user_api"] == "blas"}
