import numpy as np
import pytest
from minicomp.reference.cases_quant_fixed import MANY, rounds_right

CASE = {"x": np.full(4, 0.125), "u": np.arange(4) / 4 + 0.125, "il": 3, "fl": 1}  # eps = 1/2


@pytest.mark.parametrize(
    "result, slug",
    [
        ([0.5, 0, 0, 0], ""),
        ([0, 0, 0.5, 0], ""),
        ([0.25, 0, 0, 0.25], "off-grid"),
        ([1.0, 0, 0, 0], "not-next-to-x"),
        ([-0.5, 0, 0, 0], "not-next-to-x"),
        ([9.0, 0, 0, 0], "out-of-range"),
        ([0, 0, 0, 0], "biased"),
        ([0.5, 0.5, 0, 0], "biased"),
        ([0.5, 0, 0], "wrong-shape"),
        ([np.nan, 0, 0, 0], "not-finite"),
        (None, "no-value"),
    ],
)
def test_which_draw_goes_up_is_left_open_and_their_number_is_not(result, slug):
    told = rounds_right(CASE, result if result is None else np.array(result))
    assert (told.slug if told else "") == slug


@pytest.mark.parametrize("share, right", [(0.25, True), (0.258, False), (0.242, False)])
def test_the_mean_of_many_may_be_off_by_five_deviations(share, right):
    case = {"x": np.full(MANY, 0.125), "u": np.zeros(MANY), "il": 3, "fl": 1}
    result = np.where(np.arange(MANY) < share * MANY, 0.5, 0.0)
    assert (rounds_right(case, result) is None) == right


def test_numbers_of_several_kinds_are_judged_one_by_one():
    case = {"x": np.array([0.1, 9.0, -9.0, 1.0]), "u": np.zeros(4), "il": 3, "fl": 1}
    assert rounds_right(case, np.array([0.5, 3.5, -4.0, 1.0])) is None
    assert rounds_right(case, np.array([0.5, 3.0, -4.0, 1.0])).slug == "not-next-to-x"
    assert rounds_right(case, np.array([0.5, 3.5, -4.0, 1.5])).slug == "not-next-to-x"
