"""SNIP: the score by hand, and the derivative with respect to a mask by differences."""

import numpy as np
import pytest

from minicomp.compress.prune.snip import SNIP, snip_score
from minicomp.compress.technique import Run
from minicomp.data import Dataset, Split
from minicomp.models import MLP
from minicomp.nn import Dense
from minicomp.nn.losses import cross_entropy

RNG = np.random.default_rng


def test_score_by_hand():
    np.testing.assert_array_equal(
        snip_score(np.array([1.0, -2.0, 0.5]), np.array([3.0, 1.0, -4.0])), [3, 2, 2]
    )


def test_it_is_the_derivative_of_the_loss_in_the_mask_and_sums_to_1():
    x, y = RNG(0).standard_normal((60, 5)).astype(np.float32), RNG(1).integers(0, 3, 60)
    split, model = Split(x, y), MLP([5, 4, 3], rng=RNG(2))
    data = Dataset("toy", split, split, None, ("0", "1", "2"), "rendered")
    scores = SNIP(samples=60).scores(model, data, Run(RNG(0)))
    assert sum(s.sum() for s in scores.values()) == pytest.approx(1, rel=1e-6)
    w, h, slopes = model.forms()["fc2.weight"].dense().data, 1e-2, np.empty((3, 4))
    for at in np.ndindex(w.shape):
        losses = []
        for c in (1 + h, 1 - h):
            moved = w.copy()
            moved[at] *= c
            model.set_form("fc2.weight", Dense(moved))
            losses.append(cross_entropy(model(x), y).item())
        slopes[at] = abs(losses[0] - losses[1]) / (2 * h)
    ratio = scores["fc2"].sum() / slopes.sum()
    np.testing.assert_allclose(scores["fc2"], ratio * slopes, rtol=0.02, atol=2e-4)


def test_dead_inputs_go_before_anything_else():
    x, y = RNG(3).standard_normal((60, 6)).astype(np.float32), RNG(4).integers(0, 2, 60)
    x[:, 2] = 0
    split = Split(x, y)
    data = Dataset("toy", split, split, None, ("0", "1"), "rendered")
    model = MLP([6, 2], rng=RNG(5))
    kept = SNIP(sparsity=1 / 6).apply(model, data, Run(RNG(0))).forms()["fc1.weight"].mask
    np.testing.assert_array_equal(kept, np.tile(np.arange(6) != 2, (2, 1)))
