"""The files of the real data sets: which they are, where they lie, whether they are the right ones.

A data set's files lie in `ROOT/FOLDER/`, where ROOT is the folder that the environment variable
MINICOMP_DATA names, or else the user's cache, and FOLDER is ours or that of another program, such
as torchvision's `MNIST/raw`. Every file is known by its published size and sha256, and is compared
with them on every read: a number in a report then comes from the same bytes everywhere.

Each thing that can be wrong with a file is its own message: missing, unreadable, of another kind
(wrong magic), truncated, or altered (wrong checksum). It names the file, what was expected, what
was found and the command that mends it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from collections.abc import Collection
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


def places(name: str, root: str | os.PathLike | None = None) -> list[Path]:
    """Returns the folders in which data set `name` is sought, in order: below each root ours, then
    those of other programs."""
    return [r / folder for r in roots(root) for folder in COLLECTIONS[name].folders]


def find(name: str, root: str | os.PathLike | None = None) -> Path | None:
    """Returns the first folder that has every file of data set `name`, or None.

    CIFAR-10 counts as there with its test batch and at least one training batch.
    """
    return next((p for p in places(name, root) if enough(name, present(p, name))), None)


def forms(file: DataFile) -> dict[str, DataFile]:
    """Returns the names under which a file may lie, and what its bytes then are: FILE, FILE.xz,
    which is unpacked, and those of other programs."""
    return {file.name: file, file.name + ".xz": file} | {other.name: other for other in file.others}


def located(folder: Path, file: DataFile) -> Path | None:
    """Returns the path of a published file in a folder, under any of its names, or None."""
    return next((folder / n for n in forms(file) if (folder / n).is_file()), None)


def present(folder: Path, name: str) -> dict[DataFile, Path]:
    """Returns the path of every file of data set `name` that is in `folder`."""
    tried = {file: located(folder, file) for file in COLLECTIONS[name].files}
    return {file: path for file, path in tried.items() if path is not None}


def require(name: str, root: str | os.PathLike | None = None) -> Path:
    """Returns the folder of data set `name`.

    Raises DataError, naming the first file that is missing, its other names, the folders searched
    and the command that gets it.
    """
    found = find(name, root)
    if found is not None:
        return found
    c, searched = COLLECTIONS[name], places(name, root)
    best = max(searched, key=lambda p: len(present(p, name)))
    have = present(best, name)
    test = c.files[-1:] if name == "cifar10" else ()
    missing = next(f for f in (*test, *c.files) if f not in have)
    looked = " or ".join(map(str, searched))
    state = f" ({len(have)} of {len(c.files)} files are in {best})" if have else ""
    names = " or ".join([missing.name, *(other.name for other in missing.others)])
    raise DataError(f"{name}: no file {names} in {looked}{state}; run: {get_command(name)}")


def read(path: Path, file: DataFile, name: str) -> bytes:
    """Returns the bytes of the file at `path`, of FILE.xz unpacked, equal to the published ones or
    to what another program makes of them.

    file : the published one        name : of the data set
    Raises DataError where it cannot be read, is of another kind, is truncated, or is altered.
    """
    file = forms(file).get(path.name, file)
    try:
        with open(path, "rb") as f:  # no more than tells that it is too long
            most = PACKED if path.suffix == ".xz" else file.size or UNPACKED
            length = os.fstat(f.fileno()).st_size
            raw = f.read(min(most, length) + 1)
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror or e}{mend(path, name)}") from e
    if path.suffix == ".xz":
        raw = _unxz(raw, path, name, (file.size or UNPACKED) + 1)
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
    kind = "md5" if len(file.sha256) == 32 else "sha256"
    found = hashlib.new(kind, raw, usedforsecurity=False).hexdigest()
    if found != file.sha256:
        same = length == file.size or not file.size
        size = "" if same else f" in {length:,} bytes instead of {file.size:,}"
        return f"wrong checksum: expected {kind} {file.sha256[:16]}..., found {found[:16]}...{size}"
    return None


def gunzip(raw: bytes, path: Path, name: str) -> bytes:
    """Returns what a gzip file of one member holds, at most 256 MiB.

    Raises DataError where it is not one, ends early, or holds more.
    """
    unpack = zlib.decompressobj(wbits=31)
    try:
        out = unpack.decompress(raw, UNPACKED + 1)
        if len(out) > UNPACKED:
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


def enough(name: str, have: Collection[DataFile]) -> bool:
    """Returns whether these files make up data set `name`."""
    files = COLLECTIONS[name].files
    if name == "cifar10":
        return files[-1] in have and len(have) > 1  # the last is its test batch
    return len(have) == len(files)


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
