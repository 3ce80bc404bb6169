"""The parent's side of the student's process: start it, talk to it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ..asking.exercise import REFUSAL
from . import keeper
from .wire import WireError, packed_frame, read_frame

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_ROOT = str(Path(__file__).parents[3])
# What the process gets of the environment: where programs and libraries lie, the language, and
# where home is (matplotlib's fonts are cached there). Nothing else: no token, no name of a key.
PASSED = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
    "SYSTEMROOT", "MINICOMP_ISA",
)
_SET = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_FOLDERS = "minicomp-grade-"
FORKS = hasattr(os, "fork") and fcntl is not None
# Elsewhere than on Linux a library that was loaded before a fork may hang after it.
PRELOADS = sys.platform == "linux"


@dataclass(frozen=True)
class Limits:
    """Seconds of processor time and bytes that one notebook gets.

    cell, cells : of one cell, of all        call, exercise : of one call, of all of an exercise
    total : of the notebook        memory : bytes of address space
    On a busy machine the clock on the wall allows more, by as much as starting took longer.
    """

    cell: float = 4.0
    cells: float = 8.0
    call: float = 2.0
    exercise: float = 5.0
    total: float = 20.0
    memory: int = 2 * 2**30


START_SECONDS = 120.0  # until what is needed is loaded, on the busiest machine
MAX_SLACK = 20.0


class Lost(Exception):
    """The process ended, hangs, or says what it should not."""


class Nursery:
    """Where students' processes come from; a context manager around grading a notebook or a class.

    It is a process that has loaded what they need and forks them (see `keeper`). What one of them
    leaves behind though its keeper was killed comes to this process (Linux), which ends it; what an
    earlier run left in the temporary folder goes.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._process = self._control = None

    def __enter__(self) -> Nursery:
        if not FORKS:
            raise UserError("notebooks are graded on Linux and macOS; on Windows use WSL")
        _clear_old_folders()
        self._before = set(keeper.descendants(os.getpid()))
        self._adopts = keeper.prctl(keeper.SET_SUBREAPER, 1)
        self._start()
        return self

    def __exit__(self, *exc) -> None:
        self._stop()
        if self._adopts:
            keeper.end(self._left_behind)
            keeper.prctl(keeper.SET_SUBREAPER, 0)

    def _left_behind(self) -> list[int]:
        return [p for p in keeper.descendants(os.getpid()) if p not in self._before]

    def _start(self) -> None:
        env = {k: os.environ[k] for k in PASSED if k in os.environ} | _SET
        job = {"root": _ROOT, "path": [p for p in sys.path if p], "preload": PRELOADS}
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", keeper.__file__, json.dumps(job)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=env | {"MPLBACKEND": "Agg"},
                start_new_session=True,
            )
        self._control.settimeout(START_SECONDS)

    def _stop(self) -> None:
        self._control.close()
        self._process.kill()  # its keepers have their own word from this process
        self._process.wait()

    def fork(self, job: dict, given: list[int]) -> None:
        """Forks a keeper, which gets the job and these descriptors; Lost where that fails."""
        with self._lock:
            for _ in range(2):
                with contextlib.suppress(OSError):  # a student's process may have killed it
                    socket.send_fds(self._control, [json.dumps(job).encode()], given)
                    if self._control.recv(1) == b"k":
                        return
                self._stop()
                self._start()
        raise Lost("no process can be started")


class Child:
    """A running student's process; a context manager that ends it and all that it started.

    broken : answers the process's calls of the broken variant: arguments -> {"value"} or {"error"}
    memory : bytes of the process, and of all that it starts together

    Nothing that the process does holds the parent: whatever is read or written has a deadline, one
    message at a time is kept, and none is larger than `wire.MAX_BYTES`.
    """

    def __init__(self, nursery: Nursery, broken: Callable[[list], dict], memory: int):
        self._broken = broken
        self.slack, self.refused = 1.0, False
        self._folder, self._held = _own_folder()
        inbox, self._to = os.pipe()
        source, outbox = os.pipe()
        self._life, theirs = socket.socketpair()
        self._keeper = self._why = None
        self._over = threading.Event()
        self._frames: queue.Queue = queue.Queue(maxsize=1)
        threading.Thread(target=self._read, args=[source], daemon=True).start()
        os.set_blocking(self._to, False)
        job = {"folder": self._folder, "memory": memory}
        try:
            nursery.fork(job, [inbox, outbox, theirs.fileno()])
        except Lost:
            self.__exit__()
            raise
        finally:
            theirs.close()
            os.close(inbox)
            os.close(outbox)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._life.shutdown(socket.SHUT_WR)  # the keeper ends everything and then itself
        if not self._ended(keeper.ENDING_SECONDS + 2) and self._keeper:
            with contextlib.suppress(OSError):
                os.kill(self._keeper, signal.SIGKILL)  # it was stopped
        self._life.close()
        os.close(self._to)
        keeper.cleared(self._folder)
        os.close(self._held)

    def _ended(self, seconds: float) -> bool:
        # Whether the keeper has ended, which is awaited so long; its words are taken in.
        self._life.settimeout(seconds)
        try:
            while word := self._life.recv(8 if self._keeper is None else 1):
                if self._keeper is None:
                    self._keeper = int.from_bytes(word, "little")
                else:
                    self._why = keeper.TOO_MUCH.get(word[0])
        except BlockingIOError:
            return False
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def send(self, value, seconds: float = START_SECONDS) -> None:
        """Sends a value; Lost where the process is gone or does not take it in time."""
        data, stop = memoryview(packed_frame(value)), time.monotonic() + seconds
        try:
            while data:
                with contextlib.suppress(BlockingIOError):  # where the process does not read
                    data = data[os.write(self._to, data):]
                    continue
                if (left := stop - time.monotonic()) <= 0:
                    raise Lost("it did not stop in time")
                select.select([], [self._to], [], left)
        except OSError:
            raise Lost(self._why_ended()) from None

    def start(self, job: dict) -> None:
        """Sends the job and learns from the wait how busy the machine is; Lost without a start."""
        self.send(job)
        self.slack = min(max(float(self.receive(START_SECONDS)["started"]), 1.0), MAX_SLACK)
        self.send({"slack": self.slack})

    def receive(self, seconds: float, broken: bool = False) -> dict:
        """Returns the next message; Lost where none comes in time, or it is no message.

        seconds : on the wall, whatever is sent until then
        broken : whether the process may ask the broken variant meanwhile; where it asks though it
            may not, it is refused, and `refused` says so
        """
        stop, self.refused = time.monotonic() + seconds, False
        while (left := stop - time.monotonic()) > 0:
            try:
                frame = self._frames.get(timeout=min(left, 0.5))
            except queue.Empty:
                if self._ended(0):  # somebody else holds the channel open
                    raise Lost(self._why_ended()) from None
                continue
            if frame is None:
                raise Lost(self._why_ended())
            if not isinstance(frame, dict):
                raise Lost("the process sent something else")
            if "broken" not in frame:
                return frame
            self.refused |= not broken
            reply = self._broken(frame["broken"]) if broken else {"error": REFUSAL}
            self.send(reply, stop - time.monotonic())
        raise Lost("it did not stop in time")

    def _why_ended(self) -> str:
        self._ended(1.0)  # the keeper ends soon after what it keeps
        return self._why or "the process ended"

    def _read(self, source: int) -> None:
        # Reads one message ahead; with nobody to take it, the process waits.
        frame: object = {}
        with os.fdopen(source, "rb") as stream:
            while isinstance(frame, dict) and not self._over.is_set():
                try:
                    frame = read_frame(stream)
                except (WireError, OSError, ValueError, MemoryError):
                    frame = "broken"
                while not self._over.is_set():
                    with contextlib.suppress(queue.Full):
                        self._frames.put(frame, timeout=0.2)
                        break


def _own_folder() -> tuple[str, int]:
    # A folder for one process, and a lock on it that goes when this process goes.
    folder = tempfile.mkdtemp(prefix=_FOLDERS)
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    return folder, held


def _clear_old_folders() -> None:
    # Folders of ours that nobody holds; younger ones may not be held yet.
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*"):
        with contextlib.suppress(OSError):
            about = path.lstat()
            mine = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
            if not mine or time.time() - about.st_mtime < 60:
                continue
            held = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                keeper.cleared(str(path))
            finally:
                os.close(held)
