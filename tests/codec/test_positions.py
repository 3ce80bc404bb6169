import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.codec import positions
from minicomp.codec.bits import BitReader, BitWriter, Budget
from minicomp.codec.positions import Choice, bucket, buckets, cheapest, scan, unbucket, unscan
from minicomp.errors import FormatError

CODED = ["bitmap", "relative", "rice", "bucket"]


def masks():
    shapes = st.sampled_from(
        [(1,), (7,), (300,), (3, 8), (20, 30), (1, 9), (4, 3, 5, 5), (2, 1, 1, 1)]
    )
    return st.tuples(
        shapes, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0])
    ).map(lambda c: np.random.default_rng(c[1]).random(c[0]) < c[2])


def write(mask, choice):
    w = BitWriter()
    source = positions.write(w, np.flatnonzero(scan(mask, choice.order)), mask.size, choice)
    return w, source


@given(masks(), st.sampled_from(CODED))
def test_every_layout_round_trips_in_the_bits_it_was_chosen_for(mask, layout):
    seen = []

    def values_cost(name, fillers):
        seen.append(fillers)
        return 3 * (int(mask.sum()) + fillers)

    choice, _ = cheapest(mask, values_cost, Choice(layout=layout))
    w, source = write(mask, choice)
    pattern = positions.read(BitReader(w.getvalue()), mask.size, layout)
    assert pattern.entries == len(source) and pattern.how.startswith(layout)
    np.testing.assert_array_equal(
        pattern.place(source < 0), np.flatnonzero(scan(mask, choice.order))
    )
    np.testing.assert_array_equal(source[source >= 0], np.arange(mask.sum()))
    assert np.count_nonzero(source < 0) in seen


@given(masks())
def test_the_cheapest_is_the_cheapest_of_those_written(mask):
    def bits(choice):
        w, source = write(mask, choice)
        return len(w) + 3 * len(source)

    best, least = cheapest(
        mask,
        lambda layout, fillers: None if layout == "all" else 3 * (int(mask.sum()) + fillers),
        Choice(),
    )
    found = bits(best)
    assert found == least
    for order in range(len(positions.orders(mask.ndim))):
        for layout in CODED:
            for parameter in positions.TRIED[layout]:
                assert found <= bits(Choice(layout, parameter, order))


def test_scan_orders_by_hand():
    w = np.array([[1, 2, 3], [4, 5, 6]])
    assert scan(w, 0).tolist() == [1, 2, 3, 4, 5, 6]
    assert scan(w, 1).tolist() == [1, 4, 2, 5, 3, 6]
    a = np.arange(120).reshape(2, 3, 4, 5)
    for order in range(len(positions.orders(4))):
        np.testing.assert_array_equal(unscan(scan(a, order), a.shape, order), a)


def test_an_order_that_gathers_empty_rows_is_taken():
    # Only 4 of 100 inputs are used: scanned input by input their entries are neighbours.
    mask = np.zeros((50, 100), bool)
    mask[:, [3, 40, 41, 97]] = True
    assert cheapest(mask, lambda *_: 0, Choice(layout="relative"))[0].order == 1
    assert cheapest(mask.T, lambda *_: 0, Choice(layout="relative"))[0].order == 0


@pytest.mark.parametrize("s", [0, 1, 2, 3])
def test_buckets_by_hand_and_inverted(s):
    v = np.arange(5000)
    symbols, below = bucket(v, s)
    assert symbols[: 2 << s].tolist() == list(range(2 << s)) and not below[: 2 << s].any()
    high, width = unbucket(symbols, s)
    np.testing.assert_array_equal(width, below)
    np.testing.assert_array_equal(high + (v & ((1 << below) - 1)), v)
    assert (np.diff(symbols) >= 0).all() and symbols.max() + 1 == buckets(5000, s)
    if s == 0:  # Elias gamma's classes: 0 | 1 | 2 3 | 4..7 | 8..15
        assert bucket(np.array([0, 1, 2, 3, 4, 7, 8, 15]), 0)[0].tolist() == [
            0,
            1,
            2,
            2,
            3,
            3,
            4,
            4,
        ]


def test_forced_fields_are_kept():
    mask = np.random.default_rng(0).random((30, 40)) < 0.1
    choice, _ = cheapest(mask, lambda *_: 0, Choice("relative", 5, 1, gaps="plain"))
    assert choice == Choice("relative", 5, 1, gaps="plain")
    w, source = write(mask, choice)
    # m entries of 5 bits, 2 bits of tag, 4 bits of p - 1, the count
    assert len(w) - 5 * len(source) in (2 + 4 + 12, 2 + 4 + 8)


@pytest.mark.parametrize(
    "fields",
    [{"layout": "csr"}, {"gaps": "zip"}, {"values": 1}, {"parameter": 256}, {"parameter": -1}],
)
def test_unknown_choices_are_refused(fields):
    with pytest.raises(ValueError, match="must be"):
        Choice(**fields)


def test_impossible_choices_are_refused():
    with pytest.raises(ValueError, match="no layout stores"):
        cheapest(np.ones((2, 2), bool), lambda *_: None, Choice())


@pytest.mark.parametrize("layout", ["rice", "bucket", "relative"])
def test_more_kept_than_there_are_is_refused(layout):
    w = BitWriter()
    w.count(11)
    w.write(0, 4)
    with pytest.raises(FormatError, match="at most 10 entries"):
        positions.read(BitReader(w.getvalue()), 10, layout)


def test_positions_past_the_tensor_are_refused():
    for layout in ("rice", "bucket"):
        w, _ = write(np.array([0, 0, 0, 0, 1, 0, 0, 1, 0, 1], bool), Choice(layout, 0, 0))
        for n in (9, 8):
            with pytest.raises(FormatError):
                positions.read(BitReader(w.getvalue()), n, layout)


def test_few_bits_cannot_claim_much_memory():
    # A lone bucket symbol: every entry kept, in no bits.
    w, _ = write(np.ones(10**6, bool), Choice("bucket", 0, 0))
    assert len(w) < 100
    with pytest.raises(FormatError, match="at most 1000000 are allowed"):
        positions.read(BitReader(w.getvalue(), Budget(10**6)), 10**6, "bucket")
