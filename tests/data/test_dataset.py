from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.data import Dataset, Split, batches


def split(n, shape=(1, 4, 4)):
    x = np.arange(n * int(np.prod(shape)), dtype=np.float32).reshape(n, *shape)
    return Split(x, np.arange(n, dtype=np.int64))


def dataset(n=20):
    return Dataset(
        "toy", split(n), split(5), split(4), ("a", "b"), "files", "a note", ((0.5,), (0.25,))
    )


@pytest.mark.parametrize(
    "x, y, match",
    [
        (np.zeros((2, 3)), np.zeros(2, np.int64), "x must be float32"),
        (np.zeros((2, 3, 4), np.float32), np.zeros(2, np.int64), "x must be float32"),
        (np.zeros((2, 3), np.float32), np.zeros(3, np.int64), "y must be int64"),
        (np.zeros((2, 3), np.float32), np.zeros(2, np.int32), "y must be int64"),
    ],
)
def test_split_refuses_other_shapes_and_dtypes(x, y, match):
    with pytest.raises(ValueError, match=match):
        Split(x, y)


def test_slices_share_memory_and_choices_do_not():
    s = split(6)
    assert np.shares_memory(s.take(slice(2, 4)).x, s.x)
    taken = s.take(np.array([5, 0]))
    assert taken.y.tolist() == [5, 0] and not np.shares_memory(taken.x, s.x)


def test_without_test_takes_only_the_test_split_away():
    d = dataset()
    stripped = d.without_test()
    assert stripped.test is None and stripped.train is d.train and stripped.val is d.val
    assert d.test is not None and stripped.note == d.note


def test_the_mean_pixel_is_that_of_the_normalisation():
    d = dataset()
    assert d.mean.dtype == np.float32 and d.mean.shape == (1, 1, 1) and d.mean.item() == 0.5
    named, colour = replace(d, normalize="cifar10"), replace(d, normalize=([0.5, 0.2], [1, 2]))
    np.testing.assert_allclose(named.mean[:, 0, 0], [0.4914, 0.4822, 0.4465])
    np.testing.assert_allclose(colour.mean[:, 0, 0], [0.5, 0.2])
    assert replace(d, normalize=None).mean.tolist() == [[[0.0]]]


def test_a_data_set_of_ones_own_needs_no_more_than_a_name_and_two_splits():
    d = Dataset("mine", split(7), split(2))
    assert d.classes == ("0", "1", "2", "3", "4", "5", "6") and d.test is None
    assert (d.source, d.original, d.normalize, d.label) == ("arrays", False, None, "mine")
    assert replace(d, digest="0123abcd").label == "mine@0123abcd"


def test_calibration_draws_without_repetition_and_by_the_seed():
    d = dataset()
    a = d.calibration(20, np.random.default_rng(1))
    assert sorted(a.y) == list(range(20))
    b = d.calibration(8, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(d.train.x[b.y], b.x)
    np.testing.assert_array_equal(b.y, d.calibration(8, np.random.default_rng(1)).y)
    for n in (0, 21):
        with pytest.raises(ValueError, match=r"n must be in \[1, 20\]"):
            d.calibration(n, np.random.default_rng(1))


@given(
    n=st.integers(0, 40), size=st.integers(1, 50), shuffle=st.booleans(), seed=st.integers(0, 99)
)
def test_batches_give_every_example_once(n, size, shuffle, seed):
    s = split(n, (3,))
    parts = list(batches(s, size, rng=np.random.default_rng(seed), shuffle=shuffle))
    assert [len(y) for _, y in parts] == [min(size, n - i) for i in range(0, n, size)]
    y = np.concatenate([y for _, y in parts]) if parts else np.empty(0, np.int64)
    assert sorted(y) == list(range(n))
    for x, y in parts:
        np.testing.assert_array_equal(x, s.x[y])
    if not shuffle:
        assert [v for _, y in parts for v in y] == list(range(n))


def test_batches_pass_the_generator_to_the_augmentation():
    seen = []

    def augment(x, rng):
        seen.append(rng)
        return -x

    rng = np.random.default_rng(0)
    ((x, _),) = batches(split(3), 8, rng=rng, augment=augment)
    assert seen == [rng] and x.min() == -split(3).x.max()


def test_batches_refuse_at_the_call():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        batches(split(3), 0)
    with pytest.raises(ValueError, match="need rng"):
        batches(split(3), 1, shuffle=True)
    with pytest.raises(ValueError, match="need rng"):
        batches(split(3), 1, augment=lambda x, rng: x)
