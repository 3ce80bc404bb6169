import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.codec import bits
from minicomp.codec.bits import (
    BitReader,
    BitWriter,
    Budget,
    pack_bits,
    rice_cost,
    unpack_bits,
    unzigzag,
    zigzag,
)
from minicomp.errors import FormatError


def numbers_and_width():
    return st.integers(0, 32).flatmap(
        lambda w: st.tuples(st.lists(st.integers(0, (1 << w) - 1), max_size=70), st.just(w))
    )


def test_the_bit_order_by_hand():
    # 5 = 101, 2 = 010, 7 = 111, each least significant bit first: 1 0 1 | 0 1 0 | 1 1 1
    assert pack_bits(np.array([5, 2, 7]), 3).tolist() == [0b11010101, 0b1]
    # a number wider than a byte: 0x1234 of 16 bits is little-endian
    assert pack_bits(np.array([0x1234, 0xABCD]), 16).tolist() == [0x34, 0x12, 0xCD, 0xAB]
    # bits of 64-bit words: bit i of the stream is bit i mod 64 of word i // 64
    mask = np.zeros(128, np.uint8)
    mask[[0, 63, 70]] = 1
    assert pack_bits(mask, 1).view("<u8").tolist() == [1 | 1 << 63, 1 << 6]


@given(numbers_and_width())
def test_unpack_inverts_pack_and_agrees_with_python(case):
    values, width = case
    data = pack_bits(np.array(values, np.int64), width)
    whole = sum(v << i * width for i, v in enumerate(values))
    assert data.tobytes() == whole.to_bytes(-(-len(values) * width // 8), "little")
    found = unpack_bits(data, width, len(values))
    assert found.tolist() == values and found.dtype == bits.smallest_dtype(width)


@pytest.mark.parametrize("width", [1, 3, 4, 7, 8, 11, 16, 17, 32])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 2**16 - 1, 2**16, 2**16 + 9])
def test_round_trips_across_blocks(width, n):
    values = np.random.default_rng(n + width).integers(0, 1 << width, n)
    data = pack_bits(values, width)
    data.flags.writeable = False
    assert len(data) == -(-n * width // 8)
    np.testing.assert_array_equal(unpack_bits(data, width, n), values)
    w = BitWriter()
    w.write(1, 3)
    w.numbers(values, width)
    r = BitReader(w.getvalue())
    assert r.read(3) == 1
    np.testing.assert_array_equal(r.numbers(n, width), values)
    r.finish()


@pytest.mark.parametrize(
    "values, width", [([4], 2), ([-1], 4), ([1], 0), ([0], 33), ([0], -1), ([2**32], 32)]
)
def test_pack_refuses_what_does_not_fit(values, width):
    with pytest.raises(ValueError, match="must be in"):
        pack_bits(np.array(values), width)


def test_unpack_refuses_another_length_and_set_tail_bits():
    with pytest.raises(FormatError, match="take 2 bytes, got 1"):
        unpack_bits(b"a", 3, 3)
    with pytest.raises(FormatError, match="take 2 bytes, got 3"):
        unpack_bits(b"abc", 3, 3)
    with pytest.raises(FormatError, match="after the last"):
        unpack_bits(bytes([213, 3]), 3, 3)
    assert unpack_bits(bytes([213, 1]), 3, 3).tolist() == [5, 2, 7]


def test_zigzag_by_hand():
    x = np.array([0, -1, 1, -2, 2, -3])
    assert zigzag(x).tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(unzigzag(zigzag(x)), x)


def test_rice_by_hand():
    # k = 2: 9 = 2 * 4 + 1 -> 001 and 01; 3 -> 1 and 11
    w = BitWriter()
    w.rice(np.array([9, 3]), 2)
    assert len(w) == rice_cost(np.array([9, 3]), 2) == 8
    assert w.getvalue() == bytes([0b11_01_1100])
    assert BitReader(w.getvalue()).rice(2, 2, 10).tolist() == [9, 3]


@given(st.lists(st.integers(0, 5000), max_size=50), st.integers(0, 15), st.integers(0, 9))
def test_rice_round_trips_at_any_bit(values, k, before):
    w = BitWriter()
    w.bits(np.ones(before, np.uint8))
    w.rice(np.array(values, np.int64), k)
    assert len(w) == before + rice_cost(np.array(values, np.int64), k)
    r = BitReader(w.getvalue())
    r.bits(before)
    assert r.rice(len(values), k, 5001).tolist() == values
    r.finish()


def test_rice_refuses_values_past_the_limit_and_endless_zeros():
    w = BitWriter()
    w.rice(np.array([3, 100, 2]), 1)
    with pytest.raises(FormatError, match="limit 100"):
        BitReader(w.getvalue()).rice(3, 1, 100)
    with pytest.raises(FormatError, match="unary stream ends after 0 of 5"):
        BitReader(bytes(20)).rice(5, 0, 100)


@given(st.lists(st.integers(0, 2**40), max_size=20))
def test_counts_round_trip(values):
    w = BitWriter()
    for v in values:
        w.count(v)
    r = BitReader(w.getvalue())
    assert [r.count() for _ in values] == values
    assert len(w) == sum(4 * max(1, -(-v.bit_length() // 3)) for v in values)


def test_a_count_has_one_spelling():
    w = BitWriter()
    for group in (0b1001, 0b0000):  # 1, "more", 0
        w.write(group, 4)
    with pytest.raises(FormatError, match="empty group"):
        BitReader(w.getvalue()).count()
    with pytest.raises(FormatError, match="longer than 48 bits"):
        BitReader(b"\xff" * 10).count()


def test_a_reader_never_passes_the_end():
    for ask in (
        lambda r: r.read(17),
        lambda r: r.numbers(3, 8),
        lambda r: r.bits(17),
        lambda r: r.raw(3),
        lambda r: r.rice(17, 0, 5),
        lambda r: r.numbers(10**12, 32),
    ):
        with pytest.raises(FormatError):
            ask(BitReader(b"ab"))
    with pytest.raises(FormatError, match="left after the end"):
        BitReader(b"ab").finish()
    with pytest.raises(FormatError, match="filling bit"):
        r = BitReader(b"\x09")
        r.read(3)
        r.finish()


def test_align_raw_and_charges():
    w = BitWriter()
    w.write(5, 3)
    w.raw(b"xy")
    w.write(1, 1)
    r = BitReader(w.getvalue())
    assert r.read(3) == 5
    r.charge("a")
    assert r.raw(2).tobytes() == b"xy"
    r.charge("b")
    assert r.read(1) == 1
    r.finish()
    r.charge("a")
    assert r.spent == {"a": 3 + 8, "b": 5 + 16}  # filling bits count where they are read


def test_allow_bounds_what_is_allocated():
    with pytest.raises(FormatError, match="at most 100"):
        BitReader(b"", Budget(100)).budget.allow(101)
