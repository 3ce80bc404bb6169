"""The parent's side of the student's process: start it, talk to it, end it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .wire import WireError, read_frame, write_frame

_ROOT = str(Path(__file__).parents[3])
# One thread, no display, no .pyc files; then the process is the child's. No name of a file or a key
# is passed.
_START = """
import os, sys
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ["MPLBACKEND"] = "Agg"
sys.dont_write_bytecode = True
sys.path.insert(0, {root!r})
from minicomp.teach.live.child import main
main()
"""


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
    """

    def __init__(self, broken: Callable[[list], dict]):
        self._broken = broken
        self.slack, self._spawned = 1.0, time.monotonic()
        self._folder = tempfile.TemporaryDirectory(
            prefix="minicomp-grade-", ignore_cleanup_errors=True
        )
        # A session of its own on POSIX: the group is ended as one.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START.format(root=_ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            start_new_session=True,
        )
        self._frames: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc) -> None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close()
        self._folder.cleanup()

    def send(self, value) -> None:
        """Sends a value; Lost where the process is gone."""
        try:
            write_frame(self._process.stdin, value)
        except OSError:
            raise Lost("the process ended") from None

    def start(self, job: dict) -> None:
        """Sends the job and learns from the wait how busy the machine is; Lost without a start."""
        self.send(job)
        used = self.receive(START_SECONDS)["started"]
        waited = time.monotonic() - self._spawned
        self.slack = min(max(waited / max(used, 0.05), 1.0), MAX_SLACK)
        self.send({"slack": self.slack})

    def receive(self, seconds: float) -> dict:
        """Returns the next message; Lost where none comes in time, or it is no message.

        seconds : on the wall
        """
        stop = time.monotonic() + seconds
        while True:
            try:
                frame = self._frames.get(timeout=max(stop - time.monotonic(), 0.01))
            except queue.Empty:
                raise Lost("it did not stop in time") from None
            if not isinstance(frame, dict):
                raise Lost(
                    "the process ended" if frame is None else "the process sent something else"
                )
            if "broken" not in frame:
                return frame
            self.send(self._broken(frame["broken"]))

    def _read(self) -> None:
        while True:
            try:
                frame = read_frame(self._process.stdout)
            except (WireError, OSError, ValueError, MemoryError):
                frame = "broken"
            self._frames.put(frame)
            if not isinstance(frame, dict):
                return
