from minicomp.teach import figures

MS = {"popcount": [0.25, 0.01, 0.06], "sgemm": [4.0, 0.04, 0.02], "naive": [300.0, 1.5, 0.3]}


def test_the_text_says_every_bar_and_the_guess():
    alt = figures.speed_bars(MS, guess=8.0).alt
    assert "256 x 1,024 x 1,024: popcount 0.25, sgemm 4, naive 300" in alt
    assert "4,096 x 9 x 16: popcount 0.06, sgemm 0.02, naive 0.3" in alt
    assert alt.endswith("Your guess: 8 times as fast as sgemm.")
    assert "guess" not in figures.speed_bars(MS).alt
