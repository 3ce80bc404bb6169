"""N:M sparsity: exactly n of every m consecutive weights stay, the largest."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.compress.prune.magnitude import Magnitude
from minicomp.compress.prune.nm import NM, nm_mask
from minicomp.compress.technique import Run
from minicomp.errors import UserError
from minicomp.models import MLP, MODELS


def test_two_of_four_by_hand():
    w = np.array(
        [[1.0, -4.0, 3.0, 2.0, 0.0, 0.5, -0.5, 0.5], [5.0, 5.0, 5.0, 5.0, -1.0, 2.0, -3.0, 4.0]]
    )
    want = [[0, 1, 1, 0, 0, 0, 1, 1],  # of three equal 0.5 the lowest index goes
            [0, 0, 1, 1, 0, 0, 1, 1]]
    np.testing.assert_array_equal(nm_mask(w, 2, 4), np.array(want, bool))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_every_block_keeps_n_of_the_greatest_sum(rows, blocks, m, seed):
    rng = np.random.default_rng(seed)
    w = rng.integers(-5, 6, (rows, blocks * m)).astype(np.float64)
    for n in range(1, m + 1):
        mask = nm_mask(w, n, m)
        for block, kept in zip(np.abs(w).reshape(-1, m), mask.reshape(-1, m)):
            assert kept.sum() == n
            assert block[kept].sum() == max(sum(c) for c in itertools.combinations(block, n))


def test_fewer_kept_is_nested():
    w = np.random.default_rng(0).standard_normal((6, 16))
    masks = [nm_mask(w, n, 8) for n in range(1, 9)]
    assert all((b | ~a).all() for a, b in zip(masks, masks[1:])) and masks[-1].all()


def test_blocks_of_a_convolution_are_of_input_channels():
    # (O, C, K, K) is permuted to (O, K, K, C), and there they are those of a matrix.
    model = MODELS["lenet5"](rng=np.random.default_rng(0))
    made = NM(skip=True).apply(model, None, Run(np.random.default_rng(0)))
    assert made.forms()["conv1.weight"].mask is None, "one channel has no blocks"
    w, mask = (a.transpose(0, 2, 3, 1) for a in (
        model.forms()["conv2.weight"].dense().data, made.forms()["conv2.weight"].mask
    ))
    assert (mask.reshape(-1, 4).sum(axis=1) == 2).all()
    np.testing.assert_array_equal(mask.reshape(50, -1), nm_mask(w.reshape(50, -1), 2, 4))
    assert made.forms()["fc1.bias"].mask is None


def test_a_block_of_channels_by_hand():
    # Two channels of a 1 x 2 kernel: at each place the larger of the two channels stays.
    w = np.array([[[[1.0, 5.0]], [[3.0, -2.0]]]])
    np.testing.assert_array_equal(nm_mask(w, 1, 2), [[[[False, True]], [[True, False]]]])


def test_what_is_pruned_already_goes_first():
    # A live weight of 0 stays while a pruned one is there to go.
    model = MLP([4, 1], rng=np.random.default_rng(0))
    form = model.forms()["fc1.weight"]
    form.value.data[:] = [[0.0, 0.1, 3.0, 0.2]]
    first = Magnitude(sparsity=0.5).apply(model, None, Run(np.random.default_rng(0)))
    first.forms()["fc1.weight"].value.data[:] = [[0.0, 0.0, 0.0, 0.0]]
    again = (
        NM(n=2, m=4)
        .apply(first, None, Run(np.random.default_rng(0)))
        .forms()["fc1.weight"]
        .mask
    )
    np.testing.assert_array_equal(again, [[False, False, True, True]])


def test_a_width_that_m_does_not_divide_is_refused_or_skipped():
    model = MLP([6, 8, 3], rng=np.random.default_rng(0))
    with pytest.raises(UserError, match="nm: fc1: m must divide the 6 inputs, got 4; skip=true"):
        NM().apply(model, None, Run(np.random.default_rng(0)))
    made = NM(skip=True).apply(model, None, Run(np.random.default_rng(0)))
    assert made.forms()["fc1.weight"].mask is None
    assert (made.forms()["fc2.weight"].mask.reshape(-1, 4).sum(axis=1) == 2).all()


def test_wrong_numbers_are_refused():
    model = MLP([8, 4], rng=np.random.default_rng(0))
    with pytest.raises(UserError, match="nm: n must be at most m = 4, got 5"):
        NM(n=5)
    with pytest.raises(UserError, match="nm: fc1: n must be at most m = 2, got 3"):
        NM(n={"fc*": 3}, m=2).apply(model, None, Run(np.random.default_rng(0)))
    for n, m, words in ((5, 4, r"n must be in \[1, 4\], got 5"), (2, 3, "m must divide the 8")):
        with pytest.raises(ValueError, match=words):
            nm_mask(model.forms()["fc1.weight"].value.data, n, m)
