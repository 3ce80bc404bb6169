"""Students' processes and their keepers: nothing that such a process starts outlives it.

Run as a script, with the standard library alone, this is the nursery: it loads what students'
processes need once, and forks one keeper for each notebook. It holds no key: it is a process of its
own, not a fork of the grader.

A keeper forks the student's process, watches it and all that it starts (also what leaves the
session or is orphaned, which comes to the keeper as the nearest subreaper), and ends all of it when
the grader says so, when the grader is gone (killed, perhaps), or when the processes are too many,
hold too much memory or write too much. Then it removes the folder they ran in.

Without Linux's /proc and subreapers only the process itself is ended. It is no sandbox: a process
of the same user can kill the keeper; then the grader, the next subreaper, ends what is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable

SET_DEATH_SIGNAL, SET_DUMPABLE, SET_SUBREAPER = 1, 4, 36  # prctl(2)
MOST_PROCESSES = 48
MOST_WRITTEN = 2**30  # bytes, of all that lives: the limit of a file is the process' own
TOO_MUCH = {3: "it started too many processes", 4: "its processes held too much memory",
            5: "it wrote too much"}
ENDING_SECONDS = 10.0
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def main() -> None:
    """Serves `process.Nursery` over standard input, a socket: for each message, a JSON text of
    folder and memory with three descriptors, it forks a keeper and answers one byte.

    argv : a JSON text of root and path (of imports), and preload: whether to load before forking
    """
    job = json.loads(sys.argv[1])
    sys.argv, sys.dont_write_bytecode = ["notebook"], True
    sys.path[:] = [job["root"], *job["path"]]
    if job["preload"]:
        importlib.import_module("minicomp.teach.live.child")
    prctl(SET_DUMPABLE, 0)  # no student's process changes what the next are forked from
    with socket.socket(fileno=0) as control:
        while True:
            message, given, _, _ = socket.recv_fds(control, 2**16, 3)
            if not message:
                return
            if os.fork() == 0:
                try:
                    _become_keeper(json.loads(message), *given)
                finally:
                    os._exit(1)
            for descriptor in given:
                os.close(descriptor)
            _reaped(0)
            control.sendall(b"k")


def _become_keeper(job: dict, inbox: int, outbox: int, life: int) -> None:
    # inbox, outbox : the student's process's channel        life : a socket to the grader, which
    # learns the keeper's process id, and what ended the student's process too early
    os.setsid()
    prctl(SET_DUMPABLE, 1)
    prctl(SET_SUBREAPER, 1)
    os.dup2(inbox, 0)
    os.dup2(outbox, 1)
    os.close(inbox)
    os.close(outbox)
    keeper, student = os.getpid(), os.fork()
    if student == 0:
        os.close(life)
        _become_student(keeper, job["folder"])
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    with socket.socket(fileno=life) as grader:
        grader.sendall(keeper.to_bytes(8, "little"))
        try:
            why = _keep(grader, student, job["memory"])
        finally:
            end(lambda: descendants(keeper))
            cleared(job["folder"])
        with contextlib.suppress(OSError):  # the grader is gone
            grader.sendall(bytes([why]))


def _become_student(keeper: int, folder: str) -> None:
    os.setsid()  # a signal to its group does not reach the keeper
    prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() == keeper:
        os.chdir(folder)
        from minicomp.teach.live.child import main as serve

        serve()
    os._exit(0)


def _keep(grader: socket.socket, student: int, memory: int) -> int:
    # Until the grader says so, the student's process ends, or a limit is passed: returns 0, or the
    # key of the limit in TOO_MUCH.
    while True:
        if select.select([grader], [], [], 0.1)[0] or _reaped(student):
            return 0
        there = descendants(os.getpid())
        if len(there) > MOST_PROCESSES:
            return 3
        if sum(map(_memory, there)) > memory:
            return 4
        if sum(map(_written, [os.getpid(), *there])) > MOST_WRITTEN:
            return 5


def _reaped(student: int) -> bool:
    # Takes note of all that ended; whether the student's process is among them.
    found = False
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            found |= pid == student
    return found


def prctl(option: int, value: int) -> bool:
    """Sets an attribute of this process (Linux); returns whether that worked."""
    try:
        return ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0) == 0
    except (OSError, AttributeError, TypeError):
        return False


def descendants(pid: int) -> list[int]:
    """Returns the processes below one; empty where there is no /proc."""
    try:
        open(f"/proc/self/task/{os.getpid()}/children").close()
    except OSError:
        return _descendants_of_all(pid)
    return _below(pid, _children)


def _below(pid: int, children: Callable[[int], list[int]]) -> list[int]:
    found, ask = [], [pid]
    while ask:
        found += (mine := children(ask.pop()))
        ask += mine
    return found


def _children(pid: int) -> list[int]:
    out: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as f:
                out += map(int, f.read().split())
    return out


def _descendants_of_all(pid: int) -> list[int]:
    # Where the kernel keeps no lists of children: from every process's parent.
    below: dict[int, list[int]] = {}
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as f:
                    parent = int(f.read().rpartition(b")")[2].split()[1])
                below.setdefault(parent, []).append(int(name))
    return _below(pid, lambda parent: below.pop(parent, []))


def _memory(pid: int) -> int:
    # Bytes that a process holds by itself: resident, without what files and others share.
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/statm") as f:
            resident, shared = map(int, f.read().split()[1:3])
        return (resident - shared) * _PAGE
    return 0


def _written(pid: int) -> int:
    # Bytes that a process wrote to anything, and those whose end it took note of; pages that it
    # changed in mapped files count in write_bytes only.
    with contextlib.suppress(OSError, ValueError):
        with open(f"/proc/{pid}/io") as f:
            said = dict(line.split(": ") for line in f)
        return max(int(said["wchar"]), int(said["write_bytes"]))
    return 0


def end(there: Callable[[], list[int]]) -> None:
    """Kills all processes that `there()` lists, again and again until it lists none."""
    stop = time.monotonic() + ENDING_SECONDS
    while (left := there()) and time.monotonic() < stop:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # somebody else's child, until it is ours
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)


def cleared(folder: str) -> bool:
    """Removes a folder, whatever was put into it: without rights, thousands of folders deep.

    Returns whether it is gone. Folders are emptied from the top: what stands in one of them is
    moved up before the folder goes, so no path is long.
    """
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder)
        return True
    stop, moved = time.monotonic() + ENDING_SECONDS, secrets.token_hex(8)
    number = 0
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)
        while (entries := list(os.scandir(folder))) and time.monotonic() < stop:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                    continue
                os.chmod(entry.path, 0o700)
                for below in list(os.scandir(entry.path)):
                    if below.is_dir(follow_symlinks=False):
                        os.chmod(below.path, 0o700)  # without it, it cannot be moved
                    number += 1
                    os.rename(below.path, os.path.join(folder, f"{moved}-{number}"))
                os.rmdir(entry.path)
        os.rmdir(folder)
    return not os.path.lexists(folder)


if __name__ == "__main__":
    main()
