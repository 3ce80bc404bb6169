from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.curvature import hessian as second
from minicomp.compress.curvature import layerwise
from minicomp.compress.finetune import FineTune
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.obc import OBC, obc_merge, obc_trace, protected
from minicomp.compress.prune.obs import obs_saliency, obs_step
from minicomp.compress.technique import Run, weights
from minicomp.data import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Codebook, Conv2d, Dense, Flatten, Linear, Model, ReLU, chain
from minicomp.train import evaluate

RNG = np.random.default_rng


def problem(seed, n, rows=1):
    X = RNG(seed).standard_normal((3 * n, n)) @ (
        np.eye(n) + 0.5 * RNG(seed + 1).standard_normal((n, n))
    )
    H = X.T @ X / len(X) + 0.01 * np.eye(n)
    return RNG(seed + 2).standard_normal((rows, n)), H


def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    cut = [Split(x[a:b], y[a:b]) for a, b in ((0, 1300), (1300, 1500), (1500, 1797))]
    return Dataset("digits", *cut, tuple("0123456789"), "files")


@pytest.fixture(scope="module")
def trained():
    data = digits()
    model = MLP([64, 48, 10], rng=RNG(0))
    return FineTune(epochs=20, lr=0.1, batch_size=32).apply(model, data, Run(RNG(0))), data


def apply(technique, model, data, log=None):
    return technique.apply(model, data, Run(RNG(0), log=log))


def mask(model, name):
    return model.forms()[f"{name}.weight"].mask


def zeros(model):
    return {n: int(np.count_nonzero(~mask(model, n))) for n in weights(model)}


# -------------------------------------------------------------------------------------- one row


@given(n=st.integers(1, 12), block=st.sampled_from([1, 2, 5, 48]), seed=st.integers(0, 999))
def test_a_trace_is_obs_one_weight_after_the_other_whatever_the_block(n, block, seed):
    (w,), H = problem(seed, n)
    order, rises = obc_trace(w, np.linalg.inv(H), block=block)
    live, v = np.arange(n), w.copy()
    for q, L in zip(order, rises):
        Hinv = np.linalg.inv(H[np.ix_(live, live)])
        saliency = obs_saliency(v[live], Hinv)
        at = int(np.argmin(saliency))
        assert live[at] == q and L == pytest.approx(saliency[at], rel=1e-8)
        v[live], _ = obs_step(v[live], Hinv, at)
        live = np.delete(live, at)
    assert sorted(order) == list(range(n))
    assert rises.sum() == pytest.approx(0.5 * w @ H @ w, rel=1e-9)  # all gone: the whole error


@given(n=st.integers(2, 8), seed=st.integers(0, 999))
def test_against_all_subsets(n, seed):
    (w,), H = problem(seed, n)
    order, rises = obc_trace(w, np.linalg.inv(H))
    for k in range(1, n + 1):
        least = []
        for gone in combinations(range(n), k):
            rest = [i for i in range(n) if i not in gone]
            v = np.zeros(n)
            v[rest] = np.linalg.solve(H[np.ix_(rest, rest)], (H @ w)[rest])
            least.append((0.5 * (v - w) @ H @ (v - w), gone))
        found = next(e for e, gone in least if set(gone) == set(order[:k]))
        assert rises[:k].sum() == pytest.approx(found, rel=1e-8, abs=1e-10)
        assert found >= min(least)[0] - 1e-12
        if k == 1:
            assert found == min(least)[0]


@pytest.mark.parametrize("pattern", [(1, 2), (2, 4), (1, 4), (3, 6)])
def test_a_pattern_keeps_n_of_every_m_and_bars_the_rest(pattern):
    N, M = pattern
    (w,), H = problem(5, 25)
    order, _ = obc_trace(w, np.linalg.inv(H), weights=24, pattern=pattern, block=4)
    kept = np.ones(25, bool)
    kept[order] = False
    assert kept[24] and (kept[:24].reshape(-1, M).sum(axis=1) == N).all()
    assert len(set(order)) == len(order) == 24 // M * (M - N)


def test_what_is_dead_goes_first_and_counts_in_its_group():
    (w,), H = problem(6, 9)
    dead = np.zeros(8, bool)
    dead[[1, 5, 6, 7]] = True
    order, _ = obc_trace(w, np.linalg.inv(H), weights=8, dead=dead)
    assert set(order[:4]) == {1, 5, 6, 7} and 8 not in order and len(order) == 8
    order, _ = obc_trace(w, np.linalg.inv(H), weights=8, dead=dead, pattern=(2, 4))
    gone = np.isin(np.arange(8), order).reshape(2, 4)
    assert gone.sum(axis=1).tolist() == [2, 3] and gone.ravel()[dead].all()


def test_rows_that_can_spare_more_give_more():
    rises = [np.array([1.0, 5.0, 0.5]), np.array([2.0, 3.0, 4.0])]
    assert [obc_merge(rises, k).tolist() for k in range(7)] == [
        [0, 0],
        [1, 0],
        [1, 1],
        [1, 2],
        [1, 3],
        [2, 3],
        [3, 3],
    ]


@given(seed=st.integers(0, 999), drop=st.integers(0, 15))
def test_merging_is_taking_the_least_next_rise(seed, drop):
    rises = [RNG(seed + i).random(5) for i in range(3)]
    counts = [0, 0, 0]
    for _ in range(drop):
        i = min((r for r in range(3) if counts[r] < 5), key=lambda r: rises[r][counts[r]])
        counts[i] += 1
    assert obc_merge(rises, drop).tolist() == counts


# ------------------------------------------------------------------------------------- one layer


def conv_model():
    model = Model(
        chain(
            ("c", Conv2d(2, 4, 3, stride=2, padding=1, groups=2)),
            ("r", ReLU()),
            ("d", Conv2d(4, 3, 2, bias=False)),
            ("f", Flatten()),
            ("o", Linear(3, 3)),
        ),
        input_shape=(2, 4, 4),
    )
    rng = RNG(0)
    for name, form in model.forms().items():
        model.set_form(name, Dense(rng.standard_normal(form.shape).astype(np.float32)))
    return model


@pytest.mark.parametrize("s", [0.0, 0.37, 0.9])
@pytest.mark.parametrize("sequential", [True, False])
def test_each_layer_has_exactly_round_s_n_zeros(s, sequential):
    model = conv_model()
    x = RNG(1).standard_normal((30, 2, 4, 4)).astype(np.float32)
    data = SimpleNamespace(
        train=Split(x, np.zeros(30, np.int64)),
        calibration=lambda n, rng: Split(x, np.zeros(30, np.int64)),
    )
    pruned = apply(OBC(sparsity=s, sequential=sequential), model, data)
    assert zeros(pruned) == {
        n: round(s * model.forms()[f"{n}.weight"].value.size) for n in ("c", "d", "o")
    }
    for name, form in pruned.forms().items():
        assert form.value.dtype == np.float32 and (form.mask is None) == name.endswith("bias")


def test_the_global_scope_counts_over_all_layers_and_spares_what_the_loss_needs(trained):
    model, data = trained
    pruned = apply(OBC(sparsity=0.8, scope="global"), model, data)
    found = zeros(pruned)
    assert sum(found.values()) == round(0.8 * (64 * 48 + 480))
    assert found["fc2"] / 480 < 0.7 < 0.8 < found["fc1"] / 3072


def test_the_global_scope_does_not_see_how_a_net_is_scaled(trained):
    # fc1 ten times as large and fc2 a tenth is the same function: the same weights should go.
    model, data = trained
    scaled = model.copy()
    for name, factor in (("fc1.weight", 10), ("fc1.bias", 10), ("fc2.weight", 0.1)):
        scaled.set_form(name, Dense(model.forms()[name].value.data * np.float32(factor)))
    technique = OBC(sparsity=0.8, scope="global", damping=1e-6)
    a, b = (zeros(apply(technique, m, data)) for m in (model, scaled))
    assert abs(a["fc2"] - b["fc2"]) <= 5
    assert a["fc1"] + a["fc2"] == b["fc1"] + b["fc2"]


def test_a_layer_is_solved_for_the_inputs_that_pruned_layers_give(trained):
    model, data = trained
    dense = second.float64(model)
    for sequential in (True, False):
        pruned = apply(OBC(sparsity=0.7, sequential=sequential), model, data)
        before = second.float64(pruned) if sequential else dense
        (p,) = dict(
            (n.name, found) for n, found in layerwise.problems(before, dense, data.train.x, 0.01)
        )["fc2"]
        best = p.solve(mask(pruned, "fc2"))
        np.testing.assert_allclose(
            layerwise.rows_of(pruned.node("fc2").layer), best, atol=2e-5 * np.abs(best).max()
        )


def test_it_costs_a_fraction_of_magnitude_s_errors(trained):
    # One claim of the paper: one-shot, without retraining.
    model, data = trained
    start = evaluate(model, data.val).loss
    for s in (0.5, 0.7):
        rise = evaluate(apply(OBC(sparsity=s), model, data), data.val).loss - start
        other = evaluate(apply(Magnitude(sparsity=s), model, data), data.val).loss - start
        assert rise < other / 3


def test_what_an_earlier_step_pruned_stays_pruned_and_counts(trained):
    model, data = trained
    half = FineTune(epochs=1, lr=0.05, weight_decay=1e-3).apply(
        apply(OBC(sparsity=0.5), model, data), data, Run(RNG(0))
    )
    for technique in (OBC(sparsity=0.7), OBC(sparsity=0.7, scope="global"), OBC(pattern="1:4")):
        more = apply(technique, half, data)
        assert not any((mask(more, n) & ~mask(half, n)).any() for n in ("fc1", "fc2"))
        if technique.pattern is None:
            assert sum(zeros(more).values()) == round(0.7 * 3072) + round(0.7 * 480)
    assert zeros(apply(OBC(sparsity=0.2), half, data)) == zeros(half)


def test_a_pattern_by_layer(trained):
    model, data = trained
    pruned = apply(OBC(pattern={"fc1": "2:4"}, sparsity={"fc2": 0.25}), model, data)
    assert (mask(pruned, "fc1").reshape(48, 16, 4).sum(axis=2) == 2).all()
    assert zeros(pruned)["fc2"] == 120


# -------------------------------------------------------------------------------------- refusals


def test_a_singular_hessian_is_damped_and_told(trained):
    model, data = trained
    rows = []
    few = Dataset("few", data.train.take(slice(0, 20)), data.val, None, data.classes, "files")
    apply(OBC(sparsity=0.5, damping=0.0), model, few, rows.append)
    told = [r for r in rows if r["event"] == "damping"]
    assert {r["layer"] for r in told} == {"fc1", "fc2"} and told[0]["asked"] == 0 < told[0][
        "damping"
    ]
    assert any(
        "fc1 is singular; damping raised from 0 to" in r["text"]
        for r in rows
        if r["event"] == "say"
    )
    done = [r["done"] for r in rows if r["event"] == "progress"]
    assert done == list(range(1, 59))


@pytest.mark.parametrize(
    "wrong, match",
    [
        ({}, "obc: sparsity or pattern must be given, got neither"),
        ({"pattern": "4:2"}, r'pattern must be "N:M" with 1 <= N < M, got \'4:2\''),
        ({"pattern": "two"}, "got 'two'"),
        ({"pattern": {"fc1": "2:2"}}, "got '2:2'"),
        ({"sparsity": {"fc1": 0.5}, "scope": "global"}, "scope global needs one sparsity"),
        ({"pattern": "2:4", "scope": "global"}, "scope global needs one sparsity"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "fc1 takes a sparsity or a pattern, got both"),
        ({"pattern": "2:5"}, "2:5 needs inputs that 5 divides, got 64 in fc1"),
    ],
)
def test_wrong_knobs_are_named(trained, wrong, match):
    model, data = trained
    with pytest.raises(UserError, match=match):
        apply(OBC(**wrong), model, data)


def test_wrong_models_and_data_are_named(trained):
    model, data = trained
    spoiled = model.copy()
    spoiled.forms()["fc1.bias"].value.data[0] = np.nan
    with pytest.raises(UserError, match="obc: fc1.bias must hold finite numbers"):
        apply(OBC(sparsity=0.5), spoiled, data)
    shared = model.copy()
    shared.set_form("fc2.weight", Codebook(np.zeros((10, 48), int), np.ones(2, np.float32)))
    with pytest.raises(UserError, match="obc: fc2.weight must .* got a codebook"):
        apply(OBC(sparsity=0.5), shared, data)
    bad = Dataset(
        "bad", Split(data.train.x * np.nan, data.train.y), data.val, None, data.classes, "files"
    )
    with pytest.raises(UserError, match="obc: the examples of train must hold finite numbers"):
        apply(OBC(sparsity=0.5), model, bad)
    with pytest.raises(UserError, match="obc: the model has no Linear or Conv2d layer"):
        apply(OBC(sparsity=0.5), Model(chain(("f", Flatten())), input_shape=(64,)), data)


def test_a_sketch_has_the_zeros_and_needs_no_data(trained):
    model, _ = trained
    assert zeros(OBC(sparsity=0.7).sketch(model, rng=RNG(0))) == {
        "fc1": round(0.7 * 3072),
        "fc2": 336,
    }
    sketch = OBC(pattern="2:4").sketch(model, rng=RNG(0))
    assert (mask(sketch, "fc1").reshape(48, 16, 4).sum(axis=2) == 2).all()


def test_a_floor_holds_where_all_layers_are_ranked_together(trained):
    # Ten weights more than fc1 keeps in one ranking; as many others of fc2 go instead.
    model, data = trained
    plain = apply(OBC(sparsity=0.9, scope="global"), model, data)
    least = int(mask(plain, "fc1").sum()) + 10
    made = apply(OBC(sparsity=0.9, scope="global", floor=least / 3072), model, data)
    assert mask(made, "fc1").sum() == least > 10
    assert sum(zeros(made).values()) == sum(zeros(plain).values()) == round(0.9 * (3072 + 480))
    with pytest.raises(UserError, match="obc: sparsity must be at most 0.09994 for every layer"):
        apply(OBC(sparsity=0.7, scope="global", floor=0.9), model, data)


def test_what_must_stay_is_what_would_go_last():
    rises = [np.array([-1.0, 1.0, 5.0]), np.array([2.0, 3.0])]
    for least, kept in ((0, []), (1, [(0, 2)]), (2, [(0, 2), (1, 1)]), (9, [
            (0, 1), (0, 2), (1, 0), (1, 1)])):
        found = protected(rises, least)
        assert [(i, j) for i, r in enumerate(found) for j in np.flatnonzero(r == np.inf)] == kept
        assert found[0][0] == -1.0, "what is gone counts not and stays first"
