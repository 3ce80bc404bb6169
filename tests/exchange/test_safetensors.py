import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from minicomp.errors import FormatError
from minicomp.exchange.safetensors import (
    DTYPES,
    load_safetensors,
    parse_safetensors,
    save_safetensors,
)
from minicomp.models import LeNet5
from safetensors import numpy

RNG = np.random.default_rng(0)
ARRAYS = {
    f"layer.{name}": (RNG.normal(size=(3, 5)) * 100).astype(dtype) for name, dtype in DTYPES.items()
} | {
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(3.5, np.float32),
    "big": np.arange(6, dtype=">i4"),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "fortran": np.asfortranarray(np.arange(24, dtype=np.float64).reshape(2, 3, 4)),
    "stepped": np.arange(20, dtype=np.int16)[::3],
    "backwards": np.arange(5, dtype=np.uint8)[::-1],
    "broadcast": np.broadcast_to(np.float32(2.5), (3, 2)),
    "of_a_row": np.asfortranarray(np.ones((1, 4), ">f8")),
}


def file_of(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def native(a):
    return a.astype(a.dtype.newbyteorder("="))


def test_arrays_come_back_however_they_lie_in_memory(tmp_path):
    path = tmp_path / "a.safetensors"
    assert save_safetensors(ARRAYS, path, {"format": "pt"}) == path.stat().st_size
    for found in (numpy.load_file(path), load_safetensors(path)):
        assert set(found) == set(ARRAYS)
        for name, a in ARRAYS.items():
            np.testing.assert_array_equal(found[name], native(a), strict=True)
    again = path.read_bytes()
    save_safetensors(ARRAYS, path, {"format": "pt"})
    assert path.read_bytes() == again


def test_files_of_the_library_are_read_in_the_order_of_their_header(tmp_path):
    contiguous = {name: native(a).copy() for name, a in ARRAYS.items()}
    numpy.save_file(contiguous, tmp_path / "a", {"by": "them", "for": "us"})
    found = load_safetensors(tmp_path / "a")
    sizes = [a.itemsize for a in found.values()]
    assert len(found) == len(ARRAYS) and sizes == sorted(sizes, reverse=True)
    for name, a in found.items():
        np.testing.assert_array_equal(a, contiguous[name], strict=True)
        assert a.flags.writeable


def test_weights_move_through_pytorchs_names(tmp_path):
    model = LeNet5(rng=np.random.default_rng(1))
    save_safetensors(model.state_dict(), tmp_path / "m")
    other = LeNet5()
    other.load_state_dict(load_safetensors(tmp_path / "m"))
    for name, a in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], a, strict=True)


def test_bfloat16_comes_as_float32():
    data = np.array([0x3FC0, 0xC000], "<u2").tobytes()  # 1.5, -2
    found = parse_safetensors(
        file_of({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, data)
    )
    assert found["a"].dtype == np.float32 and found["a"].tolist() == [1.5, -2.0]


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True).filter(
            lambda n: n != "__metadata__"
        ),
        hnp.arrays(
            st.sampled_from([np.float32, np.float16, np.int64, np.uint8, np.bool_]),
            hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
        ),
        max_size=5,
    )
)
def test_round_trip(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("st") / "a"
    save_safetensors(arrays, path)
    found = load_safetensors(path)
    assert set(found) == set(arrays)
    for name, a in arrays.items():
        np.testing.assert_array_equal(found[name], a, strict=True)


@pytest.mark.parametrize(
    "name, a",
    [
        ("a b", np.zeros(1)),
        ("", np.zeros(1)),
        ("a" * 101, np.zeros(1)),
        ("__metadata__", np.zeros(1)),
        ("a", np.zeros(1, complex)),
        ("a", np.array(["x"])),
    ],
)
def test_what_the_format_lacks_is_refused(tmp_path, name, a):
    with pytest.raises(ValueError, match="cannot be stored"):
        save_safetensors({name: a}, tmp_path / "a")
    assert not list(tmp_path.iterdir())


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"1234567",
        (2**40).to_bytes(8, "little"),
        file_of(b"[]"),
        file_of(b"nonsense"),
        file_of(b"\xff\xfe"),
        file_of(b"[" * 2000),
        file_of({"a": GOOD}),
        file_of({"a": GOOD}, bytes(9)),
        file_of({"a": GOOD}, bytes(7)),
        file_of({"a": 3}),
        file_of({"a": {}}),
        file_of({"a": GOOD | {"extra": 1}}, bytes(8)),
        file_of({"a": GOOD | {"dtype": ["F32"]}}, bytes(8)),
        file_of({"a": GOOD | {"shape": [True, 2]}}, bytes(8)),
        file_of({"a": GOOD | {"shape": [-1, -2]}}, bytes(8)),
        file_of({"a": GOOD | {"shape": [2.0]}}, bytes(8)),
        file_of({"a": GOOD | {"shape": 2}}, bytes(8)),
        file_of({"a": GOOD | {"shape": [2, 2**53, 2**53]}}, bytes(8)),
        file_of({"a": GOOD | {"dtype": "F31", "data_offsets": [0, 9]}}, bytes(8)),
        file_of({"a": GOOD | {"dtype": "F31", "data_offsets": [8, 0]}}, bytes(8)),
        file_of({"a": GOOD, "b": GOOD | {"dtype": "F31", "data_offsets": [8, 0]}}),
        file_of({"a" * 10**5: GOOD}, bytes(7)),
        file_of({"a": GOOD | {"shape": [2**60, 2**60]}}, bytes(8)),
        file_of({"a": GOOD | {"data_offsets": [0]}}, bytes(8)),
        file_of({"a": GOOD | {"data_offsets": [8, 0]}}, bytes(8)),
        file_of({"a": GOOD | {"data_offsets": [-8, 0]}}, b""),
        file_of({"a": GOOD, "b": GOOD}, bytes(8)),
        file_of({"a": GOOD, "b": GOOD | {"data_offsets": [9, 17]}}, bytes(17)),
        file_of(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
            b'"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}',
            bytes(8),
        ),
        file_of({"__metadata__": {"a": 3}}),
        file_of({"__metadata__": []}),
        file_of({"a": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\2"),
    ],
)
def test_damaged_files_are_refused(file):
    with pytest.raises(FormatError) as caught:
        parse_safetensors(file)
    assert caught.value.__cause__ is None  # by a check, not by the outer door
    assert len(str(caught.value)) < 600


NAMES = ["model/fc1/kernel:0", "layers[3].weight", "a name", "a" * 500, "", "\x1b[31mred", "ä:0"]


def test_names_are_anything():
    data = np.arange(2 * len(NAMES), dtype="<f4")
    file = file_of({name: GOOD | {"data_offsets": [8 * i, 8 * i + 8]}
                    for i, name in enumerate(NAMES)}, data.tobytes())
    found = parse_safetensors(file)
    assert list(found) == NAMES and not found.unreadable
    for i, name in enumerate(NAMES):
        np.testing.assert_array_equal(found[name], data[2 * i:2 * i + 2], strict=True)


@pytest.mark.parametrize("change, why", [
    ({"dtype": "F8_E4M3", "shape": [8]}, "NumPy has no type for 'F8_E4M3'"),
    ({"dtype": "\x1b[31m" * 100}, r"no type for '\\x1b.*letters"),
    ({"shape": [1] * 99 + [2]}, "dimension"),
    ({"shape": [0, 2**53, 2**53], "data_offsets": [0, 0]}, "."),
])
def test_what_cannot_be_read_is_said_array_by_array(change, why):
    other = GOOD | change
    end = other["data_offsets"][1]
    found = parse_safetensors(file_of(
        {"odd": other, "a": GOOD | {"data_offsets": [end, end + 8]}}, bytes(end + 8)))
    assert found["a"].tolist() == [0, 0] and list(found) == ["a"]
    assert list(found.unreadable) == ["odd"] and re.search(why, found.unreadable["odd"])


def test_what_is_read_is_bounded_too():
    n = 2**16
    file = file_of({"a": {"dtype": "BF16", "shape": [n], "data_offsets": [0, 2 * n]}}, bytes(2 * n))
    assert parse_safetensors(file, 4 * n)["a"].nbytes == 4 * n
    with pytest.raises(FormatError, match=f"at most {4 * n - 1} bytes"):
        parse_safetensors(file, 4 * n - 1)
    wide = file_of({str(i): GOOD | {"shape": [0], "data_offsets": [0, 0]} for i in range(100)})
    with pytest.raises(FormatError, match="at most 512 are allowed"):
        parse_safetensors(wide, 2**14)


def test_loading_names_the_file_and_bounds_its_size(tmp_path):
    (tmp_path / "x").write_bytes(b"short")
    with pytest.raises(FormatError, match="x: a header"):
        load_safetensors(tmp_path / "x")
    with pytest.raises(FormatError, match="at most 4 bytes"):
        load_safetensors(tmp_path / "x", max_bytes=4)
    with pytest.raises(OSError):
        load_safetensors(tmp_path / "missing")
