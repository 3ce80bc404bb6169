"""Regularised evolution (Real, Aggarwal, Huang & Le 2019, "Regularized Evolution for Image
Classifier Architecture Search", AAAI, arXiv 1802.01548, algorithm 1).

A population of P nets, drawn at random and trained, is a queue. Each cycle draws S of them, mutates
the best of these by one choice, trains the child, puts it in, and takes out

    the oldest        "aging", which the paper calls regularisation
    the worst         "non-aging", with which it is compared

A net that was lucky once, on noisy validation data, is never again looked at by an evolution that
removes the worst: it stays the best and has all the children. Where the oldest dies, an
architecture lives on only if its descendants, trained anew, are good too.

    draw P;  while paid for: parent = best of S drawn with replacement; child = mutate(parent);
    remove the oldest                                                           (algorithm 1)

The best net of the whole history is returned, not that of the last population. In the paper spaces
are so large that a child is a net nobody has trained; here one that was is mutated further, unless
`again`, so that a small budget is not spent on what is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UserError, printable
from .random import fresh
from .space import Choice, Space
from .trials import OutOfBudget, Trial, Trials

REMOVE = ("oldest", "worst")
STEPS = 100  # mutations in a row after which all nets around count as known


def parent_of(errors: Sequence[float], drawn: Sequence[int]) -> int:
    """Returns which of the sample errs least, the lowest index of equals.

    errors : (P,), the oldest first        drawn : (S,) indices of the population
    Source: Real et al. 2019, algorithm 1
    """
    return min(sorted(drawn), key=lambda i: errors[i])


def taken_out(errors: Sequence[float], remove: str = "oldest") -> int:
    """Returns which of a population is taken out, the lowest index of equals.

    errors : (P + 1,), the oldest first, the child last        remove : "oldest" or "worst"
    Source: Real et al. 2019, algorithm 1 and section 6
    """
    return 0 if remove == "oldest" else max(range(len(errors)), key=lambda i: errors[i])


def evolve(space: Space, trials: Trials, *, population: int = 8, sample: int = 4,
           remove: str = "oldest", again: bool = False, rng: np.random.Generator) -> Trial:
    """Returns the best net that evolution has tried when the budget of `trials` is spent.

    population, sample : P and S, 2 <= P, 1 <= S        remove : "oldest", or "worst"
    again : whether a net may be trained a second time
    Raises UserError for arguments out of range.
    """
    if population < 2 or sample < 1:
        raise UserError("population must be at least 2 and sample at least 1, "
                        f"got {population} and {sample}")
    if remove not in REMOVE:
        raise UserError(f"remove must be one of {', '.join(REMOVE)}, got {printable(remove, 40)}")
    living: list[Trial] = []
    try:
        while (choice := fresh(space, trials, rng=rng)) and len(living) < population:
            living.append(trials(choice))
        while (child := _child(space, trials, living, sample, again, rng)) is not None:
            living.append(trials(child))
            del living[taken_out([trial.error for trial in living], remove)]
    except OutOfBudget:
        pass
    return trials.best()


def _child(space: Space, trials: Trials, living: Sequence[Trial], sample: int, again: bool,
           rng: np.random.Generator) -> Choice | None:
    # A mutant of the best of a sample; unless `again` mutated on until nobody has trained it, None
    # where a hundred steps lead to no such net.
    drawn = rng.integers(len(living), size=sample).tolist()
    child = living[parent_of([trial.error for trial in living], drawn)].choice
    for _ in range(STEPS):
        child = space.mutate(child, rng=rng)
        if again or space.encode(child) not in trials.seen:
            return child
    return None
