import numpy as np
import pytest
from minicomp.codec import rising, streams
from minicomp.codec.bits import BitReader, BitWriter
from minicomp.errors import FormatError


def written(values):
    w = BitWriter()
    streams.write_floats(w, values)
    return w


@pytest.mark.parametrize("values", [
    np.linspace(-0.4, 0.5, 15), np.linspace(0.1, 2, 31), -np.linspace(2, 0.1, 8),
    [-0.3, -0.36, -0.1, 0, 0.2, 0.15, 0.15, 0.4], np.geomspace(6e-8, 65504, 40), [1, 2]])
def test_books_come_back_in_fewer_bits(values):
    values = np.array(values, np.float16)
    assert rising.fits(values)
    w = written(values)
    K, bits = rising.best(values)
    rising.write(own := BitWriter(), values, K)
    assert len(own) == bits and len(w) == min(bits + 2, streams.floats_cost(values))
    found = streams.read_floats(BitReader(w.getvalue()), len(values), np.float16, "codebook")
    np.testing.assert_array_equal(found.view(np.uint16), values.view(np.uint16))
    if len(values) == 15:
        assert len(w) < 0.78 * 16 * 15


@pytest.mark.parametrize("values", [[0.5, -0.5], [-0.0, 1], [1], np.arange(300) + 1])
def test_what_does_not_rise_lies_as_other_floats(values):
    values = np.array(values, np.float16)
    assert not rising.fits(values)
    found = streams.read_floats(BitReader(written(values).getvalue()), len(values), np.float16, "x")
    np.testing.assert_array_equal(found.view(np.uint16), values.view(np.uint16))


def test_numbers_past_the_largest_are_refused():
    for first, step, match in ((0x7BFF, 1, "finite"), (0x7C00, 0, "finite"), (5, 63488, "limit")):
        w = BitWriter()
        w.write(streams.RISING, 2)
        for value, width in ((0, 2), (0, 1), (31, 5), (first, 15)):
            w.write(value, width)
        w.rice(np.array([step]), rising._parameter(31, first))
        with pytest.raises(FormatError, match=match):
            streams.read_floats(BitReader(w.getvalue()), 2, np.float16, "x")
    w = BitWriter()
    w.write(streams.RISING, 2)
    w.write(3, 2)  # three of two below 0
    w.numbers(np.zeros(60, int), 1)
    with pytest.raises(FormatError, match="cannot be"):
        streams.read_floats(BitReader(w.getvalue()), 2, np.float16, "x")
