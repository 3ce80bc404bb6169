import numpy as np
import pytest
from minicomp import grad
from minicomp.compress.share.blocks import product_quantize
from minicomp.kernels.coding.range_coder import Encoder
from minicomp.nn import Codebook
from minicomp.teach.checks import lesson14


def test_a_step_by_hand():
    c, index = np.array([0.0, 2.0, 4.0]), np.array([[1, 1, 0]])
    found, moved = lesson14.centroid_step(c, index, np.array([[1.0, 2.0, 5.0]]), 0.5)
    assert (found.tolist(), moved.tolist()) == ([5.0, 3.0, 0.0], [0.0, 0.5, 4.0])
    assert c.tolist() == [0.0, 2.0, 4.0]


def test_a_gradient_is_what_the_librarys_form_gives():
    rng = np.random.default_rng(0)
    index, g = rng.integers(0, 5, (4, 6)), rng.normal(size=(4, 6)).astype(np.float32)
    c = np.append(0.0, rng.normal(size=4))
    form = Codebook(index, c.astype(np.float32), pinned_zero=True)
    w = form.dense(training=True)
    (theirs,) = grad(w, list(form.parameters().values()), cotangent=g)
    found, _ = lesson14.centroid_step(c, index, g, 0.1)
    np.testing.assert_allclose(theirs.data[1:], found[1:], rtol=1e-5)


@pytest.mark.parametrize("stages, k, bits", [(1, 5, 32), (2, 4, 16)])
def test_bytes_are_those_of_the_arrays_there_are(stages, k, bits):
    w = np.random.default_rng(1).normal(size=(30, 10))
    codes, books = product_quantize(w, 4, k, stages=stages, rng=np.random.default_rng(2))
    right = (codes.size * (k - 1).bit_length() + books.size * bits + 7) // 8
    case = lesson14._size(30, 10, 4, k, stages, bits)
    assert lesson14.product_bytes(**case)[0] == right == lesson14._bytes(**case)[0]


def test_the_first_number_of_rows_that_pays():
    for I, d, k, t, b in ((8, 2, 15, 1, 16), (784, 4, 256, 1, 32), (10, 4, 5, 2, 16)):
        rows = lesson14.product_bytes(1, I, d, k, t, b)[1]
        less, more = (lesson14.product_bits(n, I, block=d, k=k, stages=t, float_bits=b)
                      - 32 * n * I for n in (rows - 1, rows))
        assert less >= 0 > more
    assert lesson14.product_bytes(10, 1, 1, 256, 5, 32)[1] == 0


def test_a_message_in_exact_fractions():
    # The coder's number lies in the interval that probabilities alone single out.
    bits, p = [0, 1, 1, 0, 1], [20000, 50000, 700, 65000, 32768]
    low, width = 0.0, 1.0
    for b, likely in zip(bits, p):
        low, width = (low, width * likely / 65536) if b else (
            low + width * likely / 65536, width * (1 - likely / 65536))
    case = lesson14._message(bits, p)
    number = sum(int(byte) / 256 ** (i + 1) for i, byte in enumerate(case["data"]))
    assert low <= number < low + width
    assert lesson14.decode_bits(**case).tolist() == bits == lesson14._read(**case).tolist()


def test_every_message_of_the_check_is_read_back():
    coder = Encoder()
    for case in lesson14._DECODE.parts[0].cases(None):
        bits = lesson14._read(**case)
        assert np.array_equal(bits, lesson14.decode_bits(**case))
        assert np.array_equal(lesson14.coded(bits, case["p"]), case["data"])
    assert coder.range == 2**32 - 1  # where the text says that a message begins
