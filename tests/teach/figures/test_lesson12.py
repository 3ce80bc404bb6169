import numpy as np
from minicomp.teach import figures


def test_the_text_says_where_both_walks_end_and_every_error():
    stuck, through = np.full(12, 0.2), np.linspace(0.2, 1.6, 12)
    errors = {"rounded": [2.0, 30.0], "learnt": [2.0, 3.0]}
    alt = figures.trapped(stuck, through, 1.7, [8, 2], errors, 1.5, guesses=(50, None)).alt
    assert "it stays at 0.2, rounded 0" in alt and "between the codes 0 and 2" in alt
    assert "at 8, 2 bits: rounded 2.00, 30.00; learnt 2.00, 3.00; float 1.50" in alt
