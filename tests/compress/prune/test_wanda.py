"""Wanda: the score by hand, what it keeps, and masks that were there before."""

import numpy as np
import pytest

from minicomp.compress.prune.wanda import Wanda, wanda_score
from minicomp.compress.technique import Run
from minicomp.data import Dataset, Split
from minicomp.models import MLP
from minicomp.nn import Conv2d, Dense, Flatten, Linear, Model, chain

RNG = np.random.default_rng


def data(x):
    split = Split(np.asarray(x, np.float32), np.zeros(len(x), np.int64))
    return Dataset("toy", split, split, None, ("0", "1"), "rendered")


def mask(model, name="fc1"):
    return model.forms()[f"{name}.weight"].mask


def test_score_by_hand():
    score = wanda_score(np.array([[1.0, -2.0]]), np.array([10.0, 1.0]))
    np.testing.assert_array_equal(score, [[10, 2]])


def test_small_weights_on_large_inputs_stay():
    model = MLP([6, 2], rng=RNG(3))
    model.set_form("fc1.weight", Dense(np.float32([[0.05, 1, 1, 1, 1, 1]] * 2)))
    x = RNG(4).standard_normal((200, 6)) * [100, 1, 1, 1, 1, 1]
    kept = mask(Wanda(sparsity=0.5).apply(model, data(x), Run(RNG(0))))
    assert kept[:, 0].all() and (kept.sum(axis=1) == 3).all()


def test_each_group_of_a_convolution_has_the_norms_of_its_own_channels():
    # Channels 1 and 3 are loud. Filters 0, 1 read channels 0, 1 and filters 2, 3 channels 2, 3.
    nodes = chain(
        ("c", Conv2d(4, 4, 1, groups=2, bias=False)), ("f", Flatten()), ("o", Linear(16, 2))
    )
    model = Model(nodes, input_shape=(4, 2, 2))
    model.set_form("c.weight", Dense(np.float32([2, 1, 2, 1, 2, 1, 1, 2]).reshape(4, 2, 1, 1)))
    model.set_form("o.weight", Dense(RNG(0).standard_normal((2, 16)).astype(np.float32)))
    x = np.ones((5, 4, 2, 2)) * np.reshape([1, 5, 1, 0.1], (4, 1, 1))
    kept = mask(Wanda(sparsity=0.5).apply(model, data(x), Run(RNG(0))), "c")
    np.testing.assert_array_equal(kept[:, :, 0, 0], [[0, 1], [0, 1], [1, 0], [1, 0]])


@pytest.mark.parametrize("scope", ["row", "local", "global"])
def test_what_is_pruned_already_goes_first_and_counts(scope):
    # Inputs 0 and 1 are always 0, so that live weights score as low as can be; one of four is gone.
    model = MLP([4, 2], rng=RNG(0))
    before = np.array([[True, True, True, False]] * 2)
    model.set_form("fc1.weight", Dense(np.float32([[1, 2, 3, 4]] * 2), mask=before))
    rest = [[0, 1, 1, 0], [0, 1, 1, 0]] if scope == "row" else [[0, 0, 1, 0], [1, 1, 1, 0]]
    for s, kept in ((0.25, before), (0.5, rest), (0.75, [[0, 0, 1, 0]] * 2)):
        pruned = Wanda(sparsity=s, scope=scope).apply(model, data([[0, 0, 1, 1]] * 9), Run(RNG(0)))
        np.testing.assert_array_equal(mask(pruned), np.array(kept, bool))


def test_outputs_stay_closer_than_by_magnitude():
    # The paper's claim, on inputs of very different sizes: one-shot, nothing retrained.
    from minicomp.compress.prune.magnitude import Magnitude

    model = MLP([30, 20], rng=RNG(5))
    x = (RNG(6).standard_normal((300, 30)) * np.geomspace(0.05, 5, 30)).astype(np.float32)
    wanda, plain = (
        np.square(t.apply(model, data(x), Run(RNG(0)))(x).data - model(x).data).mean()
        for t in (Wanda(sparsity=0.5), Magnitude(sparsity=0.5, scope="kernel"))
    )
    assert wanda < plain / 5
