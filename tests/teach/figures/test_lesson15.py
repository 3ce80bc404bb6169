from minicomp.teach import figures

ERRORS = {"hashed": [2.0, 2.5, 3.0, 4.0], "smaller": [2.5, 4.0, 8.0, 30.0],
          "low rank": [3.0, 5.0, 9.0, 20.0], "edges removed": [4.0, 6.0, 11.0, 25.0]}


def test_the_text_says_every_point_and_the_guess():
    alt = figures.error_by_size(ERRORS, 1.5, guess=7.0).alt
    assert "1/8, 1/16, 1/32, 1/64" in alt and "hashed 2.00, 2.50, 3.00, 4.00;" in alt
    assert "smaller 2.50, 4.00, 8.00, 30.00" in alt and "the whole net 1.50" in alt
    assert alt.endswith("Your guess for hashed at 1/64: 7 %.")
    assert "guess" not in figures.error_by_size(ERRORS, 1.5).alt
