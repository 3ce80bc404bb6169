import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.sparse import lanes as sparse

RUNGS = [r for r in cpu.available("sparse") if r != "vnni"]  # which runs avx512 here
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


def make(O, I, sparsity, k):
    rng = np.random.default_rng(O + I)
    codes = rng.integers(1, k, (O, I)).astype(np.uint16)
    codes[rng.random((O, I)) < sparsity] = 0
    table = rng.normal(size=k).astype(np.float32)
    table[0] = 0
    return codes, table, rng.normal(size=(I, 65)).astype(np.float32)


def within_rounding(y, W, x):
    # |y - W x| <= (n + 1) u |W| |x|, n the longest sum: products and sums round to u once each.
    exact = W.astype(np.float64) @ x.astype(np.float64)
    size = np.abs(W).astype(np.float64) @ np.abs(x).astype(np.float64)
    n = np.count_nonzero(W, axis=1).max(initial=0)
    return (np.abs(y - exact) <= (n + 1) * 2.0**-24 * size).all()


@isa
@cases
def test_lanes_on_every_rung(isa, O, I, sparsity, k):
    codes, table, X = make(O, I, sparsity, k)
    x = X[:, 0].copy()
    x.setflags(write=False)
    for packed in (sparse.pack_lanes(codes, table), sparse.pack_lanes(table[codes])):
        y = sparse.matvec_ref(packed, x)
        assert within_rounding(y, table[codes], x)
        for threads in (1, 2):
            got = sparse.matvec(packed, x, isa=isa, n_threads=threads)
            np.testing.assert_array_equal(got, y, strict=True)


@isa
@cases
def test_rows_on_every_rung(isa, O, I, sparsity, k):
    codes, table, X = make(O, I, sparsity, k)
    X.setflags(write=False)
    for knobs in ({}, {"width": 50, "gap_bits": 2}, {"width": 2000, "gap_bits": 4}):
        packed = sparse.pack_rows(codes, table, **knobs)
        Y = sparse.matmul_ref(packed, X)
        assert within_rounding(Y, table[codes], X)
        for n in (0, 1, 2, 16, 17, 63, 64, 65):
            got = sparse.matmul(packed, X[:, :n], isa=isa, n_threads=1 + n % 2)
            np.testing.assert_array_equal(got, Y[:, :n], strict=True)


@isa
@cases
def test_csr_on_every_rung(isa, O, I, sparsity, k):
    codes, table, X = make(O, I, sparsity, k)
    W = sparse.pack_csr(table[codes])
    theirs = scipy.sparse.csr_matrix(table[codes])
    for mine, of in (
        (W.values, theirs.data),
        (W.columns, theirs.indices),
        (W.starts, theirs.indptr),
    ):
        np.testing.assert_array_equal(mine, of)
    Y = sparse.csr_matmul(W, X, isa="ref")
    assert within_rounding(Y, table[codes], X)
    for n in (1, 3, 63, 64, 65):
        got = sparse.csr_matmul(W, X[:, :n], isa=isa, n_threads=2)
        np.testing.assert_array_equal(got, Y[:, :n], strict=True)
    y = sparse.csr_matvec(W, X[:, 0], isa=isa)
    np.testing.assert_array_equal(y, Y[:, 0], strict=True)


def test_lanes_by_hand():
    # The example of the docstring: columns 2, 7 and 20 of row 0, column 1 of row 1.
    codes = np.zeros((2, 40), np.uint8)
    codes[0, [2, 7, 20]], codes[1, 1] = (5, 7, 2), 3
    packed = sparse.pack_lanes(codes, np.arange(8, dtype=np.float32))
    np.testing.assert_array_equal(packed.base, [1, 7, 20])
    np.testing.assert_array_equal(
        packed.entry[:, :2], [[1 | 5 << 4, 0 | 3 << 4], [7 << 4, 0], [2 << 4, 0]]
    )
    assert not packed.entry[:, 2:].any() and packed.entry.dtype == np.uint8
    np.testing.assert_array_equal(packed.row, [0, 1] + [-1] * 14)
    x = 10.0 ** -np.arange(40)
    np.testing.assert_allclose(sparse.matvec(packed, x), [5e-2 + 7e-7, 3e-1], rtol=1e-6)


def test_rows_by_hand():
    # Figure 2 of Deep Compression, 0-based, 3-bit gaps: positions 0, 3, 14 need a filler of gap 8.
    codes = np.zeros((1, 16), np.uint8)
    codes[0, [0, 3, 14]] = 1, 2, 3
    packed = sparse.pack_rows(codes, np.arange(4, dtype=np.float32), gap_bits=3)
    np.testing.assert_array_equal(packed.entry & 7, [0, 2, 7, 2])
    np.testing.assert_array_equal(packed.entry >> 3, [1, 2, 0, 3])
    np.testing.assert_array_equal(packed.start, [0, 4])
    assert packed.entry.dtype == np.uint8


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
    lanes = sparse.pack_lanes(codes, table)
    rows = sparse.pack_rows(codes, table, gap_bits=gap_bits, width=width)
    np.testing.assert_array_equal(sparse.matmul(rows, identity), codes)
    column = data.draw(st.integers(0, I - 1))
    np.testing.assert_array_equal(sparse.matvec(lanes, identity[column]), codes[:, column])


def test_a_stored_weight_takes_about_a_byte():
    # At 90 % zeros, starts aside: rows 1.19 entries a weight (fillers), lanes 1.75 (waiting lanes).
    codes, table, _ = make(1024, 1024, 0.9, 16)
    m = np.count_nonzero(codes)
    rows, lanes = sparse.pack_rows(codes, table), sparse.pack_lanes(codes, table)
    assert rows.entry.dtype == lanes.entry.dtype == np.uint8
    assert 1.1 * m < rows.entry.nbytes < 1.25 * m
    assert 1.6 * m < lanes.entry.nbytes < 1.85 * m
    assert lanes.nbytes < 2.3 * m and rows.nbytes < 1.6 * m


def test_long_gaps_take_sixteen_bits():
    codes, table, _ = make(64, 4096, 0.99, 16)
    packed = sparse.pack_rows(codes, table)
    assert packed.entry.dtype == np.uint16 and len(packed.entry) == np.count_nonzero(codes)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda c, t: sparse.pack_lanes(c, t + 1), "the first of them 0"),
        (lambda c, t: sparse.pack_lanes(c, t[:2]), r"codes must be integers in \[0, 1\]"),
        (lambda c, t: sparse.pack_lanes(c[0], t), r"w must have shape \(O, I\)"),
        (lambda c, t: sparse.pack_rows(c * 1.0, t), "codes must be integers"),
        (
            lambda c, t: sparse.pack_rows(c, t, gap_bits=15),
            r"gap_bits must be in \[1, 14\], got 15",
        ),
        (lambda c, t: sparse.pack_rows(c, t, width=0), "width must be at least 1, got 0"),
        (
            lambda c, t: sparse.matvec(sparse.pack_lanes(c, t), np.zeros(3)),
            r"x must have shape \(20,\)",
        ),
        (
            lambda c, t: sparse.matmul(sparse.pack_rows(c, t), np.zeros((3, 4))),
            r"X must have shape \(20, N\)",
        ),
        (
            lambda c, t: sparse.Csr((1, 5), [1.0], [5], [0, 1]),
            r"columns must be in \[0, 4\], got 5..5",
        ),
        (lambda c, t: sparse.Csr((1, 5), [1.0], [0], [0, 2]), "starts must rise from 0 to the 1"),
        (lambda c, t: sparse.Csr((2, 5), [1.0], [0], [0, 1]), r"starts must be \(3,\)"),
        (lambda c, t: sparse.csr_matvec(sparse.pack_csr(t[c]), t), r"x must have shape \(20,\)"),
    ],
)
def test_refusals(call, says):
    codes, table, _ = make(10, 20, 0.5, 4)
    with pytest.raises(ValueError, match=says):
        call(codes, table)
