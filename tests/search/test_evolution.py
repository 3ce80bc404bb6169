import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.errors import UserError
from minicomp.search import Space, Trials, evolve, random_search
from minicomp.search.evolution import parent_of, taken_out

SPACE = Space({name: tuple(range(4)) for name in "abcde"}, make=None)  # 1024 nets


def smooth(choice):
    return float(sum((v - 2) ** 2 for v in choice.values()))


def test_steps_by_hand():
    errors = [0.2, 0.1, 0.4, 0.1]
    assert parent_of(errors, [2, 0]) == 0 and parent_of(errors, [3, 2, 1]) == 1
    assert taken_out(errors) == 0 and taken_out(errors, "worst") == 2


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.data())
def test_the_parent_is_the_best_of_the_sample(errors, data):
    drawn = data.draw(st.lists(st.integers(0, len(errors) - 1), min_size=1))
    parent = parent_of(errors, drawn)
    assert parent in drawn and errors[parent] == min(errors[i] for i in drawn)
    assert not any(errors[i] == errors[parent] for i in drawn if i < parent)


def test_the_oldest_goes_whatever_it_is():
    # Followed by hand: a population of 3 in which the first drawn is by far the best.
    def living(remove):
        trials = Trials(SPACE, lambda c: 0.0 if len(trials.rows) == 0 else 1.0, most=6)
        seen = []
        original = SPACE.mutate

        def mutate(choice, *, rng):
            seen.append(SPACE.encode(choice))
            return original(choice, rng=rng)

        object.__setattr__(SPACE, "mutate", mutate)
        try:
            evolve(SPACE, trials, population=3, sample=30, remove=remove, again=True,
                   rng=np.random.default_rng(0))
        finally:
            object.__delattr__(SPACE, "mutate")
        first = SPACE.encode(trials.rows[0].choice)
        return [code == first for code in seen]

    assert living("worst")[:3] == [True, True, True]
    assert living("oldest")[:2] == [True, False]  # after one cycle it is gone


def test_the_enumerated_optimum_is_found_with_far_fewer_trials():
    best = min(map(smooth, SPACE))
    for seed in range(5):
        trials = Trials(SPACE, smooth, most=200)
        found = evolve(SPACE, trials, population=10, sample=5, rng=np.random.default_rng(seed))
        assert found.error == best == 0.0
        assert len({SPACE.encode(t.choice) for t in trials.rows}) == len(trials.rows)


def test_evolution_beats_random_search_of_equal_cost_on_noisy_errors():
    def mean_found(search, **knobs):
        found = []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            trials = Trials(SPACE, lambda c: smooth(c) + 0.2 * rng.normal(), most=60)
            found.append(smooth(search(SPACE, trials, rng=rng, **knobs).choice))
        return np.mean(found)

    assert mean_found(evolve, population=12, sample=8) < mean_found(random_search) - 0.5


def test_a_space_that_is_used_up_ends_the_search():
    tiny = Space({"a": (0, 1), "b": (0, 1)}, make=None)
    trials = Trials(tiny, smooth, most=100)
    evolve(tiny, trials, population=3, sample=2, rng=np.random.default_rng(0))
    assert len(trials.rows) == 4
    repeated = Trials(tiny, smooth, most=20)
    evolve(tiny, repeated, population=3, sample=2, again=True, rng=np.random.default_rng(0))
    assert len(repeated.rows) == 20


def test_errors():
    trials = Trials(SPACE, smooth, most=1)
    for knobs, match in (({"population": 1}, "at least 2 and sample at least 1, got 1 and 4"),
                         ({"sample": 0}, "got 8 and 0"),
                         ({"remove": "youngest"}, "one of oldest, worst, got youngest")):
        with pytest.raises(UserError, match=match):
            evolve(SPACE, trials, rng=np.random.default_rng(0), **knobs)
    assert not trials.rows
