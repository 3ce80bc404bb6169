"""The files of the real data sets: which they are, where they lie, whether they are the right ones.

A data set's files lie in `ROOT/FOLDER/`, where ROOT is the folder that the environment variable
MINICOMP_DATA names, or else the user's cache. Every file is known by its published size and sha256,
and is compared with them on every read: a number in a report then comes from the same bytes
everywhere.

Each thing that can be wrong with a file is its own message: missing, unreadable, of another kind
(wrong magic), truncated, or altered (wrong checksum). It names the file, what was expected, what
was found and the command that mends it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from pathlib import Path

from ..atomic import write_atomically
from ..errors import DataError
from .catalog import COLLECTIONS, DataFile

PACKED, UNPACKED = 2**30, 2**28  # bytes of an .xz file, of what a .gz file holds
GZIP, XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"


def cache_dir() -> Path:
    """Returns the user's cache folder for data; it need not exist.

    XDG_CACHE_HOME where it is an absolute path, else the platform's: %LOCALAPPDATA% on Windows,
    ~/Library/Caches on macOS, ~/.cache elsewhere; below it minicomp/data.
    """
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):
        base = Path(xdg)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "minicomp" / "data"


def roots(root: str | os.PathLike | None = None) -> list[Path]:
    """Returns the folders to search, in order: `root` alone, or $MINICOMP_DATA and the cache."""
    if root is not None:
        return [Path(root)]
    given = os.environ.get("MINICOMP_DATA")
    return ([Path(given).expanduser()] if given else []) + [cache_dir()]


def place(folder: Path) -> str:
    """Returns what a report calls a data set's folder, which names no path of the user's home."""
    given = os.environ.get("MINICOMP_DATA")
    if given and Path(given).expanduser() in folder.parents:
        return "$MINICOMP_DATA"
    return "the user's cache" if cache_dir() in folder.parents else str(folder)


def find(name: str, root: str | os.PathLike | None = None) -> Path | None:
    """Returns the first folder that has every file of data set `name`, or None.

    CIFAR-10 counts as there with its test batch and at least one training batch; a file may also
    lie compressed, as FILE.xz.
    """
    return next((r / COLLECTIONS[name].folder for r in roots(root) if _complete(r, name)), None)


def present(folder: Path, name: str) -> list[Path]:
    """Returns the paths of the files of data set `name` in `folder`, plain or FILE.xz."""
    tried = ([folder / f.name, folder / (f.name + ".xz")] for f in COLLECTIONS[name].files)
    return [path for pair in tried if (path := next((p for p in pair if p.is_file()), None))]


def require(name: str, root: str | os.PathLike | None = None) -> Path:
    """Returns the folder of data set `name`.

    Raises DataError, naming the first file that is missing, the folders searched and the command
    that gets it.
    """
    found = find(name, root)
    if found is not None:
        return found
    c, searched = COLLECTIONS[name], roots(root)
    best = max(searched, key=lambda r: len(present(r / c.folder, name)))
    have = {p.name.removesuffix(".xz") for p in present(best / c.folder, name)}
    missing = next(
        f
        for f in ("test_batch.bin", *(f.name for f in c.files))
        if f not in have and (name == "cifar10" or f != "test_batch.bin")
    )
    looked = " or ".join(str(r / c.folder) for r in searched)
    state = f" ({len(have)} of {len(c.files)} files are in {best / c.folder})" if have else ""
    raise DataError(f"{name}: no file {missing} in {looked}{state}; run: {get_command(name)}")


def read(path: Path, file: DataFile, name: str) -> bytes:
    """Returns the bytes of the file at `path`, of FILE.xz unpacked, equal to the published ones.

    Raises DataError where it cannot be read, is of another kind, is truncated, or is altered.
    """
    try:
        with open(path, "rb") as f:  # no more than tells that it is too long
            raw = f.read((PACKED if path.suffix == ".xz" else file.size) + 1)
            length = os.fstat(f.fileno()).st_size
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror or e}{mend(path, name)}") from e
    if path.suffix == ".xz":
        raw = _unxz(raw, path, name, file.size + 1)
        length = len(raw)
    elif file.name.endswith(".gz") and not raw.startswith(GZIP[: len(raw)]):
        raise DataError(
            f"{path}: wrong magic: expected a gzip file ({GZIP.hex(' ')}), "
            f"found {raw[:2].hex(' ')}{mend(path, name)}"
        )
    problem = compare(raw, file, length)
    if problem:
        raise DataError(f"{path}: {problem}{mend(path, name)}")
    return raw


def compare(raw: bytes, file: DataFile, length: int | None = None) -> str | None:
    """Returns how `raw` differs from the published file, in words: size, checksum; else None.

    length : of the file of which `raw` is the beginning; None: raw is all
    """
    length = len(raw) if length is None else length
    if len(raw) < file.size:
        return f"truncated: expected {file.size:,} bytes, found {len(raw):,}"
    found = hashlib.sha256(raw).hexdigest()
    if found != file.sha256:
        size = "" if length == file.size else f" in {length:,} bytes instead of {file.size:,}"
        return f"wrong checksum: expected sha256 {file.sha256[:16]}..., found {found[:16]}...{size}"
    return None


def gunzip(raw: bytes, path: Path, name: str) -> bytes:
    """Returns what a gzip file of one member holds, at most 256 MiB.

    Raises DataError where it is not one, ends early, or holds more.
    """
    unpack = zlib.decompressobj(wbits=31)
    try:
        out = unpack.decompress(raw, UNPACKED)
        if not unpack.eof and len(out) == UNPACKED:
            raise DataError(f"{path}: holds more than {UNPACKED:,} bytes{mend(path, name)}")
    except zlib.error as e:
        raise DataError(f"{path}: not a sound gzip file: {e}{mend(path, name)}") from e
    if not unpack.eof:
        raise DataError(f"{path}: truncated: the gzip stream ends early{mend(path, name)}")
    return out


def get_command(name: str) -> str:
    """Returns the command that fetches data set `name`."""
    return f"minicomp data get {name}"


def mend(path: Path, name: str) -> str:
    """Returns the end of an error message: what to run so that the file at `path` is right.

    A file outside the cache hides the cache's, so it has to go first.
    """
    inside = cache_dir() in path.parents
    return (
        f"; run: {get_command(name)}"
        if inside
        else f"; remove the file, then run: {get_command(name)}"
    )


def write(path: Path, raw: bytes) -> None:
    """Writes a file of the cache whole or not at all.

    Raises DataError where the folder cannot be written; the file then is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, raw)
    except OSError as e:
        raise DataError(
            f"{path}: cannot be written: {e.strerror or e}; set XDG_CACHE_HOME to a folder that can"
        ) from e


def enough(name: str, have: set[str]) -> bool:
    """Returns whether the files named in `have` make up data set `name`."""
    if name == "cifar10":
        return "test_batch.bin" in have and len(have) > 1
    return len(have) == len(COLLECTIONS[name].files)


def _complete(root: Path, name: str) -> bool:
    found = present(root / COLLECTIONS[name].folder, name)
    return enough(name, {p.name.removesuffix(".xz") for p in found})


def _unxz(raw: bytes, path: Path, name: str, most: int) -> bytes:
    # At most so many bytes: what is longer is not the published file.
    import lzma  # a Python built without it reads everything else

    if not raw.startswith(XZ[: len(raw)]):
        raise DataError(
            f"{path}: wrong magic: expected an xz file ({XZ.hex(' ')}), "
            f"found {raw[:6].hex(' ')}{mend(path, name)}"
        )
    unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    try:
        out = unpack.decompress(raw, most)
    except lzma.LZMAError as e:
        raise DataError(f"{path}: not a sound xz file: {e}{mend(path, name)}") from e
    if not unpack.eof and len(out) < most:
        raise DataError(f"{path}: truncated: the xz stream ends early{mend(path, name)}")
    return out
