import numpy as np
import pytest

from minicomp.codec import huffman as codec
from minicomp.kernels import cpu
from minicomp.kernels.coding import huffman

ISAS = [isa for isa in cpu.distinct("coding") if isa != "ref"]
SIZES = [0, 1, 2, 3, 5, 16, 63, 64, 65, 4095, 4097, 20_001]


def source(k, n, skew, rng):
    # n symbols below k, of frequencies that fall by `skew` a symbol; every symbol may occur
    p = skew ** np.arange(k)
    return rng.choice(k, n, p=p / p.sum()).astype(np.uint8 if k <= 256 else np.uint16)


def lengths_for(k, skew, limit):
    return codec.huffman_lengths(1 + (1e9 * skew ** np.arange(k)).astype(np.int64), limit)


@pytest.mark.parametrize(
    "k, skew, limit",
    [
        (2, 0.5, 12),
        (16, 0.8, 12),
        (16, 0.4, 15),
        (33, 0.9, 15),
        (256, 0.98, 12),
        (256, 1.0, 12),
        (257, 0.97, 15),
        (4096, 0.999, 15),
    ],
)
def test_equals_the_reference_bit_for_bit(k, skew, limit):
    rng = np.random.default_rng(k)
    lengths = lengths_for(k, skew, limit)
    for n in SIZES:
        symbols = source(k, n, skew, rng)
        data, bits = codec.encode(symbols, lengths)
        for counts in (np.array([n]), codec.quarters(n), np.array([0, n, 0, 0, n])):
            starts = np.zeros(len(counts), np.int64)
            expected = huffman.decode(data, starts, counts, lengths, isa="ref")
            for isa in ISAS:
                found = huffman.decode(data, starts, counts, lengths, isa=isa)
                for a, b in zip(found, expected):
                    np.testing.assert_array_equal(a, b, strict=True)
        found, ends = huffman.decode(data, np.array([0]), np.array([n]), lengths)
        np.testing.assert_array_equal(found, symbols, strict=True)
        assert ends[0] == bits


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("start", range(17))
def test_streams_begin_at_any_bit_and_garbage_decodes_alike(isa, start):
    # Any bits mean something in a complete code; where the data end, zeros follow.
    rng = np.random.default_rng(start)
    lengths = lengths_for(40, 0.8, 12)
    data = rng.integers(0, 256, 3000, np.uint8)
    data.flags.writeable = False
    starts, counts = np.array([start, 8 * 700 + start, 8 * 2999, 8 * 3000]), np.array(
        [6000, 9000, 500, 20]
    )
    expected, found = (huffman.decode(data, starts, counts, lengths, isa=i) for i in ("ref", isa))
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b, strict=True)
    assert found[1][2] > 8 * len(data)  # 500 symbols do not fit the last byte: the end tells


@pytest.mark.parametrize("isa", ["ref", *ISAS])
def test_streams_of_different_density_finish_apart(isa):
    # One stream is all long codes, another all short ones: each still ends where it should.
    lengths = codec.huffman_lengths(2 ** np.arange(12)[::-1], 12)
    parts = [np.full(3000, s, np.uint8) for s in (0, 11, 5, 0)]
    coded = [codec.encode(part, lengths) for part in parts]
    sizes = np.array([len(data) for data, _ in coded])
    starts = 8 * (np.cumsum(sizes) - sizes)
    symbols, ends = huffman.decode(
        np.concatenate([d for d, _ in coded]), starts, np.full(4, 3000), lengths, isa=isa
    )
    np.testing.assert_array_equal(symbols, np.concatenate(parts), strict=True)
    np.testing.assert_array_equal(ends - starts, [bits for _, bits in coded])


@pytest.mark.parametrize("isa", ["ref", *ISAS])
def test_empty_data_reads_as_zeros(isa):
    symbols, ends = huffman.decode(
        b"", np.array([0]), np.array([3]), np.array([1, 2, 2]), isa=isa
    )
    assert symbols.tolist() == [0, 0, 0] and ends.tolist() == [3]


@pytest.mark.parametrize(
    "lengths", [[], [1], [0, 0], [1, 2], [1, 1, 1], [16, 16], [2, 2, 2, 3], [0] * 4095 + [1, 1]]
)
def test_an_incomplete_code_is_refused(lengths):
    with pytest.raises(ValueError, match="complete code"):
        huffman.decode(b"abc", np.array([0]), np.array([1]), np.array(lengths, np.uint8))


@pytest.mark.parametrize("starts, counts",
    [
        ([-1], [1]),
        ([25], [1]),
        ([0], [-1]),
        ([0, 1], [1]),
        ([0] * 4, [2**62] * 4),  # whose sum is 0 in 64 bits
        ([0, 0], [2**31 - 1, 1]),
    ],
)
def test_streams_outside_the_data_are_refused(starts, counts):
    with pytest.raises(ValueError, match="starts"):
        huffman.decode(b"abc", np.array(starts), np.array(counts), np.array([1, 1], np.uint8))


def test_compiled_rungs_are_tested():
    if not ISAS:
        pytest.skip("no compiled kernels here")
    assert "portable" in ISAS
