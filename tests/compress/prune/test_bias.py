"""Bias pruning: |b| at or below the threshold becomes exactly 0."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.prune.bias import Bias, bias_mask
from minicomp.compress.technique import Run
from minicomp.errors import UserError
from minicomp.models import MLP
from minicomp.nn import Linear, Model, ReLU, chain


def net():
    model = MLP([6, 4, 3], rng=np.random.default_rng(0))
    model.forms()["fc1.bias"].value.data[:] = [0.1, -0.25, 0.5, -0.75]
    model.forms()["fc2.bias"].value.data[:] = [0.0, 0.25, -1.0]
    return model


def test_threshold_by_hand():
    np.testing.assert_array_equal(
        bias_mask(np.array([0.1, -0.25, 0.5, 0.0]), 0.25), [False, False, True, False]
    )
    np.testing.assert_array_equal(bias_mask(np.array([0.1, 0.0]), 0), [True, False])
    for wrong in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="threshold must be at least 0, got"):
            bias_mask(np.zeros(2), wrong)


@given(st.lists(st.floats(-3, 3), max_size=20), st.floats(0, 2), st.floats(0, 2))
def test_masks_are_nested(values, a, b):
    low, high = (bias_mask(np.array(values), t) for t in sorted((a, b)))
    assert (low | ~high).all()


def test_biases_go_and_weights_stay():
    model = net()
    before = model.state_dict()
    made = Bias(threshold={"*": 0.25, "fc2": 0.5}).apply(model, None, Run(np.random.default_rng(0)))
    np.testing.assert_array_equal(
        made.forms()["fc1.bias"].dense().data, np.float32([0, 0, 0.5, -0.75])
    )
    np.testing.assert_array_equal(made.forms()["fc2.bias"].dense().data, np.float32([0, 0, -1]))
    np.testing.assert_array_equal(made.forms()["fc1.weight"].dense().data, before["fc1.weight"])
    assert made.forms()["fc1.weight"].mask is None


def test_a_second_threshold_does_not_bring_back():
    rng = np.random.default_rng(0)
    first = Bias(threshold=0.3).apply(net(), None, Run(rng))
    second = Bias(threshold=0.0).apply(first, None, Run(rng))
    np.testing.assert_array_equal(second.forms()["fc1.bias"].mask, [False, False, True, True])


def test_a_layer_without_a_bias_matches_no_pattern():
    model = Model(
        chain(("fc1", Linear(3, 4, bias=False)), ("relu", ReLU()), ("fc2", Linear(4, 2))),
        input_shape=(3,),
    )
    with pytest.raises(UserError, match="bias: threshold@fc1 matches no layer; there are fc2"):
        Bias(threshold={"fc1": 0.1}).apply(model, None, Run(np.random.default_rng(0)))
