import numpy as np
import pytest
from minicomp.kernels.maps.conv import conv2d_ref
from minicomp.models import mobilenet
from minicomp.nn import Model, chain
from minicomp.nn.layers import ChannelShuffle
from minicomp.teach.checks import lesson03


def test_a_layer_by_hand():
    # 2 windows of 9, 2 x 3 weights; 3 x 4 places; of 2 x 3 x 9
    assert lesson03.separable_cost(2, 3, 3, 4, 3, 1) == (24, 24 * 12, pytest.approx(24 / 54))
    assert lesson03.separable_cost(2, 3, 4, 4, 3, 2)[:2] == (24, 24 * 4)


@pytest.mark.parametrize("m, n, h, w, stride", [(8, 16, 7, 9, 1), (3, 5, 8, 6, 2), (1, 1, 5, 5, 3)])
def test_what_it_costs_is_what_the_library_counts(m, n, h, w, stride):
    net = Model(chain(*mobilenet.separable("b", m, n, stride)), input_shape=(m, h, w))
    params, macs, share = lesson03.separable_cost(m, n, h, w, 3, stride)
    assert sum(net.macs().values()) == macs
    assert net.count() == params + 2 * (m + n)  # the scales and shifts of two batch norms
    assert share == pytest.approx(1 / n + 1 / 9, rel=1e-12)


def test_the_shuffle_is_the_librarys_and_another_number_of_groups_undoes_it():
    x = np.arange(24.0).reshape(12, 1, 2)
    y, source = lesson03.channel_shuffle(x, 3)
    assert source.tolist() == ChannelShuffle(3).permutation(12).tolist()
    np.testing.assert_array_equal(lesson03.channel_shuffle(y, 4)[0], x)


def test_a_merged_block_computes_what_its_three_steps_do():
    rng = np.random.default_rng(0)
    e, d, p = rng.normal(size=(5, 2)), rng.normal(size=(5, 3, 3)), rng.normal(size=(4, 5))
    x = rng.normal(size=(1, 2, 6, 5))
    up = conv2d_ref(x, e[:, :, None, None], (1, 1), (0, 0), 1)
    deep = conv2d_ref(up, d[:, None], (1, 1), (1, 1), 5)
    steps = conv2d_ref(deep, p[:, :, None, None], (1, 1), (0, 0), 1)
    once = conv2d_ref(x, lesson03.merged(e, d, p), (1, 1), (1, 1), 1)
    np.testing.assert_allclose(once, steps, rtol=1e-12, atol=1e-12)


def test_a_full_kernel_of_rank_1_in_every_channel_is_a_separable_layer():
    # The other way: the factors of each w[:, m] as (N, k k) are what depthwise and pointwise have.
    rng = np.random.default_rng(1)
    d, p = rng.normal(size=(3, 3, 3)), rng.normal(size=(4, 3))
    w = lesson03.merged(np.eye(3), d, p)
    for m in range(3):
        assert np.linalg.matrix_rank(w[:, m].reshape(4, 9)) == 1
