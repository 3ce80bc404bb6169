"""LAMP: the score by hand and by its formula, and layers that would die under one threshold."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.prune.lamp import LAMP, lamp_score
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.technique import Run, weights
from minicomp.models import MLP
from minicomp.nn import Dense


def test_score_by_hand():
    # squares 1, 4, 9: 1/14, 4/13, 9/9
    score = lamp_score(np.array([[1.0, -3.0], [2.0, 0.0]]))
    np.testing.assert_allclose(score, [[1 / 14, 1], [4 / 13, 0]])


@given(n=st.integers(1, 30), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 999))
def test_the_formula_whatever_the_layer_s_scale(n, scale, seed):
    w = np.random.default_rng(seed).standard_normal(n)
    above = [np.square(w[np.abs(w) >= np.abs(u)]).sum() for u in w]
    np.testing.assert_allclose(lamp_score(scale * w), w * w / above, rtol=1e-9)
    assert lamp_score(w).max() == 1


def test_no_layer_dies_where_one_threshold_empties_it():
    rng = np.random.default_rng(0)
    model = MLP([20, 10, 2], rng=rng)
    w = model.forms()["fc2.weight"].dense().data
    model.set_form("fc2.weight", Dense(1e-4 * w))
    plain = Magnitude(sparsity=0.95, scope="global").apply(model, None, Run(rng))
    assert plain.forms()["fc2.weight"].nonzeros() == 0
    pruned = LAMP(sparsity=0.95).apply(model, None, Run(rng))
    assert all(pruned.forms()[name].nonzeros() >= 1 for name in weights(pruned).values())
    assert sum(pruned.forms()[name].nonzeros() for name in weights(pruned).values()) == 11
