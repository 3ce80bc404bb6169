from types import SimpleNamespace

import numpy as np
import pytest

import minicomp
from minicomp.compress import Run, net_of
from minicomp.compress.share.bit_down import BitDown, input_moments
from minicomp.compress.share.blocks import (Search, blocks_of, moment_roots, product_bits,
                                            product_break_even, product_decode, product_quantize)
from minicomp.compress.share.kmeans import kmeans_1d
from minicomp.compress.share.product import ProductQuantization
from minicomp.compress.share.vectors import kmeans_vectors
from minicomp.errors import UserError
from minicomp.nn import Conv2d, Dense, Half, Model, chain

RNG = np.random.default_rng(8)
W = RNG.standard_normal((40, 10)).astype(np.float32)


def rng():
    return np.random.default_rng(0)


def error(w, codes, books):
    return float(np.square(w - product_decode(codes, books, w.shape[1])).sum())


def test_blocks_are_columns_and_the_last_is_filled_up():
    w = np.arange(10.0).reshape(2, 5)
    assert blocks_of(w, 2).tolist() == [[[0, 1], [5, 6]], [[2, 3], [7, 8]], [[4, 0], [9, 0]]]


def test_each_block_is_clustered_by_itself():
    starts = blocks_of(W, 4)[:, :5]
    codes, books = product_quantize(W, 4, 5, starts=starts)
    assert codes.shape == (1, 40, 3) and books.shape == (1, 3, 5, 4) and books.dtype == np.float32
    for i, block in enumerate(blocks_of(W.astype(np.float64), 4)):
        c, index = kmeans_vectors(block, 5, starts=starts[i])
        np.testing.assert_allclose(books[0, i], c, atol=1e-6)
        np.testing.assert_array_equal(codes[0, :, i], index)
    assert not books[0, 2, :, 2:].any()  # beyond the columns


def test_one_shared_codebook_is_k_means_of_all_blocks():
    w = W[:, :8]
    codes, books = product_quantize(w, 4, 6, shared=True, rng=rng())
    c, index = kmeans_vectors(blocks_of(w, 4).reshape(-1, 4), 6, rng=rng())
    assert books.shape == (1, 1, 6, 4)
    np.testing.assert_allclose(books[0, 0], c, atol=1e-6)
    np.testing.assert_array_equal(codes[0].T.ravel(), index)


def test_blocks_of_one_column_are_scalar_k_means():
    column = W[:, :1]
    codes, books = product_quantize(column, 1, 4, rng=rng())
    centroids, index = kmeans_1d(column, 4, init="optimal", rng=None)
    assert error(column, codes, books) >= np.square(column - centroids[index]).sum() * (1 - 1e-6)
    assert error(column, codes, books) < 1.3 * np.square(column - centroids[index]).sum()


def test_more_of_anything_errs_less_and_enough_leaves_nothing():
    def of(block, k, **how):
        return error(W, *product_quantize(W, block, k, rng=rng(), **how))
    assert of(5, 4) > of(5, 16) > of(2, 16) and of(5, 4) > of(5, 4, stages=2)
    assert of(5, 4, shared=True) > of(5, 4)
    assert of(5, 4, stages=3) > of(5, 4, stages=3, search=Search(beam=8, rounds=4))
    assert of(10, 100) < 1e-10  # k is then 40, the rows


def test_moments_decide_which_weights_matter():
    x = RNG.standard_normal((500, 10)) * np.array([3, 0.1] * 5)
    H = x.T @ x / len(x)

    def output(codes, books):
        d = W - product_decode(codes, books, 10)
        return np.einsum("oi,ij,oj->", d, H, d)
    for shared in (False, True):
        plain = product_quantize(W, 2, 4, shared=shared, rng=rng())
        aware = product_quantize(W, 2, 4, shared=shared, moments=H, rng=rng())
        assert output(*aware) < 0.8 * output(*plain) and error(W, *aware) > error(W, *plain)
    scaled = product_quantize(W, 2, 4, moments=np.zeros((10, 10)), rng=rng())  # nothing is known
    np.testing.assert_array_equal(scaled[0], product_quantize(W, 2, 4, rng=rng())[0])


def test_moments_of_blocks_by_hand():
    H = np.diag([1.0, 2, 3, 4, 5])
    own, = moment_roots(H, 3, 2, True)  # one codebook: the sum; 1 % of the mean is added to each
    np.testing.assert_allclose(own @ own.T, np.diag([1 + 4 + 0.06, 2 + 5 + 0.06, 3 + 0.06]))
    each = moment_roots(H, 3, 2, False)
    np.testing.assert_allclose(each[1] @ each[1].T, np.diag([4.03, 5.03, 0.03]))


def test_bits_by_hand():
    # 300 rows, 784 columns: 196 blocks of 4 bits, 196 codebooks of 16 x 4 floats
    assert product_bits(300, 784, block=4, k=16) == 300 * 196 * 4 + 196 * 16 * 4 * 32
    assert product_bits(300, 784, block=4, k=16, shared=True) == 300 * 196 * 4 + 16 * 4 * 32
    assert product_bits(7, 10, block=4, k=5, stages=2, float_bits=16) == 2 * (
        7 * 3 * 3 + 3 * 5 * 4 * 16)
    for how in ({"block": 4, "k": 16}, {"block": 8, "k": 256}, {"block": 2, "k": 2, "stages": 3}):
        rows = product_break_even(784, **how)
        assert product_bits(rows, 784, **how) < 32 * rows * 784
        assert product_bits(rows - 1, 784, **how) >= 32 * (rows - 1) * 784
    assert product_break_even(8, block=1, k=256, stages=4) == 0


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match=r"block must be in \[1, 10\], the columns, got 11"):
        product_quantize(W, 11, 4, rng=rng())
    with pytest.raises(ValueError, match=r"w must have shape \(O, I\)"):
        product_quantize(W[0], 2, 4, rng=rng())
    with pytest.raises(ValueError, match="starts must be None where there are several stages"):
        product_quantize(W, 5, 4, stages=2, starts=np.zeros((2, 4, 5)))
    with pytest.raises(ValueError, match="weighting must be one of full, diagonal, got 'half'"):
        input_moments(np.eye(2)[None], 2, "half")
    with pytest.raises(UserError, match="block must be in"):
        ProductQuantization(block=0)


def test_a_layer_a_filter_and_an_empty_one_become_codewords(tmp_path):
    conv = Model(chain(("conv", Conv2d(3, 8, 3))), input_shape=(3, 4, 4))
    filters = RNG.standard_normal((8, 3, 3, 3)).astype(np.float32)
    conv.set_form("conv.weight", Dense(filters))
    made = ProductQuantization(block=9, k=4, half=True).apply(conv, None, Run(rng()))
    form = made.forms()["conv.weight"]
    assert form.kind == "product" and form.blocks == 3 and isinstance(form.codebooks, Half)
    whole = ProductQuantization(block=9, k=8).apply(conv, None, Run(rng())).forms()["conv.weight"]
    np.testing.assert_allclose(whole.dense().data, filters, atol=1e-6)  # 8 filters, 8 codewords
    minicomp.save(made, tmp_path / "m.mcz")
    back = minicomp.load(tmp_path / "m.mcz").forms()["conv.weight"]
    np.testing.assert_array_equal(back.dense().data, form.dense().data)
    empty = Dense(np.zeros((0, 4), np.float32))
    assert ProductQuantization().form("fc", empty, Run(rng())) is empty


def test_bit_down_keeps_outputs():
    x = (RNG.standard_normal((300, 10)) * np.array([3, 0.1] * 5)).astype(np.float32)
    model = net_of(W, RNG.standard_normal((3, 40)).astype(np.float32))
    data = SimpleNamespace(train=SimpleNamespace(x=x, y=np.zeros(300, np.int64)))
    errors = {}
    for name, technique in {
            "plain": ProductQuantization(block=2, k=4, shared=True),
            "diagonal": BitDown(block=2, k=4, samples=300, weighting="diagonal"),
            "full": BitDown(block=2, k=4, samples=300)}.items():
        first = technique.apply(model, data, Run(rng())).forms()["fc1.weight"].dense().data
        errors[name] = np.square(x @ (first - W).T).mean()
    assert errors["full"] < 0.8 * errors["plain"] and errors["diagonal"] < 0.8 * errors["plain"]
