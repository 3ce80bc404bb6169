import numpy as np
import pytest
from minicomp.codec import encode, decode
from minicomp.codec.arithmetic import decode_bits, encode_bits
from minicomp.codec.entropy import adaptive_bits, bounds, conditional_bits, order0_bits
from minicomp.models import MODELS
from minicomp.nn import Codebook, Dense


def test_adaptive_counts_cost_little_more_than_order_0():
    symbols = np.minimum(np.random.default_rng(0).geometric(0.4, 3000) - 1, 7)
    least, spent = order0_bits(symbols), adaptive_bits(symbols, 8)
    assert least < spent <= least + 3.5 * np.log2(3000) + 3
    # by hand: 1/2, then 3/4 of what was seen is 0
    assert adaptive_bits(np.array([0, 0]), 2) == pytest.approx(1 + np.log2(4 / 3))


def test_a_context_that_says_all_leaves_nothing():
    symbols = np.random.default_rng(1).integers(0, 5, 400)
    assert conditional_bits(symbols, symbols) == 0
    assert conditional_bits(symbols, 0 * symbols) == order0_bits(symbols)
    assert conditional_bits(symbols, np.arange(400) % 2) < order0_bits(symbols)


def test_bits_come_back_in_the_bytes_that_their_probabilities_say():
    rng = np.random.default_rng(2)
    p = rng.integers(1, 65536, 5000)
    bits = rng.integers(0, 65536, 5000) < p
    data = encode_bits(bits.astype(int), p)
    np.testing.assert_array_equal(decode_bits(data, p), bits)
    q = np.where(bits, p, 65536 - p) / 65536
    assert -np.log2(q).sum() / 8 <= len(data) + 4 < -np.log2(q).sum() / 8 + 7
    with pytest.raises(ValueError, match="p must be integers"):
        encode_bits(np.array([1]), np.array([65536]))


def test_bounds_of_a_form():
    rng = np.random.default_rng(3)
    index = np.where(rng.random((30, 40)) < 0.2, rng.integers(1, 5, (30, 40)), 0)
    index[:, ::2] = 0  # every second column is empty: the entry before tells
    book = np.array([0, -2, -1, 1, 2], np.float32)
    form = Codebook(index, book, pinned_zero=True).freeze()
    order0, context = bounds(form)
    assert order0 == order0_bits(index) / 8 and context < order0
    assert bounds(Dense(np.ones((3, 4), np.float32))) is None


def test_show_prints_both_and_what_the_codes_take(capsys, tmp_path):
    from minicomp.cli import main

    rng = np.random.default_rng(4)
    model = MODELS["lenet300"](normalize=None)
    index = np.where(rng.random((10, 100)) < 0.3, rng.integers(1, 5, (10, 100)), 0)
    model.set_form("fc3.weight", Codebook(index, rng.normal(size=5).astype(np.float32) * 0 + [
        0, -2, -1, 1, 2], pinned_zero=True).freeze())
    path = tmp_path / "m.mcz"
    path.write_bytes(encode_of(model))
    assert main(["show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "order 0" in shown and f"beside order 0 ({order0_bits(index) / 8:,.0f};" in shown


def encode_of(model):
    data = encode(model)
    assert decode(data).file_bytes == len(data)
    return data
