"""Network slimming: the penalty, the percentile, and what removal changes."""

from types import SimpleNamespace

import numpy as np
import pytest

from minicomp import Tensor
from minicomp.compress.channels.groups import groups
from minicomp.compress.prune.slimming import Slimming, l1_subgradient, scales, switched_off
from minicomp.compress.technique import Run
from minicomp.data.dataset import Split
from minicomp.errors import UserError
from minicomp.models import MLP, DepthwiseNet32
from minicomp.nn import BatchNorm1d, Codebook, Dense, Linear, Model, ReLU, chain
from minicomp.nn.forms import Half
from minicomp.nn.init import he_normal
from minicomp.nn.losses import l1
from minicomp.train import evaluate


def net(rng, sizes=(10, 24, 16, 3)):
    named = []
    for i, (a, b) in enumerate(zip(sizes, sizes[1:]), start=1):
        named += [(f"fc{i}", Linear(a, b)), (f"bn{i}", BatchNorm1d(b)), (f"relu{i}", ReLU())]
    model = Model(chain(*named[:-2]), input_shape=(sizes[0],))
    for name, form in model.forms().items():
        if len(form.shape) > 1:
            model.set_form(name, Dense(he_normal(form.shape, rng=rng)))
        elif name.startswith("bn"):
            model.set_form(name, Dense(rng.uniform(0.2, 1, form.shape).astype(np.float32)))
    for name, a in model.buffers().items():
        a[...] = rng.uniform(0.5, 1.5, a.shape)
    return model


def toy(rng, n=400):
    # Three informative inputs of ten.
    x = rng.standard_normal((n, 10)).astype(np.float32)
    y = np.argmax(x[:, :3], axis=1)
    half = n // 2
    return SimpleNamespace(
        train=Split(x[:half], y[:half]), val=Split(x[half:], y[half:])
    )


def test_subgradient_is_that_of_the_penalty():
    gamma = Tensor(np.array([0.5, -2.0, 0.0]), True)
    (l1([gamma]) * 0.1).backward()
    np.testing.assert_allclose(l1_subgradient(gamma.data, 0.1), gamma.grad)
    assert l1_subgradient(np.ones(2, np.float32), 1e-4).dtype == np.float32


def test_channels_with_gamma_and_beta_0_go_without_a_trace():
    rng = np.random.default_rng(0)
    model = net(rng)
    for name in ("bn1.weight", "bn1.bias"):
        v = model.forms()[name].dense().data.copy()
        v[:12] = 0
        model.set_form(name, Dense(v))
    small = Slimming(sparsity={"fc1": 0.5, "fc2": 0.0}, scope="local", fold=False).slimmed(model)
    x = rng.standard_normal((30, 10)).astype(np.float32)
    assert small.shapes()["fc1"] == (12,)
    np.testing.assert_allclose(small(x).data, model(x).data, atol=1e-6)
    kept = model.forms()["bn1.weight"].dense().data[12:]
    np.testing.assert_array_equal(small.forms()["bn1.weight"].dense().data, kept)
    np.testing.assert_array_equal(
        small.buffers()["bn1.running_var"], model.buffers()["bn1.running_var"][12:]
    )


def test_the_papers_counts():
    model = Model(
        chain(
            ("fc1", Linear(784, 500)),
            ("bn1", BatchNorm1d(500)),
            ("relu1", ReLU()),
            ("fc2", Linear(500, 300)),
            ("bn2", BatchNorm1d(300)),
            ("relu2", ReLU()),
            ("fc3", Linear(300, 10)),
        ),
        input_shape=(784,),
    )
    small = Slimming(sparsity=0.8, scope="local").slimmed(model)
    linear = sum(np.prod(f.shape) for n, f in small.forms().items() if n.startswith("fc"))
    assert linear == 85_170  # 784-100-60-10 with biases
    assert 1 - 85_000 / 545_000 == pytest.approx(0.844, abs=5e-4)


def test_one_percentile_over_all_layers():
    rng = np.random.default_rng(1)
    model = net(rng)
    gammas = [np.abs(model.forms()[f"bn{i}.weight"].dense().data) for i in (1, 2)]
    cut = np.sort(np.concatenate(gammas))[round(0.6 * 40)]
    small = Slimming(sparsity=0.6).slimmed(model)
    for i, gamma in enumerate(gammas, start=1):
        np.testing.assert_array_equal(
            small.forms()[f"bn{i}.weight"].dense().data, gamma[gamma >= cut]
        )


def test_folding_keeps_what_beta_does():
    rng = np.random.default_rng(2)
    model = net(rng)
    small = Slimming(sparsity=0.5).slimmed(model)
    x = rng.standard_normal((30, 10)).astype(np.float32)
    scored = [(g, scales(model, g)) for g in groups(model)]
    flat = np.sort(np.concatenate([s for _, s in scored]))
    off = switched_off(model, [(g, s >= flat[20]) for g, s in scored])
    np.testing.assert_allclose(small(x).data, off(x).data, atol=1e-5)
    dropped = Slimming(sparsity=0.5, fold=False).slimmed(model)
    assert np.abs(dropped(x).data - off(x).data).max() > 0.1


def test_training_under_the_penalty_makes_channels_removable():
    # The claim: after training with lam, cutting most channels costs little; without lam, much.
    rng = np.random.default_rng(3)
    data, model = toy(rng), net(rng)
    slim, plain = (
        Slimming(sparsity=0.7, lam=lam)
        .training(epochs=40, lr=0.05, batch_size=50)
        .apply(model, data, Run(np.random.default_rng(0)))
        for lam in (0.1, 0.0)
    )
    assert sum(slim.shapes()[n][0] for n in ("fc1", "fc2")) == 40 - 28
    a, b = evaluate(slim, data.val).error, evaluate(plain, data.val).error
    assert a < 0.15 and a < 0.5 * b, (a, b)


def test_channels_joined_by_an_addition_are_worth_the_sum():
    model = DepthwiseNet32(rng=np.random.default_rng(4))
    group = next(g for g in groups(model) if len(g.nodes) > 1)
    np.testing.assert_allclose(
        scales(model, group), 3
    )  # block2.pw, block3.dw and block3.pw: gamma 1 each
    small = Slimming(sparsity=0.5).slimmed(model)
    assert small(np.zeros((2, 3, 32, 32), np.float32)).shape == (2, 10)


def test_one_percentile_needs_one_sparsity():
    with pytest.raises(UserError, match="slimming: scope global needs one sparsity"):
        Slimming(sparsity={"fc*": 0.5})


def test_what_a_model_does_not_allow():
    rng = np.random.default_rng(0)
    with pytest.raises(
        UserError, match="slimming: the model has no layer whose channels a batch norm scales"
    ):
        Slimming().apply(MLP([10, 5, 3], rng=rng), toy(rng), Run(rng))
    with pytest.raises(UserError, match="would remove all 24 channels of fc1"):
        Slimming(sparsity=0.99, scope="local").slimmed(net(rng))
    with pytest.raises(UserError, match="would remove all channels of a layer"):
        Slimming(sparsity=0.99).slimmed(net(rng))


def test_scales_keep_their_kind_and_their_mask():
    model = net(np.random.default_rng(5))
    gamma = model.forms()["bn1.weight"].dense().data
    model.set_form("bn1.weight", Half(gamma, mask=np.arange(24) != 3))
    off = switched_off(model, [(g, np.arange(g.size) > 0) for g in groups(model)])
    form = off.forms()["bn1.weight"]
    assert form.kind == "half" and form.dense().data[0] == 0
    np.testing.assert_array_equal(form.mask, np.arange(24) != 3)
    np.testing.assert_array_equal(
        form.dense().data[1:], model.forms()["bn1.weight"].dense().data[1:]
    )
    model.set_form("bn1.weight", Codebook(np.zeros(24, int), [0.5]))
    with pytest.raises(UserError, match="bn1.weight: a codebook without a pinned zero"):
        Slimming(sparsity=0.5).check(model)
