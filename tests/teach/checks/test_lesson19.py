import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.reference.draw import Draw
from minicomp.search import Limit, Space, Trials, evolve, small_lenet
from minicomp.search.evolution import parent_of, taken_out
from minicomp.teach.checks import lesson19


def test_neighbours_by_hand():
    allowed = np.array([[1, 1, 1], [1, 0, 1]], bool)
    assert lesson19.neighbours(np.array([0, 1]), allowed).tolist() == [[0, 0], [0, 2]]
    assert lesson19.neighbours(np.array([1, 2]), allowed).tolist() == [[0, 2], [1, 0]]
    assert lesson19.neighbours(np.array([0]), np.array([True])).shape == (0, 1)


@given(st.integers(0, 2**32 - 1))
def test_neighbours_lie_one_choice_away_are_allowed_and_all_there_are(seed):
    rng = np.random.default_rng(seed)
    allowed = rng.random(rng.integers(1, 4, size=rng.integers(1, 4))) < 0.7
    code = np.array([rng.integers(n) for n in allowed.shape])
    near = lesson19.neighbours(code, allowed)
    assert ((near != code).sum(axis=1) == 1).all() and all(allowed[tuple(c)] for c in near)
    every = [c for c in np.ndindex(allowed.shape) if (np.array(c) != code).sum() == 1]
    assert len(near) == sum(bool(allowed[c]) for c in every) == len({tuple(c) for c in near})


def test_a_mutation_of_the_library_is_a_neighbour():
    space = Space({"conv1": (2, 4, 6), "conv2": (4, 8)}, small_lenet).under(Limit(macs=100_000))
    allowed = np.zeros((3, 2), bool)
    for choice in space:
        allowed[space.encode(choice)] = True
    rng, at = np.random.default_rng(0), space.smallest
    near = {tuple(c) for c in lesson19.neighbours(np.array(space.encode(at)), allowed)}
    assert 0 < allowed.sum() < 6
    assert {space.encode(space.mutate(at, rng=rng)) for _ in range(60)} == near


def test_evolution_by_hand():
    # Queue 0 1: the better of both is 1, its right neighbour 2 comes, 0 dies. Then 2 is better.
    ring = lesson19._ring([5, 4, 3, 2, 1, 6], [0, 1], [[1, 0], [0, 1]], [1, 1])
    tried, best = lesson19.evolution(**ring)
    assert tried.tolist() == [0, 1, 2, 3] and best == 3


@pytest.mark.parametrize("seed", range(5))
def test_each_cycle_is_that_of_the_library(seed):
    world = lesson19._drawn_world(Draw(seed), 9, 4, 7)
    tried, best = lesson19.evolution(**world)
    queue, errors = tried[:4].tolist(), world["errors"]
    for t, child in enumerate(tried[4:].tolist()):
        parent = parent_of(errors[queue].tolist(), world["drawn"][t].tolist())
        assert child == world["near"][queue[parent], world["picks"][t]]
        queue.append(child)
        del queue[taken_out(errors[queue].tolist(), "oldest")]
    assert errors[best] == errors[tried].min()


def test_evolution_finds_the_known_optimum_more_often_than_its_mutants():
    # A ring of 40 nets whose errors fall towards one of them: a search that follows them arrives.
    n, T = 40, 60
    errors = np.minimum(np.arange(n), n - np.arange(n)) / n
    near = np.stack([(np.arange(n) + k) % n for k in (-2, -1, 1, 2)], axis=1)
    found = {"right": 0, "worst-parent": 0}
    worst = next(m.fn for m in lesson19._EVOLUTION.mutants if m.slug == "worst-parent")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        given_ = (errors, near, rng.permutation(n)[:5], rng.integers(0, 5, (T, 3)),
                  rng.integers(0, 4, T))
        found["right"] += lesson19.evolution(*given_)[1] == 0
        found["worst-parent"] += worst(*given_)[1] == 0
    assert found["right"] >= 18 > 2 * found["worst-parent"]


def test_the_librarys_evolution_finds_an_optimum_that_is_known():
    space = Space({"conv1": (2, 4, 6, 8), "conv2": (4, 8, 12, 16)}, small_lenet)
    found = [evolve(space, Trials(space, lambda c: abs(c["conv1"] - 6) + abs(c["conv2"] - 12),
                                  most=13), population=4, sample=2,
                    rng=np.random.default_rng(seed)).error for seed in range(10)]
    assert sum(e == 0 for e in found) >= 8
