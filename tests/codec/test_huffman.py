import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.codec import huffman
from minicomp.codec.bits import BitReader, BitWriter
from minicomp.codec.huffman import (
    canonical_codes,
    check_lengths,
    decode,
    decode_four,
    encode,
    encode_four,
    entropy_bits,
    huffman_lengths,
    quarters,
    read_table,
    table_cost,
    write_table,
)
from minicomp.errors import FormatError


def frequencies(max_size=40):
    return st.lists(st.integers(0, 1000), min_size=1, max_size=max_size).filter(any).map(np.array)


def kraft(lengths):
    used = lengths[lengths > 0]
    return float(np.sum(2.0 ** -used.astype(float)))


def cost(freq, lengths):
    return int((np.asarray(freq) * lengths.astype(int)).sum())


def cheapest_by_hand(freq, limit):
    # every assignment of lengths with a Kraft sum of at most 1
    best = min(
        sum(f * l for f, l in zip(freq, lengths))
        for lengths in itertools.product(range(1, limit + 1), repeat=len(freq))
        if sum(2.0**-l for l in lengths) <= 1
    )
    return best


def test_by_hand():
    # 1 + 1 = 2, 2 + 2 = 4, 4 + 5 = 9: lengths 3, 3, 2, 1; total 1*3 + 1*3 + 2*2 + 5*1 = 15
    assert huffman_lengths(np.array([1, 1, 2, 5])).tolist() == [3, 3, 2, 1]
    # at most 2 bits: all four take 2
    assert huffman_lengths(np.array([1, 1, 2, 5]), 2).tolist() == [2, 2, 2, 2]
    # Fibonacci frequencies make the longest codes: 1 1 2 3 5 8 13 -> 6 6 5 4 3 2 1; under 4 the
    # tail is flattened
    fibonacci = np.array([1, 1, 2, 3, 5, 8, 13])
    assert huffman_lengths(fibonacci).tolist() == [6, 6, 5, 4, 3, 2, 1]
    assert cost(fibonacci, huffman_lengths(fibonacci, 4)) == cheapest_by_hand(fibonacci, 4)


@pytest.mark.parametrize("limit", [2, 3, 4, 5])
def test_length_limited_codes_are_optimal(limit):
    rng = np.random.default_rng(limit)
    for n in range(2, min(2**limit, 6) + 1):
        for _ in range(6):
            freq = rng.geometric(0.15, n) ** 2
            lengths = huffman_lengths(freq, limit)
            assert lengths.max() <= limit and kraft(lengths) == 1
            assert cost(freq, lengths) == cheapest_by_hand(freq, limit)


@given(frequencies())
def test_lengths_are_a_complete_code_within_one_bit_of_the_entropy(freq):
    lengths = huffman_lengths(freq)
    assert ((lengths > 0) == (freq > 0)).all()
    check_lengths(lengths)
    entropy, total = entropy_bits(freq), cost(freq, lengths)
    if np.count_nonzero(freq) > 1:
        assert entropy <= total + 1e-6 and total < entropy + freq.sum()
        assert kraft(lengths) == 1
    # A limit that the plain code keeps changes nothing in the bits, a tighter one never helps.
    least = max(int(np.count_nonzero(freq) - 1).bit_length(), 1)
    totals = [cost(freq, huffman_lengths(freq, limit)) for limit in range(least, 16)]
    assert totals == sorted(totals, reverse=True)
    if lengths.max() <= 15:
        assert totals[-1] == total


def test_dyadic_frequencies_meet_the_entropy():
    freq = np.array([8, 4, 2, 1, 1])
    assert cost(freq, huffman_lengths(freq)) == entropy_bits(freq) == 30


def test_equal_frequencies_are_flat_up_to_the_largest_alphabet():
    for k in (2, 3, 256, 4096):
        lengths = huffman_lengths(np.ones(k, int), 12)
        check_lengths(lengths)
        assert lengths.max() - lengths.min() <= 1


@pytest.mark.parametrize("freq", [[0, 0, 7], [1], [0, 2**40]])
def test_a_lone_symbol_is_marked_and_takes_no_bits(freq):
    lengths = huffman_lengths(np.array(freq), 12)
    assert lengths.tolist() == (np.array(freq) > 0).astype(int).tolist()
    symbols = np.full(1000, len(freq) - 1)
    data, bits = encode(symbols, lengths)
    assert bits == 0 and len(data) == 0
    found, end = decode(data, 0, 1000, lengths)
    np.testing.assert_array_equal(found, symbols)
    assert end == 0


def test_no_symbols():
    assert not huffman_lengths(np.array([0, 0]), 12).any()
    lengths = huffman_lengths(np.array([1, 1]))
    assert encode(np.zeros(0, int), lengths)[1] == 0
    assert len(decode(np.zeros(0, np.uint8), 0, 0, lengths)[0]) == 0


@pytest.mark.parametrize(
    "freq, limit", [([1, 1, 1], 1), ([1] * 17, 4), ([1, 1], 0), ([-1, 2], None)]
)
def test_impossible_demands_are_refused(freq, limit):
    with pytest.raises(ValueError, match="limit must|freq must"):
        huffman_lengths(np.array(freq), limit)


def test_canonical_codes_by_hand():
    # RFC 1951's example: A-H of lengths 3 3 3 3 3 2 4 4
    codes = canonical_codes(np.array([3, 3, 3, 3, 3, 2, 4, 4]))
    assert codes.tolist() == [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]


@given(frequencies())
def test_canonical_codes_are_prefix_free_and_in_order(freq):
    lengths = huffman_lengths(freq, 15)
    codes = canonical_codes(lengths)
    words = [format(int(codes[s]), f"0{lengths[s]}b") for s in np.flatnonzero(lengths)]
    assert not any(a != b and b.startswith(a) for a in words for b in words)
    ordered = sorted(np.flatnonzero(lengths), key=lambda s: (lengths[s], s))
    assert [codes[s] << (16 - lengths[s]) for s in ordered] == sorted(
        codes[s] << (16 - lengths[s]) for s in ordered
    )


def test_codes_of_too_many_lengths_are_refused():
    with pytest.raises(ValueError, match="Kraft"):
        canonical_codes(np.array([1, 1, 2]))


@pytest.mark.parametrize("lengths", [[0, 0], [2], [1, 2], [1, 1, 1], [1, 2, 3], [16] * 2**16, []])
def test_check_lengths(lengths):
    with pytest.raises(FormatError, match="Kraft"):
        check_lengths(np.array(lengths, int))


def test_a_stream_by_hand():
    # codes 0, 10, 110, 111; first bits first, from the lowest bit of the byte up
    lengths = np.array([1, 2, 3, 3])
    data, bits = encode(np.array([0, 1, 2, 3, 0]), lengths)
    assert bits == 10 and data.tolist() == [0b11_011_01_0, 0b0_1]


@given(st.data())
def test_round_trip(data):
    freq = data.draw(frequencies(300))
    limit = data.draw(st.integers(9, 15))
    lengths = huffman_lengths(freq, limit)
    symbols = np.array(
        data.draw(st.lists(st.sampled_from(np.flatnonzero(freq).tolist()), max_size=200)), np.int64
    )
    packed, bits = encode(symbols, lengths)
    if np.count_nonzero(freq) > 1:
        assert bits == int(lengths[symbols].sum())
    found, end = decode(packed, 0, len(symbols), lengths)
    np.testing.assert_array_equal(found, symbols)
    assert end == bits


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 1000, 30_001])
def test_four_streams(n):
    rng = np.random.default_rng(n)
    symbols = np.minimum(rng.geometric(0.3, n) - 1, 15)
    lengths = huffman_lengths(1 + np.bincount(symbols, minlength=16), 12)
    streams = encode_four(symbols, lengths)
    data, sizes = np.concatenate(streams), np.array([len(s) for s in streams])
    assert quarters(n).sum() == n
    np.testing.assert_array_equal(decode_four(data, sizes, n, lengths), symbols)
    for wrong in (n + 16, n - 16, n + 10**9):
        if wrong > 0:
            with pytest.raises(FormatError):
                decode_four(data, sizes, wrong, lengths)
    if n > 8:
        with pytest.raises(FormatError, match="does not end where"):
            decode_four(data, sizes + [1, 0, 0, -1], n, lengths)


def test_bits_after_the_last_code_of_a_stream_are_refused():
    lengths = np.array([1, 2, 3, 3])
    streams = encode_four(np.array([0, 3, 1, 2]), lengths)
    data, sizes = np.concatenate(streams), np.array([len(s) for s in streams])
    decode_four(data, sizes, 4, lengths)
    data[-1] |= 128  # the last stream's codes end before
    with pytest.raises(FormatError, match="stream 4 of 4 does not end"):
        decode_four(data, sizes, 4, lengths)


def test_streams_that_end_early_are_refused():
    lengths = np.array([1, 2, 3, 3])
    data, _ = encode(np.array([3] * 40), lengths)
    with pytest.raises(FormatError, match="ends before its 41"):
        decode(data, 0, 41, lengths)
    with pytest.raises(FormatError, match="more than the"):
        decode(data, 0, 121, lengths)
    with pytest.raises(ValueError, match="no code"):
        encode(np.array([1]), np.array([1, 0, 1]))


@given(frequencies(300), st.integers(0, 20))
def test_tables_round_trip_and_cost_what_they_say(freq, zeros):
    lengths = np.concatenate([huffman_lengths(freq, 15), np.zeros(zeros, np.uint8)])
    w = BitWriter()
    write_table(w, lengths)
    assert len(w) == table_cost(lengths)
    r = BitReader(w.getvalue())
    np.testing.assert_array_equal(read_table(r, len(lengths)), lengths, strict=True)
    r.finish()


def test_tables_are_compact():
    # 32 gaps of a geometric source: 5 bits each would be 20 bytes
    lengths = huffman_lengths((1e6 * 0.85 ** np.arange(32)).astype(int), 12)
    assert table_cost(lengths) <= 8 * 8


@given(st.binary(max_size=40), st.integers(2, 300))
def test_any_bytes_are_a_code_or_a_format_error(data, size):
    try:
        lengths = read_table(BitReader(data), size)
    except FormatError:
        return
    check_lengths(lengths)


def test_a_table_has_one_spelling():
    w = BitWriter()
    write_table(w, np.array([1, 2, 2, 0]))
    assert read_table(BitReader(w.getvalue()), 4).tolist() == [1, 2, 2, 0]
    w = BitWriter()  # the same with a bitmap that is not needed: last symbol 2, bitmap 1 1
    w.write(2, 2)
    w.write(1, 1)
    w.write(0b11, 2)
    with pytest.raises(FormatError, match="bitmap of absent symbols has none"):
        read_table(BitReader(w.getvalue() + bytes(4)), 4)


def test_decoding_is_the_same_with_and_without_compiled_kernels():
    rng = np.random.default_rng(0)
    symbols = rng.integers(0, 37, 5000)
    lengths = huffman_lengths(np.bincount(symbols) ** 2, 15)
    data, _ = encode(symbols, lengths)
    for isa in ("auto", "ref"):
        np.testing.assert_array_equal(decode(data, 0, 5000, lengths, isa=isa)[0], symbols)
    assert huffman.MAX_LENGTH == 15
