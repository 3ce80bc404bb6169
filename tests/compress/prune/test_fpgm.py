"""Filter pruning via geometric median: which filters go; removal computes what masking does."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.channels.groups import groups
from minicomp.compress.prune.filters import Filters
from minicomp.compress.prune.fpgm import FPGM, fpgm_score, group_distances
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.technique import Run
from minicomp.errors import UserError
from minicomp.models import MLP, MODELS, DepthwiseNet32, LeNet5
from minicomp.nn import Add, BatchNorm1d, Dense, Linear, Model, Node, ReLU, chain
from minicomp.nn.init import he_normal


def bits(model):
    return b"".join(a.tobytes() for a in model.state_dict().values())


def apply(model, **knobs):
    return FPGM(**knobs).apply(model, None, Run(None))


def residual(rng):
    # fc1 and fc3 are added, so their units are the same ones.
    nodes = chain(
        ("fc1", Linear(5, 8)),
        ("relu1", ReLU()),
        ("fc2", Linear(8, 7)),
        ("relu2", ReLU()),
        ("fc3", Linear(7, 8)),
    )
    nodes += (
        Node("add", Add(), ("relu1", "fc3")),
        Node("bn", BatchNorm1d(8), ("add",)),
        Node("fc4", Linear(8, 3), ("bn",)),
    )
    model = Model(nodes, input_shape=(5,))
    for name, form in model.forms().items():
        if len(form.shape) > 1:
            model.set_form(name, Dense(he_normal(form.shape, rng=rng)))
    return model


def test_score_by_hand():
    # points 0, 1, 3 on a line: distances 1 + 3, 1 + 2, 3 + 2
    np.testing.assert_allclose(fpgm_score(np.array([[0.0], [1.0], [3.0]])), [4, 3, 5])


def test_the_filter_that_others_stand_in_for_is_masked():
    model = MLP([3, 4, 2], rng=np.random.default_rng(5))
    w = np.float32([[9, 0, 0], [1, 1, 1], [0, 9, 0], [0, 0, 9]])
    model.set_form("fc1.weight", Dense(w))
    made = FPGM(sparsity=0.25, remove=False).apply(model, None, Run(np.random.default_rng(0)))
    mask = made.forms()["fc1.weight"].mask
    np.testing.assert_array_equal(mask, np.repeat([[True], [False], [True], [True]], 3, axis=1))


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_the_pruned_filter_minimises_the_sum_of_distances_to_all(n, d, seed):
    # He et al. 2019, eq. (4): F_j* = argmin over the filters x of sum_j |x - F_j|, by counting.
    F = np.random.default_rng(seed).integers(-3, 4, (n, d)).astype(np.float32)
    sums = [sum(math.dist(x, f) for f in F.tolist()) for x in F.tolist()]
    np.testing.assert_allclose(fpgm_score(F), sums, rtol=1e-12, atol=1e-12)
    if n > 1 and (F != 0).any(axis=1).all():  # a filter of zeros would go first
        model = MLP([d, n, 2], rng=np.random.default_rng(0))
        model.set_form("fc1.weight", Dense(F))
        mask = apply(model, sparsity=1 / n, remove=False).forms()["fc1.weight"].mask
        gone = int(np.flatnonzero(~mask.any(axis=1))[0])
        assert sums[gone] <= min(sums) + 1e-9 and mask.any(axis=1).sum() == n - 1


def test_large_layers_take_the_gram_matrix_and_agree():
    F = (
        np.random.default_rng(0).standard_normal((300, 400)).astype(np.float32)
    )  # 300 * 300 * 400 > 2^24
    some = [
        np.linalg.norm(F.astype(np.float64) - f, axis=1).sum() for f in F[:5].astype(np.float64)
    ]
    np.testing.assert_allclose(fpgm_score(F)[:5], some, rtol=1e-6)


def test_the_replaceable_filter_goes_not_the_small_one():
    model = MLP([3, 5, 2], rng=np.random.default_rng(5))
    rows = np.float32([[9, 0, 0], [4, 4, 4], [0, 9, 0], [0, 0, 9], [-1, -1, -1]])
    model.set_form("fc1.weight", Dense(rows))
    small = apply(model, sparsity=0.2)
    np.testing.assert_array_equal(
        small.forms()["fc1.weight"].dense().data, np.delete(rows, 1, axis=0)
    )
    assert model.forms()["fc1.weight"].shape == (5, 3)
    by_norm = Filters(sparsity=0.2).apply(model, None, Run(None))
    np.testing.assert_array_equal(by_norm.forms()["fc1.weight"].dense().data, rows[:4])


@given(st.floats(0, 0.85), st.floats(0, 0.85), st.booleans(), st.integers(0, 2**32 - 1))
def test_exactly_the_fraction_goes_and_what_goes_at_less_goes_at_more(a, b, remove, seed):
    model = MLP([5, 11, 8, 3], rng=np.random.default_rng(seed))
    a, b = sorted((a, b))
    less, more = (apply(model, sparsity=s, remove=remove) for s in (a, b))
    if remove:
        for s, small in ((a, less), (b, more)):
            assert small.shapes()["fc1"] == (11 - round(s * 11),) and small.shapes()["fc2"] == (
                8 - round(s * 8),
            )
        assert less.count() >= more.count()
        return
    for name, n in (("fc1.weight", 11), ("fc2.weight", 8)):
        few, many = less.forms()[name].mask, more.forms()[name].mask
        assert (few.any(axis=1) == few.all(axis=1)).all(), "whole filters"
        assert (~few.any(axis=1)).sum() == round(a * n) and (~many.any(axis=1)).sum() == round(
            b * n
        )
        assert (few | ~many).all()
    assert less.forms()["fc3.weight"].mask is None


@pytest.mark.parametrize(
    "make", [lambda rng: MLP([6, 9, 7, 3], rng=rng), residual, lambda rng: LeNet5(rng=rng)]
)
def test_removal_with_fold_computes_what_masking_computes(make):
    rng = np.random.default_rng(1)
    model = make(rng)
    for name, form in model.forms().items():
        if name.endswith("bias"):
            model.set_form(name, Dense(rng.standard_normal(form.shape).astype(np.float32)))
    x = rng.standard_normal((20, *model.input_shape)).astype(np.float32)
    masked, folded, dropped = (
        apply(model, sparsity=0.5, **k)(x).data
        for k in ({"remove": False}, {"fold": True}, {"fold": False})
    )
    scale = np.abs(masked).max()
    np.testing.assert_allclose(folded, masked, atol=2e-5 * scale)
    assert np.abs(dropped - masked).max() > 1e-3 * scale, "the biases do something"


def test_removal_equals_masking_without_fold_where_biases_are_0():
    rng = np.random.default_rng(2)
    model = MLP([6, 9, 7, 3], rng=rng)
    x = rng.standard_normal((20, 6)).astype(np.float32)
    np.testing.assert_allclose(
        apply(model, sparsity=0.4)(x).data,
        apply(model, sparsity=0.4, remove=False)(x).data,
        atol=1e-5,
    )


def test_layers_that_are_added_lose_the_same_units_by_the_sum_of_their_distances():
    model = residual(np.random.default_rng(3))
    group = next(g for g in groups(model) if len(g.nodes) == 2)
    g1, g3 = (fpgm_score(model.forms()[f"{n}.weight"].dense().data) for n in ("fc1", "fc3"))
    np.testing.assert_allclose(group_distances(model, group), g1 + g3)
    stays = np.sort(np.argsort(g1 + g3, kind="stable")[3:])
    assert set(stays) not in (
        set(np.argsort(g1)[3:]),
        set(np.argsort(g3)[3:]),
    ), "neither alone decides"
    small = apply(model, sparsity={"*": 0.0, "fc[13]": 3 / 8})
    for name in ("fc1.weight", "fc3.weight"):
        np.testing.assert_array_equal(
            small.forms()[name].dense().data, model.forms()[name].dense().data[stays]
        )
    np.testing.assert_array_equal(
        small.forms()["fc4.weight"].dense().data, model.forms()["fc4.weight"].dense().data[:, stays]
    )
    masked = apply(model, sparsity={"*": 0.0, "fc[13]": 3 / 8}, remove=False)
    for name in ("fc1.weight", "fc3.weight"):
        np.testing.assert_array_equal(np.flatnonzero(masked.forms()[name].mask.all(axis=1)), stays)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_library_loses_its_filters(name, built_in):
    rng = np.random.default_rng(0)
    model, rows = built_in(name, rng=rng), []
    small = FPGM(sparsity=0.5).apply(model, None, Run(rng, log=rows.append))
    gone, most = rows[-1]["units"], {g.name: round(0.5 * g.size) for g in groups(model)}
    if any(g.splits for g in groups(model)):  # equal parts of groups and shuffles
        assert all(0 < gone[name] <= n for name, n in most.items())
    else:
        assert gone == most and most
    assert small.count() == model.count() - rows[-1]["weights"] < model.count()
    assert small(np.zeros((1, *model.input_shape), np.float32)).shape == (1, 10)
    same = FPGM(sparsity=0.5).sketch(model, rng=rng)
    assert bits(same) == bits(small)


def test_a_filter_that_an_earlier_mask_emptied_goes_first():
    rng = np.random.default_rng(4)
    model = MLP([4, 10, 3], rng=rng)
    model.forms()["fc1.weight"].value.data[
        :
    ] += 3  # far from 0: there a filter of zeros is no median
    once = apply(model, sparsity=0.3, remove=False)
    gone = ~once.forms()["fc1.weight"].mask.any(axis=1)
    twice = apply(once, sparsity=0.3, remove=False)
    np.testing.assert_array_equal(~twice.forms()["fc1.weight"].mask.any(axis=1), gone)
    small = apply(once, sparsity=0.3)
    before, after = (m.forms()["fc1.weight"].dense().data for m in (model, small))
    np.testing.assert_array_equal(after, before[~gone])
    sparse = Magnitude(sparsity=0.5).apply(model, None, Run(rng))
    more = apply(sparse, sparsity=0.3, remove=False).forms()["fc1.weight"].mask
    assert not more[~sparse.forms()["fc1.weight"].mask].any(), "what was pruned stays pruned"


@pytest.mark.parametrize("remove", [True, False])
def test_what_a_model_does_not_allow(remove):
    model = MLP([2, 3, 2], rng=np.random.default_rng(0))
    with pytest.raises(UserError, match="fpgm: sparsity 0.99 would remove all 3 channels of fc1"):
        apply(model, sparsity=0.99, remove=remove)
    with pytest.raises(
        UserError, match="fpgm: sparsity@fc2 matches no layer whose channels .*; there are fc1"
    ):
        apply(model, sparsity={"fc2": 0.5}, remove=remove)
    with pytest.raises(
        UserError, match="fpgm: the model has no layer whose channels can be removed"
    ):
        apply(MLP([3, 2]), remove=remove)
    with pytest.raises(UserError, match="sparsity must be one value for the layers tied together"):
        apply(
            DepthwiseNet32(rng=np.random.default_rng(0)),
            sparsity={"block2.pw": 0.2, "block3.pw": 0.4},
            remove=remove,
        )
    model.forms()["fc1.weight"].value.data[1, 0] = np.nan
    with pytest.raises(UserError, match="fpgm: fc1.weight must hold finite numbers"):
        apply(model, remove=remove)
