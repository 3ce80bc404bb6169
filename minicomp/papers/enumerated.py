"""A search space of which every net was trained: what searches find in it is told from a table.

The journal of `minicomp paper search` holds each net's errors with three seeds. A search that asks
for a net gets the error of one of these trainings, drawn, as if it had trained the net itself; how
far its winner is from the best is told by the mean of all three. Costs are multiplications, forward
alone as one and backward as two, and are shown as a part of what it took to enumerate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..search import Choice, Space, Trial, Trials
from ..search.trials import OutOfBudget
from ..tensor import Array


@dataclass(frozen=True, eq=False)
class Enumerated:
    """The table.

    space : under a limit, or none        val, test : (N, S) errors of 100, N nets of the space as
        `order` says, S >= 2 trainings each; NaN where a net over the limit was not trained
    macs : (N,) of one image        images, looks : that a training sees, and is validated on
    """

    space: Space
    val: Array
    test: Array
    macs: Array
    images: int
    looks: int

    @cached_property
    def order(self) -> dict[tuple[int, ...], int]:
        """The row of each code."""
        every = np.ndindex(*map(len, self.space.choices.values()))
        return {code: i for i, code in enumerate(every)}

    def row(self, choice: Choice) -> int:
        """Returns which row is a net's."""
        return self.order[self.space.encode(choice)]

    @cached_property
    def admitted(self) -> Array:
        """The rows of the nets under the limit."""
        return np.array([self.row(choice) for choice in self.space])

    @cached_property
    def total(self) -> float:
        """Multiplications that it takes to enumerate, all nets and seeds."""
        return self.val.shape[1] * float(self.macs.sum()) * (3 * self.images + self.looks)

    def cost(self, choice: Choice) -> float:
        """Returns what one training of a net costs, in percent of the enumeration."""
        return 100 * float(self.macs[self.row(choice)]) * (
            3 * self.images + self.looks) / self.total

    @cached_property
    def best(self) -> int:
        """The row of the optimum: the least mean validation error under the limit."""
        return int(self.admitted[np.argmin(self.val[self.admitted].mean(axis=1))])

    def trials(self, most: float, *, rng: np.random.Generator, spent: float = 0.0) -> Seen:
        """Returns trials that see one training of each net, drawn with rng.

        most, spent : percent of the enumeration
        """
        return Seen(self, most, rng, spent)

    def winner(self, seen: Seen, most: float) -> Winner | None:
        """Returns the best net that a search had when it had spent `most`, None before its first.
        """
        rows = [(trial, s) for trial, s in zip(seen.rows, seen.seeds) if trial.spent <= most]
        if not rows:
            return None
        trial, s = min(rows, key=lambda pair: pair[0].error)
        i = self.row(trial.choice)
        others = np.delete(self.val[i], s)
        return Winner(trial.choice, trial.error, float(self.val[i].mean()),
                      float(self.test[i].mean()), float(self.test[i, s]), float(others.mean()))


@dataclass(frozen=True)
class Winner:
    """What a search returns; all errors of 100.

    seen : validation error by which it won        val, test : means of all its trainings
    same : test error of the training that was seen        others : validation error of the others
    """

    choice: Choice
    seen: float
    val: float
    test: float
    same: float
    others: float


class Seen(Trials):
    """Trials that look a net up; `seeds` says which training each saw."""

    def __init__(self, table: Enumerated, most: float, rng: np.random.Generator, spent: float):
        self.table, self.rng, self.seeds = table, rng, list[int]()
        super().__init__(table.space, self.look, most=most, cost=table.cost, spent=spent)

    def look(self, choice: Choice) -> float:
        """Returns the validation error of one training, of 100."""
        self.seeds.append(int(self.rng.integers(self.table.val.shape[1])))
        return float(self.table.val[self.table.row(choice), self.seeds[-1]])


def in_order(trials: Trials, choices: Sequence[Choice]) -> Trial:
    """Returns the best of nets that are trained in a given order, such as that of a supernet, until
    the budget is spent."""
    try:
        for choice in choices:
            trials(choice)
    except OutOfBudget:
        pass
    return trials.best()


def kendall(a: Array, b: Array) -> float:
    """Returns Kendall's tau-b of two rankings, (N,) numbers each: 1 agree, 0 unrelated."""
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns the mean and the ends of its 95 % interval by Student's t."""
    from scipy.stats import t

    v = np.asarray(values, np.float64)
    half = float(t.ppf(0.975, len(v) - 1)) * float(v.std(ddof=1)) / np.sqrt(len(v))
    return float(v.mean()), float(v.mean() - half), float(v.mean() + half)
