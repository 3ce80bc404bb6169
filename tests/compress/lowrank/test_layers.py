"""Layers replaced by factors: what they compute, cost and say, and what later steps make of it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import (
    CP,
    PTQ,
    SVD,
    ActivationSVD,
    Flattened,
    KMeans,
    Magnitude,
    Pipeline,
    Run,
    SpatialSVD,
    Tucker,
    WeightSVD,
    net_of,
)
from minicomp.compress.lowrank import clocked, truncation
from minicomp.compress.lowrank.activation_svd import output_error
from minicomp.compress.lowrank.chains import decoded
from minicomp.compress.lowrank.cp import DEGENERATE, cp_als, cp_full, degeneracy
from minicomp.compress.lowrank.flattened import flattened_conv, flattened_filters, rank_one
from minicomp.compress.lowrank.tucker import tucker2, tucker2_full
from minicomp.deploy import lower
from minicomp.errors import UserError
from minicomp.models import LeNet300
from minicomp.nn import Conv2d, Dense, Linear, Model, Node, chain

RNG = np.random.default_rng(0)
FORMS = [  # kernel, stride, padding, groups
    ((3, 3), (1, 1), (0, 0), 1), ((3, 5), (2, 1), (1, 2), 1), ((5, 3), (1, 2), (2, 0), 1),
    ((2, 4), (2, 3), (1, 1), 2), ((3, 3), (1, 1), (1, 1), 4), ((1, 1), (1, 1), (0, 0), 1),
]


def conv(kernel, stride, padding, groups, bias=True):
    layer = Conv2d(4, 8, kernel, stride, padding, groups, bias)
    for part, form in layer.forms.items():
        layer.forms[part] = Dense(RNG.standard_normal(form.shape).astype(np.float32))
    return Model([Node("conv", layer)], input_shape=(4, 11, 12))


def run(log=None):
    return Run(np.random.default_rng(7), log)


def images(model, n=3):
    return RNG.standard_normal((n, *model.input_shape)).astype(np.float32)


def same(a, b, x, atol=2e-4):
    np.testing.assert_allclose(a(x).data, b(x).data, atol=atol)


@pytest.mark.parametrize("kernel, stride, padding, groups", FORMS)
@pytest.mark.parametrize("kind", [WeightSVD, SpatialSVD, Tucker])
def test_of_full_rank_a_convolution_is_what_it_was(kind, kernel, stride, padding, groups):
    model = conv(kernel, stride, padding, groups, bias=groups == 1)
    if kind is WeightSVD:
        technique = kind(rank=min(8 // groups, 4 // groups * kernel[0] * kernel[1]))
    elif kind is SpatialSVD:
        technique = kind(rank=min(8 // groups * kernel[1], 4 // groups * kernel[0]))
    else:
        technique = kind(ranks="given", rank_out=8, rank_in=4)
    if max(kernel) == 1 and kind is not WeightSVD or groups > 1 and kind is Tucker:
        with pytest.raises(UserError, match="the model has no"):
            technique.apply(model, None, run())
        return
    made = technique.apply(model, None, run())
    x = images(model)
    same(made, model, x)
    assert [n.layer.kind for n in made.nodes] == ["Conv2d"] * (3 if kind is Tucker else 2)
    assert [("bias" in n.layer.forms) for n in made.nodes][:-1] == [False] * (len(made.nodes) - 1)
    np.testing.assert_allclose(lower(made)(x), made(x).data, atol=1e-4)


@pytest.mark.parametrize("kernel, stride, padding, groups", FORMS[:5])
def test_low_rank_convolutions_are_the_nearest_filters(kernel, stride, padding, groups):
    # The chain computes what one convolution with the low-rank filters does.
    model = conv(kernel, stride, padding, groups)
    w = decoded(model.nodes[0].layer)
    O, C, h, width = w.shape
    parts = w.reshape(groups, O // groups, C, h, width)
    for kind, order in ((WeightSVD, (0, 1, 2, 3, 4)), (SpatialSVD, (0, 1, 4, 2, 3))):
        m = parts.transpose(order).reshape(groups, -1, C * h * (width if order[2] == 2 else 1))
        U, s, Vt = np.linalg.svd(m, full_matrices=False)
        near = (U[..., :1] * s[:, None, :1] @ Vt[:, :1]).reshape([parts.shape[i] for i in order])
        near = near.transpose(np.argsort(order)).reshape(w.shape)
        other = model.copy()
        other.nodes[0].layer.weight = near
        rows = []
        made = kind(rank=1).apply(model, None, run(rows.append))
        same(made, other, images(model))
        error = np.linalg.norm(w - near) / np.linalg.norm(w)
        assert rows[0]["error"] == pytest.approx(error, rel=1e-6)
        assert rows[0]["factors"] == sum(decoded(n.layer).size for n in made.nodes)
        pays = rows[0]["break_even"]
        each = rows[0]["factors"]
        assert pays * each < w.size <= (pays + 1) * each
        assert f"pays up to {pays}" in rows[0]["text"]


def fc(*sizes):
    return net_of(*[(RNG.standard_normal((o, i)), RNG.standard_normal(o))
                    for i, o in zip(sizes, sizes[1:])])


def test_linear_layers_of_any_rank_are_their_truncations():
    model, x = fc(9, 6, 4), RNG.standard_normal((5, 9)).astype(np.float32)
    w = decoded(model.node("fc1").layer)
    for rank in (1, 3, 6):
        made = SVD(rank={"fc1": rank}).apply(model, None, run())
        U, s, Vt = np.linalg.svd(w)
        other = model.copy()
        other.node("fc1").layer.weight = (U[:, :rank] * s[:rank]) @ Vt[:rank]
        same(made, other, x, 1e-5)
        assert [n.name for n in made.nodes] == ["fc1.0", "fc1.1", "relu1", "fc2"]
        a, b = (decoded(made.node(n).layer) for n in ("fc1.0", "fc1.1"))
        np.testing.assert_allclose(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=0), rtol=1e-5)
        drawn = SVD(rank={"fc1": rank}, method="randomized", power=6).apply(model, None, run())
        same(drawn, other, x, 1e-3)
    assert made.origin_bytes == model.origin_bytes
    again = SVD(rank={"fc1.0": 2}).apply(made, None, run())
    assert [n.name for n in again.nodes][:3] == ["fc1.0.0", "fc1.0.1", "fc1.1"]


def test_names_that_are_taken_are_not_given_again():
    nodes = chain(("a", Linear(6, 5)), ("a.0", Linear(5, 4)))
    made = SVD(rank={"a": 1}).apply(
        Model([replace(n, layer=filled(n.layer)) for n in nodes], input_shape=(6,)), None, run())
    assert [n.name for n in made.nodes] == ["a.0_", "a.1", "a.0"]


def filled(layer):
    layer.weight = RNG.standard_normal(layer.weight.shape)
    return layer


def test_budgets_are_kept_and_used():
    model = LeNet300(rng=np.random.default_rng(1))
    for knobs, size in (({"bytes": 300_000}, Model.dense_bytes),
                        ({"macs": 90_000}, lambda m: sum(m.macs().values()))):
        (name, budget), = knobs.items()
        technique = SVD(**knobs, skip={"fc3": True})
        made = technique.apply(model, None, run())
        assert 0.98 * budget < size(made) <= budget
        assert "fc3" in [n.name for n in made.nodes]
        with pytest.raises(UserError, match=f"svd: {name} must be at least .*, got 100") as failure:
            SVD(**{name: 100}, skip={"fc3": True}).apply(model, None, run())
        least = int(str(failure.value).split("least ")[1].split(",")[0])
        SVD(**{name: least}, skip={"fc3": True}).apply(model, None, run())
        with pytest.raises(UserError, match="must be at least"):
            SVD(**{name: least - 1}, skip={"fc3": True}).apply(model, None, run())
    whole = SVD(bytes=model.dense_bytes()).apply(model, None, run())
    assert whole.spec() == model.spec()


def test_ratio_and_energy_decide_by_layer():
    model, rows = LeNet300(rng=np.random.default_rng(1)), []
    SVD(ratio=0.25).apply(model, None, run(rows.append))
    assert [(r["layer"], r["rank"], r["break_even"]) for r in rows] == [
        ("fc1", 54, 216), ("fc2", 18, 74), ("fc3", 2, 9)]
    rows.clear()
    made = SVD(energy=0.5, skip={"fc3": True}).apply(model, None, run(rows.append))
    for row in rows:
        s = np.square(np.linalg.svd(decoded(model.node(row["layer"]).layer), compute_uv=False))
        t = row["rank"]
        assert s[:t].sum() >= 0.5 * s.sum() > s[:t - 1].sum()
        assert row["error"] == pytest.approx(np.sqrt(1 - s[:t].sum() / s.sum()))
    assert len(made.nodes) == len(model.nodes) + 2
    rows.clear()
    same_net = SVD(energy=1.0).apply(model, None, run(rows.append))
    assert len(same_net.nodes) == len(model.nodes) and rows[0]["rank"] is None
    assert "stays as it is" in rows[0]["text"]


def test_the_clock_decides_by_the_least_error_in_time(monkeypatch):
    # Times as if a layer took 1 ms as it is, and factors 0.1 ms a rank: what was measured decides.
    def measured(nets, batch, seconds=0.0):
        assert batch == 8
        return {t: float(t) / 10 if t else float(len(net.forms()) // 2)
                for t, net in nets.items()}

    monkeypatch.setattr(clocked, "milliseconds", measured)
    model, rows = fc(12, 12, 12), []
    cuts = SVD(rank=1).plain_cuts(model)
    lost = {n: [clocked.dropped(c.spectrum, t) for t in range(1, 6)] for n, c in cuts.items()}
    assert clocked.ladder(5) == [1, 2, 3, 4, 5] and clocked.ladder(0) == []
    assert len(clocked.ladder(500)) == clocked.LADDER and clocked.ladder(500)[-1] == 500
    tried = {n: dict(enumerate([0.0, *errors])) for n, errors in lost.items()}
    for ms in (0.5, 0.9, 1.3):
        made = SVD(ms=ms, batch=8).apply(model, None, run(rows.append))
        _, a, b = min((tried["fc1"][a] + tried["fc2"][b], a, b) for a in range(6) for b in range(6)
                      if (a or 10) + (b or 10) <= round(10 * ms))
        widths = [n.layer.out_features for n in made.nodes if n.name.endswith(".0")]
        assert widths == [t for t in (a, b) if t]
        assert f"took 2 ms and takes about {((a or 10) + (b or 10)) / 10:.3g}" in rows[2]["text"]
        rows.clear()
    with pytest.raises(UserError, match="svd: ms must be at least 0.2, measured here, for 8"):
        SVD(ms=0.1, batch=8).apply(model, None, run())
    assert len(SVD(ms=2.5, batch=8).apply(model, None, run()).nodes) == len(model.nodes)


def test_milliseconds_are_measured():
    nets = {t: clocked.alone([Linear(64, t), Linear(t, 64)], (64,)) for t in (1, 60)}
    times = clocked.milliseconds(nets, 4, 0.01)
    assert set(times) == {1, 60} and all(0 < t < 1e3 for t in times.values())


def data(model, n=200):
    x = RNG.standard_normal((n, *model.input_shape)) * np.linspace(0.1, 3, model.input_shape[-1])
    return SimpleNamespace(train=SimpleNamespace(x=(x + 1).astype(np.float32),
                                                 y=np.zeros(n, np.int64)))


@pytest.mark.parametrize("bias", [True, False])
def test_activation_svd_changes_outputs_least(bias):
    # Against brute force: the moment, or the covariance and the mean, of the same inputs.
    model = fc(8, 6)
    split = data(model)
    X = split.train.x.astype(np.float64)
    technique = ActivationSVD(rank=2, bias=bias, damping=0.0, samples=200)
    made = technique.apply(model, split, run())
    w, mean = decoded(model.nodes[0].layer), X.mean(axis=0) if bias else np.zeros(8)
    centred = X - mean
    L = np.linalg.cholesky(centred.T @ centred / len(X))
    U, s, Vt = np.linalg.svd(w @ L)
    best = (U[:, :2] * s[:2]) @ Vt[:2] @ np.linalg.inv(L)
    b = model.nodes[0].layer.bias.dense().data + (w - best) @ mean
    np.testing.assert_allclose(made(split.train.x).data, X @ best.T + b, atol=1e-3)
    plain = SVD(rank=2).apply(model, None, run())
    errors = [np.square(m(split.train.x).data - model(split.train.x).data).sum()
              for m in (made, plain)]
    assert errors[0] < 0.9 * errors[1]
    if not bias:
        assert errors[0] / len(X) == pytest.approx(
            output_error(w, best, centred.T @ centred / len(X)), rel=1e-3)


def test_activation_svd_of_convolutions_and_dead_inputs():
    model = conv((3, 3), (1, 1), (1, 1), 2)
    split = data(model, 30)
    split.train.x[:, 1] = 0  # a channel that is always 0: its moment is singular
    made = ActivationSVD(rank=3, samples=30).apply(model, split, run())
    plain = WeightSVD(rank=3).apply(model, None, run())
    errors = [np.square(m(split.train.x).data - model(split.train.x).data).sum()
              for m in (made, plain)]
    assert errors[0] < 0.9 * errors[1]
    full = ActivationSVD(rank=4, samples=30).apply(model, split, run())
    same(full, model, split.train.x, 1e-3)


def test_tucker_is_hooi_and_never_worse_than_hosvd():
    w = RNG.standard_normal((7, 6, 3, 3))
    core, A, B = tucker2(w, (7, 6))
    np.testing.assert_allclose(tucker2_full(core, A, B), w, atol=1e-12)
    for P, Q in ((3, 2), (5, 5), (1, 1)):
        errors = []
        for rounds in (0, 1, 30):
            core, A, B = tucker2(w, (P, Q), rounds)
            np.testing.assert_allclose(A.T @ A, np.eye(P), atol=1e-12)
            np.testing.assert_allclose(B.T @ B, np.eye(Q), atol=1e-12)
            full = tucker2_full(core, A, B)
            # projections: Pythagoras
            error = np.square(w - full).sum()
            assert error == pytest.approx(np.square(w).sum() - np.square(core).sum())
            errors.append(error)
        assert errors[0] >= errors[1] - 1e-9 and errors[1] >= errors[2] - 1e-9
    assert errors[0] > errors[2], "with one channel each HOOI is better than HOSVD"
    core, A, B = tucker2(w, (3, 2), 300)  # at the end each is the best for the other
    for F, G, side in ((A, B, (1, 0)), (B, A, (0, 1))):
        rest = np.moveaxis(np.tensordot(G, w, axes=(0, side[0])), 0, side[0])
        s = np.linalg.svd(np.moveaxis(rest, side[1], 0).reshape(w.shape[side[1]], -1),
                          compute_uv=False)
        assert np.square(s[:F.shape[1]]).sum() == pytest.approx(np.square(core).sum(), rel=1e-7)


def test_tucker_takes_its_ranks_from_vbmf():
    rng = np.random.default_rng(8)
    signal = tucker2_full(rng.standard_normal((3, 2, 3, 3)), rng.standard_normal((20, 3)),
                          rng.standard_normal((12, 2)))
    model = net_of(signal + 0.05 * rng.standard_normal(signal.shape))
    made = Tucker().apply(model, None, run())
    assert [n.layer.out_channels for n in made.nodes[:3]] == [2, 3, 20]
    energetic = Tucker(ranks="energy", energy=0.999).apply(model, None, run())
    assert [n.layer.out_channels for n in energetic.nodes[:3]] == [2, 3, 20]
    with pytest.raises(UserError, match=r"tucker: rank_out and rank_in of conv1 must be in 1..20"):
        Tucker(ranks="given", rank_out=21).apply(model, None, run())


def test_cp_finds_the_terms_there_are_and_computes_them():
    rng = np.random.default_rng(9)
    factors = [rng.standard_normal((n, 3)) for n in (6, 5, 3, 4)]
    w = cp_full(factors)
    found = cp_als(w, 3, rounds=2000, starts=4, rng=rng)
    np.testing.assert_allclose(cp_full(found), w, atol=1e-3 * np.abs(w).max())
    assert degeneracy(found, w) < 2
    norms = np.array([np.linalg.norm(f, axis=0) for f in found])
    np.testing.assert_allclose(norms, norms[:1].repeat(4, axis=0))
    model = Model([Node("conv", filled(Conv2d(5, 6, (3, 4), (2, 1), (1, 2))))],
                  input_shape=(5, 9, 8))
    made = CP(rank=4).apply(model, None, run())
    A, B, V, H = (decoded(made.node(f"conv.{i}").layer) for i in (3, 0, 1, 2))
    other = model.copy()
    other.nodes[0].layer.weight = cp_full([A[:, :, 0, 0], B[:, :, 0, 0].T, V[:, 0, :, 0].T,
                                           H[:, 0, 0].T])
    same(made, other, images(model))


def test_a_degenerate_cp_is_told_and_a_ridge_holds_it():
    # a b b + b a b + b b a is of rank 3 and as near to rank 2 as one likes, by terms that grow.
    a, b = np.eye(2)
    w = sum(np.einsum("i,j,k->ijk", *v) for v in ((a, b, b), (b, a, b), (b, b, a)))
    grown = cp_als(w, 2, rounds=400, rng=np.random.default_rng(0))
    held = cp_als(w, 2, rounds=400, ridge=1e-2, rng=np.random.default_rng(0))
    assert degeneracy(grown, w) > DEGENERATE > 1.5 * degeneracy(held, w)
    rows = []
    model = net_of(w.reshape(2, 2, 2, 1))
    CP(rank=2, rounds=400).apply(model, None, run(rows.append))
    assert "degenerate" in rows[0]["text"] and rows[0]["error"] < 0.2


def test_flattened_filters_are_three_passes_and_rank_one_is_best():
    rng = np.random.default_rng(10)
    alpha, beta, gamma = (rng.standard_normal((4, n)) for n in (3, 3, 5))
    w = flattened_filters(alpha, beta, gamma)
    x = rng.standard_normal((2, 3, 8, 9))
    layer = Conv2d(3, 4, (3, 5), bias=False)
    layer.weight = w
    model = Model([Node("conv", layer)], input_shape=(3, 8, 9))
    full = model(x.astype(np.float32)).data
    for one, y in zip(x, full):
        np.testing.assert_allclose(flattened_conv(one, alpha, beta, gamma), y, atol=1e-4)
    made = Flattened(start="cp").apply(model, None, run())
    same(made, model, x.astype(np.float32))
    noisy = rng.standard_normal((4, 3, 3, 5))
    best = flattened_filters(*rank_one(noisy, 500))
    for i, f in enumerate(noisy):
        found = np.square(f - best[i]).sum()
        tried = [np.square(f - cp_full(cp_als(f, 1, starts=5, rng=rng))).sum() for _ in range(3)]
        assert found <= min(tried) * 1.05, "a start from singular vectors seldom ends elsewhere"


def test_a_flattened_net_is_made_to_be_trained():
    model = conv((3, 3), (2, 1), (1, 1), 1)
    made = Flattened(sets=2).apply(model, None, run())
    assert made.shapes()["conv.5"] == model.shapes()["conv"]
    assert [n.layer.groups for n in made.nodes] == [1, 8, 8, 1, 8, 8]
    assert all((n.layer.bias.dense().data == 0).all() for n in made.nodes)
    other = Flattened(sets=2).apply(model, None, Run(np.random.default_rng(8)))
    assert (decoded(made.nodes[0].layer) != decoded(other.nodes[0].layer)).any()
    with pytest.raises(UserError, match="flattened: start cp has one set, got 2"):
        Flattened(start="cp", sets=2)
    even = conv((2, 2), (1, 1), (0, 0), 1)
    with pytest.raises(UserError, match="sets of conv must be 1, got 2: its kernel is even"):
        Flattened(sets=2).apply(even, None, run())


def test_factors_are_pruned_shared_quantized_and_saved(tmp_path):
    rng = np.random.default_rng(11)
    model = net_of(rng.standard_normal((6, 1, 3, 3)), (rng.standard_normal((4, 6 * 36)),
                                                       rng.standard_normal(4)),
                   input_shape=(1, 8, 8))
    x = rng.random((40, 1, 8, 8), np.float32)
    split = SimpleNamespace(x=x, y=np.arange(40) % 4)
    given = SimpleNamespace(train=split, val=split)
    low = Pipeline(steps=(SpatialSVD(rank=2), SVD(rank={"fc*": 3}))).apply(model, given, run())
    pruned = Magnitude(sparsity=0.5).apply(low, given, run())
    for made in (low, pruned, KMeans(bits=3).apply(pruned, given, run())):
        minicomp.save(made, tmp_path / "a.mcz")
        np.testing.assert_array_equal(minicomp.load(tmp_path / "a.mcz")(x).data, made(x).data)
        np.testing.assert_allclose(lower(made)(x), made(x).data, atol=1e-3)
    program = lower(PTQ(samples=40).apply(low, given, run()), precision="int8")
    z, y = program(x), low(x).data
    assert np.abs(z - y).max() < 0.1 * np.abs(y).max()


@pytest.mark.parametrize("technique, message", [
    (lambda: SVD(), "svd: one of rank, energy, ratio, bytes, macs, ms must be given, got none"),
    (lambda: SVD(rank=2, ms=1.0), "must be given, got rank and ms"),
    (lambda: SVD(energy=0.5, method="randomized"), "method randomized takes a rank or a ratio"),
    (lambda: SVD(rank=5).apply(fc(9, 4), None, run()),
     r"svd: rank of fc1 must be in 1..4, got 5; its factors pay up to 2"),
    (lambda: SVD(ms=1.0, skip=True).apply(fc(9, 4), None, run()),
     "svd: skip must leave a layer to factor, got one that skips fc1"),
    (lambda: SVD(rank=1).apply(conv(*FORMS[0]), None, run()), "svd: the model has no layer"),
    (lambda: SVD(rank=1).apply(KMeans(k=2).apply(fc(9, 4), None, run()), None, run()),
     "svd: fc1.weight must hold plain values, got a codebook: factor before sharing"),
])
def test_what_cannot_be_is_said(technique, message):
    with pytest.raises(UserError, match=message):
        technique()


def test_a_chosen_budget_normalises_layers():
    assert np.linalg.norm(truncation.relative(np.array([30.0, 40.0]))) == pytest.approx(1)
    assert (truncation.relative(np.zeros(2)) == 0).all()
