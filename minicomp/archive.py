"""Archives of arrays, .npz, of which everything is known before an array is read.

An archive may be anybody's: a few KB of it can declare, or inflate to, any number of bytes. Names,
sizes, shapes and dtypes are compared in its directory, so that nothing larger than what is expected
is ever read or allocated.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from .errors import printable

Array = np.ndarray
HEAD = 10_240  # bytes, at most, that NumPy's format puts before an array
# What reading a damaged archive, or the JSON in it, raises.
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, RuntimeError,
           struct.error, zipfile.BadZipFile, zlib.error)


class Archive:
    """The arrays of an .npz file: those of `must`, all or none of `may`, and a JSON note.

    must, may : arrays by name, whose shapes and dtypes those of the file must have
    notes_bytes : limit of the note
    Nothing is larger than these: ValueError where it is.
    """

    def __init__(self, path: Path, must: dict[str, Array], may: dict[str, Array] | None = None,
                 notes_bytes: int = 0):
        self.must, self.may, self.notes_bytes = must, may or {}, notes_bytes
        arrays = must | self.may
        most = sum(a.nbytes + HEAD + 2 * len(name) + 200 for name, a in arrays.items())
        most += notes_bytes + HEAD
        if (size := path.stat().st_size) > most:
            raise ValueError(f"it must take at most {most:,} bytes, got {size:,}")
        self.zip = zipfile.ZipFile(path)
        self.entries = {e.filename.removesuffix(".npy"): e for e in self.zip.infolist()}

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error) -> None:
        self.zip.close()

    def check(self) -> None:
        """Raises ValueError, before an array is read, where names, shapes or dtypes are others."""
        found, wanted = self.entries.keys() - {"notes"}, self.must.keys()
        if self.may.keys() & found:
            wanted = wanted | self.may.keys()
        words = [f"missing {printable(n, 60)}" for n in sorted(wanted - found)[:3]]
        words += [f"unexpected {printable(n, 60)}" for n in sorted(found - wanted)[:3]]
        if words:
            raise ValueError(", ".join(words))
        for name in (n for n in self.entries if n in found):
            mine, plain = (self.must | self.may)[name], name.partition("/")[2]
            with self._opened(name, mine.nbytes) as f:
                shape, dtype = array_header(f)
            if shape != mine.shape:
                raise ValueError(f"{plain} must have shape {mine.shape}, got {shape}")
            if dtype != mine.dtype:
                raise ValueError(f"{plain} must hold {mine.dtype}, got {printable(dtype)}")

    def notes(self) -> dict:
        """Returns the note; ValueError where it is no JSON object."""
        raw = self._array("notes", self.notes_bytes)
        if raw.dtype != np.uint8:
            raise ValueError(f"its note must be bytes, got {printable(raw.dtype)}")
        notes = json.loads(raw.tobytes(), parse_constant=_no_number)
        if not isinstance(notes, dict):
            raise ValueError("its note must be a JSON object")
        return notes

    def arrays(self) -> dict[str, Array]:
        """Returns the arrays by name, which `check` has seen."""
        return {name: self._array(name, (self.must | self.may)[name].nbytes)
                for name in self.entries if name != "notes"}

    def _array(self, name: str, nbytes: int) -> Array:
        with self._opened(name, nbytes) as f:
            return np.lib.format.read_array(BytesIO(f.read()), allow_pickle=False)

    def _opened(self, name: str, nbytes: int):
        entry = self.entries[name]
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > nbytes + HEAD:
            raise ValueError(f"{printable(name)} must be stored as at most {nbytes + HEAD:,} "
                             f"bytes, got {entry.file_size:,}")
        return self.zip.open(entry)


def array_header(f) -> tuple[tuple, np.dtype]:
    """Returns shape and dtype of an array in NumPy's format, of which no more than the header is
    read; ValueError where there is none."""
    version = np.lib.format.read_magic(f)
    numpy = np.lib.format
    read = {(1, 0): numpy.read_array_header_1_0, (2, 0): numpy.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"an array of NumPy's format {version} is not read")
    shape, _, dtype = read[version](f, max_header_size=HEAD)
    return shape, dtype


def _no_number(text: str):
    raise ValueError(f"its note holds {text}")
