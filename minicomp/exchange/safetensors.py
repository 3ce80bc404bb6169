"""Safetensors files: named arrays as PyTorch and its neighbours exchange them.

The library of that name reads and writes them. What is checked here is what it lets pass: names,
a name that stands twice in the header, further words in an entry, booleans other than 0 and 1.

Source: the format's description at huggingface.co/docs/safetensors
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..atomic import write_atomically
from ..codec.header import parse_json
from ..errors import FormatError

Array = np.ndarray
MAX_HEADER = 2**24  # bytes
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

    arrays : such as Model.state_dict(); names match [A-Za-z0-9_.-]{1,100}
    metadata : text by name; two and more come in any order, which changes the file's bytes
    Raises ValueError for a name or dtype that the format does not have.
    """
    from safetensors import numpy as library

    plain = {}
    for name, a in arrays.items():
        # The library takes memory as it lies: it must be in C order, the numbers this machine's.
        a = np.asarray(a, np.asarray(a).dtype.newbyteorder("="), order="C")
        known = a.dtype.newbyteorder("<") in map(np.dtype, DTYPES.values())
        if not _NAME.match(name) or name == METADATA or not known:
            raise ValueError(
                f"{name[:40]!r} of dtype {a.dtype} cannot be stored: "
                "names match [A-Za-z0-9_.-]{1,100}, "
                f"dtypes are {', '.join(DTYPES)}"
            )
        plain[name] = a
    file = library.save(plain, metadata or None)
    write_atomically(path, file)
    return len(file)


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
    from safetensors import SafetensorError, deserialize

    length = int.from_bytes(file[:8], "little")
    if len(file) < 8 or length > min(len(file) - 8, MAX_HEADER):
        raise FormatError(f"a header of {length} bytes is declared, {max(len(file) - 8, 0)} follow")
    header = parse_json(file[8 : 8 + length])  # refuses a name that stands twice
    header.pop(METADATA, None)
    for name, entry in header.items():
        if not _NAME.match(name):
            raise FormatError(f"names must match [A-Za-z0-9_.-]{{1,100}}, got {name[:40]!r}")
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise FormatError(f"{name}: an entry must have dtype, shape and data_offsets")
        if entry["dtype"] not in (*DTYPES, "BF16"):
            raise FormatError(
                f"{name}: dtype must be one of {', '.join(DTYPES)}, BF16, "
                f"got {str(entry['dtype'])[:40]!r}"
            )
    try:
        found = dict(deserialize(file))
        return {
            name: _array(found[name]["data"], entry["dtype"], found[name]["shape"])
            for name, entry in header.items()
        }
    except (SafetensorError, ValueError) as e:  # ValueError: more axes than NumPy has
        raise FormatError(str(e)) from None


def _array(data: bytes, dtype: str, shape: list[int]) -> Array:
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    if dtype == "BOOL" and any(b > 1 for b in set(data)):
        raise FormatError("a boolean must be 0 or 1")
    return np.frombuffer(data, DTYPES[dtype]).reshape(shape).copy()
