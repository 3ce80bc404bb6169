import numpy as np
import pytest
from minicomp.kernels import cpu
from minicomp.kernels.coding.rans import decode, encode

ISAS = [isa for isa in cpu.distinct("coding") if isa != "ref"]


def source(n, k, rng):
    # (symbols, slots)
    symbols = np.minimum(rng.geometric(0.2, n) - 1, k - 1).astype(np.uint8)
    share = np.bincount(symbols, minlength=k) + 1
    freq = np.maximum(4096 * share // share.sum(), 1)
    freq[np.argmax(freq)] += 4096 - freq.sum()
    return symbols, freq


@pytest.mark.parametrize("k", [2, 16, 256])
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 63, 64, 65, 1000, 2000])
def test_equals_the_reference_byte_for_byte(n, k):
    rng = np.random.default_rng(n + k)
    symbols, freq = source(n, k, rng)
    symbols.flags.writeable = freq.flags.writeable = False
    for lanes in (1, 32):
        data = encode(symbols, freq, lanes, isa="ref")
        for isa in ISAS:
            np.testing.assert_array_equal(encode(symbols, freq, lanes, isa=isa), data, strict=True)
        noise = rng.integers(0, 256, 300).astype(np.uint8)
        for stream in (data, data[: len(data) // 2], noise, noise[:129], noise[:0]):
            wanted = decode(stream, n, freq, lanes, isa="ref")
            for isa in ISAS:
                found = decode(stream, n, freq, lanes, isa=isa)
                np.testing.assert_array_equal(found[0], wanted[0], strict=True)
                assert found[1:] == wanted[1:]
        found, used, whole = decode(data, n, freq, lanes)
        np.testing.assert_array_equal(found, symbols)
        assert used == len(data) and whole


@pytest.mark.parametrize("isa", ISAS)
def test_a_message_takes_its_cross_entropy(isa):
    symbols, freq = source(50_000, 16, np.random.default_rng(0))
    bits = -np.log2(freq[symbols] / 4096).sum()
    for lanes in (1, 32):
        size = 8 * len(encode(symbols, freq, lanes, isa=isa))
        assert bits + 16 * lanes <= size < 1.0005 * bits + 40 * lanes


def test_by_hand():
    # Two symbols of half the slots each: x = 65536 -> 2 x + start mod 4096 of the same half.
    freq = np.array([2048, 2048])
    x = (65536 // 2048 << 12) + 2048 + 65536 % 2048  # the symbol 1
    assert encode(np.array([1]), freq, 1).view("<u4").tolist() == [x]
    # 16 bits later the low word is put out
    data = encode(np.ones(17, int), freq, 1)
    assert len(data) == 6
    assert decode(data, 17, freq, 1)[0].tolist() == [1] * 17


def test_damage_is_seen():
    symbols, freq = source(1000, 16, np.random.default_rng(1))
    data = encode(symbols, freq, 32)
    for at in (0, 100, len(data) - 1):
        wrong = data.copy()
        wrong[at] ^= 4
        _, used, whole = decode(wrong, 1000, freq, 32)
        assert not whole or used != len(data)
