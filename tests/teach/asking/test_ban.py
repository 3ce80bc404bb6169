import numpy as np
import pytest
from minicomp import ops
from minicomp.compress.scores import magnitude_mask, smallest_mask
from minicomp.nn.layers import Linear
from minicomp.teach.asking.ban import refusing

WRITE = "write this one yourself"


def test_a_function_refuses_by_whatever_name_it_is_reached():
    with refusing(["minicomp.compress.scores:smallest_mask"]):
        with pytest.raises(RuntimeError, match=WRITE):
            smallest_mask(np.ones(3), 0.5)  # imported before the ban
        with pytest.raises(RuntimeError, match=WRITE):
            magnitude_mask(np.ones(3), 0.5)  # calls it
    assert magnitude_mask(np.array([1.0, 2.0]), 0.5).tolist() == [False, True]


def test_a_primitive_refuses_with_its_rules():
    with refusing(["minicomp.ops:relu"]):
        with pytest.raises(RuntimeError, match=WRITE):
            ops.relu(np.ones(2))
        with pytest.raises(RuntimeError, match=WRITE):
            ops.relu.rules[0](np.ones(2), None, np.ones(2))
    assert ops.relu(np.array([-1.0, 2.0])).tolist() == [0, 2]


def test_a_class_refuses_and_comes_back():
    with refusing(["minicomp.nn.layers:Linear"]):
        with pytest.raises(RuntimeError, match=WRITE):
            Linear(2, 3).macs((2,))
    assert Linear(2, 3).macs((2,)) == 6


def test_everything_comes_back_after_an_error():
    with (
        pytest.raises(AttributeError),
        refusing(["minicomp.ops:relu", "minicomp.ops:no_such_thing"]),
    ):
        pass
    assert ops.relu(np.ones(1)) == 1
