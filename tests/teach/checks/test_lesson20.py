import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp import comparison
from minicomp.reference.draw import Draw
from minicomp.teach.checks import lesson20

NETS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9)


@given(NETS)
def test_the_front_is_the_librarys(nets):
    errors, costs = np.array(nets, float).T
    assert lesson20.pareto_front(errors, costs).tolist() == comparison.front(errors, costs)


@given(NETS)
def test_the_front_is_never_empty_and_beats_all_others(nets):
    errors, costs = np.array(nets, float).T
    on = lesson20.pareto_front(errors, costs)
    assert on.any()
    for e, c in zip(errors[~on], costs[~on]):
        assert ((errors[on] <= e) & (costs[on] <= c)).any()


def test_two_orders_by_hand():
    # Scale 1: 1.2 and 0.7 both round to 1; the half that is smallest is 0.7 and 0.2.
    first, second = lesson20.two_orders(np.array([3.0, 0.7, -1.2, 0.2]), 0.5, 3)
    assert first.tolist() == [3, 0, -1, 0] and second.tolist() == [3, 0, -1, 0]
    first, second = lesson20.two_orders(np.array([3.0, 1.2, -0.7, 0.2]), 0.5, 3)
    assert first.tolist() == [3, 1, 0, 0] and second.tolist() == [3, 0, -1, 0]


@pytest.mark.parametrize("seed", range(20))
def test_pruning_first_is_never_worse(seed):
    rng = np.random.default_rng(seed)
    w, sparsity = rng.normal(size=rng.integers(4, 40)), rng.uniform(0.1, 0.9)
    first, second = lesson20.two_orders(w, sparsity, int(rng.integers(2, 5)))
    assert ((w - first) ** 2).sum() <= ((w - second) ** 2).sum() + 1e-12
    zeros = round(sparsity * w.size)
    assert min((first == 0).sum(), (second == 0).sum()) >= zeros


def test_every_case_is_far_from_a_half():
    # There two right ways to divide round differently.
    for part in lesson20._ORDERS.parts:
        for case in part.cases(Draw(3)):
            for call in case if isinstance(case, list) else [case]:
                w = call["w"] / np.abs(call["w"]).max() * (2 ** (call["bits"] - 1) - 1)
                assert np.abs(np.abs(w - np.trunc(w)) - 0.5).min() > 0.01, call
