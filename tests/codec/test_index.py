import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.codec import index
from minicomp.codec.index import filler_count, relative_index, relative_positions
from minicomp.errors import FormatError


def decode(stored, source, p, n):
    return relative_positions(np.asarray(stored), np.asarray(source) < 0, p, n)


def test_figure_2_of_deep_compression():
    # positions 1, 4, 15 counted from 1 -> gaps 1, 3, 8 (filler), 3
    stored, source = relative_index(np.array([1, 4, 15]) - 1, 3)
    assert (stored + 1).tolist() == [1, 3, 8, 3]
    assert source.tolist() == [0, 1, -1, 2]
    assert decode(stored, source, 3, 15).tolist() == [0, 3, 14]


@pytest.mark.parametrize("b", [1, 3, 4, 8, 16])
def test_gaps_at_the_edges(b):
    # a single weight at gap 1, 2^b, 2^b + 1, 3 * 2^b
    largest = 2**b
    for gap, expected in (
        (1, [1]),
        (largest, [largest]),
        (largest + 1, [largest, 1]),
        (3 * largest, [largest] * 3),
    ):
        stored, source = relative_index(np.array([gap - 1]), b)
        assert (stored + 1).tolist() == expected
        assert source.tolist() == [-1] * (len(expected) - 1) + [0]
        assert filler_count(np.array([gap - 1]), b) == len(expected) - 1
        assert decode(stored, source, b, gap).tolist() == [gap - 1]


def test_an_empty_row_and_an_empty_tensor():
    # (3, 8) with row 1 empty: 0-based C-order positions 2, 17; p = 3
    w = np.zeros((3, 8))
    w[0, 2], w[2, 1] = 1, 2
    stored, source = relative_index(np.flatnonzero(w), 3)
    assert (stored + 1).tolist() == [3, 8, 7] and source.tolist() == [0, -1, 1]
    stored, source = relative_index(np.zeros(0, int), 3)
    assert len(stored) == 0 and decode(stored, source, 3, 24).tolist() == []


@given(st.sets(st.integers(0, 3000), max_size=60), st.integers(1, 16))
def test_round_trip_of_any_pattern(chosen, p):
    positions = np.array(sorted(chosen), np.int64)
    stored, source = relative_index(positions, p)
    assert (stored >= 0).all() and (stored < 2**p).all()
    assert len(stored) == len(positions) + filler_count(positions, p)
    assert source[source >= 0].tolist() == list(range(len(positions)))
    np.testing.assert_array_equal(decode(stored, source, p, 3001), positions)


def test_damaged_indices_are_refused():
    with pytest.raises(FormatError, match="below 10, got 11"):
        decode([3, 7], [0, 1], 3, 10)
    with pytest.raises(FormatError, match="largest gap, 8"):
        decode([3, 6, 0], [0, -1, 1], 3, 99)
    with pytest.raises(FormatError, match="followed by a weight"):
        decode([3, 7], [0, -1], 3, 99)


@pytest.mark.parametrize("positions, p", [([3, 3], 4), ([4, 3], 4), ([-1], 4), ([1], 0), ([1], 17)])
def test_the_encoder_checks_its_arguments(positions, p):
    with pytest.raises(ValueError, match="positions|p must"):
        relative_index(np.array(positions), p)


def test_gaps():
    assert index.gaps(np.array([0, 3, 14])).tolist() == [1, 3, 11]
