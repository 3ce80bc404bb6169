"""The parent's side of the student's process: start it, talk to it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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


START_SECONDS = 120.0  # until the process has imported what it needs
MAX_SLACK = 20.0


class Lost(Exception):
    """The process ended, hangs, or says what it should not."""


class Child:
    """A running student's process; a context manager that ends it and all that it started.

    broken : answers the process's calls of the broken variant: arguments -> {"value"} or {"error"}
    memory : bytes of the process, and of all that it starts together

    Nothing that the process does holds the parent: whatever is read or written has a deadline, one
    message at a time is kept, and none is larger than `wire.MAX_BYTES`.
    """

    def __init__(self, broken: Callable[[list], dict], memory: int = Limits.memory):
        self._broken = broken
        self.slack, self._spawned, self.refused = 1.0, time.monotonic(), False
        self._folder, self._held = _own_folder()
        self._process, self._life = _started(self._folder, memory)
        self._over = threading.Event()
        self._frames: queue.Queue = queue.Queue(maxsize=1)
        threading.Thread(target=self._read, daemon=True).start()
        if FORKS:
            os.set_blocking(self._process.stdin.fileno(), False)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc) -> None:
        self._over.set()
        if self._life is not None:
            os.close(self._life)  # the keeper sees it, ends everything and then itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(keeper.ENDING_SECONDS + 5)
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # standard output is closed by whoever reads it
        keeper.cleared(self._folder)
        if self._held is not None:
            os.close(self._held)

    def send(self, value, seconds: float = START_SECONDS) -> None:
        """Sends a value; Lost where the process is gone or does not take it in time."""
        data, stop = memoryview(packed_frame(value)), time.monotonic() + seconds
        stream = self._process.stdin.fileno()
        try:
            while data:
                with contextlib.suppress(BlockingIOError):  # where the process does not read
                    data = data[os.write(stream, data):]
                    continue
                if (left := stop - time.monotonic()) <= 0:
                    raise Lost("it did not stop in time")
                select.select([], [stream], [], left)
        except OSError:
            raise Lost(self._why_ended()) from None

    def start(self, job: dict) -> None:
        """Sends the job and learns from the wait how busy the machine is; Lost without a start."""
        self.send(job)
        used = self.receive(START_SECONDS)["started"]
        waited = time.monotonic() - self._spawned
        self.slack = min(max(waited / max(used, 0.05), 1.0), MAX_SLACK)
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
                if self._process.poll() is not None:  # somebody else holds the channel open
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
        # The keeper knows; it ends soon after what it keeps.
        with contextlib.suppress(subprocess.TimeoutExpired):
            return keeper.TOO_MUCH.get(self._process.wait(1.0), "the process ended")
        return "the process ended"

    def _read(self) -> None:
        # Reads one message ahead; with nobody to take it, the process waits.
        stream, frame = self._process.stdout, {}
        while isinstance(frame, dict) and not self._over.is_set():
            try:
                frame = read_frame(stream)
            except (WireError, OSError, ValueError, MemoryError):
                frame = "broken"
            while not self._over.is_set():
                with contextlib.suppress(queue.Full):
                    self._frames.put(frame, timeout=0.2)
                    break
        with contextlib.suppress(OSError):
            stream.close()


def _started(folder: str, memory: int) -> tuple[subprocess.Popen, int | None]:
    # The keeper of a process that serves, and what to close to end it. Standard input and output
    # are the student's process's; without fork there is no keeper, only that process.
    env = {k: os.environ[k] for k in PASSED if k in os.environ} | _SET
    env |= {"MPLBACKEND": "Agg", "TMPDIR": folder}
    job = {"root": _ROOT, "path": [p for p in sys.path if p], "folder": folder, "memory": memory}
    reading, life = os.pipe() if FORKS else (None, None)
    start = [keeper.__file__] if FORKS else ["-c", _ALONE]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", *start, json.dumps(job | {"life": reading})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=env,
            start_new_session=True,
            pass_fds=[reading] if FORKS else (),
        )
    finally:
        if FORKS:
            os.close(reading)
    return process, life


_ALONE = """
import json, sys
sys.path.insert(0, json.loads(sys.argv[1])["root"])
from minicomp.teach.live.keeper import become_student
become_student(json.loads(sys.argv.pop()))
"""


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Around the grading of a notebook or a class: what a student's process leaves behind though
    its keeper was killed comes to this process (Linux), which ends it; and what an earlier run left
    in the temporary folder goes.
    """
    _clear_old_folders()
    before = set(keeper.descendants(os.getpid())) if FORKS else set()
    adopts = FORKS and keeper.prctl(keeper.SET_SUBREAPER, 1)
    try:
        yield
    finally:
        if adopts:
            keeper.end(lambda: [p for p in keeper.descendants(os.getpid()) if p not in before])
            keeper.prctl(keeper.SET_SUBREAPER, 0)


def _own_folder() -> tuple[str, int | None]:
    # A folder for one process, and a lock on it that goes when this process goes.
    folder = tempfile.mkdtemp(prefix=_FOLDERS)
    if not FORKS:
        return folder, None
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    return folder, held


def _clear_old_folders() -> None:
    # Folders of ours that nobody holds; younger ones may not be held yet.
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*") if FORKS else ():
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
