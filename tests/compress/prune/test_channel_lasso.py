"""Channel pruning by LASSO: both problems against scikit-learn and lstsq, then the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.prune.channel_lasso import (
    ChannelLasso,
    gram,
    lasso,
    moments,
    reconstruct,
    readers_of,
    sampled,
    sampled_windows,
    select,
    split,
)
from minicomp.compress.channels.groups import groups
from minicomp.compress.prune.filters import Filters
from minicomp.data.dataset import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP, DepthwiseNet32, LeNet5Classic
from minicomp.nn import Add, Conv2d, Dense, Flatten, Linear, Model, Node, ReLU, chain
from minicomp.nn.forms import Half
from minicomp.nn.taps import observe
from minicomp.compress.technique import Run, masked


def dataset(rng, shape, n=400):
    split = Split(rng.standard_normal((n, *shape)).astype(np.float32), rng.integers(3, size=n))
    return Dataset("toy", split, split, None, ("0", "1", "2"), "rendered")


def problem(rng, n=200, channels=5, block=3, outputs=4):
    # X of 5 channels of 3 columns each, weights, and Y = X W' + noise.
    x = rng.standard_normal((n, channels * block)) @ (np.eye(channels * block) + 0.3)
    w = rng.standard_normal((outputs, channels * block)) * np.repeat(
        rng.uniform(0, 1, channels), block
    )
    return (
        x,
        w,
        x @ w.T + 0.1 * rng.standard_normal((n, outputs)) + 3.0,
        np.repeat(np.arange(channels), block),
    )


def test_the_gram_matrix_is_of_the_contributions():
    rng = np.random.default_rng(0)
    x, w, y, of = problem(rng)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    parts = np.stack(
        [(x[:, of == i] @ w[:, of == i].T).ravel() for i in range(5)], axis=1
    )  # X_i W_i'
    G, r = gram(moments(x, y), w, of, 5)
    np.testing.assert_allclose(G, parts.T @ parts / len(x), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(r, parts.T @ y.ravel() / len(x), rtol=1e-10, atol=1e-12)


def test_what_fixed_columns_contribute_is_taken_off_first():
    rng = np.random.default_rng(1)
    x, w, y, of = problem(rng)
    fixed = np.where(of >= 3, -1, of)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    rest = y - x[:, of >= 3] @ w[:, of >= 3].T
    G, r = gram(moments(x, y), w, fixed, 3)
    G2, r2 = gram(moments(x[:, of < 3], rest), w[:, of < 3], of[of < 3], 3)
    np.testing.assert_allclose(G, G2, atol=1e-12)
    np.testing.assert_allclose(r, r2, atol=1e-10)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.9))
def test_lasso_agrees_with_scikit_learn(seed, part):
    Lasso = pytest.importorskip("sklearn.linear_model").Lasso
    rng = np.random.default_rng(seed)
    x, w, y, of = problem(rng)
    dx, dy = x - x.mean(axis=0), y - y.mean(axis=0)
    z = np.stack([(dx[:, of == i] @ w[:, of == i].T).ravel() for i in range(5)], axis=1)
    G, r = gram(moments(x, y), w, of, 5)
    lam = part * np.abs(r).max()
    # scikit-learn divides by the number of rows, samples x outputs; ours by samples.
    found = Lasso(alpha=lam / y.shape[1], fit_intercept=False, tol=1e-12, max_iter=100000).fit(
        z, dy.ravel()
    )
    np.testing.assert_allclose(lasso(G, r, lam, tol=1e-13), found.coef_, atol=1e-6)


def test_lasso_satisfies_its_conditions_and_ends_at_zero():
    rng = np.random.default_rng(2)
    x, w, y, of = problem(rng, channels=8)
    G, r = gram(moments(x, y), w, of, 8)
    lam = 0.2 * np.abs(r).max()
    b = lasso(G, r, lam, tol=1e-12)
    slope = r - G @ b
    np.testing.assert_allclose(slope[b != 0], lam * np.sign(b[b != 0]), rtol=1e-6)
    assert (np.abs(slope) <= lam * (1 + 1e-6)).all() and 0 < np.count_nonzero(b) < 8
    assert not lasso(G, r, 1.01 * np.abs(r).max()).any()
    np.testing.assert_allclose(lasso(G, r, 0.0, tol=1e-14), np.linalg.solve(G, r), rtol=1e-4)


def test_channels_that_contribute_nothing_are_not_selected():
    rng = np.random.default_rng(3)
    x, w, _, of = problem(rng)
    w[:, (of == 1) | (of == 4)] = 0
    G, r = gram(moments(x, x @ w.T), w, of, 5)
    for count in (1, 2, 3):
        b, lam = select(G, r, count)
        assert np.count_nonzero(b) >= count and not b[[1, 4]].any() and lam > 0
    np.testing.assert_allclose(lasso(G, r, 0.0, tol=1e-13)[[0, 2, 3]], 1, rtol=1e-5)


def test_reconstruction_is_least_squares():
    rng = np.random.default_rng(4)
    x, w, y, of = problem(rng)
    stays = of != 2
    new, bias = reconstruct(moments(x, y), w, stays, 0.0)
    a = np.hstack([x[:, stays], np.ones((len(x), 1))])
    best = np.linalg.lstsq(a, y, rcond=None)[0]
    np.testing.assert_allclose(new[:, stays], best[:-1].T, atol=1e-8)
    np.testing.assert_allclose(bias, best[-1], atol=1e-8)
    assert not new[:, ~stays].any()


def test_damping_keeps_old_weights_where_nothing_was_seen():
    rng = np.random.default_rng(5)
    x, w, y, _ = problem(rng)
    x[:, 4] = 0
    new, _ = reconstruct(moments(x, y), w, np.ones(15, bool), 1e-6)
    np.testing.assert_allclose(new[:, 4], w[:, 4])


def test_sampled_windows_are_what_a_convolution_reads():
    rng = np.random.default_rng(6)
    layer = Conv2d(2, 4, 3, stride=2, padding=1)
    layer.forms["weight"] = Dense(rng.standard_normal((4, 2, 3, 3)).astype(np.float32))
    x = rng.standard_normal((5, 2, 7, 7)).astype(np.float32)
    y = layer(x)
    y = y.data if hasattr(y, "data") and not isinstance(y, np.ndarray) else y
    rows, seen = sampled_windows(layer, x, y, 6, rng)
    assert rows.shape == (30, 18)
    np.testing.assert_allclose(
        rows @ layer.forms["weight"].dense().data.reshape(4, -1).T, seen, atol=1e-5
    )


def copies(rng):
    # conv1's channels 3..5 are copies of 0..2, read half as strongly: they can go without any
    # error.
    nodes = chain(
        ("conv1", Conv2d(1, 6, 3)),
        ("relu", ReLU()),
        ("conv2", Conv2d(6, 4, 3)),
        ("flat", Flatten()),
        ("fc", Linear(64, 3)),
    )
    model = Model(nodes, input_shape=(1, 8, 8))
    for name, form in model.forms().items():
        w = rng.standard_normal(form.shape).astype(np.float32)
        if name.startswith("conv1"):
            w[3:] = w[:3]
        if name == "conv2.weight":
            w[:, 3:] = 0.5 * w[:, :3]
        model.set_form(name, Dense(w))
    return model


def test_copies_are_removed_without_error():
    rng = np.random.default_rng(7)
    model, data = copies(rng), dataset(rng, (1, 8, 8))
    small = ChannelLasso(sparsity={"conv1": 0.5, "conv2": 0.0}, samples=300, damping=1e-9).apply(
        model, data, Run(rng))
    assert small.shapes()["conv1"] == (3, 6, 6)
    x = data.train.x[:50]
    scale = np.abs(model(x).data).max()
    np.testing.assert_allclose(small(x).data / scale, model(x).data / scale, atol=1e-3)
    plain = Filters(sparsity={"conv1": 0.5, "conv2": 0.0}).apply(model, data, Run(rng))
    assert np.abs(plain(x).data / scale - model(x).data / scale).max() > 0.1


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda rng: MLP([12, 20, 16, 3], rng=rng), (12,)),
        (lambda rng: LeNet5Classic(rng=rng), (1, 28, 28)),
        (lambda rng: DepthwiseNet32(rng=rng), (3, 32, 32)),
    ],
)
def test_outputs_stay_closer_than_by_norm(make, shape):
    rng = np.random.default_rng(8)
    model, data = make(rng), dataset(rng, shape, 60 if len(shape) > 1 else 400)
    before = b"".join(a.tobytes() for a in model.state_dict().values())
    lasso_net = ChannelLasso(sparsity=0.4, samples=len(data.train), positions=30).apply(
        model, data, Run(rng))
    norm_net = Filters(sparsity=0.4).apply(model, data, Run(rng))
    assert lasso_net.count() == norm_net.count()
    y = model(data.val.x).data
    error, plain = (
        float(np.square(net(data.val.x).data - y).mean()) for net in (lasso_net, norm_net)
    )
    assert error < 0.5 * plain
    assert b"".join(a.tobytes() for a in model.state_dict().values()) == before


def test_moments_of_a_layer_are_of_old_outputs_and_present_inputs():
    rng = np.random.default_rng(9)
    model = MLP([4, 5, 3], rng=rng)
    made = model.copy()
    made.set_form("fc1.bias", Dense(np.ones(5, np.float32)))
    x = rng.standard_normal((50, 4)).astype(np.float32)
    (reader,) = readers_of(made, groups(made)[0])
    assert reader is made.node("fc2")
    batches = zip(
        observe(made, x, ["act1"], batch_size=20), observe(model, x, ["fc2"], batch_size=20)
    )
    (m,) = sampled([reader], batches, {"fc2": np.arange(3)}, 1, rng)["fc2"]
    a = made(x, taps=("act1",))[1]["act1"].data
    np.testing.assert_allclose(m.mean_x, a.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(m.mean_y, model(x).data.mean(axis=0), rtol=1e-4, atol=1e-6)
    ((_, of),) = split(made.node("fc2"), groups(made)[0])
    np.testing.assert_array_equal(of, np.arange(5))


def test_the_cost_is_linear_in_depth(layer_calls):
    # Layer evaluations of chains: every further layer costs the same.
    def cost(depth):
        rng = np.random.default_rng(10)
        model, data = MLP([6] * (depth + 1), rng=rng), dataset(rng, (6,), 50)
        layer_calls.clear()
        ChannelLasso(sparsity=0.3).apply(model, data, Run(rng))
        return layer_calls["Linear"]

    c8, c16, c32 = cost(8), cost(16), cost(32)
    assert c32 - c16 == 2 * (c16 - c8) and c32 < 4.7 * c8
    assert 32 <= c32 <= 5 * 32  # maker and reader of a group in both nets, and once to pass it


def test_tied_layers_are_read_in_the_net_as_pruned_so_far():
    # Every group's moments, walked, against both nets run from their input. "c" is added to "a":
    # it has lost outputs when its own inputs are chosen.
    rng, seen, gone = np.random.default_rng(11), [], {}
    nodes = chain(("a", Linear(5, 8)), ("relu", ReLU()), ("b", Linear(8, 6)), ("c", Linear(6, 8)))
    nodes += (Node("add", Add(), ("c", "relu")), Node("d", Linear(8, 7), ("add",)))
    nodes += (Node("o", Linear(7, 3), ("d",)),)
    model, data = Model(nodes, input_shape=(5,)), dataset(rng, (5,), 300)
    for name, form in model.forms().items():
        model.set_form(name, Dense(rng.standard_normal(form.shape).astype(np.float32)))

    class Watched(ChannelLasso):
        def thinner(self, made, group, readers, parts, run):
            for node in readers:
                x = made(data.train.x, taps=node.inputs)[1][node.inputs[0]].data
                y = model(data.train.x, taps=(node.name,))[1][node.name].data
                y = y[:, gone.get(node.name, slice(None))]
                (m,), direct = parts[node.name], moments(x.astype(np.float64), y)
                for part in ("S", "T", "mean_x", "mean_y"):
                    a, b = getattr(m, part), getattr(direct, part)
                    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())
                seen.append((group.name, node.name))
            made, kept = super().thinner(made, group, readers, parts, run)
            gone.update(group.keep(kept))
            return made, kept

    made = Watched(sparsity=0.25).apply(model, data, Run(rng))
    assert seen == [("a+c", "b"), ("a+c", "d"), ("b", "c"), ("d", "o")]
    assert made.shapes()["add"] == (6,) and made.shapes()["d"] == (5,)


def test_what_is_refused():
    rng = np.random.default_rng(0)
    data, model = dataset(rng, (4,), 30), MLP([4, 5, 3], rng=rng)
    for knobs, message in (
        ({"samples": 9, "sparsity": 0.95}, "would remove all 5 channels of fc1"),
    ):
        with pytest.raises(UserError, match=message):
            ChannelLasso(**knobs).apply(model, data, Run(rng))
    pruned = masked(model, {"fc2.weight": rng.random((3, 5)) > 0.5})
    with pytest.raises(
        UserError, match="fc2.weight has pruned weights, which least squares would fill"
    ):
        ChannelLasso(samples=9).apply(pruned, data, Run(rng))


def test_what_is_refitted_keeps_its_form():
    rng = np.random.default_rng(12)
    model, data = MLP([4, 6, 3], rng=rng), dataset(rng, (4,), 60)
    model.set_form("fc2.weight", Half(model.forms()["fc2.weight"].dense().data))
    model = masked(model, {"fc2.bias": np.array([True, False, True])}).frozen()
    made = ChannelLasso(sparsity=0.5, samples=50).apply(model, data, Run(rng)).forms()
    assert made["fc2.weight"].kind == "half" and made["fc2.bias"].dense().data[1] == 0
    np.testing.assert_array_equal(made["fc2.bias"].mask, [True, False, True])
    assert not any(form.trainable for form in made.values())
