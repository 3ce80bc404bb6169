"""A folder that one run at a time may use.

The lock is the operating system's, on the file `lock` in the folder: it goes with the process that
holds it, however that ends, so none is ever left behind. Threads of one process exclude one another
like processes do. The file says who holds it, for messages alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from .atomic import as_json
from .errors import UserError, printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = "lock"
# File systems that know no locks, such as some network ones: better no lock than no run.
UNKNOWN = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class Busy(UserError):
    """Another run uses the folder."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder, which is made where it is missing, until the block ends.

    Who removes the folder in the block removes the lock's file last. Raises Busy where another run
    holds it, OSError where the folder cannot be made or written.
    """
    file = _opened(folder)
    try:
        yield
    finally:
        # While it is still held: whoever has opened it by now finds that it is no longer there.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file), os.stat(folder / NAME)):
                os.unlink(folder / NAME)
        os.close(file)


def _opened(folder: Path) -> int:
    # The descriptor that holds the lock. A file that was removed while we waited for it locks
    # nobody out: then again.
    path = folder / NAME
    for _ in range(1000):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the run that held it has just removed the folder
            continue
        except FileExistsError:  # or removed it after mkdir had found it, before it looked again
            if folder.exists() and not folder.is_dir():
                raise
            continue
        try:
            if not _take(file):
                raise Busy(f"{folder} is in use by another run{_holder(file)}; wait until it ends, "
                           f"or write to another file")
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(path)):
                    os.ftruncate(file, 0)
                    who = {"process": os.getpid(), "host": socket.gethostname()}
                    os.pwrite(file, as_json(who).encode(), 0)
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    raise Busy(f"{folder} is made and removed by other runs all the time; write to another file")


def _take(file: int, at: int = 4096) -> bool:
    # Whether the lock could be had at once; at : where no text is, which others may then read.
    try:
        if fcntl is None:
            import msvcrt
            os.lseek(file, at, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in UNKNOWN:
            return True
        if e.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return False
        raise
    return True


def _holder(file: int) -> str:
    # " (process 4711 on HOST)", or nothing where the file does not say.
    os.lseek(file, 0, os.SEEK_SET)
    try:
        who = json.loads(os.read(file, 4096))
        return printable(f" (process {who['process']} on {who['host']})", 100)
    except (ValueError, KeyError, TypeError, RecursionError, OSError):
        return ""


def append(path: Path, line: str) -> None:
    """Appends a line to a file that others append to as well, each line whole and on disk.

    What a process that was killed left of a line goes first. Waits for the others; the line is
    without its end.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    try:
        _wait(file)
        end = os.lseek(file, 0, os.SEEK_END)
        whole = _whole(file, end)
        if whole < end:
            os.ftruncate(file, whole)
        os.lseek(file, whole, os.SEEK_SET)
        left = line.encode() + b"\n"
        while left:
            left = left[os.write(file, left):]
        os.fsync(file)
    finally:
        os.close(file)


def _wait(file: int) -> None:
    while not _take(file, 1 << 40):
        time.sleep(0.01)


def _whole(file: int, end: int) -> int:
    # Where the last line ends that has its end.
    while end:
        begin = max(0, end - 4096)
        os.lseek(file, begin, os.SEEK_SET)
        at = os.read(file, end - begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return 0
