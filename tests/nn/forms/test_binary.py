"""Binary and ternary forms: their formulas, what they take in a file, what they refuse."""

import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.errors import FormatError, UserError
from minicomp.gradcheck import grad_check
from minicomp.nn import Binary, Codebook, Linear, Model, Ternary, chain
from minicomp.nn.forms.binary import combined, pack_bases, threefold
from minicomp.tensor import Tensor

RNG = np.random.default_rng(5)


def net(form):
    model = Model(chain(("fc", Linear(form.shape[1], form.shape[0], bias=False))),
                  input_shape=(form.shape[1],))
    model.set_form("fc.weight", form)
    return model


def row(form):
    return decode(encode(net(form))).rows[0]


def test_the_formulas_by_hand():
    form = Binary([[[1.0, -2.0], [0.0, -0.0]], [[-1, -1], [1, -1]]], [[0.5, 0.25], [2.0, -1.0]])
    np.testing.assert_array_equal(form.dense().data, [[0.25, -0.75], [1.0, 3.0]])
    np.testing.assert_array_equal(form.q, [[1, 0], [3, 1]])  # basis i in bit i, sign(0) = +1
    np.testing.assert_array_equal(form.signs(), [[[1, -1], [1, 1]], [[-1, -1], [1, -1]]])
    np.testing.assert_array_equal(pack_bases(form.signs()), form.q)
    np.testing.assert_array_equal(Binary.of([[3.0, -4.0]], 0.5).dense().data, [[0.5, -0.5]])
    w = Ternary([[1, 0, -1], [-1, 1, 0]], [2.0, 0.5], [1.0, 4.0]).dense().data
    np.testing.assert_array_equal(w, [[2, 0, -1], [-4, 0.5, 0]])
    assert not np.signbit(w[w == 0]).any()
    same = Ternary([[1, 0, -1]], 0.5)
    np.testing.assert_array_equal(same.dense().data, [[0.5, 0, -0.5]])
    assert same.equal and same.scale.shape == (1, 1)


def test_scales_pass_the_gradient_check():
    q, trits = RNG.integers(0, 4, (3, 5)), RNG.integers(-1, 2, (3, 5))
    for rows in (1, 3):
        for of, codes in ((combined, q.astype(np.uint8)), (threefold, trits)):
            grad_check(lambda a: of(a, codes, (3, 5)) ** 2, RNG.standard_normal((rows, 2)), rng=RNG)
    # equal scales get the gradient of both
    form = Ternary(trits, 0.5, trainable=True)
    g = RNG.standard_normal((3, 5)).astype(np.float32)
    pulled = form.pull_back(form.dense(training=True), g)
    np.testing.assert_allclose(pulled["scale"], [[(g * trits).sum()]], rtol=1e-5)


def test_a_binary_weight_takes_a_bit():
    for m in (1, 3):
        form = Binary(RNG.standard_normal((m, 40, 64)), np.ones(m))
        assert 0 <= row(form).parts["values"] - m * 40 * 64 / 8 < 1
        book = Codebook(form.q, np.arange(2**m, dtype=np.float32))
        assert row(form).parts["values"] <= row(book).parts["values"]
    one_sided = Binary.of(np.ones((40, 64)), 0.5)  # where a code of one symbol is smaller
    assert row(one_sided).parts["values"] == 0


def test_trits_take_the_least_of_five_in_a_byte_and_coded():
    flat = Ternary(RNG.integers(-1, 2, (40, 61)), 0.5)
    cost = sum(row(flat).parts[part] for part in ("values", "index", "tables"))
    assert cost <= -(-40 * 61 // 5) + 1  # 8 / 5 bits each; two bits would be 610 bytes
    few = Ternary(np.where(RNG.random((40, 61)) < 0.05, flat.q, 0), 0.5)
    assert sum(row(few).parts[part] for part in ("values", "index", "tables")) < 100
    small = net(Ternary(RNG.integers(-1, 2, (5, 6)), 0.5))
    forced = decode(encode(small, force={"fc.weight": "all"})).rows[0]
    assert forced.parts["values"] == 6 and len(encode(small)) <= len(
        encode(small, force={"fc.weight": "all"}))


@pytest.mark.parametrize("alpha", [0.0, np.nan, np.inf])
def test_scales_that_are_none_are_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be finite, and not 0 in all bases"):
        Binary.of([[1.0, -1.0], [1.0, 1.0]], [1.0, alpha])
    with pytest.raises(ValueError, match="a scale must be finite, above 0 and of shape"):
        Ternary([[1, 0], [0, 1]], 1.0, alpha)
    form = Binary.of([[1.0, -1.0], [1.0, 1.0]], [1.0, 2.0])
    form.alpha.data[1] = alpha
    with pytest.raises(UserError, match="fc.weight: .*alpha must be finite"):
        decode(encode(net(form)))
    settings = {"by_row": False, "equal": True, "pruned": False}
    stored = {"q": np.array([[1, -1]]), "scale": np.array([alpha])}
    with pytest.raises(FormatError, match="scale must be (finite|at least)"):
        Ternary.from_stored((1, 2), settings, stored)


def test_shapes_and_codes_that_do_not_fit_are_refused():
    for sign, alpha in (([[1.0]], [1.0, 2.0]), (np.ones((9, 2)), np.ones(9)), (1.0, 1.0),
                        (np.ones((1, 2, 3)), np.ones((3, 1)))):
        with pytest.raises(ValueError, match="sign must have|alpha must have shape"):
            Binary(sign, alpha)
    with pytest.raises(ValueError, match=r"q must be in \[-1, 1\], got -1..2"):
        Ternary([[2, -1]], 1.0)
    with pytest.raises(ValueError, match=r"above 0 and of shape \(2,\)"):
        Ternary([[1], [0]], [1.0, 2.0], 3.0)


def test_a_scale_stays_above_0():
    form = Ternary([[1, -1]], 1.0, 2.0, trainable=True)
    form.scale.data[...] = -1
    form.project()
    assert (form.scale.data > 0).all()
    assert isinstance(form.dense(), Tensor)
