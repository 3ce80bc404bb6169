"""Files as users leave them: writing so that a name never stands for half, reading any text.

Every file that minicomp writes goes through `write_atomically`, every text that a user wrote
through `read_text`, and all JSON through `as_json`.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import math
import os
import secrets
import stat
import zlib
from pathlib import Path
from typing import BinaryIO

from .errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path`: to a temporary file beside it, synced to disk, then renamed over it.

    The path is resolved first: through a symbolic link the file that it names is replaced, not the
    link. What exists and is no regular file (a pipe, a terminal, /dev/null) is written to directly,
    and so is an open file of no name, such as a pipe that is called /dev/fd/63.
    Whatever goes wrong before the renaming leaves an older file of that name untouched and no
    temporary one; what a process that was killed left behind goes with the next writing of that
    name. A file keeps its permissions; one that may not be written is not replaced.

    Raises OSError naming `path`.
    """
    path = resolved(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and (not stat.S_ISREG(mode) or path.is_symlink()):
        try:
            with open(path, "wb") as f:
                f.write(data)
        except OSError as e:
            e.filename = str(path)
            raise
        return
    if mode is not None and not (mode & 0o222 and os.access(path, os.W_OK)):  # root may all
        raise PermissionError(13, "the file is write-protected", str(path))
    _remove_halves(path)
    temporary = None
    try:
        temporary, half = _temporary(path)
        with half as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        if mode is not None:
            os.chmod(temporary, stat.S_IMODE(mode))
        os.replace(temporary, path)
    except BaseException as e:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        if isinstance(e, OSError) and e.errno is not None:  # else its words are all it says
            e.filename, e.filename2 = str(path), None  # the name that the user gave, not ours
        raise
    _sync_folder(path.parent)


def _halves(path: Path) -> str:
    # What the names of temporary files for `path` begin with; never too long a name.
    return f".{zlib.crc32(os.fsencode(path.name)):08x}"


def _temporary(path: Path) -> tuple[Path, BinaryIO]:
    # A new file beside `path`, locked while it is open, so that nobody takes it for left behind.
    while True:
        temporary = path.with_name(f"{_halves(path)}{secrets.token_hex(4)}.tmp")
        f = open(temporary, "xb")  # x: never somebody else's file
        if fcntl is not None:
            with contextlib.suppress(OSError):  # some file systems know no locks
                fcntl.flock(f, fcntl.LOCK_EX)
        if temporary.exists():  # else it was removed before the lock held
            return temporary, f
        f.close()


def _remove_halves(path: Path) -> None:
    # Where there are no locks none goes; on Windows an open file cannot be removed.
    for half in path.parent.glob(f"{_halves(path)}{'[0-9a-f]' * 8}.tmp"):
        with contextlib.suppress(OSError):
            file = os.open(half, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    half.unlink()
            finally:
                os.close(file)
            if fcntl is None:
                half.unlink()


def resolved(path: str | Path) -> Path:
    """Returns the path behind all links; the path itself where what it names has no name, as the
    pipe or the removed file behind /dev/fd/63."""
    real = Path(os.path.realpath(path))
    return Path(path) if os.path.exists(path) and not os.path.exists(real) else real


def _sync_folder(folder: Path) -> None:
    # POSIX: a renaming is on disk when its folder is; elsewhere folders do not open.
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
         (codecs.BOM_UTF16_BE, "utf-16-be"))


def read_text(path: str | Path, *, max_bytes: int = 2**26) -> str:
    """Returns the text that a user wrote: UTF-8 or UTF-16 by its byte order mark, else UTF-8.

    The mark is no part of the text. Raises UserError: longer than `max_bytes`, or no such text;
    OSError where the file cannot be read.
    """
    with open(path, "rb") as f:
        raw = f.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise UserError(f"{path}: a text must be at most {max_bytes:,} bytes")
    mark, encoding = next(((m, e) for m, e in MARKS if raw.startswith(m)), (b"", "utf-8"))
    try:
        return raw[len(mark):].decode(encoding).replace("\r\n", "\n")
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not {encoding.upper()} text: byte {e.start + len(mark):,} "
                        f"is {raw[e.start + len(mark)]:#04x}") from None


def as_json(value, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Returns JSON that every reader takes, in ASCII: NaN and infinities are null.

    NumPy's scalars and arrays become numbers and lists; of anything else, such as a path, stands
    what str() says.
    """
    return json.dumps(_plain(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def _plain(value):
    if isinstance(value, dict):
        return {_key(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):  # of NumPy, which this file does without
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, bool, int)) else str(value)


def _key(key):
    return key if isinstance(key, str) else as_json(key)
