from minicomp.teach import figures
from minicomp.teach.figures.lesson10 import TOY


def test_the_text_holds_scale_zero_point_and_half_a_scale():
    alt = figures.staircase(*TOY, [8, 4], [2.0, 50.0], [2.0, 4.0], 1.5, guesses=(None, 7)).alt
    assert "8 steps over -1 to 3, scale 0.571, zero point 2" in alt
    assert "nowhere above 0.286, half a scale" in alt  # measured on what is drawn
    assert "8 bits 2.00 and 2.00; 4 bits 50.00 and 4.00; float 1.50" in alt


def test_a_range_above_0_begins_at_it():
    alt = figures.staircase(2.0, 3.4, 2, [8], [2.0], [2.0], 1.5).alt
    assert "4 steps over 2 to 3.4, scale 1.133, zero point 0" in alt
