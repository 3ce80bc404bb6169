"""Random search (Bergstra & Bengio 2012, "Random Search for Hyper-Parameter Optimization", JMLR 13,
and for architectures Li & Talwalkar 2019, arXiv 1902.07638: the baseline that few searches beat).

    choice_t ~ U(space under the limit),   t = 1, 2, ...        the best of them is returned

Draws do not depend on one another, so that all could be trained at once, and none is wasted on a
choice that does not matter: every draw tries another value of each that does. The paper draws with
replacement, here a net that was trained is not drawn again, because in a space of few nets this
would hold back the baseline.
"""

from __future__ import annotations

import numpy as np

from .space import TRIES, Choice, Space
from .trials import OutOfBudget, Trial, Trials


def fresh(space: Space, trials: Trials, *, rng: np.random.Generator) -> Choice | None:
    """Returns a net drawn from those not yet tried; None where 10,000 draws were all known."""
    for _ in range(TRIES):
        if space.encode(choice := space.sample(rng=rng)) not in trials.seen:
            return choice
    return None


def random_search(space: Space, trials: Trials, *, rng: np.random.Generator) -> Trial:
    """Returns the best of nets drawn from the space until the budget of `trials` is spent, or no
    other net is left.

    Source: Bergstra & Bengio 2012, section 2
    """
    try:
        while (choice := fresh(space, trials, rng=rng)) is not None:
            trials(choice)
    except OutOfBudget:
        pass
    return trials.best()
