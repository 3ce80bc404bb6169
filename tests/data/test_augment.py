import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.data import Augment, cutmix, cutout, shift
from minicomp.data.augment import shift_by


def images(n=4, c=2, h=5, w=6, dtype=np.float32):
    return np.random.default_rng(0).standard_normal((n, c, h, w)).astype(dtype)


def test_shift_by_hand():
    # One image, down by 1 and left by 1; what comes in is 9.
    x = np.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3)
    moved = shift_by(x, np.array([1]), np.array([-1]), fill=9.0)
    np.testing.assert_array_equal(moved[0, 0], [[9, 9, 9], [2, 3, 9], [5, 6, 9]])


@given(st.integers(-7, 7), st.integers(-7, 7), st.integers(-7, 7))
def test_each_image_moves_by_its_own_amount(a, b, c):
    # Against a loop over pixels.
    x, dy, dx = images(3), np.array([a, b, c]), np.array([c, a, b])
    moved = shift_by(x, dy, dx, fill=-3.0)
    for n in range(3):
        for i in range(5):
            for j in range(6):
                k, m = i - dy[n], j - dx[n]
                expected = x[n, :, k, m] if 0 <= k < 5 and 0 <= m < 6 else np.full(2, -3.0)
                np.testing.assert_array_equal(moved[n, :, i, j], expected)


def test_shift_reaches_every_move_and_no_further():
    x = np.zeros((4000, 1, 7, 7), np.float32)
    x[:, :, 3, 3] = 1.0
    moved = shift(x, 2, rng=np.random.default_rng(0))
    counts = moved.sum(axis=(0, 1))
    assert counts[1:6, 1:6].sum() == 4000 and counts.sum() == 4000
    # 25 moves with 160 expected each: 6 standard deviations are 75
    assert abs(counts[1:6, 1:6] - 160).max() < 75


def test_shift_keeps_dtype_input_and_the_identity():
    x = images(dtype=np.float64)
    before = x.copy()
    assert shift(x, 1, rng=np.random.default_rng(0)).dtype == np.float64
    np.testing.assert_array_equal(x, before)
    assert shift(x, 0, rng=np.random.default_rng(0)) is x
    assert shift(x[:0], 2, rng=np.random.default_rng(0)).shape == (0, 2, 5, 6)


def test_shift_fills_each_channel_with_its_own_black():
    fill = np.array([1.0, 2.0], np.float32)[:, None, None]
    moved = shift_by(images(1), np.array([5]), np.array([0]), fill=fill)
    assert (moved[0, 0] == 1.0).all() and (moved[0, 1] == 2.0).all()


@given(size=st.integers(0, 9), seed=st.integers(0, 999))
def test_cutout_is_one_square_of_zeros_that_may_hang_over_the_border(size, seed):
    x = np.ones((3, 2, 8, 8), np.float32)
    y = cutout(x, size, rng=np.random.default_rng(seed))
    assert (x == 1).all()
    for image in y:
        np.testing.assert_array_equal(image[0], image[1])
        rows, columns = (np.flatnonzero((image[0] == 0).any(axis=a)) for a in (1, 0))
        hole = np.ix_(rows, columns)
        assert (image[0] == 0).sum() == len(rows) * len(columns) == (image[0][hole] == 0).sum()
        if not size:
            assert not len(rows)
            continue
        for cut in (rows, columns):
            # shorter than size only where it touches a border; the centre is always inside
            assert len(cut) == size or (len(cut) >= size // 2 and (cut[0] == 0 or cut[-1] == 7))
            assert (np.diff(cut) == 1).all()


def test_cutout_square_is_where_its_centre_says():
    # An odd square around each possible centre: the hole's position is uniform over the pixels.
    y = cutout(np.ones((6400, 1, 8, 8), np.float32), 1, rng=np.random.default_rng(3))
    holes = (y == 0).sum(axis=(0, 1))
    assert holes.sum() == 6400 and abs(holes - 100).max() < 60


def test_cutout_fills_with_the_value_asked_for_and_keeps_the_dtype():
    y = cutout(images(dtype=np.float64), 20, rng=np.random.default_rng(0), fill=0.5)
    assert y.dtype == np.float64 and (y == 0.5).all()


@given(n=st.integers(0, 6), seed=st.integers(0, 999))
def test_cutmix_is_a_rectangle_of_one_other_image_in_each(n, seed):
    x = np.arange(n, dtype=np.float32)[:, None, None, None] + np.zeros((n, 2, 8, 5), np.float32)
    y = cutmix(x, rng=np.random.default_rng(seed))
    assert y.dtype == x.dtype and y.shape == x.shape
    others = []
    for i, image in enumerate(y):
        np.testing.assert_array_equal(image[0], image[1])
        rows, columns = (np.flatnonzero((image[0] != i).any(axis=a)) for a in (1, 0))
        piece = image[0][np.ix_(rows, columns)]
        assert piece.size == (image[0] != i).sum(), "a rectangle"
        assert len(np.unique(piece)) <= 1, "of one image"
        others += np.unique(piece).tolist()
    assert len(others) == len(set(others)) and set(others) <= set(range(n))


def test_a_piece_of_cutmix_stays_at_its_place_and_has_the_area_of_the_paper():
    # Image 1 is its pixels' numbers: what comes of it lies where it lay. Over a border a rectangle
    # is cut: the mean part that is covered is a little below 1/2, the mean of 1 - lambda.
    rng, parts = np.random.default_rng(0), []
    x = np.stack([np.full((1, 40, 30), -1.0), np.arange(1200.0).reshape(1, 40, 30)])
    for _ in range(2000):
        y = cutmix(x, rng=rng)
        covered = y[0] >= 0
        np.testing.assert_array_equal(y[0][covered], x[1][covered])
        parts.append(covered.mean())
    moved = [part for part in parts if part]
    # half of the permutations of two images leave each its own; a thirtieth of a side is no piece
    assert 0.45 < len(moved) / 2000 < 0.52
    # 1 - lambda = s^2 with centre c: E[part] = E[(s - s^2 / 4)^2], s = sqrt(u): 1/2 - 1/5 + 1/48
    assert abs(np.mean(moved) - (1 / 2 - 1 / 5 + 1 / 48)) < 0.02


@pytest.mark.parametrize("fn", [shift, cutout])
def test_refusals(fn):
    with pytest.raises(ValueError, match="x must be images"):
        fn(np.zeros((2, 17), np.float32), 1, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="must be at least 0, got -1"):
        fn(images(), -1, rng=np.random.default_rng(0))


def test_cutmix_refuses_what_is_no_images():
    with pytest.raises(ValueError, match="x must be images"):
        cutmix(np.zeros((2, 17), np.float32), rng=np.random.default_rng(0))


def test_augment_is_shift_with_black_then_cutout_with_the_mean_of_each_channel():
    x, mean = images(50), np.array([0.25, -7.0], np.float32)[:, None, None]
    y = Augment(shift=2, cutout=3, mean=mean)(x, rng=np.random.default_rng(5))
    rng = np.random.default_rng(5)
    np.testing.assert_array_equal(y, cutout(shift(x, 2, rng=rng), 3, rng=rng, fill=mean))
    assert (y[:, 1] == -7.0).any() and not (y[:, 0] == -7.0).any()
    assert Augment()(x, rng=rng) is x


def test_a_batch_of_64_costs_well_under_300_microseconds():
    # LeNet-300-100 trains above 30,000 images/s: a batch of 64 takes 2 ms in all. The best of many
    # runs, so that a busy machine does not fail it; measured 35 microseconds.
    x, rng = images(64, 1, 28, 28), np.random.default_rng(0)
    best = np.inf
    for _ in range(200):
        start = time.perf_counter()
        shift(x, 2, rng=rng, fill=-0.42)
        best = min(best, time.perf_counter() - start)
    assert best < 3e-4
