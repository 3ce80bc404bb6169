"""Safetensors files: named arrays as PyTorch and its neighbours exchange them.

    length of the header, 8 bytes, least significant first
    header      JSON: {name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
    data        the arrays one behind the other, without gaps, C order

The library of that name writes them. They are read here: the library refuses a whole file for one
array of a type that it does not know, and holds every array twice.

Names are anything: TensorFlow's have slashes and colons. Whoever shows one shows it through
`errors.printable`.

Source: the format's description at huggingface.co/docs/safetensors
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..atomic import as_json, write_atomically
from ..codec.header import OBJECTS, label_in, parse_json, whole
from ..errors import FormatError, format_errors, printable
from ..models import from_spec, normalization
from ..models.arguments import NORMALIZE
from ..nn.graph import Model

Array = np.ndarray
MAX_HEADER = 2**24  # bytes, and no more than what its objects take of max_bytes allows
METADATA = "__metadata__"
NOTES = "minicomp"  # our entry in it
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
_BLOCK = 2**20  # bytes looked through at once


class Arrays(dict):
    """Arrays by name, in the order of the header.

    unreadable : {name: why} of those that the file has too, but NumPy has no type or shape for
    metadata : the file's texts by name
    """

    def __init__(self, arrays: dict[str, Array], unreadable: dict[str, str],
                 metadata: dict[str, str]):
        super().__init__(arrays)
        self.unreadable, self.metadata = unreadable, metadata


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


def load_safetensors(path: str | Path, max_bytes: int = 2**30) -> Arrays:
    """Returns the arrays of a file by name; BF16 comes as float32.

    An array of a type that NumPy does not have is left out, and `unreadable` says why.
    max_bytes : limit of the file and of what is read; no more than three times as much is in use
    Raises FormatError where anything is wrong with the file, OSError where it cannot be read.
    """
    path = Path(path)
    if path.stat().st_size > max_bytes:
        raise FormatError(f"{printable(path)}: a file must take at most {max_bytes} bytes, "
                          f"got {path.stat().st_size}")
    try:
        return parse_safetensors(path.read_bytes(), max_bytes)
    except FormatError as e:
        raise FormatError(f"{printable(path)}: {e}") from e.__cause__


def metadata_of(model: Model) -> dict[str, str]:
    """Returns what a file of the model's arrays should note, for no array says it: what the net
    does to its input, the data of its training, and of a built-in net its arguments."""
    notes = {"normalize": normalization(model)}
    if model.builtin is not None:
        notes["net"] = model.spec()
    if model.trained_on is not None:
        notes["data"] = model.trained_on
    return {NOTES: as_json(notes)}


def noted(arrays: Arrays) -> dict | None:
    """Returns what `metadata_of` noted, {"normalize", and if known "data", "net"}; None where the
    file is none of ours. FormatError where it is malformed."""
    if NOTES not in arrays.metadata:
        return None
    notes = parse_json(arrays.metadata[NOTES].encode("utf-8", "surrogatepass"))
    label, net = label_in(notes), notes.pop("net", None)
    if set(notes) != {"normalize"}:
        raise FormatError("notes hold normalize, data and net, "
                          f"got {printable(', '.join(notes), 80)}")
    try:
        found = {"normalize": NORMALIZE.check("normalize", notes["normalize"])}
    except ValueError as e:
        raise FormatError(str(e)) from None
    if net is not None:
        from_spec(net)  # FormatError where it is none
        found["net"] = net
    return found if label is None else found | {"data": label}


def parse_safetensors(file: bytes, max_bytes: int = 2**30) -> Arrays:
    """Returns the arrays in the bytes of a file; raises what load_safetensors raises."""
    with format_errors():
        return _parsed(file, max_bytes)


def _parsed(file: bytes, max_bytes: int) -> Arrays:
    length, there = int.from_bytes(file[:8], "little"), max(len(file) - 8, 0)
    most = min(there, MAX_HEADER, max_bytes // OBJECTS)
    if len(file) < 8 or length > most:
        raise FormatError(f"a header of {length} bytes is declared, {there} follow, and at most "
                          f"{min(MAX_HEADER, max_bytes // OBJECTS)} are allowed")
    header = parse_json(file[8 : 8 + length])  # refuses a name that stands twice
    notes = header.pop(METADATA, {})
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise FormatError(f"{METADATA} must be texts by name")
    places = {name: _place(printable(name, 100), entry) for name, entry in header.items()}
    end = 0
    for name, (begin, after) in sorted(places.items(), key=lambda item: item[1]):
        if begin != end:
            raise FormatError(f"{printable(name, 100)}: begins at byte {begin}, {end} is next")
        end = after
    if end != there - length:
        raise FormatError(f"the arrays take {end} bytes, {there - length} follow the header")
    data, taken = memoryview(file)[8 + length :], 0
    arrays, unreadable = {}, {}
    for name, entry in header.items():
        if entry["dtype"] not in (*DTYPES, "BF16"):
            unreadable[name] = f"NumPy has no type for {printable(repr(entry['dtype']), 40)}"
            continue
        begin, after = places[name]
        taken += (after - begin) * (1 + (entry["dtype"] == "BF16"))
        if taken > max_bytes:
            raise FormatError(f"the arrays must take at most {max_bytes} bytes, got more")
        try:
            arrays[name] = _array(data[begin:after], entry["dtype"], entry["shape"])
        except FormatError as e:
            raise FormatError(f"{printable(name, 100)}: {e}") from None
        except ValueError as e:  # more axes, or larger ones, than NumPy has
            unreadable[name] = printable(e)
    return Arrays(arrays, unreadable, notes)


def _place(name: str, entry) -> tuple[int, int]:
    # Where the bytes of an array begin and end; of a type that is known they are as many as it
    # takes.
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{name}: an entry must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (isinstance(dtype, str) and isinstance(shape, list) and isinstance(offsets, list)
            and len(offsets) == 2):
        raise FormatError(f"{name}: dtype must be a text, shape a list, data_offsets two numbers")
    begin, end = (whole(f"{name}: a number of data_offsets", n) for n in offsets)
    size = 2 if dtype == "BF16" else np.dtype(DTYPES.get(dtype, "|u1")).itemsize
    for n in shape:
        size = min(size * whole(f"{name}: a number of shape", n), 2**64)  # whatever follows
    if end < begin or (dtype in (*DTYPES, "BF16") and end - begin != size):
        raise FormatError(f"{name}: {dtype} of shape {printable(shape, 80)} does not take the "
                          f"bytes from {begin} to {end}")
    return begin, end


def _array(data: memoryview, dtype: str, shape: list[int]) -> Array:
    if dtype == "BF16":  # the upper half of a float32
        bits = np.frombuffer(data, "<u2").astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32).reshape(shape)
    if dtype == "BOOL":
        for first in range(0, len(data), _BLOCK):
            if max(data[first : first + _BLOCK], default=0) > 1:
                raise FormatError("a boolean must be 0 or 1")
    return np.frombuffer(data, DTYPES[dtype]).reshape(shape).copy()
