import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.errors import FormatError
from minicomp.nn import Circulant, Dense, Linear, Model, chain
from minicomp.nn.forms.circulant import circulant_places, flips

RNG = np.random.default_rng(5)


def test_a_circulant_matrix_by_hand():
    form = Circulant([1, 2, 3], (3, 3), 3)
    assert form.dense().data.tolist() == [[1, 3, 2], [2, 1, 3], [3, 2, 1]]
    # two blocks beside each other, their last rows and columns cut off
    form = Circulant([1, 2, 3, 4, 5, 6], (2, 5), 3)
    assert form.dense().data.tolist() == [[1, 3, 2, 4, 6], [2, 1, 3, 5, 4]]
    signs = flips(3, 9)
    np.testing.assert_array_equal(Circulant([1, 2, 3], (3, 3), 3, 9).dense().data,
                                  np.array([[1, 3, 2], [2, 1, 3], [3, 2, 1]]) * signs)


@pytest.mark.parametrize("shape, block", [((4, 4), 4), ((3, 7), 7), ((7, 3), 7), ((5, 6), 2),
                                          ((4, 2, 3, 3), 4)])
def test_it_is_scipys_circulant_block_by_block(shape, block):
    from scipy.linalg import circulant

    P, Q = -(-shape[0] // block), -(-int(np.prod(shape[1:])) // block)
    c = RNG.standard_normal((P, Q, block)).astype(np.float32)
    whole = np.block([[circulant(c[p, q]) for q in range(Q)] for p in range(P)])
    want = whole[: shape[0], : int(np.prod(shape[1:]))].reshape(shape)
    np.testing.assert_array_equal(Circulant(c.reshape(-1), shape, block).dense().data, want)


def test_averages_are_the_nearest_by_least_squares():
    w, form = RNG.standard_normal((5, 4)).astype(np.float32), Circulant(np.zeros(12), (5, 4), 3, 1)
    with pytest.raises(ValueError, match=r"columns must be unmasked, of shape \(12,\)"):
        form.holding(Dense(np.zeros(11)))
    A = np.zeros((20, 12))
    A[np.arange(20), circulant_places((5, 4), 3).reshape(-1)] = np.tile(form.signs, 5)
    want = np.linalg.lstsq(A, w.reshape(-1).astype(float), rcond=None)[0]
    np.testing.assert_allclose(form.averaged(w), want, atol=1e-6)


def test_a_block_of_1_is_the_plain_layer_and_a_file_holds_the_columns():
    w = RNG.standard_normal((40, 60)).astype(np.float32)
    plain = Circulant(w.reshape(-1), (40, 60), 1)
    np.testing.assert_array_equal(plain.dense().data, w)
    model = Model(chain(("fc", Linear(60, 40, bias=False))), input_shape=(60,))
    model.set_form("fc.weight", Circulant(w[:1].repeat(2)[:60], (40, 60), 60, 3))
    data = encode(model)
    back = decode(data).model.forms()["fc.weight"]
    assert len(data) < 400 and (back.block, back.seed, back.flipped) == (60, 3, True)
    np.testing.assert_array_equal(back.dense().data, model.forms()["fc.weight"].dense().data)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"block must be an integer in \[1, 1048576\], got '0'"):
        Circulant(np.zeros(4), (2, 2), 0)
    with pytest.raises(ValueError, match=r"seed must be an integer in \[0, 4294967295\], got '-1'"):
        Circulant(np.zeros(2), (2, 2), 2, -1)
    with pytest.raises(ValueError, match=r"shape must have two axes or more, got \(4,\)"):
        Circulant(np.zeros(4), (4,), 2)
    with pytest.raises(FormatError, match="a circulant needs 2 axes, got shape"):
        Circulant.from_stored((8,), {"block": 2, "flipped": True, "seed": 1}, {})
