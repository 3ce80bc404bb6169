import numpy as np
from minicomp.teach import figures


def test_the_text_says_where_each_criterion_is_least_and_every_error():
    at = np.linspace(0.125, 1, 8)
    curves = {"mse": np.abs(at - 0.75) + 1, "kl": np.abs(at - 0.5) + 1}
    errors = {"mse": [2.0, 4.0], "kl": [2.5, 30.0]}
    alt = figures.moving_threshold([9.0, 3.0, 0.0, 1.0], at, curves, [8, 4], errors, 1.5).alt
    assert "4 bins up to the peak, the fullest with 9 numbers" in alt
    assert "Chosen, in parts of the peak: min-max 1.00, mse 0.75, kl 0.50." in alt
    assert "at 8, 4 bits: mse 2.00, 4.00; kl 2.50, 30.00; float 1.50" in alt
