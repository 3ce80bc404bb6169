import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from minicomp.compress.prune.lamp import LAMP, lamp_score
from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.technique import Run
from minicomp.models import MLP

WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=4),
    elements=st.one_of(st.integers(-3, 3), st.floats(-100, 100, width=32)),
)


def masks(model, kind):
    made = kind.apply(model, None, Run(np.random.default_rng(0)))
    return {n: f.mask for n, f in made.forms().items() if f.mask is not None}


def test_by_hand():
    # Squares 1, 9, 4, 0 by rank: 0/14, 1/14, 4/13, 9/9.
    score = lamp_score(np.array([[1.0, -3.0], [2.0, 0.0]]))
    np.testing.assert_allclose(score, [[1 / 14, 1], [4 / 13, 0]], rtol=1e-15)
    # One threshold over both layers: 1/14 and 4/20, 16/16 beside 1/2, 1/1 of a layer of ones.
    model = MLP([1, 2, 1])
    model.forms()["fc1.weight"].value.data[:] = [[2], [4]]
    model.forms()["fc2.weight"].value.data[:] = [[1, 1]]
    kept = masks(model, LAMP(sparsity=0.5))
    assert kept["fc1.weight"].tolist() == [[False], [True]]
    assert kept["fc2.weight"].tolist() == [[False, True]]


@given(WEIGHTS)
def test_it_is_the_formula_by_loops(w):
    # Lee et al. 2021, eq. (1); among equals those of higher index rank above.
    square = np.square(w.astype(np.float64)).ravel()
    expected = []
    for u, a in enumerate(square):
        above = [b for v, b in enumerate(square) if b > a or b == a and v >= u]
        expected.append(a / sum(above) if a else 0.0)
    np.testing.assert_allclose(lamp_score(w).ravel(), expected, rtol=1e-12)


@given(WEIGHTS, st.sampled_from([-8.0, 0.25, 2.0**20]))
def test_ranks_are_those_of_magnitudes_the_largest_is_1_and_scale_is_nothing(w, factor):
    score = lamp_score(w)
    assert score.dtype == np.float64 and score.shape == w.shape
    order = np.argsort(np.abs(w), axis=None, kind="stable")
    assert (np.diff(score.ravel()[order]) >= 0).all()
    assert score.max(initial=0) == float(w.any()) and (score >= 0).all()
    np.testing.assert_array_equal(lamp_score(factor * w.astype(np.float64)), score)


@pytest.mark.parametrize("s", [0.1, 0.5, 0.9])
def test_within_a_layer_it_prunes_as_magnitude_does(s):
    model = MLP([9, 8, 3], rng=np.random.default_rng(1))
    found = masks(model, LAMP(sparsity=s, scope="local"))
    for name, mask in masks(model, Magnitude(sparsity=s)).items():
        np.testing.assert_array_equal(found[name], mask)


def test_no_scale_of_a_layer_changes_what_goes_and_no_layer_dies():
    # Lee et al. 2021, section 3: a global threshold on magnitudes empties a layer of small weights.
    rng = np.random.default_rng(2)
    model = MLP([40, 30, 20, 2], rng=rng)
    scaled = model.copy()
    for name, factor in (("fc1.weight", 2.0**-14), ("fc3.weight", 2.0**9)):
        scaled.forms()[name].value.data[:] *= np.float32(factor)
    kept, after = masks(model, LAMP(sparsity=0.98)), masks(scaled, LAMP(sparsity=0.98))
    for name, mask in kept.items():
        np.testing.assert_array_equal(after[name], mask)
        assert mask.any()
    assert sum((~m).sum() for m in kept.values()) == round(0.98 * 1840)
    dead = masks(scaled, Magnitude(sparsity=0.98, scope="global"))
    assert dead["fc1.weight"].sum() == dead["fc2.weight"].sum() == 1, "all but what a floor holds"
