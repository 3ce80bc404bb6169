"""Fetching a data set into the user's cache: from mirrors, another address, or a folder.

Nothing is trusted: every file is compared with its published size and sha256 before it takes its
name in the cache, and until then it lies beside under a temporary one. A mirror that is gone,
answers with something else or breaks off is passed over; only when none is left is that an error,
one line with each reason.

This is the only file of minicomp that opens a network connection, and only `get` does.
"""

from __future__ import annotations

import http.client
import io
import os
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError
from .catalog import COLLECTIONS, Collection, DataFile
from .files import cache_dir, compare, enough, get_command, located, read, write

CHUNK = 1 << 18
TIMEOUT = 20.0  # seconds without a byte
STALE = 24 * 3600.0  # seconds after which a temporary file belongs to nobody
Progress = Callable[[dict], None]


class _Unreachable(Exception):
    """No connection to a mirror; the text says why."""


class _Refused(Exception):
    """A mirror answered, but not with the file; the text says with what."""


def get(
    name: str, from_: str | os.PathLike | None = None, *, progress: Progress | None = None
) -> Path:
    """Returns the cache folder that now holds every file of data set `name`.

    from_ : None for the public mirrors, an http(s) address of a folder, or a local folder
    progress : called with {"event": "progress", "name": "mnist/FILE", "done": bytes, "total":
        bytes}

    A file that is in the cache and right is kept. From a local folder, CIFAR-10 may come in part:
    its test batch and at least one training batch.

    Raises DataError where there is no network, no source has the right bytes, or the cache cannot
    be written.
    """
    c, progress = COLLECTIONS[name], progress or (lambda row: None)
    folder = cache_dir() / c.folder
    _sweep(folder)
    wanted = [f for f in c.files if not _right(located(folder, f), f, name)]
    if not wanted:
        return folder
    if from_ is None:
        _download(name, c, wanted, folder, c.mirrors, progress)
    elif str(from_).startswith(("http://", "https://")):
        _download(name, c, wanted, folder, (str(from_),), progress)
    else:
        _copy(name, c, wanted, folder, Path(from_).expanduser(), progress)
    return folder


# --------------------------------------------------------------------------- from a folder


def _copy(
    name: str, c: Collection, wanted: list[DataFile], folder: Path, source: Path, progress: Progress
) -> None:
    if not source.is_dir():
        raise DataError(f"{name}: expected a folder or an http address, found no folder {source}")
    if c.archive and (source / c.archive.name).is_file():
        path = source / c.archive.name
        _unpack(name, c, wanted, folder, path.read_bytes(), str(path), progress)
        return
    found = {f: path for f in wanted if (path := _beneath(source, c, f))}
    missing = [f.name for f in wanted if f not in found]
    there = {f for f in c.files if f.name not in missing}
    if missing and not (found and enough(name, there)):
        looked = " or ".join(str(source / folder) for folder in ("", *c.folders))
        raise DataError(
            f"{name}: no file {missing[0]} in {looked}; "
            f"expected {', '.join(f.name for f in c.files)}"
        )
    for f, path in found.items():
        write(folder / path.name.removesuffix(".xz"), read(path, f, name))
        progress(_row(c, f, f.size))


def _beneath(source: Path, c: Collection, f: DataFile) -> Path | None:
    found = (located(source / folder, f) for folder in ("", *c.folders))
    return next((path for path in found if path is not None), None)


# --------------------------------------------------------------------------- from the network


def _download(
    name: str,
    c: Collection,
    wanted: list[DataFile],
    folder: Path,
    mirrors: tuple[str, ...],
    progress: Progress,
) -> None:
    if c.archive is not None:
        raw = _fetch(name, c, c.archive, mirrors, progress)
        _unpack(name, c, wanted, folder, raw, c.archive.name, progress)
        return
    for f in wanted:
        write(folder / f.name, _fetch(name, c, f, mirrors, progress))


def _fetch(
    name: str, c: Collection, f: DataFile, mirrors: tuple[str, ...], progress: Progress
) -> bytes:
    # The published bytes, from the first mirror that has them.
    reasons, answered = [], False
    for mirror in mirrors:
        url = mirror if mirror.endswith(f.name) else mirror.rstrip("/") + "/" + f.name
        try:
            raw = _body(url, f, lambda done: progress(_row(c, f, done)))
            problem = compare(raw, f)
            if problem is None:
                return raw
            raise _Refused(problem)
        except (_Unreachable, _Refused) as e:
            answered |= isinstance(e, _Refused)
            reasons.append(f"{urllib.parse.urlsplit(url).netloc or url}: {e}")
    what = "no mirror has the right bytes" if answered else "no network"
    raise DataError(
        f"{name}: {what} for {f.name} ({'; '.join(reasons)}); with the files on "
        f"another machine, copy them here and run: {get_command(name)} --from DIR"
    )


def _body(url: str, f: DataFile, step: Callable[[int], None]) -> bytes:
    # What is at `url`, at most one byte longer than the file should be.
    request = urllib.request.Request(url, headers={"User-Agent": "minicomp"})
    out = bytearray()
    step(0)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            while chunk := reply.read(min(CHUNK, f.size + 1 - len(out))):
                out += chunk
                step(min(len(out), f.size))
    except urllib.error.HTTPError as e:
        raise _Refused(f"answered {e.code} {e.reason}") from e
    except OSError as e:  # URLError is one
        if out:
            raise _Refused(f"broke off after {len(out):,} of {f.size:,} bytes") from e
        raise _Unreachable(f"{getattr(e, 'reason', e)}") from e
    except (http.client.HTTPException, ValueError) as e:
        raise _Refused(f"no valid answer: {type(e).__name__}") from e
    return bytes(out)


def _unpack(
    name: str,
    c: Collection,
    wanted: list[DataFile],
    folder: Path,
    raw: bytes,
    where: str,
    progress: Progress,
) -> None:
    # Takes the wanted files out of a .tar.gz; only last names are looked at, never a path inside.
    left = {f.name: f for f in wanted}
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:gz") as tar:
            for member in tar:
                f = left.get(member.name.rsplit("/", 1)[-1]) if member.isfile() else None
                if f is None:
                    continue
                inside = tar.extractfile(member).read(f.size + 1)
                problem = compare(inside, f)
                if problem:
                    raise DataError(
                        f"{where}: {f.name} inside: {problem}; " f"run: {get_command(name)}"
                    )
                write(folder / f.name, inside)
                del left[f.name]
                progress(_row(c, f, f.size))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as e:
        raise DataError(f"{where}: not a sound .tar.gz: {e}; run: {get_command(name)}") from e
    if left:
        raise DataError(
            f"{where}: expected {', '.join(left)} inside, found none; " f"run: {get_command(name)}"
        )


def _right(path: Path | None, f: DataFile, name: str) -> bool:
    try:
        return path is not None and bool(read(path, f, name))
    except DataError:
        return False


def _sweep(folder: Path) -> None:
    # Temporary files that a killed process left behind.
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        try:
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()
        except OSError:
            pass  # another process's, or gone


def _row(c: Collection, f: DataFile, done: int) -> dict:
    return {"event": "progress", "name": f"{c.folder}/{f.name}", "done": done, "total": f.size}
