"""Test vectors for other languages: the cases of a reference function, with what it returns."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from ..atomic import write_atomically
from .judges import copied

VERSION = 2  # of the cases, their order and their layout in a file


def write(path: Path, name: str, entry, cases, seed: int) -> int:
    """Writes cases with their expected results, atomically, and returns how many.

    path : F.json or F.npz        entry : the reference function's, of whose cases `cases` are
    Raises ValueError for another ending.
    """
    if path.suffix not in (".json", ".npz"):
        raise ValueError(f"path must end in .json or .npz, got {path}")
    done = [(case, entry.fn(**copied(case))) for case in cases]
    if path.suffix == ".json":
        head = {"contract": VERSION, "name": name, "rule": entry.rule, "source": entry.source}
        content = {**head, "seed": seed, "cases": _as_json(done)}
        packed = json.dumps(content, indent=1, allow_nan=False).encode()
    else:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, contract=np.int64(VERSION), **_as_arrays(done))
        packed = buffer.getvalue()
    write_atomically(path, packed)
    return len(done)


def _as_json(done) -> list[dict]:
    return [{"arguments": {k: plain(v) for k, v in case.items()}, "expected": plain(result)}
            for case, result in done]


def _as_arrays(done) -> dict[str, np.ndarray]:
    # "3/w" is argument w of case 3, "3/w/0" the first array of a list, "3/expected/0" its first
    # result; None is left out.
    arrays = {}
    for i, (case, result) in enumerate(done):
        for k, v in case.items():
            named = {k: v}
            if isinstance(v, list):
                named = {f"{k}/{j}": a for j, a in enumerate(v)}
            arrays |= {f"{i}/{name}": np.asarray(a) for name, a in named.items() if a is not None}
        parts = result if isinstance(result, tuple | list) else (result,)
        arrays |= {f"{i}/expected/{j}": np.asarray(part) for j, part in enumerate(parts)}
    return arrays


def plain(value):
    """Returns a value as JSON has it.

    Arrays are {"dtype", "shape", "data"}, row-major; integers beyond 2^53 are texts; floats are the
    shortest decimals of their type ("nan", "inf" as texts), with their bits in hexadecimal beside.
    """
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    array = np.asarray(value)
    found = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if array.dtype.kind == "f":
        size, bits = 2 * array.itemsize, array.astype(array.dtype.newbyteorder(">")).tobytes().hex()
        data = [float(str(e)) if np.isfinite(e) else str(e) for e in array.ravel()]
        words = [bits[i:i + size] for i in range(0, len(bits), size)]
        return {**found, "data": data, "bits": words}
    data = array.ravel().tolist()
    if array.dtype.kind in "iu":
        data = [str(e) if abs(e) > 2**53 else e for e in data]
    return {**found, "data": data}
