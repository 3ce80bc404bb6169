# Where values lie: none overlaps another that lives with it, and no more memory than needed.
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.deploy.arena import Value, live, planned


def check(values):
    made = planned(values)
    for v in values:
        assert made.offsets[v.name] % 64 == 0 and made.offsets[v.name] + v.size <= made.size
        for w in values:
            apart = v.last < w.first or w.last < v.first
            a, b = (made.offsets[u.name] for u in (v, w))
            assert v is w or apart or a + v.size <= b or b + w.size <= a
    assert live(values) == made.bound <= made.size
    return made


def test_a_chain_takes_its_largest_pair():
    values = [Value("a", 640, 0, 1), Value("b", 1280, 1, 2), Value("c", 64, 2, 3)]
    made = check(values)
    assert made.size == made.bound == 1920


def test_a_value_that_is_kept_for_long():
    # a residual connection around b and c, as in MobileNetV2
    values = [Value("x", 256, 0, 3), Value("b", 1536, 1, 2), Value("c", 1536, 2, 3),
              Value("sum", 256, 3, 4)]
    assert check(values).size == 256 + 2 * 1536


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_any_values(drawn):
    check([Value(str(i), size, min(a, b), max(a, b)) for i, (size, a, b) in enumerate(drawn)])


def test_the_same_values_lie_the_same():
    rng = np.random.default_rng(0)
    values = [Value(str(i), int(rng.integers(1, 9)) * 64, i, i + int(rng.integers(0, 4)))
              for i in range(30)]
    assert check(values) == planned(list(values))


@pytest.mark.parametrize("values", [[], [Value("a", 0, 0, 0)]])
def test_nothing_takes_nothing(values):
    assert check(values).size == 0
