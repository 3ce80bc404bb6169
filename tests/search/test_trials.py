import numpy as np
import pytest

from minicomp.errors import UserError
from minicomp.search import Space, Trials, random_search
from minicomp.search.trials import OutOfBudget

SPACE = Space({"a": tuple(range(6)), "b": tuple(range(5))}, make=None)


def table(choice):
    return abs(choice["a"] - 3) + abs(choice["b"] - 1) / 4


def test_trials_count_what_they_cost_and_stop_before_they_cost_more():
    logged = []
    trials = Trials(SPACE, table, most=7, spent=1, cost=lambda c: 1 + c["a"], log=logged.append)
    assert trials({"a": 3, "b": 0}).spent == 5
    with pytest.raises(OutOfBudget):
        trials({"a": 2, "b": 0})
    assert trials({"a": 1, "b": 0}).spent == 7 and trials.spent == 7
    assert [row["event"] for row in logged] == ["trial", "progress"] * 2
    assert logged[2] == {"event": "trial", "trial": 2, "choice": {"a": 1, "b": 0}, "error": 2.25,
                         "spent": 7}


def test_the_best_is_the_first_of_equals_and_the_best_so_far_only_falls():
    trials = Trials(SPACE, table, most=100)
    for a, b in ((0, 1), (2, 1), (5, 1), (4, 1), (3, 0), (3, 2)):
        trials({"a": a, "b": b})
    assert trials.best() == trials.rows[4]
    assert [(t.spent, t.error) for t in trials.best_so_far()] == [(1, 3), (2, 1), (5, 0.25)]


def test_random_search_finds_the_enumerated_optimum_and_trains_no_net_twice():
    trials = Trials(SPACE, table, most=1000)
    best = random_search(SPACE, trials, rng=np.random.default_rng(0))
    assert len(trials.rows) == SPACE.size == len({SPACE.encode(t.choice) for t in trials.rows})
    assert best.choice == min(SPACE, key=table) == {"a": 3, "b": 1}


def test_errors():
    with pytest.raises(UserError, match="most must be above 0, got 0"):
        Trials(SPACE, table, most=0)
    trials = Trials(SPACE, table, most=2, spent=1.5)
    with pytest.raises(UserError, match="must pay for one net at least, got 2, of which 1.5"):
        random_search(SPACE, trials, rng=np.random.default_rng(0))
