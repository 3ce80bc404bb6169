import io
import json
import zipfile

import numpy as np
import pytest
from minicomp.teach.live import wire


@pytest.mark.parametrize(
    "value",
    [
        3,
        2.5,
        True,
        None,
        "text",
        float("inf"),
        10**40,
        (1, (2.0, [True, "a"])),
        {"a": 1, "b": (2,)},
        [],
        (),
    ],
)
def test_plain_values_come_back_equal_and_of_the_same_type(value):
    back = wire.unpack(wire.pack(value))
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.zeros((0, 2)),
        np.array(True),
        np.array([1.5], "f4"),
        np.arange(12.0).reshape(3, 4).T,
    ],
)
def test_arrays_come_back_with_shape_and_dtype(array):
    back = wire.unpack(wire.pack((array, array.dtype.type(1))))
    np.testing.assert_array_equal(back[0], array, strict=True)
    assert type(back[1]) is array.dtype.type


@pytest.mark.parametrize(
    "value", [object(), np.array([object()]), {1: 2}, {1, 2}, lambda: 0, b"bytes"]
)
def test_what_cannot_cross_is_named(value):
    with pytest.raises(wire.WireError, match="cannot be checked"):
        wire.pack(value)


def test_depth_and_size_are_limited():
    deep = 1
    for _ in range(20):
        deep = [deep]
    with pytest.raises(wire.WireError, match="nested"):
        wire.pack(deep)
    with pytest.raises(wire.WireError, match="too long"):
        wire.pack([0] * 200_000)


def packed(shape, files=()):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("shape.json", json.dumps(shape))
        for name, data in files:
            z.writestr(name, data)
    return out.getvalue()


def pickled():
    out = io.BytesIO()
    np.lib.format.write_array(out, np.array([{}], dtype=object), allow_pickle=True)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"\x93NUMPY",
        packed({"x": 1}),
        packed({"a": 0}),
        packed([1]),
        packed({"v": [1]}),
        packed({"t": 5}),
        packed({"a": 0}, [("0.npy", b"junk")]),
        packed({"a": 0}, [("0.npy", pickled())]),
        packed({"a": -7}),
    ],
)
def test_other_bytes_are_refused(data):
    with pytest.raises(wire.WireError):
        wire.unpack(data)


def test_a_compressed_bomb_is_not_inflated():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("shape.json", json.dumps({"a": 0}))
        z.writestr("0.npy", b"\0" * (wire.MAX_BYTES + 1))
    assert out.tell() < 200_000
    with pytest.raises(wire.WireError, match="too large"):
        wire.unpack(out.getvalue())


def test_what_would_grow_in_memory_is_refused():
    big, empty = np.zeros(10**6), np.zeros((2, 0), "U5")
    several = wire.pack([big, big])
    assert len(wire.unpack(several)) == 2
    for shape in ({"l": [{"a": 0}, {"a": 0}]}, {"l": [{"a": 0}] * 1000}):  # one array, many places
        with pytest.raises(wire.WireError):
            wire.unpack(packed(shape, [("0.npy", npy(big))]))
    back = wire.unpack(packed({"a": 0}, [("0.npy", npy(empty))]))
    np.testing.assert_array_equal(back, empty, strict=True)
    endless = b"\x93NUMPY\x01\x00" + header("<U0", (2**40,))
    with pytest.raises(wire.WireError):
        wire.unpack(packed({"a": 0}, [("0.npy", endless)]))


def npy(array):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=False)
    return out.getvalue()


def header(dtype, shape):
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return len(text).to_bytes(2, "little") + text


def test_parts_are_bounded_before_they_are_read():
    with pytest.raises(wire.WireError, match="too many"):
        wire.unpack(packed({"l": []}, [(f"{i}.npy", b"") for i in range(5000)]))
    with pytest.raises(wire.WireError, match="too many parts"):
        wire.unpack(packed({"v": "x" * (wire.MAX_SHAPE_BYTES + 1)}))
    with pytest.raises(wire.WireError, match="too many parts"):
        wire.pack("x" * (wire.MAX_SHAPE_BYTES + 1))
    with pytest.raises(wire.WireError, match="too many parts"):
        wire.pack([np.zeros(1)] * 5000)
    head = (wire.MAX_BYTES + 1).to_bytes(8, "little")
    with pytest.raises(wire.WireError, match="a message of"):
        wire.read_frame(io.BytesIO(head + b"x"))
