import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from minicomp.codec import index
from minicomp.codec.index import (
    best_gap_bits,
    bitmap_decode,
    bitmap_encode,
    csc_decode,
    csc_encode,
    csr_bytes,
    csr_decode,
    csr_encode,
    csr_numbers,
    filler_count,
    relative_index,
    relative_positions,
)
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


def test_best_gap_bits_against_every_p():
    rng = np.random.default_rng(0)
    for m in (1, 10, 300, 4000):
        positions = np.sort(rng.choice(5000, m, replace=False))
        sizes = [len(relative_index(positions, p)[0]) * (p + 5) for p in range(1, 17)]
        assert sizes[best_gap_bits(positions, 5) - 1] == min(sizes)
    assert best_gap_bits(np.arange(5000), 4) == 1  # dense: every gap is 1


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


@given(st.lists(st.booleans(), max_size=70))
def test_bitmap(mask):
    data = bitmap_encode(np.array(mask, bool))
    assert len(data) == -(-len(mask) // 8)
    assert bitmap_decode(data, len(mask)).tolist() == mask


def matrices():
    rng = np.random.default_rng(1)
    for shape in ((1, 1), (3, 8), (8, 3), (40, 25), (5, 1)):
        for density in (0.0, 0.1, 0.5, 1.0):
            yield ((rng.random(shape) < density) * rng.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("w", list(matrices()))
def test_csr_and_csc_are_scipys(w):
    for encode, decode_, theirs in (
        (csr_encode, csr_decode, sparse.csr_matrix(w)),
        (csc_encode, csc_decode, sparse.csc_matrix(w)),
    ):
        values, indices, starts = encode(w)
        np.testing.assert_array_equal(values, theirs.data, strict=True)
        np.testing.assert_array_equal(indices, theirs.indices, strict=True)
        np.testing.assert_array_equal(starts, theirs.indptr, strict=True)
        np.testing.assert_array_equal(decode_(values, indices, starts, w.shape), w, strict=True)
        assert csr_numbers(len(values), len(starts) - 1) == values.size + indices.size + starts.size
        assert (
            csr_bytes(len(values), len(starts) - 1)
            == values.nbytes + indices.nbytes + starts.nbytes
        )


def test_csr_by_hand():
    values, columns, starts = csr_encode(np.array([[0, 5, 0], [0, 0, 0], [7, 0, 9]]))
    assert (values.tolist(), columns.tolist(), starts.tolist()) == (
        [5, 7, 9],
        [1, 0, 2],
        [0, 1, 1, 3],
    )
    assert csr_numbers(3, 3) == 10  # 2 a + n + 1


@pytest.mark.parametrize(
    "columns, starts",
    [
        ([1, 0, 3], [0, 1, 1, 3]),
        ([1, 2, 0], [0, 1, 1, 3]),
        ([-1, 0, 2], [0, 1, 1, 3]),
        ([1, 0, 2], [0, 1, 3]),
        ([1, 0, 2], [0, 2, 1, 3]),
        ([1, 0, 2], [1, 1, 1, 3]),
        ([1, 0, 2], [0, 1, 1, 2]),
        ([1, 0], [0, 1, 1, 3]),
    ],
)
def test_damaged_csr_is_refused(columns, starts):
    with pytest.raises(FormatError):
        csr_decode(np.array([5, 7, 9]), np.array(columns), np.array(starts), (3, 3))


def test_gaps():
    assert index.gaps(np.array([0, 3, 14])).tolist() == [1, 3, 11]
