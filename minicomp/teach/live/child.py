"""The student's process: it runs the cells, then calls the student's functions on arguments that it
is sent.

It knows no key, no expected value and no points; it returns what the functions returned. So
patching NumPy, this package or builtins, printing a result or exiting gains nothing. It is not a
sandbox.

The parent sends the cells once, then one message for each exercise, and gets a line for every cell
before it runs, then the answers.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import struct
import sys
import time
import traceback

from . import wire
from ..asking.ban import refusing
from ..asking.exercise import REFUSAL
from ..notebook.cells import plain

HIDDEN = ("minicomp.teach.checks", "minicomp.teach.grading.grade", "minicomp.teach.notebook.build")
MESSAGE_CHARS = 300


class TimeUp(BaseException):
    """A cell or a call took too long; not an Exception, so that `except Exception` lets it pass."""


def main() -> None:
    """Serves a parent over standard input and output, which the student's code does not get."""
    inbox, outbox = _private_channel()
    job = read_frame(inbox)
    _limit(job["memory"])
    _quiet_lesson(inbox, outbox)
    space = {"__name__": "__main__", "__builtins__": __builtins__}
    write_frame(outbox, {"started": time.process_time()})
    slack = read_frame(inbox)["slack"]
    problems = _run_cells(job, space, outbox, slack)
    names = {name: callable(space.get(name)) for name in job["names"]}
    write_frame(outbox, {"done": "cells", "problems": problems, "names": names})
    while (ask := read_frame(inbox)) is not None:
        fn = space.get(ask["name"])
        answers = _answers(fn, ask["calls"], ask["banned"], ask["seconds"], slack)
        write_frame(outbox, {"done": "call", "answers": answers})


def write_frame(stream, value) -> None:
    """Writes a value with its length before it."""
    data = wire.pack(value)
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def read_frame(stream):
    """Returns the next value, or None at the end; WireError for anything else."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack("<Q", head)
    if length > 2 * wire.MAX_BYTES:
        raise wire.WireError(f"a message of {length} bytes")
    data = stream.read(length)
    return wire.unpack(data) if len(data) == length else None


def _private_channel():
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    sys.stdin, sys.stdout = io.StringIO(), open(os.devnull, "w", encoding="utf-8")
    sys.stderr = sys.stdout
    return inbox, outbox


def _limit(memory: int) -> None:
    # Address space, file sizes and core dumps; where the platform has no such limits, the parent's
    # clock remains.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 2**20, 16 * 2**20))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _quiet_lesson(inbox, outbox) -> None:
    # In the student's process checks and hints say nothing, no data are loaded, and the broken
    # variant of an exercise is asked of the parent: its code lies beside the right answers.
    from ... import teach

    def broken(lesson, id):
        def ask(*args):
            write_frame(outbox, {"broken": list(args)})
            reply = read_frame(inbox)
            if reply is None or "value" not in reply:
                raise ValueError(reply["error"] if reply else "no answer")
            return reply["value"]

        return ask

    for name in HIDDEN:
        sys.modules[name] = None  # an import of it fails
    teach.check = teach.hint = lambda *a, **k: None
    teach.predict = lambda id=None, guess=None, *a, **k: guess
    teach.reflect = lambda *a, **k: None
    teach.Lesson.idle, teach.Lesson.broken = True, broken


def _run_cells(job: dict, space: dict, outbox, slack: float) -> list:
    # Runs the cells in order and returns [index, message] of those that raised. What defines an
    # exercise runs always, the rest while its time lasts. A cell that missed a name runs once more
    # at the end.
    problems, again = {}, []
    start = time.process_time()
    for i, source, needed in [(-1, job["prelude"], False), *map(tuple, job["cells"])]:
        left = job["seconds"] - (time.process_time() - start)
        if left <= 0 and not needed:
            problems[i] = "not run: the time for the cells was used up"
            continue
        write_frame(outbox, {"cell": i})
        seconds = job["cell_seconds"] if needed else min(job["cell_seconds"], left)
        found = _run(i, source, space, seconds, slack)
        if found:
            problems[i] = found
            if found.startswith("NameError") and needed:
                again.append((i, source, seconds))
    for i, source, seconds in again:
        write_frame(outbox, {"cell": i})
        if _run(i, source, space, seconds, slack) is None:
            del problems[i]
    return [[i, text] for i, text in problems.items() if i >= 0]


def _run(i: int, source: str, space: dict, seconds: float, slack: float) -> str | None:
    try:
        with _clock(seconds, slack):
            exec(compile(plain(source), f"<cell {i}>", "exec"), space)
    except TimeUp:
        return f"stopped after {seconds:.0f} s"
    except BaseException as e:
        return _explain(e)
    return None


def _answers(fn, calls: list, banned: list, seconds: float, slack: float) -> list:
    # One [kind, value, text] per call; after a call that is too slow the rest is not tried.
    out = []
    try:
        with refusing(banned):
            for call in calls:
                out.append(one_answer(fn, call, seconds, slack))
                if out[-1][0] == "slow":
                    break
    except TimeUp:
        out.append(["slow", None, ""])
    return out


def one_answer(fn, call: dict, seconds: float = 0, slack: float = 1) -> list:
    """Returns [kind, value, text] of fn(*call.values()): "value", or how the call failed.

    seconds : of processor time, 0 for no limit        slack : see `_clock`
    """
    try:
        with _clock(seconds, slack):
            value = fn(*call.values())
        wire.pack(value)
        return ["value", value, ""]
    except TimeUp:
        return ["slow", None, f"stopped after {seconds:g} s"]
    except NotImplementedError:
        return ["not-written", None, ""]
    except wire.WireError as e:
        return ["odd", None, str(e)[:MESSAGE_CHARS]]
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt) and not seconds:  # in a notebook: the user's own
            raise
        text = _explain(e)
        return ["refused" if REFUSAL in text else "raised", None, text]


def _explain(e: BaseException) -> str:
    # "NameError: name 'np' is not defined (line 3)": the last line that is in the student's own cell.
    try:
        frames = traceback.extract_tb(e.__traceback__)[1:]  # after ours
        lines = [f.lineno for f in frames if f.filename == frames[0].filename]
        if isinstance(e, SyntaxError):
            lines, text = [e.lineno], e.msg
        else:
            text = str(e)
        line = f" (line {lines[-1]})" if lines else ""
    except Exception:  # an exception of the student's own that cannot be shown
        line, text = "", ""
    return f"{type(e).__name__}: {' '.join(text.split())}"[:MESSAGE_CHARS] + line


@contextlib.contextmanager
def _clock(seconds: float, slack: float):
    # Raises TimeUp in the running code after so many seconds of processor time, and again every
    # half second until it stops. What only waits is stopped by the clock on the wall, at twice the
    # seconds times `slack`: how much slower than its processor time this process runs.
    if not seconds or not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(signum, frame):
        raise TimeUp

    signal.signal(signal.SIGALRM, ring)
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.5)
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds * slack, 0.5)
    try:
        yield
    finally:
        _stop_clock()


def _stop_clock() -> None:
    try:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeUp:  # it rang on the way here
        _stop_clock()


if __name__ == "__main__":
    main()
