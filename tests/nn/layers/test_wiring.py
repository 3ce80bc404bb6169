import numpy as np
import pytest

from minicomp.nn import Add, ChannelShuffle, Concat, Flatten
from minicomp.tensor import Tensor

RNG = np.random.default_rng
MAP, ROW = (6, 9, 7), (6,)


def test_flatten_is_in_c_order_whatever_the_layout():
    x = RNG(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(Flatten()(Tensor(last)).data, x.reshape(2, -1))


def test_shuffle_moves_channel_i_of_group_j_to_i_g_plus_j():
    x = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1)
    np.testing.assert_array_equal(ChannelShuffle(2)(Tensor(x)).data.ravel(), [0, 3, 1, 4, 2, 5])
    np.testing.assert_array_equal(ChannelShuffle(2).permutation(6), [0, 3, 1, 4, 2, 5])
    for j in range(3):
        for i in range(2):
            assert ChannelShuffle(3).permutation(6)[i * 3 + j] == j * 2 + i


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ChannelShuffle(0), "groups must be an integer of at least 1, got 0"),
        (lambda: Add().out_shape(MAP, ROW), r"Add needs equal shapes, got \(6, 9, 7\), \(6,\)"),
        (lambda: Concat().out_shape(MAP, (6, 9, 8)), "Concat needs equal maps"),
        (
            lambda: ChannelShuffle(4).out_shape(MAP),
            r"ChannelShuffle needs \(C, H, W\) with C a multiple of 4",
        ),
    ],
)
def test_wrong_arguments_and_inputs(make, message):
    with pytest.raises(ValueError, match=message):
        make()
