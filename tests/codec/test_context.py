import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.codec import context as range_coder
from minicomp.codec.bits import BitReader, BitWriter
from minicomp.errors import FormatError


def written(codes, order, symbols, before=3):
    data, lag = range_coder.pack(codes, order, symbols, None)
    w = BitWriter()
    w.bits(np.ones(before, np.uint8))
    range_coder.write(w, data, int(np.count_nonzero(codes)), lag, symbols)
    assert len(w) - before == range_coder.cost(data, int(np.count_nonzero(codes)), lag, symbols)
    r = BitReader(w.getvalue())
    r.bits(before)
    return r


@given(
    st.sampled_from([(1,), (40,), (3, 8), (20, 30), (4, 3, 5, 5), (1, 1)]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 0.03, 0.4, 1]),
    st.sampled_from([1, 2, 3, 17, 256]),
    st.integers(0, 1),
    st.integers(0, 9),
)
def test_any_tensor_comes_back(shape, seed, density, symbols, order, before):
    rng = np.random.default_rng(seed)
    order = order if len(shape) > 1 else 0
    codes = np.where(rng.random(shape) < density, rng.integers(1, symbols + 1, shape), 0)
    r = written(codes, order, symbols, before)
    found, how = range_coder.read(r, shape, order, symbols)
    np.testing.assert_array_equal(found, codes)
    assert how.startswith("context")
    r.finish()
    r.charge("header")
    assert sum(r.spent.values()) == 8 * len(r.data)


def test_a_repeating_distance_is_found():
    rng = np.random.default_rng(0)
    spots = np.zeros((200, 28, 28), bool)
    for image in spots:
        y, x = rng.integers(0, 24, 2)
        image[y : y + 5, x : x + 3] = True
    assert range_coder.best_lag(spots.reshape(200, -1)) == 28
    assert range_coder.best_lag(rng.random((200, 784)) < 0.1) == 0
    assert range_coder.best_lag(np.zeros((5, 1), bool)) == 0


def test_damaged_streams_are_refused():
    codes = np.where(np.random.default_rng(0).random((30, 40)) < 0.1, 5, 0)
    good = written(codes, 0, 7).data

    def read(fields, data, symbols=7, shape=(30, 40)):
        w = BitWriter()
        for value in fields:
            w.count(value)
        w.numbers(data, 8)
        return range_coder.read(BitReader(w.getvalue()), shape, 0, symbols)

    kept = np.count_nonzero(codes)
    data = range_coder.pack(codes, 0, 7, 0)[0]
    np.testing.assert_array_equal(read((kept, 0), data)[0], codes)
    assert len(good) > len(data)
    for fields, bytes_, match in (
        ((kept + 1, 0), data, "does not hold"),
        ((kept - 1, 0), data, "does not hold"),
        ((1201, 0), data, "cannot be"),
        ((kept, 1), data, "cannot be"),
        ((kept, 256), data, "cannot be"),
        ((kept, 0), data[:-9], "does not hold"),
        ((kept, 0), np.append(data, np.ones(9, np.uint8)), "does not hold"),
        ((kept, 0), np.append(data, 0), "does not hold"),
        ((kept, 2), data, "does not hold"),
    ):
        with pytest.raises(FormatError, match=match):
            read(fields, bytes_)
    with pytest.raises(FormatError, match="cannot be"):
        read((kept, 0), data, symbols=257)


def test_codes_past_the_last_symbol_are_refused():
    # 6 symbols take 3 bits, which can say 7 and 8 too.
    codes = np.array([[0, 7, 0, 8]])
    w = BitWriter()
    range_coder.write(w, range_coder.pack(codes, 0, 8, 0)[0], 2, 0, 8)
    np.testing.assert_array_equal(range_coder.read(BitReader(w.getvalue()), (1, 4), 0, 8)[0], codes)
    with pytest.raises(FormatError, match="6 symbols"):
        range_coder.read(BitReader(w.getvalue()), (1, 4), 0, 6)


def test_another_number_of_kept_entries_than_declared_is_refused():
    # No bytes read as zeros, which are in every interval of a 1: all entries come out as kept.
    def read(kept):
        w = BitWriter()
        for value in (kept, 0, 0):  # kept, lag, bytes
            w.count(value)
        return range_coder.read(BitReader(w.getvalue()), (1, 4), 0, 1)

    assert read(4)[0].tolist() == [[1, 1, 1, 1]]
    assert read(0)[0].tolist() == [[0, 0, 0, 0]]
    with pytest.raises(FormatError, match="does not hold 1 codes"):
        read(1)
