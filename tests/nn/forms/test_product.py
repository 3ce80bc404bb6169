import numpy as np
import pytest

from minicomp.codec import decode, encode
from minicomp.compress import net_of
from minicomp.compress.share.blocks import product_decode, product_gradient
from minicomp.errors import FormatError
from minicomp.nn import Codebook, Dense, Half, Product

RNG = np.random.default_rng(5)


def example(shape=(6, 3, 2, 2), block=5, k=4, stages=2, shared=False, nested=Dense):
    blocks = -(-int(np.prod(shape[1:])) // block)
    index = RNG.integers(0, k, (stages, shape[0], blocks))
    books = RNG.standard_normal((stages, 1 if shared else blocks, k, block)).astype(np.float32)
    return Product(index, nested(books), shape)


def test_codewords_by_hand():
    index = [[[0, 1], [1, 1]], [[1, 0], [0, 0]]]  # two stages, two rows, two blocks
    books = np.array([[[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
                      [[[10, 20], [30, 40]], [[50, 60], [70, 80]]]])
    form = Product(index, books, (2, 3))
    assert form.dense().data.tolist() == [[31, 42, 57], [13, 24, 57]]
    shared = Product(index, books[:, :1], (2, 3))
    assert shared.dense().data.tolist() == [[31, 42, 13], [13, 24, 13]]
    assert "2 codewords of 2, 2 stages" in repr(form) and "of one codebook" in repr(shared)
    assert form.dense().data[0, 2] == 57  # the 68 behind it is never read


def test_stages_are_added_in_order_in_a_lone_weight_too():
    # 2^24 + 1 is 2^24 in float32: in order only the last number is left
    values = np.array([2**24, 1, 1, 1, 1, 1, 1, 1, 1, -(2**24), 3], np.float32)
    for columns in (1, 2):
        books = values.reshape(-1, 1, 1, 1)
        form = Product(np.zeros((11, 1, columns), int), books, (1, columns))
        np.testing.assert_array_equal(form.dense().data, np.full((1, columns), 3, np.float32))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shape, block", [((6, 3, 2, 2), 5), ((4, 8), 8), ((3, 7), 2), ((5,), 1)])
def test_decoded_and_pulled_back_as_the_functions_say(shape, block, shared):
    form = example(shape, block, shared=shared)
    books, columns = form.codebooks.dense().data, form.columns
    expected = product_decode(form.index, books, columns)
    np.testing.assert_array_equal(form.dense().data, expected.reshape(shape))
    g = RNG.standard_normal(shape).astype(np.float32)
    pulled = form.pull_back(form.dense(training=True), g)
    assert list(pulled) == ["codebooks"]
    gradient = product_gradient(g.reshape(shape[0], -1).astype(np.float64), form.index, form.k,
                                block, books.shape[1] == 1)
    np.testing.assert_allclose(pulled["codebooks"], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nested", [Dense, Half])
@pytest.mark.parametrize("shared", [False, True])
def test_a_file_holds_it(nested, shared):
    form = example((8, 12), 5, k=5, stages=2, shared=shared, nested=nested)
    model = net_of(np.zeros((8, 12), np.float32))
    name = next(iter(model.forms()))
    model.set_form(name, form)
    back = decode(encode(model)).model.forms()[name]
    np.testing.assert_array_equal(back.dense().data, form.dense().data)
    assert (back.k, back.block, back.stages, back.shared) == (5, 5, 2, shared)
    np.testing.assert_array_equal(back.index, form.index)
    row = decode(encode(model)).rows[0]
    floats = form.codebooks.dense().data.size * (2 if nested is Half else 4)
    # A little less than the floats themselves: exponents are alike.
    assert 0.7 * floats < row.parts["codebook"] <= floats + 30 and 0 < row.parts["values"] < 16


@pytest.mark.peers
def test_the_gradient_is_that_of_torchs_gather():
    torch = pytest.importorskip("torch")
    form = example((9, 20), 4, k=6, stages=1)
    books = torch.tensor(form.codebooks.dense().data, requires_grad=True)
    at = torch.tensor(form.index[0].astype(np.int64))
    w = books[0][torch.arange(5), at].reshape(9, 20)
    g = RNG.standard_normal((9, 20)).astype(np.float32)
    w.backward(torch.tensor(g))
    pulled = form.pull_back(form.dense(training=True), g)["codebooks"]
    np.testing.assert_allclose(pulled, books.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_refused():
    books = np.zeros((1, 2, 4, 3), np.float32)
    with pytest.raises(ValueError, match=r"index must have shape \(1, 5, 2\) for a weight"):
        Product(np.zeros((1, 5, 3), int), books, (5, 6))
    with pytest.raises(ValueError, match=r"codebooks must have shape \(1, 3, 4, 3\) for a weight"):
        Product(np.zeros((1, 5, 3), int), books, (5, 7))
    with pytest.raises(ValueError, match=r"codebooks must be unmasked, of shape \(t, s, k, d\)"):
        Product(np.zeros((1, 5, 2), int), books[0], (5, 6))
    with pytest.raises(ValueError, match=r"index must be in \[0, 3\], got 0..4"):
        Product(np.full((1, 5, 2), 4) * np.eye(2, dtype=int)[0], books, (5, 6))
    with pytest.raises(ValueError, match="index must hold integers"):
        Product(np.zeros((1, 5, 2)), books, (5, 6))
    with pytest.raises(ValueError, match="stores nothing by place"):
        example().gather(slice(1))
    with pytest.raises(ValueError, match="a product without a pinned zero cannot be pruned"):
        example().masked(np.ones((6, 3, 2, 2), bool))


def test_damage_is_refused():
    form = example((4, 6), 3, stages=1)
    settings = {"stages": 1, "block": 3, "k": 4, "shared": False}
    parts = form.stored()
    assert isinstance(Product.from_stored((4, 6), settings, parts), Product)
    for wrong in ({"stages": 65}, {"block": 0}, {"k": 2**16 + 1}, {"shared": 1}):
        with pytest.raises(FormatError, match=f"{next(iter(wrong))} must be"):
            Product.from_stored((4, 6), settings | wrong, parts)
    for name, held in (("index", np.zeros(7, int)), ("index", np.full(8, 4)),
                       ("codebooks", Dense(np.zeros((1, 2, 4, 2), np.float32))),
                       ("codebooks", Codebook(np.zeros((1, 2, 4, 3), int), [0.0]))):
        with pytest.raises(FormatError, match=f"{name} must"):
            Product.from_stored((4, 6), settings, parts | {name: held})
