"""Split pruning: exactly round(s n) zeros in every bank of a row, or in every block of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.split import Split, bank_mask, split_mask
from minicomp.compress.technique import Run
from minicomp.errors import UserError
from minicomp.models import MLP, MODELS


def test_banks_by_hand():
    w = np.array([[9.0, 8.0, 1.0, 2.0], [-1.0, 5.0, 7.0, -7.0]])
    np.testing.assert_array_equal(bank_mask(w, 0.5, 2), [[1, 0, 0, 1], [0, 1, 0, 1]])
    # one bank a row; blocks along the outputs: each row is a block
    np.testing.assert_array_equal(bank_mask(w, 0.5, 1), [[1, 1, 0, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(split_mask(w, 0.75, 2), [[1, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(split_mask(w, 0.25, 1), [[1, 1, 0, 1], [0, 1, 1, 1]])


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 9),
    st.floats(0, 0.99),
    st.integers(0, 2**32 - 1),
)
def test_every_part_has_the_same_zeros(rows, blocks, width, s, seed):
    w = np.random.default_rng(seed).integers(-3, 4, (rows, blocks * width)).astype(np.float32)
    banks = (~bank_mask(w, s, blocks)).reshape(rows, blocks, width).sum(axis=2)
    assert (banks == round(s * width)).all()
    parts = (~split_mask(w.T, s, blocks)).reshape(blocks, -1).sum(axis=1)
    assert (parts == round(s * width * rows)).all()


@pytest.mark.parametrize("make", [bank_mask, split_mask])
def test_masks_are_nested_and_keep_the_largest(make):
    w = np.random.default_rng(0).standard_normal((8, 8))
    masks = [make(w, s, 2) for s in (0.0, 0.25, 0.5, 0.9)]
    assert masks[0].all() and all((a | ~b).all() for a, b in zip(masks, masks[1:]))
    part = np.abs(w[0, :4]) if make is bank_mask else np.abs(w[:4])
    kept = masks[2][0, :4] if make is bank_mask else masks[2][:4]
    assert part[kept].min() >= part[~kept].max()


def test_fully_connected_layers_alone_are_cut():
    model = MODELS["lenet5"](rng=np.random.default_rng(0))
    made = Split(sparsity=0.8, blocks={"*": 4, "fc2": 5}).apply(
        model, None, Run(np.random.default_rng(0))
    )
    assert made.forms()["conv2.weight"].mask is None
    zeros = ~made.forms()["fc1.weight"].mask
    assert (zeros.reshape(500, 4, 200).sum(axis=2) == 160).all()
    assert ((~made.forms()["fc2.weight"].mask).reshape(10, 5, 100).sum(axis=2) == 80).all()
    with pytest.raises(
        UserError, match=r"split: sparsity@conv1 matches no layer; there are fc1, fc2"
    ):
        Split(sparsity={"conv1": 0.5}).apply(model, None, Run(np.random.default_rng(0)))


def test_what_is_pruned_already_counts():
    rng = np.random.default_rng(0)
    model = MLP([8, 4], rng=rng)
    first = Magnitude(sparsity=0.25).apply(model, None, Run(rng))
    first.forms()["fc1.weight"].value.data[:] *= 0  # live weights of 0 are not pruned ones
    for axis, shape in (("inputs", (4, 2, 4)), ("outputs", (2, 1, 16))):
        old = first.forms()["fc1.weight"].mask
        mask = (
            Split(sparsity=0.75, blocks=2, axis=axis)
            .apply(first, None, Run(rng))
            .forms()["fc1.weight"]
            .mask
        )
        assert not (mask & ~old).any()
        assert (
            ((~mask).reshape(shape).sum(axis=2) == 0.75 * shape[2]).all()
            or (~old).reshape(shape).sum(axis=2).max() > 3
        )


def test_a_width_that_blocks_does_not_divide_is_refused():
    model = MLP([6, 8, 3], rng=np.random.default_rng(0))
    with pytest.raises(UserError, match="split: fc1: blocks must divide 6, got 4"):
        Split().apply(model, None, Run(np.random.default_rng(0)))
    with pytest.raises(UserError, match="split: fc2: blocks must divide 3, got 2"):
        Split(blocks=2, axis="outputs").apply(model, None, Run(np.random.default_rng(0)))
    with pytest.raises(ValueError, match="blocks must divide 6, got 0"):
        bank_mask(np.zeros((2, 6)), 0.5, 0)
