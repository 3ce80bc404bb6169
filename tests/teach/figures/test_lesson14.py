from minicomp.teach import figures

STARTS = {"linear": [-1.0, 0.0, 1.0], "density": [-0.2, 0.0, 0.2], "random": [-0.5, 0.1, 0.3]}
ENDS = {"linear": [-0.9, 0.0, 0.8], "density": [-0.4, 0.0, 0.4], "random": [-0.6, 0.1, 0.5]}
ROWS = {"linear": [1.1, 3.0, 2.0], "density": [1.0, 4.0, 2.5], "random": [1.2, 5.0, 2.25]}


def test_the_text_says_every_centroid_and_the_guess():
    drawn = ([1, 5, 2], [-1.0, -0.3, 0.3, 1.0], STARTS, ENDS, ROWS)
    alt = figures.centroids_on_density(*drawn, guess="random").alt
    assert "linear at -1.00, 0.00, 1.00, by k-means to -0.90, 0.00, 0.80, squared" in alt
    assert "error 1.10 times the least, errs on 3.00 %" in alt
    assert "trained 2.25 %" in alt and alt.endswith("Your guess: random.")
    assert "guess" not in figures.centroids_on_density(*drawn).alt


def test_the_text_says_every_lambda():
    curve = {0: (20, 2.0), 0.5: (10, 3.0)}
    alt = figures.rate_curve(curve, [(3, 15, 4.0), (2, 9, 9.0)], 1.9).alt
    assert "0: 20.0 kB, 2.00 %; 0.5: 10.0 kB, 3.00 %" in alt and "3 bits: 15.0 kB, 4.00 %" in alt
    assert alt.endswith("Float: 1.90 %.")
