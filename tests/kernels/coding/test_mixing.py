import numpy as np
import pytest
from minicomp.kernels import cpu
from minicomp.kernels.coding import mixing, range_coder
from minicomp.kernels.coding.mixing import decode, encode, log2, logit, probability

ISAS = [isa for isa in cpu.distinct("coding") if isa != "ref"]
# shape, (below 0, above), width, block, with units
CASES = [
    ((1, 1), (1, 0), 0, 1, False),
    ((5, 9), (3, 2), 3, 9, False),
    ((7, 20), (4, 4), 5, 10, True),
    ((20, 40), (100, 156), 0, 40, True),
    ((12, 50), (5, 3), 5, 25, True),
    ((1, 63), (7, 9), 0, 63, True),
    ((9, 31), (1, 1), 7, 31, True),
    ((4, 31), (0, 9), 3, 11, False),
]


def table(shape, density, sides, rng):
    return np.where(rng.random(shape) < density, rng.integers(1, sum(sides) + 1, shape), 0)


@pytest.mark.parametrize("shape, sides, width, block, with_units", CASES)
def test_equals_the_reference_byte_for_byte(shape, sides, width, block, with_units):
    rng = np.random.default_rng(shape[1])
    units = rng.integers(0, 4, shape[1]) if with_units else None
    for density in (0, 0.05, 0.4, 1):
        codes = table(shape, density, sides, rng)
        codes.flags.writeable = False
        how, kept = (sides, width, block, units), np.count_nonzero(codes)
        data = encode(codes, *how, isa="ref")
        for isa in ISAS:
            np.testing.assert_array_equal(encode(codes, *how, isa=isa), data, strict=True)
        for stream in (data, rng.integers(0, 256, 40).astype(np.uint8), data[: len(data) // 2]):
            wanted = decode(stream, shape, kept, *how, isa="ref")
            assert np.count_nonzero(wanted[0]) == kept and wanted[0].max(initial=0) <= sum(sides)
            for isa in ISAS:
                found = decode(stream, shape, kept, *how, isa=isa)
                np.testing.assert_array_equal(found[0], wanted[0], strict=True)
                assert found[1:] == wanted[1:]
        found, used, split = decode(data, shape, kept, *how)
        np.testing.assert_array_equal(found, codes)
        assert not kept or len(data) <= used <= len(data) + 4 and 0 <= split <= used


@pytest.mark.parametrize("isa", ISAS)
def test_a_random_table_takes_its_entropy(isa):
    codes = table((300, 400), 0.1, (4, 4), np.random.default_rng(0))
    entropy = codes.size * -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9)) + 3 * np.count_nonzero(codes)
    assert abs(8 * len(encode(codes, (4, 4), 0, 400, isa=isa)) - entropy) < 0.012 * entropy


@pytest.mark.parametrize("isa", ISAS)
def test_each_opinion_pays(isa):
    rng = np.random.default_rng(0)

    def size(codes, width=0, block=None, units=None):
        return len(encode(codes, (4, 4), width, block or codes.shape[1], units, isa=isa))

    # columns of dead units
    units = np.where(rng.random(400) < 0.3, 6, 0)
    mask = rng.random((10, 400)) < 0.3 * (units > 0)
    with_units, without = (
        len(encode(mask, (1, 0), 0, 400, of, isa=isa)) for of in (units, None))
    assert with_units < 0.9 * without
    # spots of one sign in images of 20 x 20, one a row or several
    spots = np.zeros((300, 20, 20), int)
    for image in spots:
        y, x = rng.integers(0, 16, 2)
        image[y : y + 4, x : x + 4] = rng.integers(1, 5, (4, 4)) + 4 * rng.integers(0, 2)
    assert size(spots.reshape(300, 400), 20) < 0.75 * size(spots.reshape(300, 400))
    assert size(spots.reshape(50, 2400), 20, 400) < 0.8 * size(spots.reshape(50, 2400))
    # rows of large and of small sizes
    large = rng.random((100, 1)) < 0.5
    codes = np.where(rng.random((100, 80)) < 0.3, rng.integers(1, 3, (100, 80)) + 2 * large, 0)
    shuffled = codes.copy()
    shuffled[codes > 0] = rng.permutation(codes[codes > 0])
    assert size(codes) < 0.93 * size(shuffled)


def test_when_all_is_known_nothing_is_coded():
    # every entry kept, one code: no bit is left to say
    assert len(encode(np.ones((3, 5), int), (1, 0), 0, 5)) == 0
    # the last of the kept entries stands first: what follows costs nothing
    codes = np.zeros((1, 1000), int)
    codes[0, 0] = 1
    assert len(encode(codes, (1, 0), 0, 1000)) <= 2
    # 3 codes above 0 take no fourth: any bytes give codes that there are
    for seed in range(20):
        data = np.random.default_rng(seed).integers(0, 256, 30).astype(np.uint8)
        assert set(decode(data, (5, 5), 25, (0, 3), 0, 5)[0].ravel()) <= {1, 2, 3}


def test_logits_by_hand():
    assert [log2(v) for v in (1, 2, 3, 4, 6, 1024)] == [0, 4096, 6144, 8192, 10240, 40960]
    assert logit(1, 2) == 0 and logit(1, 5) == -8192 and logit(3, 4) == 6144
    assert probability(0) == 32768 and probability(4096) == 65536 - 65536 // 3
    for a in range(1, 64):  # the inverse, to what straight lines allow
        assert abs(probability(logit(a, 64)) - 1024 * a) <= 0.03 * 65536
    assert probability(-(10**6)) == 16 and probability(10**6) == 65520


def test_a_weight_moves_downhill():
    # f = 1 (4096), p = 1/2, b = 1: w grows by 2^15 4096 2^-13, and p above 1/2 follows
    model = mixing._Model(range_coder.Encoder(), (2, 2), 1, (1, 0), 0, 2, np.zeros(0, np.int32))
    model.w = [0] * mixing.KEPT
    model.mixed(0, [4096], 0, 13, 0, 1)
    assert model.w[0] == 2**15 * 4096 >> 13
    before = model.w[0]
    model.mixed(0, [4096], 0, 13, 0, 1)
    assert before < model.w[0] < 2 * before
