from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.snip import SNIP, snip_score
from minicomp.compress.technique import Run
from minicomp.data import Split
from minicomp.models import MLP


def dataset(x, y):
    split = Split(np.asarray(x, np.float32), np.asarray(y, np.int64))
    return SimpleNamespace(
        train=split, val=split, calibration=lambda n, rng: split.take(slice(n))
    )


def drawn(seed, n=30, sizes=(4, 5, 3)):
    rng = np.random.default_rng(seed)
    data = dataset(rng.standard_normal((n, sizes[0])), rng.integers(0, sizes[-1], n))
    return MLP(list(sizes), rng=rng), data, rng


def test_by_hand():
    # Both logits are 1 - 2 = -1, so each class has probability 1/2 and dL/dz = (-1/2, 1/2):
    # |g w| = 1/2, 1, 1/2, 1, a sixth and a third of their sum each.
    model = MLP([2, 2])
    model.forms()["fc1.weight"].value.data[:] = [[1, -1], [1, -1]]
    model.forms()["fc1.bias"].value.data[:] = 0
    data = dataset([[1, 2]], [0])
    score = SNIP().scores(model, data, Run(np.random.default_rng(0)))["fc1"]
    np.testing.assert_allclose(score, [[1 / 6, 1 / 3], [1 / 6, 1 / 3]], rtol=1e-6)
    pruned = SNIP(sparsity=0.5).apply(model, data, Run(np.random.default_rng(0)))
    np.testing.assert_array_equal(pruned.forms()["fc1.weight"].dense().data, [[0, -1], [0, -1]])


@given(st.integers(0, 2**32 - 1))
def test_shares_sum_to_one_over_all_layers_and_none_is_negative(seed):
    model, data, rng = drawn(seed)
    score = SNIP().scores(model, data, Run(rng))
    assert sum(s.sum() for s in score.values()) == pytest.approx(1)
    assert all((s >= 0).all() for s in score.values())


def sensitivities(model, x, y, h=1e-6):
    # dL / dc of a mask c that multiplies every weight, at c = 1, by central differences in float64.
    forms = {n: f.value.data.astype(np.float64) for n, f in model.forms().items()}

    def loss(w):
        hidden = np.maximum(x @ w["fc1.weight"].T + w["fc1.bias"], 0)
        z = hidden @ w["fc2.weight"].T + w["fc2.bias"]
        return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y])

    found = {}
    for node in ("fc1", "fc2"):
        w = forms[f"{node}.weight"]
        found[node] = np.zeros_like(w)
        for at in np.ndindex(w.shape):
            up, down = w.copy(), w.copy()
            up[at], down[at] = (1 + h) * w[at], (1 - h) * w[at]
            high, low = (loss(forms | {f"{node}.weight": v}) for v in (up, down))
            found[node][at] = (high - low) / (2 * h)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_how_the_loss_reacts_to_a_mask(seed):
    # Lee et al. 2019, eq. (5): the derivative by c_j, not by w_j.
    model, data, rng = drawn(seed)
    score = SNIP(samples=30).scores(model, data, Run(rng))
    found = sensitivities(model, data.train.x.astype(np.float64), data.train.y)
    total = sum(np.abs(g).sum() for g in found.values())
    for node, g in found.items():
        np.testing.assert_allclose(score[node], np.abs(g) / total, rtol=1e-3, atol=1e-6)


def test_scaling_a_layer_and_unscaling_the_next_changes_nothing():
    # The net computes the same; magnitudes, and what goes by them, are others.
    model, data, rng = drawn(3)
    scaled = model.copy()
    for name, factor in (("fc1.weight", 64), ("fc1.bias", 64), ("fc2.weight", 1 / 64)):
        scaled.forms()[name].value.data[:] *= factor
    for kind in (SNIP(sparsity=0.5), Magnitude(sparsity=0.5, scope="global")):
        made = [kind.apply(m, data, Run(rng)).forms() for m in (model, scaled)]
        names = ("fc1.weight", "fc2.weight")
        equal = all(np.array_equal(made[0][name].mask, made[1][name].mask) for name in names)
        assert equal == (kind.word == "snip")


def test_before_any_training_connections_to_inputs_that_say_nothing_go():
    # Lee et al. 2019, section 5.4: what is kept marks the informative pixels. Half the inputs are
    # always 0, and their weights are the largest.
    rng = np.random.default_rng(4)
    x = rng.standard_normal((100, 12))
    x[:, 1::2] = 0
    data = dataset(x, x[:, 0] > 0)
    model = MLP([12, 10, 2], rng=rng)
    model.forms()["fc1.weight"].value.data[:, 1::2] *= 10
    kept = {
        kind.word: kind.apply(model, data, Run(rng)).forms()["fc1.weight"].mask
        for kind in (SNIP(sparsity=0.5, scope="local"), Magnitude(sparsity=0.5))
    }
    assert kept["snip"][:, ::2].all() and not kept["snip"][:, 1::2].any()
    assert kept["magnitude"][:, 1::2].mean() > 0.8


def test_signs_do_not_matter():
    w, g = np.array([1.0, -2.0, 0.0]), np.array([-3.0, -0.5, 7.0])
    np.testing.assert_array_equal(snip_score(w, g), [3, 1, 0])
    np.testing.assert_array_equal(snip_score(-w, g), snip_score(w, -g))
