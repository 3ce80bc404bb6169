import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from minicomp.compress.scores import (
    drop_smallest,
    global_masks,
    kernel_mask,
    magnitude_mask,
    percentile_threshold,
    quality_threshold,
    scoped_masks,
    smallest_mask,
    zeros_of,
)
from minicomp.errors import UserError

W = np.array([[0.3, -0.1, 0.2], [-0.2, 0.4, 0.05]], np.float32)
SMALL = arrays(
    np.float32,
    array_shapes(max_dims=4, max_side=5),
    elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]),
)  # many ties
SPARSITY = st.floats(0, 0.999)


def test_the_smallest_magnitudes_go_ties_by_lowest_index():
    # |w| = .3 .1 .2 / .2 .4 .05: of the two .2 the first goes
    np.testing.assert_array_equal(
        magnitude_mask(W, 0.5), [[True, False, False], [True, True, False]], strict=True
    )
    np.testing.assert_array_equal(magnitude_mask(W, 0), np.ones((2, 3), bool))
    np.testing.assert_array_equal(
        magnitude_mask(np.zeros(5), 0.4), [False, False, True, True, True]
    )


def test_scores_keep_their_sign():
    np.testing.assert_array_equal(
        smallest_mask(np.array([0.5, -3.0, 2.0]), 1 / 3), [True, False, True]
    )


@pytest.mark.parametrize(
    "s, n, zeros",
    [
        (0.5, 3, 2),
        (0.5, 5, 2),
        (0.5, 1, 0),
        (0.25, 6, 2),
        (0.29, 100, 29),
        (0.999, 10, 10),
        (0.0, 7, 0),
        (0.9, 0, 0),
        (np.float32(0.5), 4, 2),
    ],
)
def test_s_of_n_means_round_s_n_zeros_half_to_even(s, n, zeros):
    assert zeros_of(s, n) == zeros and type(zeros_of(s, n)) is int


@pytest.mark.parametrize("s", [1.0, -0.1, 1.5, float("nan")])
def test_a_sparsity_outside_its_range_is_refused(s):
    for fn in (
        lambda: zeros_of(s, 5),
        lambda: magnitude_mask(W, s),
        lambda: kernel_mask(W, s),
        lambda: global_masks([W], s),
    ):
        with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\), got"):
            fn()


def test_a_weight_that_is_not_a_number_is_refused():
    w = W.copy()
    w[0, 1] = np.nan
    for fn in (magnitude_mask, kernel_mask):
        with pytest.raises(ValueError, match="w must hold numbers, got NaN"):
            fn(w, 0.5)


@given(SMALL, SPARSITY, SPARSITY)
def test_masks_are_exact_ordered_and_nested(w, a, b):
    a, b = sorted((a, b))
    dense, sparse = magnitude_mask(w, a), magnitude_mask(w, b)
    for s, mask in ((a, dense), (b, sparse)):
        assert mask.shape == w.shape and mask.dtype == bool
        assert np.count_nonzero(~mask) == round(s * w.size)
        dropped, stay = np.abs(w[~mask]), np.abs(w[mask])
        if dropped.size and stay.size:
            assert dropped.max() <= stay.min()
            tie = np.abs(w.ravel()) == stay.min()  # of the ties those of lowest index went
            flags = mask.ravel()[tie]
            assert list(flags) == sorted(flags)
    assert not (sparse & ~dense).any()  # what is kept at b is kept at a <= b


@given(SMALL, SPARSITY)
def test_kernel_masks_are_exact_in_each_kernel(w, s):
    mask = kernel_mask(w, s)
    last = 2 if w.ndim > 2 else 1  # a K x K slice of a convolution, a row of a matrix
    for row, kept in zip(w.reshape(-1, *w.shape[last:]), mask.reshape(-1, *w.shape[last:])):
        np.testing.assert_array_equal(kept, magnitude_mask(row, s), strict=True)


@given(st.lists(SMALL, min_size=1, max_size=4), SPARSITY)
def test_global_masks_are_one_ranking_of_all(scores, s):
    masks = global_masks(scores, s)
    assert [m.shape for m in masks] == [a.shape for a in scores]
    one = smallest_mask(np.concatenate([a.ravel() for a in scores]), s)
    np.testing.assert_array_equal(np.concatenate([m.ravel() for m in masks]), one)


def test_a_floor_keeps_the_largest_of_a_layer_and_others_go_for_them():
    small, large = np.array([0.1, 0.3, 0.2, 0.05]), np.array([1.0, 2.0, 3.0, 4.0])
    for least, kept in (
        (None, ([0, 0, 0, 0], [1, 1, 1, 1])),  # one ranking alone empties the layer
        ([1, 1], ([0, 1, 0, 0], [0, 1, 1, 1])),
        ([3, 0], ([1, 1, 1, 0], [0, 0, 0, 1])),
    ):
        found = global_masks([small, large], 0.5, least=least)
        np.testing.assert_array_equal(found, np.array(kept, bool))
    # what earlier pruning took does not come back for a floor
    gone = np.array([False, True, False, False])
    first, _ = global_masks([small, large], 0.5, masks=[gone, None], least=[3, 0])
    np.testing.assert_array_equal(first, gone)
    with pytest.raises(ValueError, match="sparsity must be at most 0.25 for every layer to keep"):
        global_masks([small, large], 0.5, least=[3, 3])
    with pytest.raises(UserError, match="t: sparsity must be at most 0.25 for every layer to keep"):
        scoped_masks("t", {"a": small, "b": large}, {"a": None, "b": None}, lambda node: 0.5,
                     "global", least={"a": 3, "b": 3})


@given(st.lists(SMALL, min_size=1, max_size=4), SPARSITY, st.data())
def test_a_floor_changes_no_count_and_holds(scores, s, data):
    least = [data.draw(st.integers(0, a.size)) for a in scores]
    n = sum(a.size for a in scores)
    if round(s * n) > n - sum(least):
        with pytest.raises(ValueError, match="must be at most"):
            global_masks(scores, s, least=least)
        return
    masks = global_masks(scores, s, least=least)
    assert sum(np.count_nonzero(~m) for m in masks) == round(s * n)
    assert all(m.sum() >= k for m, k in zip(masks, least))
    plain = global_masks(scores, s)
    if all(m.sum() >= k for m, k in zip(plain, least)):
        for a, b in zip(masks, plain):
            np.testing.assert_array_equal(a, b)


def by_hand(scores, drop, width, mask):
    # Of every run the entries in order: those outside the mask first, then by score, then by place.
    keep, flat = np.ones(scores.size, bool), scores.ravel()
    live = np.ones(scores.size, bool) if mask is None else mask.ravel()
    for start in range(0, scores.size, width):
        run = sorted(
            range(start, start + width), key=lambda i: (live[i], flat[i] if live[i] else 0, i)
        )
        keep[run[:drop]] = False
    return keep.reshape(scores.shape)


def test_what_is_pruned_already_goes_before_any_score():
    scores, mask = np.array([-5.0, 0.0, 3.0, 9.0]), np.array([True, True, True, False])
    for drop, kept in ((0, [1, 1, 1, 1]), (1, [1, 1, 1, 0]), (2, [0, 1, 1, 0])):
        found = drop_smallest(scores, drop, mask=mask)
        np.testing.assert_array_equal(found, np.array(kept, bool), strict=True)


@given(st.data(), st.integers(1, 4), st.integers(1, 6), st.booleans())
def test_the_one_ranking_is_that_by_hand(data, runs, width, pruned):
    scores = data.draw(
        arrays(np.float32, (runs, width), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0]))
    )
    mask = data.draw(arrays(bool, scores.shape)) if pruned else None
    for per, n in ((None, scores.size), (width, width)):
        drop = data.draw(st.integers(0, n))
        found = drop_smallest(scores, drop, width=per, mask=mask)
        np.testing.assert_array_equal(found, by_hand(scores, drop, n, mask), strict=True)


@given(SMALL, SPARSITY, st.integers(0, 2**32 - 1))
def test_what_is_pruned_already_goes_first_and_counts_in_every_scope(scores, s, seed):
    mask = np.random.default_rng(seed).random(scores.shape) < 0.5
    scores = np.abs(scores)
    live = {"a": scores, "b": scores[::-1].copy()}
    old = {"a": mask, "b": None}
    for scope, n in (("local", scores.size), ("row", scores[0].size), ("global", 2 * scores.size)):
        found = scoped_masks("t", live, old, lambda node: s, scope)
        if scope == "global":
            assert sum(np.count_nonzero(~m) for m in found.values()) == round(s * n)
        else:
            zeros = [(~m).reshape(-1, n).sum(axis=1) for m in found.values()]
            assert all((z == round(s * n)).all() for z in zeros)
        runs = found["a"].reshape(-1, n) if scope != "global" else found["a"].reshape(1, -1)
        for kept, was in zip(runs, mask.reshape(runs.shape)):
            # a live one goes: no dead stays
            assert not (~kept & was).any() or not (kept & ~was).any()


def test_a_nan_is_one_error_in_every_scope():
    scores = {"fc1": np.ones((2, 3)), "fc2": np.array([[1.0, np.nan]])}
    for scope in ("local", "row", "global"):
        with pytest.raises(UserError, match="t: the scores of fc2 must be numbers, got NaN"):
            scoped_masks("t", scores, dict.fromkeys(scores), lambda node: 0.5, scope)
    for fn in (
        lambda a: smallest_mask(a, 0.5),
        lambda a: drop_smallest(a, 0),
        lambda a: global_masks([a], 0),
    ):
        with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
            fn(scores["fc2"])


def test_the_quality_threshold_is_in_standard_deviations_of_the_live_weights():
    assert quality_threshold(W, 1.5) == pytest.approx(1.5 * np.std(W.astype(np.float64)))
    with_zeros = np.concatenate([W.ravel(), np.zeros(100, np.float32)])
    assert quality_threshold(with_zeros, 1.5) == pytest.approx(quality_threshold(W, 1.5))
    assert quality_threshold(np.zeros(4, np.float32), 2.0) == 0.0


def test_the_percentile_threshold_interpolates_between_magnitudes():
    assert percentile_threshold(np.array([-4.0, 1.0, 2.0, -3.0]), 0.5) == 2.5
    assert percentile_threshold(np.array([-4.0, 1.0, 2.0, -3.0]), 0.0) == 1.0
    assert type(percentile_threshold(W, 0.3)) is float


@pytest.mark.peers
@given(st.integers(0, 2**32 - 1), SPARSITY, SPARSITY)
def test_masks_of_a_pruned_net_are_those_of_torch(seed, first, second):
    # torch prunes an amount of what is left, as a number; ours is the sparsity of the whole, in
    # which what is pruned already counts.
    torch = pytest.importorskip("torch")
    from torch.nn.utils import prune

    rng, (first, second) = np.random.default_rng(seed), sorted((first, second))
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((7, 5), (3, 2, 3, 3))]
    layers, old = [torch.nn.Linear(2, 2) for _ in weights], []
    for layer, a in zip(layers, weights):
        layer.weight = torch.nn.Parameter(torch.tensor(a))
        prune.l1_unstructured(layer, "weight", amount=round(first * a.size))
        old.append(magnitude_mask(a, first))
    for layer, a, mask in zip(layers, weights, old):
        prune.l1_unstructured(
            layer, "weight", amount=round(second * a.size) - round(first * a.size)
        )
        np.testing.assert_array_equal(
            magnitude_mask(np.where(mask, a, 0), second, mask=mask), layer.weight_mask.numpy() > 0
        )


@pytest.mark.peers
@given(st.integers(0, 2**32 - 1), SPARSITY)
def test_magnitude_masks_are_those_of_torch(seed, s):
    # torch rounds half to even too and ranks by topk, whose ties are its own: no ties in Gaussian
    # weights
    torch = pytest.importorskip("torch")
    from torch.nn.utils import prune

    rng = np.random.default_rng(seed)
    w, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((7, 5), (3, 2, 3, 3)))
    for a in (w, v):
        layer = torch.nn.Linear(2, 2)
        layer.weight = torch.nn.Parameter(torch.tensor(a))
        prune.l1_unstructured(layer, "weight", amount=s)
        np.testing.assert_array_equal(magnitude_mask(a, s), layer.weight_mask.numpy().astype(bool))
    layers = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    for layer, a in zip(layers, (w, v)):
        layer.weight = torch.nn.Parameter(torch.tensor(a))
    prune.global_unstructured(
        [(layer, "weight") for layer in layers], prune.L1Unstructured, amount=s
    )
    for layer, mask in zip(layers, global_masks([np.abs(w), np.abs(v)], s)):
        np.testing.assert_array_equal(mask, layer.weight_mask.numpy().astype(bool))
