from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.wanda import Wanda, wanda_score
from minicomp.compress.technique import Run
from minicomp.data import Split
from minicomp.models import MLP
from minicomp.nn import Conv2d, Dense, Flatten, Linear, Model, chain


def dataset(x):
    split = Split(np.asarray(x, np.float32), np.zeros(len(x), np.int64))
    return SimpleNamespace(
        train=split, val=split, calibration=lambda n, rng: split.take(slice(n))
    )


def pruned(model, x, **knobs):
    return Wanda(**knobs).apply(model, dataset(x), Run(np.random.default_rng(0)))


def test_by_hand():
    # Norms of the inputs over two examples: 5 and 1.
    model = MLP([2, 2])
    model.forms()["fc1.weight"].value.data[:] = [[1, -4], [0.5, 3]]
    x = [[3, 0], [4, 1]]
    score = Wanda().scores(model, dataset(x), Run(np.random.default_rng(0)))["fc1"]
    np.testing.assert_allclose(score, [[5, 4], [2.5, 3]], rtol=1e-6)
    kept = pruned(model, x, sparsity=0.5).forms()["fc1.weight"].dense().data
    np.testing.assert_array_equal(kept, [[1, 0], [0, 3]])  # magnitude alone would keep -4 and 3


@given(st.integers(1, 6), st.integers(1, 9), st.floats(0, 0.99), st.integers(0, 2**32 - 1))
def test_every_row_loses_exactly_its_fraction_and_more_never_less(rows, n, s, seed):
    rng = np.random.default_rng(seed)
    model, x = MLP([n, rows], rng=rng), rng.standard_normal((7, n))
    few, many = (pruned(model, x, sparsity=t).forms()["fc1.weight"].mask for t in (s / 2, s))
    assert ((~few).sum(axis=1) == round(s / 2 * n)).all()
    assert ((~many).sum(axis=1) == round(s * n)).all()
    assert not (many & ~few).any()


def test_a_score_is_what_the_output_loses_without_the_weight():
    # By brute force: the norm, over all examples, of the change of a linear layer's output.
    rng = np.random.default_rng(1)
    W, x = rng.standard_normal((3, 5)), rng.standard_normal((20, 5))
    score = wanda_score(W, np.linalg.norm(x, axis=0))
    for i, j in np.ndindex(W.shape):
        V = W.copy()
        V[i, j] = 0
        assert np.linalg.norm(x @ W.T - x @ V.T) == pytest.approx(score[i, j], rel=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_is_scored_by_the_channels_that_each_output_reads(groups):
    # By loops over outputs and their channels; a channel's norm is over all positions.
    rng = np.random.default_rng(2)
    conv = Conv2d(4, 8, 3, groups=groups)
    nodes = chain(("conv", conv), ("flat", Flatten()), ("fc", Linear(128, 2)))
    model = Model(nodes, input_shape=(4, 6, 6))
    w = rng.standard_normal((8, 4 // groups, 3, 3)).astype(np.float32)
    model.set_form("conv.weight", Dense(w))
    x = rng.standard_normal((5, 4, 6, 6)).astype(np.float32)
    score = Wanda().scores(model, dataset(x), Run(rng))["conv"]
    norms = np.sqrt(np.square(x).sum(axis=(0, 2, 3)))
    for o in range(8):
        for c in range(4 // groups):
            channel = o // (8 // groups) * (4 // groups) + c
            np.testing.assert_allclose(score[o, c], np.abs(w[o, c]) * norms[channel], rtol=1e-5)


def test_neither_the_scale_of_an_output_matters_nor_that_of_all_inputs():
    rng = np.random.default_rng(3)
    model, x = MLP([6, 4], rng=rng), rng.standard_normal((9, 6)).astype(np.float32)
    mask = pruned(model, x, sparsity=0.5).forms()["fc1.weight"].mask
    scaled = model.copy()
    scaled.forms()["fc1.weight"].value.data[:] *= np.float32([[1], [4], [0.25], [64]])
    for other, inputs in ((scaled, x), (model, 8 * x)):
        found = pruned(other, inputs, sparsity=0.5).forms()["fc1.weight"].mask
        np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("scope", ["row", "local", "global"])
def test_outputs_stay_nearer_than_by_magnitude_where_inputs_differ_in_scale(scope):
    # Sun et al. 2023, table 2: a few inputs are far larger than the rest.
    rng = np.random.default_rng(4)
    x = rng.standard_normal((200, 32)) * np.where(np.arange(32) < 4, 20, 1)
    model = MLP([32, 16], rng=rng)
    x = x.astype(np.float32)

    def error(made):
        return np.square(made(x).data - model(x).data).mean()

    wanda = error(pruned(model, x, sparsity=0.5, scope=scope))
    magnitude = error(Magnitude(sparsity=0.5).apply(model, dataset(x), Run(rng)))
    assert 0 < wanda < 0.2 * magnitude


@pytest.mark.parametrize("scope", ["row", "local", "global"])
def test_what_is_pruned_already_goes_first_and_counts(scope):
    # Inputs 0 and 1 are always 0, so that live weights score as low as can be; one of four is gone.
    model = MLP([4, 2], rng=np.random.default_rng(0))
    before = np.array([[True, True, True, False]] * 2)
    model.set_form("fc1.weight", Dense(np.float32([[1, 2, 3, 4]] * 2), mask=before))
    rest = [[0, 1, 1, 0], [0, 1, 1, 0]] if scope == "row" else [[0, 0, 1, 0], [1, 1, 1, 0]]
    x = np.tile(np.float32([0, 0, 1, 1]), (9, 1))
    for s, kept in ((0.25, before), (0.5, rest), (0.75, [[0, 0, 1, 0]] * 2)):
        made = Wanda(sparsity=s, scope=scope).apply(
            model, dataset(x), Run(np.random.default_rng(0))
        )
        np.testing.assert_array_equal(made.forms()["fc1.weight"].mask, np.array(kept, bool))


def test_a_pruned_weight_goes_before_one_that_nothing_feeds():
    # Inputs 0 and 1 are always 0, so that their weights score 0 as the pruned one does.
    model = MLP([4, 2])
    model.set_form("fc1.weight", Dense(np.float32([[1, 2, 3, 4]] * 2), [[1, 1, 1, 0]] * 2))
    made = pruned(model, [[0, 0, 1, 1]], sparsity=0.25, scope="row")
    np.testing.assert_array_equal(made.forms()["fc1.weight"].mask, [[True, True, True, False]] * 2)
