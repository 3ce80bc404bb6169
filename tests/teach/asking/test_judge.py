import numpy as np
import pytest
from minicomp.teach.asking.judge import difference, equal_to, is_sparsity, show


@pytest.mark.parametrize(
    "expected, got",
    [
        (3, 3),
        (3, np.int64(3)),
        (3, np.array(3)),
        (2.0, 2),
        (2.0, np.float32(2)),
        (True, np.True_),
        ("a", "a"),
        ((1, 2.0), [1, 2]),
        (np.array([1.0, 2.0]), [1, 2]),
        (np.array([1, 2]), np.array([1.0, 2.0])),
        (np.array([True, False]), np.array([True, False])),
    ],
)
def test_equal_answers_of_sensible_types_pass(expected, got):
    assert difference(expected, got) is None


@pytest.mark.parametrize(
    "expected, got, slug",
    [
        (3, 4, "wrong-value"),
        (3, 3.0, "wrong-type"),
        (3, True, "wrong-type"),
        (3, None, "wrong-type"),
        ((1, 2), (1,), "wrong-type"),
        ((1, 2), 1, "wrong-type"),
        (np.ones(2), None, "no-value"),
        (np.ones(2), np.ones(3), "wrong-shape"),
        (np.ones(2), np.array([1, np.nan]), "not-finite"),
        (np.ones(2), "ab", "wrong-type"),
        (np.ones(2), [[1], [1, 2]], "wrong-type"),
        (np.array([True]), np.array([1]), "wrong-type"),
        (np.array([1]), np.array([True]), "wrong-type"),
        (np.array([1]), np.array([0.5]), "wrong-type"),
        (np.ones(2), np.array([1 + 0j, 1]), "wrong-type"),
        (np.ones(2), np.array([1, 2]), "wrong-value"),
        (2.0, 2.1, "wrong-value"),
    ],
)
def test_each_kind_of_difference_has_its_name(expected, got, slug):
    assert difference(expected, got).slug == slug


def test_tolerance_is_relative_to_the_largest_entry():
    expected = np.array([1000.0, 0.0])
    assert difference(expected, expected + 0.9e-3, rtol=1e-6) is None
    assert difference(expected, expected + 1.1e-3, rtol=1e-6).slug == "wrong-value"


def test_a_judge_compares_with_its_reference():
    judge = equal_to(lambda a, b: a + b)
    assert judge({"a": 1, "b": 2}, 3) is None
    assert "expected 3, got 4" in judge({"a": 1, "b": 2}, 4).detail


def test_large_arrays_are_shown_by_shape():
    assert "shape (10, 10)" in show(np.zeros((10, 10))) and len(show(np.zeros((10, 10)))) < 100


def test_a_message_can_be_had_without_the_arrays():
    told, short = (difference(np.ones(3), np.zeros(3), shown=shown) for shown in (True, False))
    assert "expected" in told.detail and short.detail == ""
    assert (told.slug, told.text) == (short.slug, short.text)
    assert difference((np.ones(3),), (np.zeros(3),), shown=False).detail == ""


@pytest.mark.parametrize("value", [0, 0.0, 0.5, np.float32(0.25), np.nextafter(1, 0)])
def test_sparsities(value):
    assert is_sparsity(value)


@pytest.mark.parametrize("value", [1, -0.1, True, False, None, "0.5", float("nan"), np.ones(2)])
def test_what_is_no_sparsity(value):
    assert not is_sparsity(value)
