import math

import numpy as np
import pytest

from minicomp.kernels import cpu
from minicomp.kernels.coding import range_coder
from minicomp.kernels.coding.range_coder import decode, encode

ISAS = [isa for isa in cpu.distinct("coding") if isa != "ref"]
SHAPES = [(1, 1), (1, 63), (64, 1), (65, 3), (3, 65), (20, 40)]
CASES = [
    (0.0, 0, 0),
    (1.0, 0, 2),
    (0.5, 1, 0),
    (0.05, 3, 5),
    (0.2, 8, 28),
    (1.0, 8, 255),
    (0.9, 4, 64),
]


def table(shape, density, bits, rng):
    return np.where(rng.random(shape) < density, rng.integers(1, (1 << bits) + 1, shape), 0).astype(
        np.uint16
    )


@pytest.mark.parametrize("density, bits, lag", CASES)
def test_equals_the_reference_byte_for_byte(density, bits, lag):
    for shape in SHAPES:
        rng = np.random.default_rng(shape[0] + bits)
        codes = table(shape, density, bits, rng)
        codes.flags.writeable = False
        expected, kept = encode(codes, bits, lag, isa="ref"), np.count_nonzero(codes)
        for isa in ISAS:
            np.testing.assert_array_equal(encode(codes, bits, lag, isa=isa), expected, strict=True)
        for data in (
            expected,
            rng.integers(0, 256, 50, np.uint8),
            expected[: len(expected) // 2],
        ):  # whole, garbage, cut
            data.flags.writeable = False
            wanted = decode(data, shape, kept, bits, lag, isa="ref")
            for isa in ISAS:
                found = decode(data, shape, kept, bits, lag, isa=isa)
                np.testing.assert_array_equal(found[0], wanted[0], strict=True)
                assert found[1:] == wanted[1:]


@pytest.mark.parametrize("density, bits, lag", CASES)
def test_round_trip(density, bits, lag):
    for shape in SHAPES:
        codes = table(shape, density, bits, np.random.default_rng(shape[1] + lag))
        for isa in ("ref", "auto"):
            data = encode(codes, bits, lag, isa=isa)
            found, used, split = decode(data, shape, np.count_nonzero(codes), bits, lag, isa=isa)
            np.testing.assert_array_equal(found, codes, strict=True)
            assert 0 <= split <= used and len(data) <= used <= len(data) + 4
            assert not len(data) or data[-1]  # zeros at the end are not stored


@pytest.mark.parametrize("isa", ISAS)
def test_carries_run_through(isa):
    # Improbable entries at the far end of the interval make long runs of 255 that a carry turns
    # over.
    rng = np.random.default_rng(5)
    for seed in range(60):
        codes = table((1, 4000), rng.choice([0.001, 0.01, 0.999]), 0, np.random.default_rng(seed))
        if codes.any():
            data = encode(codes, 0, 0, isa=isa)
            np.testing.assert_array_equal(
                decode(data, codes.shape, np.count_nonzero(codes), 0, 0, isa=isa)[0], codes
            )


@pytest.mark.parametrize("isa", ISAS)
def test_a_random_table_takes_its_entropy(isa):
    # Nothing to learn but two frequencies: within 1 % of the entropy of pattern and codes.
    codes = table((300, 400), 0.1, 3, np.random.default_rng(0))
    entropy = codes.size * -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9)) + 3 * np.count_nonzero(
        codes
    )
    size = 8 * len(encode(codes, 3, 0, isa=isa))
    assert abs(size - entropy) < 0.01 * entropy


@pytest.mark.parametrize("isa", ISAS)
def test_what_is_learned_pays(isa):
    rng = np.random.default_rng(0)
    # columns of different density
    busy = rng.random((300, 400)) < np.where(np.arange(400) < 100, 0.35, 0.01)
    flat = rng.random((300, 400)) < busy.mean()
    assert len(encode(busy, 0, 0, isa=isa)) < 0.8 * len(encode(flat, 0, 0, isa=isa))
    # kept entries in neighbouring pixels of rows of 20, of one sign: lag and side contexts
    spots = np.zeros((300, 20, 20), np.uint16)
    for image in spots:
        for _ in range(3):
            y, x = rng.integers(0, 17, 2)
            image[y : y + 4, x : x + 4] = rng.integers(1, 5, (4, 4)) + 4 * rng.integers(0, 2)
    spots = spots.reshape(300, 400)
    assert len(encode(spots, 3, 20, isa=isa)) < 0.87 * len(encode(spots, 3, 0, isa=isa))
    shuffled = spots.copy()
    shuffled[spots > 0] = rng.permutation(spots[spots > 0])
    assert len(encode(spots, 3, 20, isa=isa)) < 0.9 * len(encode(shuffled, 3, 20, isa=isa))


def test_by_hand():
    # One entry, kept: p(kept) begins at 1 cut to 1 - 2^-4; a 1 keeps [0, range p): 0 is in it, no
    # byte is stored.
    assert encode(np.array([[1]]), 0, 0, isa="ref").tolist() == []
    # Codes 1 and 2 of one bit: the bit of code - 1 has p = 1/2, 0 keeps the upper half of the
    # interval.
    assert encode(np.array([[2]]), 1, 0, isa="ref").tolist() == []
    assert encode(np.array([[1]]), 1, 0, isa="ref")[0] == 0x80
    # A state: p after bits 1 1 0 from p = 1/2, t = 0 with rates 2/3, 2/5, 2/7
    state = [2**21, 0]
    for b in (1, 1, 0):
        range_coder.learn(state, b)
    p = 0.5
    for t, b in enumerate((1, 1, 0)):
        p += (b - p) / (t + 1.5)
    assert state[1] == 3 and abs(state[0] / 2**22 - p) < 1e-4


@pytest.mark.parametrize(
    "codes, bits, lag",
    [
        (np.zeros(3), 0, 0),
        (np.array([[3]]), 1, 0),
        (np.array([[1]]), 9, 0),
        (np.array([[1]]), 0, 1),
        (np.array([[1]]), 0, 256),
        (np.array([[1]]), -1, 0),
        (np.zeros((1, 2**20 + 1)), 0, 0),
    ],
)
def test_arguments_out_of_range_are_refused(codes, bits, lag):
    with pytest.raises(ValueError, match="must be|at most"):
        encode(codes.astype(np.uint16), bits, lag)


@pytest.mark.parametrize("kept", [-1, 7])
def test_more_kept_than_entries_is_refused(kept):
    with pytest.raises(ValueError, match="kept must be"):
        decode(b"", (2, 3), kept, 0, 0)


def test_nothing_kept_and_no_entries():
    assert len(encode(np.zeros((5, 6), int), 3, 0)) == 0
    assert len(encode(np.zeros((0, 6), int), 3, 0)) == 0
    assert decode(b"", (5, 6), 0, 3, 0)[0].tolist() == np.zeros((5, 6)).tolist()
    assert decode(b"", (0, 6), 0, 3, 0)[0].shape == (0, 6)
