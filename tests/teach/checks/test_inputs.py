import numpy as np
import pytest
from minicomp.teach.checks.inputs import is_finite, is_sparsity


@pytest.mark.parametrize("value", [0, 0.0, 0.5, np.float32(0.25), np.nextafter(1, 0)])
def test_sparsities(value):
    assert is_sparsity(value)


@pytest.mark.parametrize("value", [1, -0.1, True, False, None, "0.5", float("nan"), np.ones(2)])
def test_what_is_no_sparsity(value):
    assert not is_sparsity(value)


@pytest.mark.parametrize("value", [np.ones(1), np.zeros((2, 3)), np.ones(10_000, np.float32)])
def test_finite_arrays(value):
    assert is_finite(value)


@pytest.mark.parametrize(
    "value", [np.ones(0), np.ones(10_001), np.array([1, np.inf]), np.array([np.nan]), np.array([1])]
)
def test_what_is_no_finite_array(value):
    assert not is_finite(value)


def test_kinds_and_the_most_entries_can_be_chosen():
    assert is_finite(np.array([1, 2]), "if") and not is_finite(np.ones(3), most=2)
