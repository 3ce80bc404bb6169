import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.sparse import rows

RUNGS = cpu.distinct("sparse")
isa = pytest.mark.parametrize("isa", RUNGS)
# O, I, sparsity, k: entries of 8 and of 16 bits; tables of one, two, four registers and beyond
CASES = [
    (1, 1, 0.0, 2),
    (63, 65, 0.0, 16),
    (64, 64, 0.5, 3),
    (65, 63, 0.9, 16),
    (17, 1000, 0.9, 17),
    (40, 300, 0.95, 33),
    (33, 200, 0.8, 64),
    (20, 130, 0.5, 300),
    (100, 784, 0.99, 16),
    (0, 5, 0.5, 4),
    (5, 0, 0.5, 4),
    (30, 20, 1.0, 4),
]
cases = pytest.mark.parametrize("O, I, sparsity, k", CASES)


@isa
@cases
def test_every_rung(isa, O, I, sparsity, k, make_layer, within_rounding):
    codes, table, X = make_layer(O, I, sparsity, k)
    X.setflags(write=False)
    for knobs in ({}, {"width": 50, "gap_bits": 2}, {"width": 2000, "gap_bits": 4}):
        packed = rows.pack_rows(codes, table, **knobs)
        Y = rows.matmul_ref(packed, X)
        assert within_rounding(Y, table[codes], X)
        for n in (0, 1, 2, 16, 17, 63, 64, 65):
            got = rows.matmul(packed, X[:, :n], isa=isa, n_threads=1 + n % 2)
            np.testing.assert_array_equal(got, Y[:, :n], strict=True)


@isa
@cases
def test_csr_on_every_rung(isa, O, I, sparsity, k, make_layer, within_rounding):
    codes, table, X = make_layer(O, I, sparsity, k)
    W = rows.pack_csr(table[codes])
    theirs = scipy.sparse.csr_matrix(table[codes])
    for mine, of in (
        (W.values, theirs.data),
        (W.columns, theirs.indices),
        (W.starts, theirs.indptr),
    ):
        np.testing.assert_array_equal(mine, of)
    Y = rows.csr_matmul(W, X, isa="ref")
    assert within_rounding(Y, table[codes], X)
    for n in (1, 3, 63, 64, 65):
        got = rows.csr_matmul(W, X[:, :n], isa=isa, n_threads=2)
        np.testing.assert_array_equal(got, Y[:, :n], strict=True)


def test_rows_by_hand():
    # Figure 2 of Deep Compression, 0-based, 3-bit gaps: positions 0, 3, 14 need a filler of gap 8.
    codes = np.zeros((1, 16), np.uint8)
    codes[0, [0, 3, 14]] = 1, 2, 3
    packed = rows.pack_rows(codes, np.arange(4, dtype=np.float32), gap_bits=3)
    np.testing.assert_array_equal(packed.entry & 7, [0, 2, 7, 2])
    np.testing.assert_array_equal(packed.entry >> 3, [1, 2, 0, 3])
    np.testing.assert_array_equal(packed.start, [0, 4])
    assert packed.entry.dtype == np.uint8


def test_csr_by_hand():
    W = rows.pack_csr(np.array([[0.0, 5, 0], [0, 0, 0], [7, 0, 9]]))
    assert W.values.tolist() == [5, 7, 9] and W.columns.tolist() == [1, 0, 2]
    assert W.starts.tolist() == [0, 1, 1, 3]
    assert W.nbytes == 4 * (2 * 3 + 3 + 1)  # 2 m + rows + 1 numbers


@given(st.data())
def test_packing_loses_nothing(data):
    O, I = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 90))
    k = data.draw(st.sampled_from([2, 16, 17, 200, 4096]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    codes = rng.integers(0, k, (O, I)) * (rng.random((O, I)) < data.draw(st.floats(0, 1)))
    table = np.arange(k, dtype=np.float32)
    width = data.draw(st.integers(1, 100))
    gap_bits = data.draw(st.one_of(st.none(), st.integers(1, 16 - (k - 1).bit_length())))
    identity = np.eye(I, dtype=np.float32)
    packed = rows.pack_rows(codes, table, gap_bits=gap_bits, width=width)
    np.testing.assert_array_equal(rows.matmul(packed, identity), codes)


def test_a_stored_weight_takes_about_a_byte(make_layer):
    # At 90 % zeros, starts aside, 1.19 entries a weight (fillers).
    codes, table, _ = make_layer(1024, 1024, 0.9, 16)
    m, packed = np.count_nonzero(codes), rows.pack_rows(codes, table)
    assert packed.entry.dtype == np.uint8 and 1.1 * m < packed.entry.nbytes < 1.25 * m
    assert packed.nbytes < 1.6 * m


def test_long_gaps_take_sixteen_bits(make_layer):
    codes, table, _ = make_layer(64, 4096, 0.99, 16)
    packed = rows.pack_rows(codes, table)
    assert packed.entry.dtype == np.uint16 and len(packed.entry) == np.count_nonzero(codes)


@pytest.mark.parametrize(
    "call, says",
    [
        (
            lambda c, t: rows.matmul(rows.pack_rows(c, t), np.zeros((3, 4))),
            r"X must have shape \(20, N\)",
        ),
        (lambda c, t: rows.pack_rows(c * 1.0, t), "codes must be integers"),
        (
            lambda c, t: rows.pack_rows(c, t, gap_bits=15),
            r"gap_bits must be in \[1, 14\], got 15",
        ),
        (lambda c, t: rows.pack_rows(c, t, width=0), "width must be at least 1, got 0"),
        (lambda c, t: rows.pack_rows(c, t + 1), "the first of them 0"),
        (lambda c, t: rows.csr_matmul(rows.pack_csr(t[c]), t[:, None]), r"\(20, N\)"),
    ],
)
def test_refusals(call, says, make_layer):
    codes, table, _ = make_layer(10, 20, 0.5, 4)
    with pytest.raises(ValueError, match=says):
        call(codes, table)
