"""Safetensors files: named arrays as PyTorch and its neighbours exchange them.

    8 bytes     length of the header, little-endian
    header      JSON: {"fc1.weight": {"dtype": "F32", "shape": [300, 784], "data_offsets": [0,
                940800]}, ...}, filled up with spaces to a multiple of 8
    data        the arrays in C order, little-endian, without gaps; wide dtypes first, so that each
                is aligned

Source: the format's description at huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np

from ..errors import FormatError
from ..atomic import write_atomically
from ..codec.header import parse_json, whole

Array = np.ndarray
MAX_HEADER = 2**24  # bytes
MAX_NDIM = 16
METADATA = "__metadata__"
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")


def save_safetensors(
    arrays: dict[str, Array], path: str | Path, metadata: dict[str, str] | None = None
) -> int:
    """Writes named arrays to `path`, atomically, and returns the file's bytes.

    arrays : such as Model.state_dict(); names match [A-Za-z0-9_.-]{1,100}        metadata : text by
        name
    Raises ValueError for a name or dtype that the format does not have.
    """
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    little = {}
    for name, a in arrays.items():
        a = np.asarray(a)
        a = np.asarray(a, a.dtype.newbyteorder("<"), order="C")
        if not _NAME.match(name) or name == METADATA or a.dtype not in names:
            raise ValueError(
                f"{name[:40]!r} of dtype {a.dtype} cannot be stored: "
                "names match [A-Za-z0-9_.-]{1,100}, "
                f"dtypes are {', '.join(DTYPES)}"
            )
        little[name] = a
    header, at, data = {METADATA: metadata} if metadata else {}, 0, []
    for name in sorted(little, key=lambda name: (-little[name].itemsize, name)):
        a = little[name]
        header[name] = {
            "dtype": names[a.dtype],
            "shape": list(a.shape),
            "data_offsets": [at, at + a.nbytes],
        }
        data.append(a.tobytes())
        at += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"the header must take at most {MAX_HEADER} bytes, got {len(text)}")
    whole_file = b"".join([len(text).to_bytes(8, "little"), text, *data])
    write_atomically(path, whole_file)
    return len(whole_file)


def load_safetensors(path: str | Path, max_bytes: int = 2**30) -> dict[str, Array]:
    """Returns the arrays of a file by name, in the order of its header; BF16 comes as float32.

    max_bytes : limit of the file
    Raises FormatError where anything is wrong with the file, OSError where it cannot be read.
    """
    path = Path(path)
    if path.stat().st_size > max_bytes:
        raise FormatError(
            f"{path}: a file must take at most {max_bytes} bytes, got {path.stat().st_size}"
        )
    try:
        return parse_safetensors(path.read_bytes())
    except FormatError as e:
        raise FormatError(f"{path}: {e}") from None


def parse_safetensors(file: bytes) -> dict[str, Array]:
    """Returns the arrays in the bytes of a file; raises what load_safetensors raises."""
    length = int.from_bytes(file[:8], "little")
    if len(file) < 8 or length > min(len(file) - 8, MAX_HEADER):
        raise FormatError(f"a header of {length} bytes is declared, {max(len(file) - 8, 0)} follow")
    header, data = parse_json(file[8 : 8 + length]), file[8 + length :]
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError(f"{METADATA} must be text by name")
    arrays, spans = {}, []
    for name, entry in header.items():
        dtype, shape, (first, last) = _entry(name, entry)
        spans.append((first, last))
        if last > len(data):
            raise FormatError(
                f"{name}: bytes {first} to {last} are declared, there are {len(data)}"
            )
        arrays[name] = _array(data[first:last], dtype, shape)
    ends = [0] + [last for _, last in sorted(spans)]
    if [first for first, _ in sorted(spans)] != ends[:-1] or ends[-1] != len(data):
        raise FormatError("arrays must cover the data without gap or overlap")
    return arrays


def _entry(name: str, entry) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    if not _NAME.match(name):
        raise FormatError(f"names must match [A-Za-z0-9_.-]{{1,100}}, got {name[:40]!r}")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{name}: an entry must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in (*DTYPES, "BF16"):
        raise FormatError(
            f"{name}: dtype must be one of {', '.join(DTYPES)}, BF16, got {str(dtype)[:40]!r}"
        )
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_NDIM
        or not isinstance(offsets, list)
        or len(offsets) != 2
    ):
        raise FormatError(
            f"{name}: shape must be a list of at most {MAX_NDIM}, data_offsets a pair"
        )
    shape = tuple(whole(f"{name}: a size", n) for n in shape)
    first, last = (whole(f"{name}: an offset", n) for n in offsets)
    wanted = math.prod(shape) * (2 if dtype == "BF16" else np.dtype(DTYPES[dtype]).itemsize)
    if last - first != wanted:
        raise FormatError(
            f"{name}: {dtype} of shape {shape} takes {wanted} bytes, got {last - first}"
        )
    return dtype, shape, (first, last)


def _array(data: bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype == "BOOL" and any(b > 1 for b in set(data)):
        raise FormatError("a boolean must be 0 or 1")
    return np.frombuffer(data, DTYPES[dtype]).reshape(shape).copy()
