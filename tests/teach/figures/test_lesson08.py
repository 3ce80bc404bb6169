import pytest
from minicomp.teach import figures

# The first, the 150th and the last of 300 singular values.
SPECTRA = {"trained": [1.0, 0.5, 0.0], "random": [1.0, 0.9, 0.8]}
MS = {1: [0.25, 0.5, 1.5], 64: [2.0, 4.0, 8.0]}
RANKS = (8, 100, 200)


@pytest.mark.parametrize("ms, at", [([1, 2, 4], 150), ([3, 3, 3], 0.0), ([4, 5, 6], 0.0),
                                    ([1, 2, 2.5], 200.0), ([1, 3, 9], 100.0)])
def test_the_crossing_lies_between_the_ranks_where_the_layer_whole_is_overtaken(ms, at):
    assert figures.crossing(RANKS, ms, 3.0) == pytest.approx(at)


def test_the_text_says_spectra_times_and_where_they_cross():
    alt = figures.break_even(SPECTRA, MS, {1: 1.0, 64: 4.0}, ranks=RANKS, guess=90.0).alt
    assert "at places 1, 61, 121, 180, 240, 300: trained 1.00, 0.80, 0.60, 0.40, 0.20, 0.00" in alt
    assert "random 1.00, 0.96, 0.92, 0.88, 0.84, 0.80" in alt
    assert "1 image: 0.25, 0.50, 1.50, break-even at rank 150 and 1 ms" in alt
    assert "64 images: 0.50, 1.00, 2.00, break-even at rank 100 and 4 ms" in alt
    assert "by count it is 217. Your guess: 90." in alt
    assert "guess" not in figures.break_even(SPECTRA, MS, {1: 1.0, 64: 4.0}, ranks=RANKS).alt
