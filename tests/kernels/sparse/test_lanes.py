import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.kernels import cpu
from minicomp.kernels.sparse import lanes

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
    x = X[:, 0].copy()
    x.setflags(write=False)
    for packed in (lanes.pack_lanes(codes, table), lanes.pack_lanes(table[codes])):
        y = lanes.matvec_ref(packed, x)
        assert within_rounding(y, table[codes], x)
        for threads in (1, 2):
            got = lanes.matvec(packed, x, isa=isa, n_threads=threads)
            np.testing.assert_array_equal(got, y, strict=True)


def test_lanes_by_hand():
    # The example of the docstring: columns 2, 7 and 20 of row 0, column 1 of row 1.
    codes = np.zeros((2, 40), np.uint8)
    codes[0, [2, 7, 20]], codes[1, 1] = (5, 7, 2), 3
    packed = lanes.pack_lanes(codes, np.arange(8, dtype=np.float32))
    np.testing.assert_array_equal(packed.base, [1, 7, 20])
    np.testing.assert_array_equal(
        packed.entry[:, :2], [[1 | 5 << 4, 0 | 3 << 4], [7 << 4, 0], [2 << 4, 0]]
    )
    assert not packed.entry[:, 2:].any() and packed.entry.dtype == np.uint8
    np.testing.assert_array_equal(packed.row, [0, 1] + [-1] * 14)
    x = (10.0 ** -np.arange(40)).astype(np.float32)
    np.testing.assert_allclose(lanes.matvec(packed, x), [5e-2 + 7e-7, 3e-1], rtol=1e-6)


@given(st.data())
def test_packing_loses_nothing(data):
    O, I = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 90))
    k = data.draw(st.sampled_from([2, 16, 17, 200, 4096]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    codes = rng.integers(0, k, (O, I)) * (rng.random((O, I)) < data.draw(st.floats(0, 1)))
    table = np.arange(k, dtype=np.float32)
    identity = np.eye(I, dtype=np.float32)
    packed = lanes.pack_lanes(codes, table)
    column = data.draw(st.integers(0, I - 1))
    np.testing.assert_array_equal(lanes.matvec(packed, identity[column]), codes[:, column])


def test_a_stored_weight_takes_less_than_two_bytes(make_layer):
    # At 90 % zeros, starts aside, 1.75 entries a weight (waiting lanes).
    codes, table, _ = make_layer(1024, 1024, 0.9, 16)
    m, packed = np.count_nonzero(codes), lanes.pack_lanes(codes, table)
    assert packed.entry.dtype == np.uint8 and 1.6 * m < packed.entry.nbytes < 1.85 * m
    assert packed.nbytes < 2.3 * m


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda c, t: lanes.pack_lanes(c, t + 1), "the first of them 0"),
        (lambda c, t: lanes.pack_lanes(c, t[:2]), r"codes must be integers in \[0, 1\]"),
        (lambda c, t: lanes.pack_lanes(c[0], t), r"w must have shape \(O, I\)"),
        (lambda c, t: lanes.pack_lanes(c * 1.0, t), "codes must be integers"),
        (
            lambda c, t: lanes.matvec(lanes.pack_lanes(c, t), np.zeros(3)),
            r"x must have shape \(20,\)",
        ),
    ],
)
def test_refusals(call, says, make_layer):
    codes, table, _ = make_layer(10, 20, 0.5, 4)
    with pytest.raises(ValueError, match=says):
        call(codes, table)
