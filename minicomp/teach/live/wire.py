"""What crosses between grader and student's process: arrays, numbers, text, and what holds them.

A value travels as an .npz (read with allow_pickle=False) of its arrays, and beside them its shape
as JSON. Nothing that is read can run code, and nothing larger than `MAX_BYTES` is taken in.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile

import numpy as np

MAX_BYTES = 16 * 2**20
MAX_DEPTH, MAX_ITEMS, MAX_ARRAYS = 8, 100_000, 4000
MAX_SHAPE_BYTES = 2**21  # of the JSON: each of its values takes about fifty times its letters
_END = struct.Struct("<4s6xHLLH")  # the end of a zip: mark, entries, bytes and place of their list
_PLAIN = (bool, int, float, str, type(None))
_SHAPE, _KINDS = "shape.json", "biufcU"
# What reading bytes that are no value can raise, in zipfile, json, NumPy and below.
_DAMAGED = (
    zipfile.BadZipFile, LookupError, ValueError, TypeError, AttributeError, EOFError, OSError,
    RecursionError, NotImplementedError, MemoryError, SyntaxError, RuntimeError, struct.error,
)


class WireError(ValueError):
    """A value that cannot cross, or bytes that are no value."""


def pack(value) -> bytes:
    """Returns the value as bytes; WireError names what in it cannot cross."""
    arrays: list[np.ndarray] = []
    shape = _shape_of(value, arrays, 0)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
        z.writestr(_SHAPE, _written(shape))
        for i, a in enumerate(arrays):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, a, allow_pickle=False)
            z.writestr(f"{i}.npy", entry.getvalue())
    if out.tell() > MAX_BYTES:
        raise WireError(f"the value takes {out.tell()} bytes, more than {MAX_BYTES}")
    return out.getvalue()


def unpack(data: bytes):
    """Returns the value that `pack` wrote; WireError where the bytes are anything else."""
    try:
        _check_list(data)
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            if z.getinfo(_SHAPE).file_size > MAX_SHAPE_BYTES:
                raise WireError("the value has too many parts")
            if sum(i.file_size for i in z.infolist()) > MAX_BYTES:
                raise WireError("the value is too large")
            if any(i.compress_type != zipfile.ZIP_STORED for i in z.infolist()):
                raise WireError("not a value: it is compressed")
            shape = json.loads(z.read(_SHAPE))
            names = [n for n in z.namelist() if n != _SHAPE]
            arrays = {i: _array(z.read(f"{i}.npy")) for i in range(len(names))}
        return _value_of(shape, arrays, 0)
    except WireError:
        raise
    except _DAMAGED as e:
        raise WireError(f"not a value: {type(e).__name__}") from None


def packed_frame(value) -> bytes:
    """Returns a value's bytes with their length before them."""
    data = pack(value)
    return struct.pack("<Q", len(data)) + data


def write_frame(stream, value) -> None:
    """Writes a value with its length before it."""
    stream.write(packed_frame(value))
    stream.flush()


def read_frame(stream):
    """Returns the next value, or None at the end; WireError for anything else."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack("<Q", head)
    if length > MAX_BYTES:
        raise WireError(f"a message of {length} bytes")
    data = stream.read(length)
    return unpack(data) if len(data) == length else None


def _written(shape) -> str:
    text = json.dumps(shape)
    if len(text) > MAX_SHAPE_BYTES:
        raise WireError(f"the value has too many parts: {len(text)} letters; return arrays")
    return text


def _check_list(data: bytes) -> None:
    # zipfile reads the list of entries whole, before anything can be asked of it.
    mark, entries, size, place, comment = _END.unpack(data[-_END.size:])
    listed = place + size + _END.size == len(data) and size <= 100 * (MAX_ARRAYS + 1)
    if mark != b"PK\5\6" or comment or entries > MAX_ARRAYS + 1 or not listed:
        raise WireError("not a value, or one of too many arrays")


def _array(data: bytes) -> np.ndarray:
    array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    # An array of entries of no bytes has any size for none.
    if array.dtype.kind not in _KINDS or array.size > MAX_BYTES:
        raise WireError(f"an array of dtype {array.dtype} and {array.size} entries")
    return array


def _shape_of(value, arrays: list, depth: int):
    if depth > MAX_DEPTH or len(arrays) >= MAX_ARRAYS:
        raise WireError("the value is nested too deeply or has too many parts")
    if isinstance(value, np.ma.MaskedArray):  # asarray would drop the mask without a word
        raise WireError("a masked array cannot be checked; return an ordinary array (filled)")
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind not in _KINDS:
            raise WireError(f"an array of dtype {array.dtype} cannot be checked")
        arrays.append(array)
        return {"n" if isinstance(value, np.generic) else "a": len(arrays) - 1}
    if type(value) in _PLAIN:
        return {"v": value}
    if isinstance(value, tuple | list):
        if len(value) > MAX_ITEMS:
            raise WireError(f"a list of {len(value)} entries is too long; return an array")
        return {
            "t" if isinstance(value, tuple) else "l": [
                _shape_of(v, arrays, depth + 1) for v in value
            ]
        }
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"d": [[k, _shape_of(v, arrays, depth + 1)] for k, v in value.items()]}
    raise WireError(f"a {type(value).__name__} cannot be checked; return arrays, numbers or tuples")


def _value_of(shape, arrays: dict, depth: int):
    # Each array stands in one place: one that stood in thousands would fill the memory when they
    # are compared.
    if depth > MAX_DEPTH:
        raise WireError("the value is nested too deeply")
    ((kind, part),) = shape.items()
    if kind == "v":
        if type(part) not in _PLAIN:
            raise WireError("not a plain value")
        return part
    if kind in "an":
        array = arrays.pop(part)
        return array if kind == "a" else array[()]
    if kind == "d":
        return {str(k): _value_of(v, arrays, depth + 1) for k, v in part}
    items = [_value_of(v, arrays, depth + 1) for v in part]
    if kind not in "tl":
        raise WireError("not a value")
    return tuple(items) if kind == "t" else items
