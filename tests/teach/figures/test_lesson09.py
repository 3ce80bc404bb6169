import numpy as np
from minicomp.teach import figures

D = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 4.0]])
P = np.array([[[0.5, 0.0], [-1.0, 2.0]]])
ERRORS = {"looked up": [30.0, 4.0, 2.0, 1.5], "trained on": [3.0, 1.5, 1.2, 1.0]}


def test_the_text_says_atoms_look_ups_errors_and_the_guess():
    alt = figures.atoms_and_lookups(D, P, ERRORS, 0.8, guess=2.5).alt
    assert "2 atoms of 3 channels; largest in size are channels 1, 2." in alt
    assert "one filter's 2 places 3 look-ups, by atom 2, 1; 1 coefficients are negative" in alt
    assert "with 1, 2, 3, 5 look-ups of a vector: looked up 30.00, 4.00, 2.00, 1.50;" in alt
    assert alt.endswith("the net before 0.80. Your guess for 2: 2.5 %.")
    assert "guess" not in figures.atoms_and_lookups(D, P, ERRORS, 0.8).alt
    alone = figures.accuracy_by_lookups(ERRORS, 0.8).alt
    assert alone.startswith("Test error in % with 1, 2, 3, 5 look-ups") and "atoms" not in alone
