"""What a search has tried, and what it has cost: searches are compared at equal cost.

    trials = Trials(space, evaluate, most=24)        24 trainings, or of whatever `cost` counts
    best = random_search(space, trials, rng=rng)     the best Trial
    trials.rows                                      every Trial, in their order

Error is what a search sees and minimises: a fraction of wrong answers on validation data. Of many
noisy ones the least is too good, the winner's curse: what the winner does on test data is for
whoever called the search to find out, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..compress.technique import Log, silent
from ..errors import UserError
from .space import Choice, Space


@dataclass(frozen=True)
class Trial:
    """One net: its choice, the error seen, and what the search had spent after it."""

    choice: Choice
    error: float
    spent: float


class OutOfBudget(Exception):
    """The next net would cost more than is left: the search is over."""


class Trials:
    """Evaluates nets of a space until the budget is spent.

    evaluate : evaluate(choice) -> error on validation data, such as that of a net trained
    most : what all trials may cost together, > 0
    cost : cost(choice) -> what one costs, known beforehand; left out: 1, so that most counts nets
    spent : what was spent before the first, such as on a supernet
    log : called with {"event": "progress", ...} and {"event": "trial", ...}
    """

    def __init__(self, space: Space, evaluate: Callable[[Choice], float], *, most: float,
                 cost: Callable[[Choice], float] = lambda choice: 1.0, spent: float = 0.0,
                 log: Log = silent):
        if not most > 0:
            raise UserError(f"most must be above 0, got {most}")
        self.space, self.evaluate, self.cost = space, evaluate, cost
        self.most, self.spent, self.log = most, spent, log
        self.rows: list[Trial] = []
        self.seen: set[tuple[int, ...]] = set()

    def __call__(self, choice: Choice) -> Trial:
        """Returns the trial of a net; OutOfBudget where it would cost more than is left."""
        cost = self.cost(choice)
        if self.spent + cost > self.most:
            raise OutOfBudget
        self.spent += cost
        trial = Trial(choice, float(self.evaluate(choice)), self.spent)
        self.rows.append(trial)
        self.seen.add(self.space.encode(choice))
        self.log({"event": "trial", "trial": len(self.rows), "choice": choice,
                  "error": trial.error, "spent": self.spent})
        self.log({"event": "progress", "name": "search", "done": min(self.spent, self.most),
                  "total": self.most})
        return trial

    def best(self) -> Trial:
        """Returns the trial of the least error, the first of equals; UserError where none is."""
        if not self.rows:
            raise UserError(f"most must pay for one net at least, got {self.most:g}, "
                            f"of which {self.spent:g} was spent before")
        return min(self.rows, key=lambda trial: trial.error)

    def best_so_far(self) -> list[Trial]:
        """Returns the trials that were better than all before them, in their order."""
        found: list[Trial] = []
        for trial in self.rows:
            if not found or trial.error < found[-1].error:
                found.append(trial)
        return found
