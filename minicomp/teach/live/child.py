"""The student's process: it runs the cells, then calls their functions on what it is sent.

It knows no key, no expected value and no points; it returns what the functions returned. So
patching NumPy, this package or builtins, printing a result or exiting gains nothing. It is not a
sandbox: `guard` closes the short ways to the answers, `keeper` ends what the process leaves behind.

The parent sends the cells once, then one message for each exercise, and gets a line for every cell
before it runs, then the answers.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import sys
import time

from ..notebook.cells import plain
from . import shell
from .calling import TimeUp, clock, explain, one_answer
from .guard import Guard
from .wire import WireError, read_frame, write_frame

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
    _limit(job["memory"], job["processor"])
    _quiet_lesson(inbox, outbox)
    guard = Guard(HIDDEN, job["banned"])
    space = {"__name__": "__main__", "__builtins__": __builtins__} | shell.names()
    os.environ["TMPDIR"] = os.getcwd()
    write_frame(outbox, {"started": _slowness()})
    slack = read_frame(inbox)["slack"]
    run = _Run(job, space, outbox, slack)
    run.all_cells()
    names = {name: callable(space.get(name)) for name in job["names"]}
    told = {"problems": [[i, text] for i, text in run.problems.items()], "defined": run.defined}
    write_frame(outbox, {"done": "cells", "names": names} | told)
    while (ask := read_frame(inbox)) is not None:
        with guard.refusing(ask["banned"]):
            answers = _answers(space.get(ask["name"]), ask["calls"], ask["seconds"], slack)
        try:
            write_frame(outbox, {"done": "call", "answers": answers})
        except WireError as e:  # each can cross, all together are too much
            write_frame(outbox, {"done": "call", "answers": [["odd", None, str(e)]]})


def _private_channel():
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if hasattr(os, "register_at_fork"):  # what the student's code forks does not speak for it

        def leave() -> None:
            for stream in (inbox, outbox):
                os.dup2(null, stream.fileno())

        os.register_at_fork(after_in_child=leave)
    sys.stdin, sys.stdout = io.StringIO(), open(os.devnull, "w", encoding="utf-8")
    sys.stderr = sys.stdout
    return inbox, outbox


def _slowness() -> float:
    # How much longer than its processor time this process takes now: 1 on an idle machine.
    wall, used = time.perf_counter(), time.process_time()
    while (spent := time.process_time() - used) < 0.02:
        pass
    return (time.perf_counter() - wall) / spent


def _limit(memory: int, seconds: int) -> None:
    # Address space, file sizes, core dumps, and more processor time than a notebook can use, which
    # ends what nobody else would; where the platform has no such limits, the parent's
    # clock remains.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 2**20, 16 * 2**20))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


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
    sys.modules.update(shell.modules())
    teach.Lesson.idle, teach.Lesson.broken = True, broken


def _hide(name: str) -> None:
    # From now on an import of the module, or of one in it, fails.
    parent, _, last = name.rpartition(".")
    if hasattr(sys.modules.get(parent), last):
        delattr(sys.modules[parent], last)
    for loaded in [name, *(m for m in sys.modules if m.startswith(f"{name}."))]:
        sys.modules[loaded] = None


class _Run:
    # Runs the cells in order. problems: messages by cell, of those that raised; defined: by name of
    # an exercise, the last cell that changed what the name means.

    def __init__(self, job: dict, space: dict, outbox, slack: float):
        self.job, self.space, self.outbox, self.slack = job, space, outbox, slack
        self.problems: dict[int, str] = {}
        self.defined: dict[str, int] = {}

    def all_cells(self) -> None:
        # What defines an exercise runs always, the rest while its time lasts. A cell that missed a
        # name runs once more at the end.
        job, again, start = self.job, [], time.process_time()
        _run(-1, job["prelude"], self.space, job["cell_seconds"], self.slack)
        for i, source, needed in map(tuple, job["cells"]):
            left = job["seconds"] - (time.process_time() - start)
            if left <= 0 and not needed:
                self.problems[i] = "not run: the time for the cells was used up"
                continue
            seconds = job["cell_seconds"] if needed else min(job["cell_seconds"], left)
            found = self.one(i, source, seconds)
            if found:
                self.problems[i] = found
                if found.startswith("NameError") and needed:
                    again.append((i, source, seconds))
        for i, source, seconds in again:
            if self.one(i, source, seconds) is None:
                del self.problems[i]

    def one(self, i: int, source: str, seconds: float) -> str | None:
        before = {name: self.space.get(name) for name in self.job["names"]}
        write_frame(self.outbox, {"cell": i})
        found = _run(i, source, self.space, seconds, self.slack)
        for name, value in before.items():
            if self.space.get(name) is not value:
                self.defined[name] = i
        return found


def _run(i: int, source: str, space: dict, seconds: float, slack: float) -> str | None:
    try:
        with clock(seconds, slack):
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            code = compile(plain(source), f"<cell {i}>", "exec", flags)
            if code.co_flags & inspect.CO_COROUTINE:
                import asyncio  # here: few cells wait, and loading it takes as long as most cells

                asyncio.run(eval(code, space))
            else:
                exec(code, space)
    except TimeUp:
        return f"stopped after {seconds:.0f} s"
    except BaseException as e:
        return explain(e)
    return None


def _answers(fn, calls: list, seconds: float, slack: float) -> list:
    # One [kind, value, text] per call; after a call that is too slow the rest is not tried.
    out = []
    try:
        for call in calls:
            out.append(one_answer(fn, call, seconds, slack))
            if out[-1][0] == "slow":
                break
    except TimeUp:
        out.append(["slow", None, ""])
    return out
