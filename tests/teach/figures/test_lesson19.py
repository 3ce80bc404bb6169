import numpy as np
from minicomp.teach import figures

CURVES = {"evolution": np.array([[30.0, 20, 10], [28, 18, 12]]), "random": np.full((2, 3), 25.0),
          "the worst dies": np.array([29.0, 19, 11])}
SPACE = ([2000, 3000, 4000, 9000], [12.0, 9.0, 10.0, 8.0], [True, True, True, False])


def test_the_text_says_what_the_searches_saw_the_front_and_the_guess():
    alt = figures.searches(CURVES, 9.5, *SPACE, guess=12).alt
    assert "evolution 29.0, 19.0, 11.0; random 25.0, 25.0, 25.0; the worst dies 29.0" in alt
    assert "the least there is 9.50" in alt and "4 nets, 3 within the limit" in alt
    assert "the true front: 12.0 % at 2.0 kB, 9.0 % at 3.0 kB, 8.0 % at 9.0 kB." in alt
    assert alt.endswith("Your guess: 12 of 20 find it.")
    assert "guess" not in figures.searches(CURVES, 9.5, *SPACE).alt
