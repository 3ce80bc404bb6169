import math

import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.errors import FormatError
from minicomp.grid import GRIDS
from minicomp.nn import Affine, FixedPoint, Linear, Model, chain
from minicomp.tensor import grad


def net(form):
    model = Model(chain(("fc", Linear(form.shape[1], form.shape[0]))), input_shape=form.shape[1:])
    model.set_form("fc.weight", form)
    return model


def test_a_masked_form_drops_what_rounds_to_0_when_it_is_frozen():
    w, mask = np.array([[0.1, 1.0, 2.0, 3.0]], np.float32), np.array([[1, 1, 0, 1]], bool)
    form = Affine.of(w, 1.0, bits=3, mask=mask, trainable=True)
    assert form.mask.tolist() == [[True, True, False, True]]
    assert form.freeze().mask.tolist() == [[False, True, False, True]]
    back = decode(encode(net(form))).model.forms()["fc.weight"]
    assert back.mask.tolist() == form.freeze().mask.tolist()


def test_zeros_of_an_unmasked_form_are_listed_and_no_mask():
    # nine of ten codes are 0: a file that lists the others takes less than a bit for each weight
    rng = np.random.default_rng(0)
    q = np.where(rng.random((40, 50)) < 0.95, 0, rng.integers(1, 8, (40, 50)))
    data = encode(net(Affine(q, 0.5, bits=4)))
    shown = decode(data)
    form = shown.model.forms()["fc.weight"]
    assert form.mask is None and (form.q == q).all()
    row = shown.rows[0]
    assert row.parts["values"] + row.parts["index"] < q.size / 8
    moved = form.thaw()
    assert moved.dense().data.size == q.size and moved.mask is None


@pytest.mark.parametrize("grid", ["midrise", "narrow"])
def test_a_zero_point_on_a_grid_without_one_is_refused_from_a_file_too(grid):
    with pytest.raises(ValueError, match="a zero point needs grid full or unsigned"):
        Affine([[1, 2]], 0.5, [3], bits=4, grid=grid)
    form = Affine([[1, 2]], 0.5, [3], bits=4, grid="full")
    form.grid_number = GRIDS.index(grid)
    with pytest.raises(FormatError, match="fc.weight: a zero point needs grid full or unsigned"):
        decode(encode(net(form)))


def test_each_learnt_step_has_the_gain_of_the_weights_that_share_it():
    mask = np.zeros((2, 8), bool)
    mask[0], mask[1, 3] = True, True
    form = Affine.of(np.full((2, 8), 0.3), [0.25, 0.25], bits=4, mask=mask,
                     trainable=True).learning("lsq")
    g = grad(form.dense(training=True).sum(), form.parameters()["scale"]).data
    # of each kept weight rint(1.2) - 1.2 = -0.2
    np.testing.assert_allclose(g, [-0.2 * 8 / math.sqrt(8 * 7), -0.2 / math.sqrt(7)], rtol=1e-4)
    groups = Affine.of(np.full((2, 8), 0.3), np.full((2, 2), 0.25), bits=4, group=5).learning("lsq")
    np.testing.assert_allclose(
        groups.gain(7)[0], [1 / math.sqrt(35)] * 5 + [1 / math.sqrt(21)] * 3, rtol=1e-6)


def test_fixed_point_by_hand():
    form = FixedPoint.of(np.array([[0.25, 0.125, -0.125, 9.0]]), 2, 2)
    assert form.q.tolist() == [[1, 0, -1, 7]]  # a tie goes down, what is beyond saturates
    assert form.dense().data.tolist() == [[0.25, 0, -0.25, 1.75]]
    for il, fl in ((0, 4), (20, 5), (3, -3)):
        with pytest.raises(ValueError, match="il must be at least 1"):
            FixedPoint.of(np.zeros((1, 2)), il, fl)
