"""Quantization-aware training: ranges that move and stay, what is kept, what it is good for."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from minicomp.compress import DNS, KMeans, Magnitude, QAT, Run
from minicomp.compress.finetune import FineTune, Trained
from minicomp.compress.quant.nodes import grids, places
from minicomp.compress.quant.qat import ema
from minicomp.compress.quant.schemes import Scheme
from minicomp.compress.quant.training import on_grid
from minicomp.data import Split
from minicomp.errors import UserError
from minicomp.grid import affine_params, fake_quantize
from minicomp.nn import (Add, Affine, AvgPool2d, BatchNorm2d, Codebook, Conv2d, Dense, Flatten,
                         Linear, Model, Node, ReLU, ReLU6, chain)
from minicomp.nn.init import initialise
from minicomp.nn.losses import cross_entropy
from minicomp.tensor import Tensor, grad
from minicomp.train import Hook, evaluate


def branched():
    head = chain(("conv1", Conv2d(1, 4, 3, padding=1)), ("bn1", BatchNorm2d(4)), ("relu1", ReLU6()),
                 ("conv2", Conv2d(4, 4, 3, padding=1)), ("bn2", BatchNorm2d(4)), ("relu2", ReLU()))
    tail = [Node("add", Add(), ("relu1", "relu2")), Node("pool", AvgPool2d(2), ("add",)),
            Node("flat", Flatten(), ("pool",)), Node("fc", Linear(16, 3), ("flat",))]
    model = Model((*head, *tail), input_shape=(1, 4, 4))
    return initialise(model, rng=np.random.default_rng(1))


def data(n=120):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n)
    x = rng.standard_normal((3, 1, 4, 4))[y] + 0.7 * rng.standard_normal((n, 1, 4, 4))
    x = x.astype(np.float32)
    return SimpleNamespace(train=Split(x[:n // 2], y[:n // 2]), val=Split(x[n // 2:], y[n // 2:]))


KNOBS = {"epochs": 4, "lr": 0.02, "batch_size": 15}


def run(technique, model=None, **more):
    log = more.pop("log", None)
    n_threads = more.pop("n_threads", 1)
    training = technique.training(**KNOBS | more)
    return training.apply(model or branched(), data(), Run(
        np.random.default_rng(3), log or (lambda row: None), n_threads=n_threads))


# ------------------------------------------------------------------------------- where grids stand


def test_act_bits_of_a_layer_are_those_of_what_it_reads():
    model = branched()
    layers = QAT(act_bits={"*": 4, "conv1": 8, "fc": 6}).layers(model)
    assert {n: a.bits for n, a in layers.items()} == {
        "x": 8, "relu1": 6, "relu2": 6, "add": 6, "pool": 6}
    assert list(layers) == places(model)
    assert layers["x"].buffers.keys() == {"scale", "zero_point"}
    assert all("zero_point" not in layers[n].buffers for n in list(layers)[1:])
    assert not QAT(act_bits=0).layers(model)


# ----------------------------------------------------------------------------------- moving ranges


def test_a_range_by_hand():
    a = ema(np.array([-1.0, 2.0]), np.array([-2.0, 2.0]), 0.9)
    np.testing.assert_allclose(a, [-1.1, 2.0])
    assert a[1] == 2.0


class Look(Hook):
    def __init__(self, look):
        super().__init__()
        self.look = look

    def after_step(self, state):
        self.look(state)


@dataclass(frozen=True)
class Looking(Trained):
    word: ClassVar[str] = "looking"
    title: ClassVar[str] = "Looks on"

    look: object = None

    def hooks(self, model, data, run):
        return [Look(self.look)]


def watched(technique, look, **more):
    training = FineTune(methods=(technique, Looking(look)), **KNOBS | more)
    return training.apply(branched(), data(), Run(np.random.default_rng(3)))


def test_activations_wait_and_ranges_stay():
    seen = []

    def look(state):
        layer, bn = (state.model.node(n).layer for n in ("relu1_q", "bn1"))
        form = state.model.forms()["conv1.weight"]
        seen.append((layer.on, float(layer.scale), float(form.scale.data[0]),
                     float(bn.buffers["running_mean"][0])))

    # 4 steps an epoch, 16 in all: on from step 4, still from step 12.
    made = watched(QAT(bits=4, delay=0.25, freeze=0.75, decay=0.5), look)
    on, act, weight, mean = zip(*seen)
    assert on == (False,) * 4 + (True,) * 12
    for each in (act, weight, mean):
        assert len(set(each[:12])) > 8 and len(set(each[11:])) == 1
    assert made.node("relu1_q").layer.on and made.node("relu1_q").layer.observing is None
    assert not made.node("bn1").layer.still
    assert made.node("relu1_q").layer.scale == np.float32(act[-1])


def test_a_range_follows_the_batches():
    # With decay 0 it is the last batch's, which a net of the step before gave.
    seen = []
    watched(QAT(decay=0.0), lambda state: seen.append(
        (state.batch[0], state.model.node("x_q").layer.scale, state.model.node(
            "x_q").layer.zero_point)))
    for x, scale, zero_point in seen:
        expected = affine_params(min(x.min(), 0), max(x.max(), 0), bits=8)
        assert (scale, zero_point) == (np.float32(expected[0]), int(expected[1]))


def test_weights_are_on_the_grid_of_their_latents():
    def look(state):
        form = state.model.forms()["conv2.weight"]
        peak = np.abs(form.latent.data).reshape(4, -1).max(axis=1)
        np.testing.assert_allclose(form.scale.data, peak / 7, rtol=1e-6)

    made = watched(QAT(bits=4, grid="narrow", per="channel"), look)
    form = made.forms()["conv2.weight"]
    assert isinstance(form, Affine) and form.bits == 4 and np.abs(form.q).max() == 7
    one = run(QAT(bits=4, grid="unsigned", per="tensor")).forms()["conv2.weight"]
    assert one.scale.size == 1 and one.zero_point is not None


def test_ranges_are_the_same_for_any_number_of_threads():
    # Of a net without batch norm, whose first batch is split; the ranges of the input alone are of
    # the same numbers, those behind it of sums in another order.
    model = Model(chain(("conv", Conv2d(1, 4, 3)), ("relu", ReLU()), ("flat", Flatten()),
                        ("fc", Linear(16, 3))), input_shape=(1, 4, 4))
    initialise(model, rng=np.random.default_rng(0))
    one, two = (run(QAT(), model, n_threads=n) for n in (1, 2))
    assert one.node("x_q").layer.scale == two.node("x_q").layer.scale
    np.testing.assert_allclose(one.node("relu_q").layer.scale, two.node("relu_q").layer.scale,
                               rtol=1e-4)


# --------------------------------------------------------------------------- batch norm that folds


def test_convolution_and_batch_norm_train_as_one_and_leave_a_convolution():
    kinds = []
    made = watched(QAT(bits=4, bn="fold", bias_bits=8),
                   lambda state: kinds.append([n.layer.kind for n in state.model.nodes]))
    assert kinds[0].count("ConvBN2d") == 2 and "BatchNorm2d" not in kinds[0]
    assert {"ConvBN2d", "BatchNorm2d"}.isdisjoint(n.layer.kind for n in made.nodes)
    for name in ("conv1", "conv2"):
        layer = made.node(name).layer
        assert layer.forms["weight"].bits == 4 and layer.forms["bias"].bits == 8
    assert [n.name for n in made.nodes if n.layer.kind == "ActQuant"] == [
        "x_q", "relu1_q", "relu2_q", "add_q", "pool_q"]


def test_statistics_stay_after_freeze_there_too():
    seen = []
    watched(QAT(bn="fold", freeze=0.5), lambda state: seen.append(
        float(state.model.node("conv1").layer.buffers["running_mean"][0])))
    assert len(set(seen[:8])) == 8 and len(set(seen[7:])) == 1


def test_both_ways_of_batch_norm_learn():
    start = FineTune(**KNOBS | {"epochs": 10}).apply(branched(), data(), Run(
        np.random.default_rng(0)))
    for bn in ("keep", "fold"):
        rounded, trained = (evaluate(run(QAT(bits=3, act_bits=4, bn=bn), start, lr=lr, epochs=8),
                                     data().val).loss for lr in (1e-9, 0.02))
        assert trained < 0.9 * rounded, bn
    with pytest.raises(UserError, match="qat: grid@conv1 must be narrow or full where bn is fold"):
        run(QAT(bn="fold", grid="unsigned"))


# ------------------------------------------------------------------------------ what other methods


def test_pruned_then_shared_then_trained_keeps_mask_and_codebook():
    rng = np.random.default_rng(0)
    pruned = Magnitude(sparsity=0.6).apply(branched(), data(), Run(rng))
    shared = KMeans(bits=3).apply(pruned, data(), Run(rng))
    made = run(QAT(bits=4, act_bits=6), shared)
    for name, form in shared.forms().items():
        after = made.forms()[name]
        if isinstance(form, Codebook):
            np.testing.assert_array_equal(after.index, form.index)
            assert isinstance(after, Codebook) and after.k == form.k
    assert all(layer.bits == 6 for layer in grids(made).values())
    masked = run(QAT(bits=4), pruned)
    for name in ("conv2.weight", "fc.weight"):
        mask = pruned.forms()[name].mask
        assert isinstance(masked.forms()[name], Affine)
        assert not masked.forms()[name].dense().data[~mask].any()


@pytest.mark.parametrize("order", [1, -1])
def test_with_surgery_hidden_weights_go_on_and_come_back(order):
    moves = []

    def look(state):
        form = state.model.forms()["conv2.weight"]
        assert form.behind and isinstance(form, Affine)
        assert form.values()[~form.mask].any(), "what is hidden trains on"
        moves.append(form.mask.copy())

    methods = (QAT(bits=4), DNS(c=0.5, gamma=0.0, stop=1.0))[::order]
    training = FineTune(methods=(*methods, Looking(look)), **KNOBS | {"lr": 0.3, "epochs": 8})
    made = training.apply(branched(), data(), Run(np.random.default_rng(3)))
    assert any((b & ~a).any() for a, b in zip(moves, moves[1:])), "some come back"
    form = made.forms()["conv2.weight"]
    assert isinstance(form, Affine) and not form.behind and 0.1 < 1 - form.mask.mean() < 0.95


def test_on_a_grid_a_form_keeps_its_floats_and_what_a_mask_hides():
    w = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    keep = np.abs(w) > 0.7
    hidden = on_grid(Dense(w).masked(keep, behind=True), Scheme(3))
    np.testing.assert_array_equal(hidden.values(), w)
    assert hidden.behind and not hidden.dense().data[~keep].any()
    np.testing.assert_array_equal(on_grid(Dense(w), Scheme(3)).values(), w)
    cut = on_grid(Dense(w, keep), Scheme(3))
    np.testing.assert_array_equal(cut.values(), np.where(keep, w, 0))
    assert not cut.behind


@dataclass(frozen=True)
class SoftTargets(Trained):
    # Distillation in short: cross-entropy with what another net says, beside the labels.
    word: ClassVar[str] = "soft"
    title: ClassVar[str] = "Soft targets"

    teacher: Model = None

    def hooks(self, model, data, run):
        teacher = self.teacher

        class Soft(Hook):
            name, base_weight = "soft", 0.5

            def loss(self, state):
                said = teacher(state.batch[0]).data.argmax(axis=1)
                return cross_entropy(state.output, said) * 0.5

        return [Soft()]


def test_it_learns_from_soft_targets_too():
    teacher = FineTune(**KNOBS).apply(branched(), data(), Run(np.random.default_rng(0)))
    methods = (QAT(bits=3, act_bits=4), SoftTargets(teacher))
    training = FineTune(methods=methods, **KNOBS | {"epochs": 8})
    made = training.apply(teacher, data(), Run(np.random.default_rng(3)))
    x = data().val.x
    agree = (made(x).data.argmax(1) == teacher(x).data.argmax(1)).mean()
    assert agree > 0.85 and made.forms()["conv1.weight"].bits == 3


def test_training_at_few_bits_is_better_than_rounding():
    teacher = FineTune(**KNOBS | {"epochs": 10}).apply(branched(), data(), Run(
        np.random.default_rng(0)))
    rounded, trained = (run(QAT(bits=2, act_bits=3), teacher, lr=lr, epochs=10) for lr in
                        (1e-9, 0.02))
    a, b = (evaluate(m, data().val).loss for m in (rounded, trained))
    assert b < 0.8 * a


def test_frozen_forms_and_fake_ones_give_the_same(tmp_path):
    # What was trained is what is stored: the net in training and the saved one agree to the bit.
    import minicomp

    last = []
    made = watched(QAT(bits=4, act_bits=5), lambda state: last.append(state.model))
    minicomp.save(made, tmp_path / "x.mcz")
    x = data().val.x
    np.testing.assert_array_equal(last[-1](x).data, made(x).data)
    np.testing.assert_array_equal(minicomp.load(tmp_path / "x.mcz")(x).data, made(x).data)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="qat: bits must be in"):
        QAT(bits=1)
    with pytest.raises(UserError, match="qat: bias_bits must be 0 or in .2, 16., got 1"):
        run(QAT(bias_bits=1))
    with pytest.raises(UserError, match="qat: act_bits@bn1 matches no layer"):
        run(QAT(act_bits={"bn1": 4}))


@pytest.mark.peers
def test_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = (3 * rng.standard_normal(500)).astype(np.float32)
    t, mine = torch.tensor(x, requires_grad=True), Tensor(x, requires_grad=True)
    y = torch.fake_quantize_per_tensor_affine(t, 0.03125, 100, 0, 255)
    y.sum().backward()
    z = fake_quantize(mine, np.float32(0.03125), np.float32(100), lo=0, hi=255)
    np.testing.assert_array_equal(z.data, y.detach().numpy())
    np.testing.assert_array_equal(grad(z.sum(), mine).data, t.grad.numpy())
