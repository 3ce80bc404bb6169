from minicomp.teach import figures
from minicomp.teach.figures.lesson07 import TOY


def test_the_three_moves_of_the_toy_cost_8_and_6_and_3():
    alt = figures.three_moves(*TOY, ([1.0, 2.0], [3.0, 6.0]), ([1.0, 1.0], [2.0, 2.0])).alt
    assert "magnitude to (0, 2.5), 8; OBD to (2, 0), 6.25; OBS to (3.25, 0), 3.125" in alt
    assert "3.0 times what OBD predicts and 2.0 times what OBS predicts" in alt
    assert "costs 2.2 times less" in alt and "Not drawn" not in alt  # the median of 1.5 and 3


def test_a_weight_whose_deletion_lowers_the_loss_is_counted_and_not_drawn():
    alt = figures.three_moves(*TOY, ([1.0, 2.0], [3.0, 6.0]), ([1.0, 1.0], [-1.0, 2.0])).alt
    assert "Not drawn, as the loss fell: 0 and 1." in alt
