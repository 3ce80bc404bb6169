"""What the techniques that remove channels share: bad input, names, one error each."""

import numpy as np
import pytest

from minicomp.compress.channels.groups import groups
from minicomp.compress.prune.apoz import APoZ
from minicomp.compress.prune.channel_lasso import ChannelLasso
from minicomp.compress.prune.dead_units import DeadUnits
from minicomp.compress.prune.filters import Filters
from minicomp.compress.prune.fpgm import FPGM
from minicomp.compress.prune.layer_removal import LayerRemoval
from minicomp.compress.prune.slimming import Slimming
from minicomp.jobs.sensitivity import scan
from minicomp.compress.channels.choosing import emptied, local, overall, without_units
from minicomp.compress.technique import Run
from minicomp.data.dataset import Dataset, Split
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Add, Codebook, Conv2d, Dense, Flatten, Linear, Model, Node, ReLU, chain


def dataset(rng, n=40):
    split = Split(rng.standard_normal((n, 5)).astype(np.float32), rng.integers(3, size=n))
    return Dataset("toy", split, split, None, ("0", "1", "2"), "rendered")


@pytest.mark.parametrize(
    "technique",
    [
        Filters(sparsity=0.5),
        ChannelLasso(samples=20),
        APoZ(sparsity=0.5, samples=20),
        DeadUnits(),
        LayerRemoval(samples=20),
        Slimming(),
    ],
    ids=lambda t: t.word,
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(technique, bad):
    rng = np.random.default_rng(0)
    model = MLP([5, 4, 4, 3], rng=rng)
    w = model.forms()["fc2.weight"].dense().data.copy()
    w[1, 2] = bad
    model.set_form("fc2.weight", Dense(w))
    message = f"{technique.word}: fc2.weight must hold finite numbers, got NaN or infinity"
    with pytest.raises(UserError, match=message):
        technique.apply(model, dataset(rng), Run(rng))
    with pytest.raises(UserError, match="sensitivity: fc2.weight must hold finite numbers"):
        scan(model, dataset(rng).val)


def grouped(rng):
    nodes = chain(
        ("stem", Conv2d(2, 8, 1)),
        ("relu", ReLU()),
        ("g", Conv2d(8, 4, 1, groups=4)),
        ("flat", Flatten()),
        ("fc", Linear(16, 2)),
    )
    model = Model(nodes, input_shape=(2, 2, 2))
    for name, form in model.forms().items():
        model.set_form(name, Dense(rng.standard_normal(form.shape).astype(np.float32)))
    return model


def test_a_count_that_does_not_divide_is_rounded_down_or_refused():
    model = grouped(np.random.default_rng(1))
    group = groups(model)[0]
    kept = local("toy", [(group, np.arange(8.0))], lambda g: 0.75)[0][1]
    np.testing.assert_array_equal(kept, [False, True] * 4)  # 4 of the 6: one from each group
    with pytest.raises(
        UserError, match="toy: 2 of the 8 channels of stem cannot be removed: a convolution in"
    ):
        local("toy", [(group, np.arange(8.0))], lambda g: 0.25)


def test_units_without_worth_stay():
    model = MLP([5, 4, 6, 3], rng=np.random.default_rng(2))
    one, two = groups(model)
    worth = np.array([np.nan, 3.0, 1.0, 2.0])
    kept = dict(
        (g.name, k) for g, k in overall("toy", [(one, worth), (two, np.arange(6.0) + 10)], 0.4)
    )
    np.testing.assert_array_equal(kept["fc1"], [True, True, False, False])
    np.testing.assert_array_equal(kept["fc2"], [False, False] + [True] * 4)


def test_nothing_chosen_is_the_same_model():
    model = MLP([5, 4, 3], rng=np.random.default_rng(3))
    same = without_units(model, [], fold=True)
    x = np.ones((1, 5), np.float32)
    np.testing.assert_array_equal(same(x).data, model(x).data)


def test_a_group_of_many_layers_has_a_short_name():
    nodes = [Node(f"c{i}", Conv2d(2, 2, 1)) for i in range(5)]
    nodes += [
        Node("add", Add(), tuple(n.name for n in nodes)),
        Node("flat", Flatten(), ("add",)),
        Node("fc", Linear(2, 2), ("flat",)),
    ]
    (group,) = groups(Model(nodes, input_shape=(2, 1, 1)))
    assert group.name == "c0+4 more" and len(group.nodes) == 5


@pytest.mark.parametrize("technique", [Filters, FPGM])
def test_shared_weights_stay_shared_when_constants_are_folded(technique):
    rng = np.random.default_rng(5)
    model, table = MLP([5, 6, 3], rng=rng), np.float32([0, -0.7, 0.4, 0.9])
    codes = rng.integers(1, 4, (6, 5))
    model.set_form("fc1.weight", Codebook(codes, table, pinned_zero=True))
    made = technique(sparsity=0.5, fold=True).apply(model, dataset(rng), Run(rng))
    form = made.forms()["fc1.weight"]
    assert form.kind == "codebook" and form.shape == (3, 5)
    (group,) = groups(model)
    empty = emptied(model, [(group, np.arange(6) > 0)]).forms()["fc1.weight"]
    np.testing.assert_array_equal(empty.index[1:], codes[1:])
    assert empty.kind == "codebook" and not empty.dense().data[0].any()
    model.set_form("fc1.weight", Codebook(codes, table))
    with pytest.raises(UserError, match="fc1.weight: a codebook without a pinned zero cannot be"):
        technique(sparsity=0.5, fold=True).apply(model, dataset(rng), Run(rng))
