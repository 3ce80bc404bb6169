from minicomp.teach import figures


def test_the_text_has_the_numbers_of_the_last_epoch():
    alt = figures.updates_lost(
        ([99.0, 98.5], [90.0, 91.2]), ([3.0, 4.5], [100.1, 99.9]), guess=50
    ).alt
    assert "over 2 epochs" in alt and "Your guess: 50 % undone." in alt
    assert "nearest 98.5 % and 4.5 %; stochastic 91.2 % and 99.9 %" in alt
    assert "guess" not in figures.updates_lost(([9.0], [8.0]), ([1.0], [2.0])).alt
