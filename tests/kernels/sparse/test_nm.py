import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minicomp.compress.prune.nm import nm_mask
from minicomp.kernels import cpu
from minicomp.kernels.sparse import nm

RUNGS = cpu.distinct("sparse")
isa = pytest.mark.parametrize("isa", RUNGS)
# O, I, n, m: rows that fill no group; windows of 10, 12, 15 and 16 columns; odd numbers of steps
CASES = [
    (1, 4, 2, 4),
    (5, 64, 2, 4),
    (63, 36, 2, 4),
    (64, 1024, 2, 4),
    (65, 52, 1, 4),
    (7, 160, 2, 8),
    (4, 96, 4, 8),
    (3, 130, 1, 10),
    (9, 80, 3, 5),
    (6, 48, 16, 16),
    (8, 64, 5, 16),
    (40, 21, 1, 7),
    (16, 33, 2, 11),
    (2, 33, 1, 1),
    (0, 8, 2, 4),
    (5, 0, 2, 4),
]
cases = pytest.mark.parametrize("O, I, n, m", CASES)


def make(O, I, n, m):
    rng = np.random.default_rng(O + I)
    w = rng.normal(size=(O, I)).astype(np.float32)
    w *= nm_mask(w, n, m) if w.size else 1
    return w, rng.normal(size=(I, 65)).astype(np.float32)


@isa
@cases
def test_every_rung(isa, O, I, n, m, within_rounding):
    w, X = make(O, I, n, m)
    packed, x = nm.pack_nm(w, n, m), X[:, 0].copy()
    x.setflags(write=False)
    y = nm.matvec(packed, x, isa="ref")
    assert within_rounding(y, w, x)
    for threads in (1, 2):
        got = nm.matvec(packed, x, isa=isa, n_threads=threads)
        np.testing.assert_array_equal(got, y, strict=True)


def test_the_layout_by_hand():
    # The example of the docstring; the second window begins at column 16.
    w = np.zeros((2, 20), np.float32)
    w[0, [1, 3, 4, 5, 18]] = 1, 2, 3, 4, 9
    w[1, [0, 2, 5, 7]] = 5, 6, 7, 8
    packed = nm.pack_nm(w, 2, 4)
    assert packed.windows == 2 and packed.width == 16 and packed.value.shape == (1, 16, 16)
    np.testing.assert_array_equal(packed.value[0, :4, :2], [[1, 5], [2, 6], [3, 7], [4, 8]])
    np.testing.assert_array_equal(nm.columns(packed)[0, :4, :2], [[1, 0], [3, 2], [4, 5], [5, 7]])
    word = int(packed.place[0, 0])  # lane 0 in the low half, lane 1 in the high
    assert (word & 15, word >> 32 & 15) == (1, 0)
    step = np.flatnonzero(packed.value[0, :, 0] == 9)
    assert (nm.columns(packed)[0, step, 0] == 18).all() and len(step) == 1


@given(st.data())
def test_packing_loses_nothing(data):
    m = data.draw(st.integers(1, 16))
    n, O, blocks = (data.draw(st.integers(1, top)) for top in (m, 20, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    w = rng.normal(size=(O, blocks * m)).astype(np.float32)
    w *= nm_mask(w, n, m) & (rng.random(w.shape) < data.draw(st.floats(0, 1)))
    packed, identity = nm.pack_nm(w, n, m), np.eye(blocks * m, dtype=np.float32)
    for column in range(blocks * m):
        np.testing.assert_array_equal(nm.matvec(packed, identity[column]), w[:, column])


def test_a_kept_weight_takes_four_and_a_half_bytes():
    packed = nm.pack_nm(make(64, 1024, 2, 4)[0], 2, 4)
    assert packed.nbytes == 4.5 * 64 * 512


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda w: nm.pack_nm(w[0], 2, 4), r"w must have shape \(O, I\)"),
        (lambda w: nm.pack_nm(w, 2, 3), "m must divide the 8 weights of a row, got 3"),
        (lambda w: nm.pack_nm(w, 1, 4), "at most 1 weights in 4 that are not 0, got 2"),
        (lambda w: nm.pack_nm(w, 5, 4), "1 <= n <= m <= 16, got 5 and 4"),
        (lambda w: nm.pack_nm(w, 2, 32), "1 <= n <= m <= 16, got 2 and 32"),
        (lambda w: nm.matvec(nm.pack_nm(w, 2, 4), w), r"x must have shape \(8,\)"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=says):
        call(make(3, 8, 2, 4)[0])
