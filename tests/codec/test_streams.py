import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.codec import huffman, streams
from minicomp.codec.bits import BitReader, BitWriter
from minicomp.codec.streams import FOUR, HUFFMAN, PLAIN, RANS, SPLIT, TAG, TRITS, choose
from minicomp.errors import FormatError


def written(symbols, size, coder=None):
    w = BitWriter()
    streams.write_symbols(w, symbols, size, coder)
    return w


def tag_of(w):
    return w.getvalue()[0] & 3


@given(
    st.sampled_from([1, 2, 3, 16, 33, 256, 257, 5000]),
    st.integers(0, 400),
    st.sampled_from([0.5, 0.9, 1.0]),
    st.sampled_from([None, "plain", "huffman", "rans"]),
)
def test_symbols_come_back_in_the_bits_they_were_chosen_for(size, n, skew, coder):
    rng = np.random.default_rng(n + size)
    p = np.maximum(skew ** np.arange(size), 1e-12)
    symbols = rng.choice(size, n, p=p / p.sum())
    coder = None if size > huffman.MAX_SYMBOLS else coder
    w = written(symbols, size, coder)
    code = choose(np.bincount(symbols, minlength=size), coder)
    assert abs(len(w) - code.bits) <= 16 * (code.tag == RANS)  # whose bytes are an estimate
    r = BitReader(w.getvalue())
    np.testing.assert_array_equal(streams.read_symbols(r, n, size, "index"), symbols)
    r.finish()


def test_the_cheaper_coder_is_taken():
    flat, steep = np.full(16, 100), np.array([1000] + [1] * 15)
    assert choose(flat).tag == PLAIN and choose(steep).tag == RANS
    assert choose(np.array([200] + [1] * 15)).tag == HUFFMAN  # too few for a message of rANS
    for freq in (flat, steep, np.array([3, 1]), np.array([1] * 40 + [0] * 24)):
        bits = {coder: choose(freq, coder).bits for coder in streams.CODERS}
        assert choose(freq).bits == min(bits.values())
    # 2 bits of tag and 4 a symbol
    assert choose(flat).bits == TAG + 4 * 1600


def test_small_and_large_streams():
    rng = np.random.default_rng(0)
    symbols = np.minimum(rng.geometric(0.3, 200_000) - 1, 15)
    few, many = written(symbols[:200], 16), written(symbols, 16, "huffman")
    assert (tag_of(few), tag_of(many)) == (HUFFMAN, FOUR)
    assert tag_of(written(symbols, 16)) == RANS
    # a lone symbol takes a tag and a table, however often it occurs
    lone = written(np.full(100_000, 7), 16)
    assert tag_of(lone) == HUFFMAN and len(lone) == TAG + 4 + 1 + 7
    # four streams cost less than 0.1 % more than one
    lengths = huffman.huffman_lengths(np.bincount(symbols), 15)
    one = TAG + huffman.table_cost(lengths) + int(lengths[symbols].astype(int).sum())
    assert one < len(many) < 1.001 * one
    r = BitReader(many.getvalue())
    np.testing.assert_array_equal(streams.read_symbols(r, len(symbols), 16, "index"), symbols)
    r.finish()
    assert set(r.spent) == {"header", "tables", "index"}


def test_no_symbols_and_one_take_no_bits():
    assert len(written(np.zeros(0, int), 16)) == len(written(np.zeros(50, int), 1)) == 0
    assert streams.read_symbols(BitReader(b""), 50, 1, "index").tolist() == [0] * 50


def test_huffman_is_refused_on_large_alphabets():
    with pytest.raises(ValueError, match="at most 4096"):
        choose(np.ones(4097, int), "huffman")
    assert choose(np.ones(4097, int), "plain").tag == PLAIN


def test_damaged_symbols_are_refused():
    w = BitWriter()
    w.write(PLAIN, TAG)
    w.numbers(np.array([0, 4, 5]), 3)
    assert streams.read_symbols(BitReader(w.getvalue()), 3, 6, "index").tolist() == [0, 4, 5]
    with pytest.raises(FormatError, match="index: a symbol must be below 5, got 5"):
        streams.read_symbols(BitReader(w.getvalue()), 3, 5, "index")
    with pytest.raises(FormatError, match="index: no coder 3"):
        streams.read_symbols(BitReader(b"\x03"), 3, 5, "index")
    with pytest.raises(FormatError, match="index: no coder 1 for 5000 symbols"):
        streams.read_symbols(BitReader(b"\x01"), 3, 5000, "index")
    with pytest.raises(FormatError, match="bits are needed"):
        streams.read_symbols(BitReader(b"\x00"), 10**12, 5, "index")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 3000])
def test_floats_come_back_bit_for_bit(dtype, n):
    rng = np.random.default_rng(n)
    values = (rng.normal(size=n) * 10.0 ** rng.integers(-4, 4, n)).astype(dtype)
    edges = [
        0.0,
        -0.0,
        np.finfo(dtype).max,
        -np.finfo(dtype).max,
        np.finfo(dtype).smallest_subnormal,
    ]
    values[: len(edges[:n])] = edges[:n]
    w = BitWriter()
    streams.write_floats(w, values)
    assert len(w) == streams.floats_cost(values)
    r = BitReader(w.getvalue())
    found = streams.read_floats(r, n, dtype, "values")
    assert found.dtype == dtype and found.tobytes() == values.tobytes()
    r.finish()


def test_planes_of_floats_by_hand():
    # 1.0 is 0 01111111 000...; rotated left, its first byte is the exponent 127, its last bit the
    # sign
    planes = streams._planes(np.array([1.0, -1.0, 1.5], np.float32))
    assert planes.tolist() == [[127, 127, 127], [0, 0, 128], [0, 0, 0], [0, 1, 0]]
    assert streams._planes(np.array([-1.0], np.float16)).tolist() == [[0b01111000], [1]]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_numbers_are_refused(dtype, bad):
    w = BitWriter()
    streams.write_floats(w, np.array([1, bad, 2], dtype))
    with pytest.raises(FormatError, match="values: numbers must be finite"):
        streams.read_floats(BitReader(w.getvalue()), 3, dtype, "values")


def test_zeros_that_will_join_are_counted():
    values = np.random.default_rng(0).normal(size=500).astype(np.float32)
    w = BitWriter()
    streams.write_floats(w, np.append(values, np.zeros(77, np.float32)))
    assert streams.floats_cost(values, 77) == len(w)


@pytest.mark.parametrize("size", [4097, 5000, 8191, 65535, 65536])
def test_large_alphabets_are_split_where_that_is_smaller(size):
    rng = np.random.default_rng(size)
    near = np.clip(np.rint(rng.normal(size / 2, size / 40, 3000)), 0, size - 1)
    for symbols in (near, [0, size - 1, size // 2] * 400, rng.integers(0, size, 3000)):
        symbols = streams.as_symbols(np.asarray(symbols), size)
        w = BitWriter()
        streams.write_symbols(w, symbols, size)
        code = choose(np.bincount(symbols, minlength=size))
        width = (size - 1).bit_length()
        assert len(w.getvalue()) <= -(-(TAG + len(symbols) * width) // 8)
        r = BitReader(w.getvalue())
        read = streams.read_symbols(r, len(symbols), size, "values")
        np.testing.assert_array_equal(read, symbols)
        r.finish()
    assert code.tag in (PLAIN, SPLIT)
    w = BitWriter()
    streams.write_symbols(w, streams.as_symbols(near, size), size)
    assert 8 * len(w.getvalue()) < 0.85 * 3000 * width  # some 7 of 8 high bits say little


def test_damaged_split_symbols_are_refused():
    w = BitWriter()
    w.write(SPLIT, TAG)
    streams.write_symbols(w, np.full(4, 128, np.uint8), 129)  # of 4097: the last has low bits 0
    w.numbers(np.array([0, 1, 0, 0]), 5)
    with pytest.raises(FormatError, match="a symbol must be below 4097, got 4097"):
        streams.read_symbols(BitReader(w.getvalue()), 4, 4097, "values")
    w = BitWriter()
    w.write(SPLIT, TAG)
    with pytest.raises(FormatError, match="no coder 3 for 4096 symbols"):
        streams.read_symbols(BitReader(w.getvalue()), 4, 4096, "values")


def test_trits_lie_five_in_a_byte_where_that_is_smaller():
    w = written(np.array([1, 0, 2, 2, 1, 2, 0, 0, 1]), 3)
    data = w.getvalue()
    # 1 + 0 3 + 2 9 + 2 27 + 1 81 = 154, then 2 + 27 = 29; behind two bits of the tag
    assert tag_of(w) == TRITS and int.from_bytes(data, "little") >> TAG == 154 + (29 << 8)
    flat = np.random.default_rng(0).integers(0, 3, 1001)
    assert len(written(flat, 3)) == TAG + 8 * 201 and tag_of(written(flat, 3)) == TRITS
    assert tag_of(written(np.minimum(flat, 1), 3)) == HUFFMAN
    for trits in (flat, flat[:5], flat[:1]):
        r = BitReader(written(trits, 3).getvalue())
        np.testing.assert_array_equal(streams.read_symbols(r, len(trits), 3, "values"), trits)
        r.finish()


@pytest.mark.parametrize("byte, n", [(243, 5), (255, 5), (3, 1), (162, 4)])
def test_damaged_trits_are_refused(byte, n):
    w = BitWriter()
    w.write(TRITS, TAG)
    w.numbers(np.array([byte]), 8)
    with pytest.raises(FormatError, match="values: a byte of trits must be below 243"):
        streams.read_symbols(BitReader(w.getvalue()), n, 3, "values")
