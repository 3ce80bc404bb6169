"""The student's process: it runs the cells, then calls their functions on what it is sent.

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
import sys
import time

from ..asking.ban import refusing
from ..notebook.cells import plain
from .calling import TimeUp, clock, explain, one_answer
from .wire import read_frame, write_frame

# What knows cases, answers, words or solutions. The functions that an exercise asks for refuse.
HIDDEN = (
    "minicomp.reference",
    "minicomp.teach.checks",
    "minicomp.teach.grading",
    "minicomp.teach.notebook.build",
)


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
        _hide(name)
    teach.check = teach.hint = lambda *a, **k: None
    teach.predict = lambda id=None, guess=None, *a, **k: guess
    teach.reflect = lambda *a, **k: None
    teach.Lesson.idle, teach.Lesson.broken = True, broken


def _hide(name: str) -> None:
    # From now on an import of the module, or of one in it, fails.
    parent, _, last = name.rpartition(".")
    if hasattr(sys.modules.get(parent), last):
        delattr(sys.modules[parent], last)
    for loaded in [name, *(m for m in sys.modules if m.startswith(f"{name}."))]:
        sys.modules[loaded] = None


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
        with clock(seconds, slack):
            exec(compile(plain(source), f"<cell {i}>", "exec"), space)
    except TimeUp:
        return f"stopped after {seconds:.0f} s"
    except BaseException as e:
        return explain(e)
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
