import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicomp.data import monks, readers
from minicomp.errors import DataError


def idx_bytes(a):
    return (
        bytes((0, 0, 8, a.ndim))
        + struct.pack(f">{a.ndim}I", *a.shape)
        + a.astype(np.uint8).tobytes()
    )


def test_idx_by_hand():
    raw = bytes.fromhex("00000803 00000002 00000001 00000003 010203 0405ff")
    np.testing.assert_array_equal(readers.idx(raw, 3, "f"), [[[1, 2, 3]], [[4, 5, 255]]])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_idx_round_trip(shape):
    a = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(readers.idx(idx_bytes(a), a.ndim, "f"), a, strict=True)


def test_idx_errors_name_file_expectation_and_finding():
    raw = idx_bytes(np.zeros((2, 3, 3)))
    cases = [
        (raw[:20], r"f: truncated: expected 18 bytes of entries for shape \(2, 3, 3\), found 4"),
        (raw + b"x", r"f: too long: expected 18 bytes .* found 19"),
        (raw[:9], r"f: truncated: expected a header of 16 bytes, found 9"),
        (b"", r"f: wrong magic: expected 00 00 08 03 .* found $"),
        (b"<html>", r"f: wrong magic: expected 00 00 08 03 .* found 3c 68 74 6d"),
        (idx_bytes(np.zeros(5)), r"f: wrong magic: .* found 00 00 08 01"),
        # 2**96 entries: refused by arithmetic, not by an allocation
        (bytes((0, 0, 8, 3)) + b"\xff" * 12, r"f: truncated: expected [\d,]{30,} bytes"),
    ]
    for bad, match in cases:
        with pytest.raises(DataError, match=match):
            readers.idx(bad, 3, "f")


@given(st.binary(max_size=64))
def test_idx_of_any_bytes_is_an_array_or_a_data_error(raw):
    try:
        readers.idx(raw, 1, "f")
    except DataError as e:
        assert "\n" not in str(e)


def test_idx_pair_wants_as_many_labels_in_range():
    x = idx_bytes(np.zeros((2, 2, 2)))
    with pytest.raises(DataError, match="found 3 labels for 2 images"):
        readers.idx_pair(x, idx_bytes(np.zeros(3)), 10, "f")
    with pytest.raises(DataError, match=r"expected labels 0\.\.9, found 12"):
        readers.idx_pair(x, idx_bytes(np.array([0, 12])), 10, "f")


def test_cifar_planes_are_red_green_blue():
    record = np.concatenate([[7], np.full(1024, 1), np.full(1024, 2), np.arange(1024) % 256])
    x, y = readers.cifar(record.astype(np.uint8).tobytes() * 2, "f")
    assert x.shape == (2, 3, 32, 32) and y.tolist() == [7, 7]
    assert (
        (x[0, 0] == 1).all()
        and (x[0, 1] == 2).all()
        and x[0, 2, 0, 31] == 31
        and x[0, 2, 1, 0] == 32
    )


def test_cifar_errors():
    for raw in (b"", bytes(3073 + 5)):
        with pytest.raises(DataError, match="f: truncated: expected records of 3073 bytes"):
            readers.cifar(raw, "f")
    with pytest.raises(DataError, match=r"expected labels 0\.\.9, found 10"):
        readers.cifar(b"\x0a" + bytes(3072), "f")


def test_monks_line_by_hand():
    a, y = readers.monks(b" 1 1 1 1 1 3 1 data_5\n\n 0 3 2 2 1 4 2 data_9\n", "f")
    assert a.tolist() == [[1, 1, 1, 1, 3, 1], [3, 2, 2, 1, 4, 2]] and y.tolist() == [1, 0]


@pytest.mark.parametrize(
    "line, match",
    [
        (b"1 1 1 1 1 3 1", "line 1: expected class, a1..a6 and a name"),
        (b"class a b c d e f id", "line 1: expected class"),
        (b"2 1 1 1 1 3 1 x", r"expected class 0..1 .* found 2 1 1 1 1 3 1"),
        (b"1 1 1 3 1 3 1 x", "found 1 1 1 3 1 3 1"),
        (b"1 0 1 1 1 3 1 x", "found 1 0 1"),
        (b"1 1 1 1 1 3 \xb2 x", "line 1: expected class"),
    ],
)
def test_monks_errors(line, match):
    with pytest.raises(DataError, match=match):
        readers.monks(line, "f")


def test_one_hot_has_one_input_per_value():
    hot = readers.one_hot(monks.cases())
    assert hot.shape == (432, 17) and hot.dtype == np.float32
    assert (hot.sum(axis=1) == 6).all() and len(np.unique(hot, axis=0)) == 432
    # a1 in inputs 0..2, a5 in 11..14
    np.testing.assert_array_equal(hot[:, :3].argmax(axis=1) + 1, monks.cases()[:, 0])
    np.testing.assert_array_equal(hot[:, 11:15].argmax(axis=1) + 1, monks.cases()[:, 4])
