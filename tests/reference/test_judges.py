import numpy as np
import pytest
from minicomp.reference.judges import (
    copied,
    difference,
    equal_to,
    first_difference,
    show,
    unchanged,
)


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


@pytest.mark.parametrize("got", [np.float32(0.1), np.nextafter(0.1, 1), 0.1 + 1e-9])
def test_numbers_that_differ_never_look_alike(got):
    for shape in ((), (2,), (2, 2), (5, 5, 2)):
        told = difference(np.full(shape, 0.1), np.full(shape, got), rtol=1e-18)
        expected, mine = told.detail.splitlines()[:2]
        assert expected.split()[1] != mine.split()[1] and "first difference" not in told.text
        one, _, other = told.first.partition(": ")[2].partition(" is expected, got ")
        assert one != other
    assert ("float32" in told.detail) == isinstance(got, np.float32)


def test_only_as_many_digits_as_tell_numbers_apart():
    assert difference(np.array([1 / 3]), np.array([0.5])).detail == (
        "expected [0.333333]\ngot      [0.5]"
    )
    told = difference(np.array([1 / 3, 1.0]), np.array([1 / 3 + 1e-8, 2.0])).detail
    assert told == "expected [0.33333333, 1]\ngot      [0.33333334, 2]"


def test_a_right_answer_in_float32_is_told_so():
    expected = np.linspace(0.1, 0.9, 7)
    told = difference(expected, expected.astype(np.float32), rtol=1e-10)
    assert told.slug == "too-coarse" and "right only as far as float32 goes" in told.text
    wrong = difference(expected, (expected + 0.01).astype(np.float32), rtol=1e-10)
    assert wrong.slug == "wrong-value"


def test_values_are_shown_on_one_line_with_shapes():
    assert show(np.array([[1.0, 0.5]])) == "[[1, 0.5]]"
    assert show(np.arange(4.0).reshape(1, 1, 2, 2)) == "[0, 1, 2, 3] of shape (1, 1, 2, 2)"
    large = show(np.arange(81.0).reshape(3, 3, 3, 3))
    assert large == "[0, 1, 2, 3, 4, 5, ...] of shape (3, 3, 3, 3)"
    assert show(np.zeros((0, 3))) == "[] of shape (0, 3)" and show(-0.0) == "0"
    assert show([("conv", 2), ("flatten",)]) == "[('conv', 2), ('flatten',)]"
    assert show((np.float32(0.5), np.int64(3), None)) == "(0.5, 3, None)"


def test_of_arrays_too_large_for_a_line_the_first_difference_is_shown():
    got = np.zeros((5, 5, 2))
    got[4, 3, 1] = 2
    told = difference(np.zeros((5, 5, 2)), got).detail
    assert told.endswith("first difference at [4, 3, 1]: expected 0, got 2")
    assert len(told.splitlines()) == 3


def test_the_parts_of_a_result_have_names():
    right = (np.ones(2), np.zeros(1))
    told = difference(right, (np.ones(2), np.ones(1)), names=("ga", "gb"))
    assert told.text == "gb is wrong in 1 of 1 entries"
    told = difference(right, right[0], names=("ga", "gb"))
    assert "a tuple of 2 (ga, gb), got an array" in told.text


def test_wrong_shapes_are_shown_with_their_entries():
    told = difference(np.array([2, 3]), np.array([2])).detail
    assert told == "expected shape (2,), got (1,)\nexpected [2, 3]\ngot      [2]"


def test_what_a_call_changed_is_seen():
    case = {"w": np.array([1.0, 2.0]), "rows": [("a", 1)], "s": 0.5}
    before = copied(case)
    assert all(unchanged(before[name], case[name]) for name in case)
    case["w"][0] = 3
    case["rows"].append(("b", 2))
    assert [unchanged(before[name], case[name]) for name in case] == [False, False, True]


def test_large_arrays_are_shown_by_shape():
    assert "shape (10, 10)" in show(np.zeros((10, 10))) and len(show(np.zeros((10, 10)))) < 100


def test_a_message_can_be_had_without_the_arrays():
    told, short = (difference(np.ones(3), np.zeros(3), shown=shown) for shown in (True, False))
    assert "expected" in told.detail and short.detail == ""
    assert (told.slug, told.text) == (short.slug, short.text)
    assert difference((np.ones(3),), (np.zeros(3),), shown=False).detail == ""


def test_numbers_beyond_doubles_are_compared_exactly():
    assert difference(np.array([2**53]), np.array([2**53 + 1])).slug == "wrong-value"
    assert difference(np.array([2**63], np.uint64), np.array([2**63 - 1], np.int64)) is not None


def test_the_first_entry_that_differs_is_named_with_all_its_digits():
    told = difference(np.array([[1.0, 0.3]]), np.array([[1.0, 0.1 + 0.2]]))
    assert told.first == "first difference at (0, 1): 0.3 is expected, got 0.30000000000000004"


def test_lists_are_compared_entry_by_entry():
    expected = [np.array([True]), np.array([True, False])]
    assert difference(expected, tuple(map(np.copy, expected))) is None
    short = difference(expected, expected[:1])
    assert short.text == "the result must be a list of 2, got a list of 1"
    assert "entry 1" in difference(expected, [expected[0], ~expected[1]]).text


def test_the_first_of_several_results_that_differs_is_named():
    right = np.ones(2)
    assert first_difference([right, 2 * right], [right, 2 * right], ["a", "b"]) is None
    told = first_difference([right, 2 * right], [right, right], ["a", "b"])
    assert told.text == "b is wrong in 2 of 2 entries"
    with pytest.raises(ValueError):
        first_difference([right], [right, right], ["a", "b"])


def test_a_copied_case_shares_no_array():
    case = {"w": np.ones(2), "masks": [np.ones(1)], "pair": (np.ones(1), 3), "s": 0.5}
    copy = copied(case)
    for array in (copy["w"], copy["masks"][0], copy["pair"][0]):
        array[...] = 7
    assert case["w"].tolist() == [1, 1] and case["masks"][0] == 1 and case["pair"][0] == 1
    assert type(copy["pair"]) is tuple and copy["s"] == 0.5


def test_numbers_in_one_array_are_as_right_as_in_a_tuple():
    assert difference((0.5, 2.0), np.array([0.5, 2.0])) is None
    assert difference((3, 40), np.array([3, 40])) is None
    assert difference((3, 40), np.array([3, 41])).slug == "wrong-value"
    assert difference((3, 40), np.array([3.0, 40.0])).slug == "wrong-type"
    assert difference((3, 40), np.array([3, 40, 5])).slug == "wrong-type"
    pair = (np.zeros(2), np.ones(2))  # two arrays are two things
    assert difference(pair, np.stack(pair)).slug == "wrong-type"
