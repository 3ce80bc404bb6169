import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minicomp.codec import mixed
from minicomp.codec.bits import BitReader, BitWriter
from minicomp.codec.forms import read_form, write_form
from minicomp.codec.mixed import Known, Mixed
from minicomp.codec.positions import Choice
from minicomp.errors import FormatError
from minicomp.kernels import cpu
from minicomp.nn import Codebook


def reader(made, known, before=3):
    w = BitWriter()
    w.bits(np.ones(before, np.uint8))
    mixed.write(w, made, known)
    assert len(w) - before == mixed.cost(made, known)
    r = BitReader(w.getvalue())
    r.bits(before)
    return r


@given(
    st.sampled_from([(1,), (40,), (3, 8), (8, 32), (4, 3, 5, 5), (1, 1)]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 0.03, 0.4, 1]),
    st.sampled_from([1, 2, 17, 256]),
    st.sampled_from([None, 2, 8, 3]),
    st.booleans(),
)
def test_any_tensor_comes_back(shape, seed, density, symbols, units, with_table):
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random(shape) < density, rng.integers(1, symbols + 1, shape), 0)
    units = None if units is None else rng.integers(0, 4, units)
    below = symbols // 3 if with_table else None
    known = Known(shape, symbols, units, density == 1, below)
    r = reader(mixed.pack(codes, known, symbols // 2), known)
    found, how = mixed.read(r, known)
    np.testing.assert_array_equal(found, codes)
    assert how.startswith("mixed")
    r.finish()
    r.charge("header")
    assert sum(r.spent.values()) == 8 * len(r.data)


def test_what_the_tensor_suggests():
    assert Known((4, 3, 5, 6), 2).own == (6, 30) and Known((4, 3, 1, 1), 2).own is None
    units = np.arange(10)
    assert Known((7, 160), 2, units).own == (4, 16) and Known((7, 120), 2, units).own is None
    np.testing.assert_array_equal(Known((7, 20), 2, units).by_column, np.repeat(units, 2))
    assert Known((7, 25), 2, units).by_column is None
    assert Known((7, 20), 2, 0 * units).by_column is None


def test_codes_below_zero_are_counted():
    values = np.array([-2.0, -1, 0, 3, 4])
    assert mixed.below_zero(np.array([1, 2, 0, 3, 4]), values, 5) == 2
    assert mixed.below_zero(np.array([1, 4, 0, 3, 2]), values, 5) == 2  # not sorted: half
    assert mixed.below_zero(np.array([0, 0, 0, 1, 2]), np.abs(values), 2) == 0


def test_units_are_entries_kept_of_each_row():
    mask = np.zeros((3, 2, 2, 2), bool)
    mask[1, 0], mask[2] = True, True
    assert mixed.units_of(mask).tolist() == [0, 4, 8]
    assert mixed.units_of(None) is None and mixed.units_of(mask[0, 0, 0]) is None


def test_damaged_streams_are_refused():
    codes = np.where(np.random.default_rng(0).random((30, 40)) < 0.1, 5, 0)
    known = Known((30, 40), 7)
    good = mixed.pack(codes, known, 3)

    def read(**changed):
        fields = {name: getattr(good, name) for name in good.__dataclass_fields__} | changed
        return mixed.read(reader(Mixed(**fields), known), known)

    np.testing.assert_array_equal(read()[0], codes)
    for changed, match in (
        ({"data": np.append(good.data, np.ones(9, np.uint8))}, "does not hold"),
        ({"data": np.append(good.data, 0)}, "does not hold"),
        ({"kept": 1201}, "cannot be"),
        ({"width": 9, "block": 5}, "pictures"),
        ({"width": 3, "block": 41}, "pictures"),
    ):
        with pytest.raises(FormatError, match=match):
            read(**changed)
    w = BitWriter()
    w.write(good.kept, 11)
    w.write(3, 3)
    w.write(mixed.OWN, 2)
    with pytest.raises(FormatError, match="no pictures of its own"):
        mixed.read(BitReader(w.getvalue()), known)
    with pytest.raises(FormatError, match="257 symbols cannot be"):
        mixed.read(BitReader(b""), Known((30, 40), 257))


def test_few_bytes_do_not_stand_for_many_entries():
    # Bytes past the end are 0: else 68 bytes of a file were two seconds of work.
    known = Known((3264, 4096), 256)
    with pytest.raises(FormatError, match="60 bytes cannot stand for 13369344 entries"):
        mixed.read(reader(Mixed(np.ones(60, np.uint8), 3264 * 4096, 128, 0, 4096, False), known),
                   known)
    assert mixed.holds(2**20, 0) and not mixed.holds(2**20 + 1, 0) and mixed.holds(2**20 + 1, 1)


@pytest.mark.skipif(cpu.resolve("auto", "coding") == 0, reason="a million entries in Python")
def test_a_tensor_that_is_too_empty_is_written_in_another_layout():
    codes = np.zeros((1300, 1000), np.int64)
    codes[550, 500] = 1
    shared = Codebook(codes, np.float32([0.0, 1.5]), pinned_zero=True)
    w = BitWriter()
    with pytest.raises(ValueError, match="4096 entries a byte, got 1300000 in"):
        write_form(w, shared, Choice("mixed"))
    w = BitWriter()
    write_form(w, shared)
    row, back = read_form(BitReader(w.getvalue()), "fc.weight", codes.shape)
    assert not row.how.startswith("mixed")
    np.testing.assert_array_equal(back.dense().data, shared.dense().data)
