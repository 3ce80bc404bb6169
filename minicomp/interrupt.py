"""Ctrl-C while the command `minicomp` is only being imported: it ends in a line, not a traceback.

Imports take a tenth of a second in which no code of the command can catch anything; so the package
sets this handler first, and `main` takes it back when its own begins. A program that imports
minicomp keeps the handler that it has.
"""

from __future__ import annotations

import os
import signal
import sys


def _stop(signum, frame) -> None:
    # Nothing is open or half written yet: the process ends at once, whatever C code imports. The
    # workers of a sweep leave it to the command to say so.
    if "--multiprocessing-fork" not in sys.orig_argv and "loky" not in " ".join(sys.orig_argv[:4]):
        os.write(2, b"minicomp: stopped\n")
    os._exit(130)


def guard_imports() -> None:
    """Sets the handler, if this process is the command and Ctrl-C is not ignored or handled."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)


def begin() -> None:
    """Brings Python's own handler back: KeyboardInterrupt, which the command catches."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end() -> None:
    """Ignores Ctrl-C while the process of the command that is done shuts down."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_command() -> bool:
    # The script `minicomp`, or `python -m minicomp`, but neither a thread nor a module of it.
    words = sys.orig_argv
    module = "-m" in words and words[words.index("-m") + 1:][:1] == ["minicomp"]
    name = os.path.basename(sys.argv[0] if sys.argv else "")
    return module or os.path.splitext(name)[0] == "minicomp"
