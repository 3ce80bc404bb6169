import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.errors import FormatError
from minicomp.gradcheck import grad_check
from minicomp.nn import Conv2d, Dense, Dictionary, Linear, Model, chain
from minicomp.nn.forms.dictionary import dictionary_weights

RNG = np.random.default_rng(5)


def sparse(places, k, kept=0.3):
    return RNG.standard_normal((places, k)) * (RNG.random((places, k)) < kept)


def test_a_weight_by_hand():
    # two filters of one place: the first is 2 a - b, the second nothing
    form = Dictionary([[1, 0, 1], [0, 3, 1]], [2, 0], [0, 1], [2, -1], (2, 3))
    assert form.dense().data.tolist() == [[2, -3, 1], [0, 0, 0]]
    np.testing.assert_array_equal(form.P(), [[2, -1], [0, 0]])
    twice = Dictionary([[1, 2]], [2], [0, 0], [1, 0.5], (1, 2))  # one atom, looked up twice
    assert twice.dense().data.tolist() == [[1.5, 3]] and twice.P().tolist() == [[1.5]]


@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 2, 3), (3, 1, 2, 2)])
def test_it_is_the_product_of_p_and_the_atoms(shape):
    places, C = shape[0] * int(np.prod(shape[2:])), shape[1]
    P, D = sparse(places, 7), RNG.standard_normal((7, C))
    form = Dictionary.of(D, P, shape)
    assert form.places == places and form.lookups == np.count_nonzero(P)
    np.testing.assert_allclose(form.P(), P, rtol=1e-6)
    want = np.moveaxis((P @ D).reshape(shape[0], *shape[2:], C), -1, 1)
    np.testing.assert_allclose(form.dense().data, want, atol=1e-5)
    c = form.coefficient.value.data.astype(np.float64)
    grad_check(lambda a, b: (dictionary_weights(a, form.counts, form.index, b, shape) ** 2.0).sum(),
               D, c, rng=RNG)


def test_a_file_holds_atoms_indices_and_coefficients():
    model = Model(chain(("conv", Conv2d(16, 32, 3, bias=False))), input_shape=(16, 8, 8))
    form = Dictionary.of(RNG.standard_normal((8, 16)), sparse(288, 8, 0.2), (32, 16, 3, 3))
    model.set_form("conv.weight", form)
    data = encode(model)
    back = decode(data).model.forms()["conv.weight"]
    np.testing.assert_array_equal(back.dense().data, form.dense().data)
    for name in ("counts", "index"):
        np.testing.assert_array_equal(getattr(back, name), getattr(form, name))
    assert len(data) < 4 * (8 * 16 + form.lookups) + form.lookups + 288 < form.places * 16 * 4 / 5


def test_a_weight_without_look_ups_is_zeros_and_goes_through_a_file():
    model = Model(chain(("fc", Linear(3, 2))), input_shape=(3,))
    form = Dictionary.of(RNG.standard_normal((4, 3)), np.zeros((2, 4)), (2, 3))
    assert form.dense().data.tolist() == [[0, 0, 0]] * 2 and form.lookups == 0
    model.set_form("fc.weight", form)
    back = decode(encode(model)).model.forms()["fc.weight"]
    assert back.lookups == 0 and back.dense().data.tolist() == [[0, 0, 0]] * 2


def test_multiplications_are_those_of_atoms_and_look_ups():
    model = Model(chain(("conv", Conv2d(3, 5, 3, padding=1, bias=False))), input_shape=(3, 8, 8))
    form = Dictionary.of(RNG.standard_normal((4, 3)), sparse(45, 4), (5, 3, 3, 3))
    model.set_form("conv.weight", form)
    assert model.effective_macs() == {"conv": 4 * 3 * 64 + form.lookups * 64}
    linear = Model(chain(("fc", Linear(6, 5, bias=False))), input_shape=(6,))
    linear.set_form("fc.weight", Dense(np.arange(30).reshape(5, 6) % 2))
    assert linear.effective_macs() == {"fc": 15}


def test_wrong_arguments_are_refused():
    good = dict(atoms=np.ones((2, 3)), counts=[1, 1], index=[0, 1], coefficient=[1, 2],
                shape=(2, 3))
    for wrong, says in (
            ({"atoms": np.ones((2, 4))}, r"atoms must be unmasked, of shape \(2, 3\)"),
            ({"atoms": np.ones((0, 3))}, r"atoms must be an integer in \[1, 65536\], got '0'"),
            ({"counts": [1, 2]}, "counts must sum to the 2 look-ups, got 3"),
            ({"counts": [2]}, r"counts must have shape \(2,\), got \(1,\)"),
            ({"counts": [-1, 3]}, r"counts must be in \[0, 3\], got -1..3"),
            ({"counts": [256, 0]}, r"counts must be an integer in \[0, 255\], got '256'"),
            ({"index": [0, 2]}, r"index must be in \[0, 1\], got 0..2"),
            ({"coefficient": [1]}, r"coefficient must be unmasked, of shape \(2,\)"),
            ({"shape": (2,)}, "shape must have two axes or more")):
        with pytest.raises(ValueError, match=says):
            Dictionary(**good | wrong)
    with pytest.raises(FormatError, match="a dictionary needs 2 axes, got shape"):
        Dictionary.from_stored((8,), {"k": 1, "lookups": 0, "most": 0}, {})
