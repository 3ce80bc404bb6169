"""How many threads work: those of our kernels (OpenMP), and those of BLAS.

Kernels take `n_threads`, a whole number; `threads` checks it. GNU's OpenMP keeps its threads for
the next loop; a process made by fork has the record of them but not the threads, and waits for
them for ever. So in a forked process each kernel runs on one thread, to the same bits.

BLAS has one number of threads for the whole process, which everybody who runs it beside threads of
their own wants at 1. `blas` holds limits as long as somebody is inside, whatever the order in which
they leave.
"""

from __future__ import annotations

import contextlib
import os
import threading

from . import doors

MOST = 256
_forked = False  # whether this process was made by fork


def threads(n) -> int:
    """Returns n, 1 in a forked process; ValueError unless it is a whole number in 1..256."""
    if type(n) is not int or not 0 < n <= MOST:
        n = doors.whole("n_threads", n, 1, MOST)
    return 1 if _forked else n


class _Limits:
    # The limits of BLAS that are held, innermost last, by thread; the least of the innermost holds.

    def __init__(self):
        self.lock = threading.Lock()
        self.held: dict[int, list[int]] = {}
        self.before: dict[str, int] = {}  # threads of each library while nobody held a limit

    def enter(self, n: int) -> int:
        thread = threading.get_ident()
        with self.lock:
            self.held.setdefault(thread, []).append(n)
            self.apply()
        return thread

    def leave(self, thread: int) -> None:
        with self.lock:
            self.held[thread].pop()
            if not self.held[thread]:
                del self.held[thread]
            self.apply()

    def apply(self) -> None:
        from threadpoolctl import ThreadpoolController

        n = min((each[-1] for each in self.held.values()), default=None)
        for library in ThreadpoolController().select(user_api="blas").lib_controllers:
            before = self.before.setdefault(library.filepath, library.num_threads)
            _set(library, before if n is None else n)
        if n is None:
            self.before.clear()


def _set(library, n: int) -> None:
    # Later versions of threadpoolctl let only one thread set OpenBLAS, until it gives that up, and
    # ignores others silently. Here all take turns.
    free = getattr(library, "clear_controlling_thread", lambda force: None)
    free(force=True)
    library.set_num_threads(n)
    free(force=True)


_limits = _Limits()


@contextlib.contextmanager
def blas(n: int):
    """Within it BLAS runs on at most n threads, in the whole process.

    Inside one another the innermost counts; of several threads' the least. When the last is left
    the number is what it was before the first.
    """
    n = doors.whole("n", n, 1, MOST)
    thread = _limits.enter(n)
    try:
        yield
    finally:
        _limits.leave(thread)


def _after_fork() -> None:
    # Other threads are gone: with them their limits, and whoever held the lock.
    global _forked
    _forked = True
    mine = threading.get_ident()
    _limits.lock = threading.Lock()
    _limits.held = {thread: each for thread, each in _limits.held.items() if thread == mine}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
