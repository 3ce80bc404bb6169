"""In the student's process, what knows the answers cannot be brought back by a few lines.

Two hooks of the interpreter, which Python code cannot remove: the modules that know cases, answers
or words are not imported, though `sys.modules` forgets that they are hidden; and of a function that
an exercise bans neither the code can be taken (to be run under another name) nor the module be
loaded or read a second time. It is a fence, not a wall: a process can read every file on the
machine with C code, and the sources are public.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator

from ..asking.ban import functions, named, refusing
from ..asking.exercise import REFUSAL


class Guard:
    """Refuses modules and files from now on; `open` lets the grader itself do so.

    hidden : names of modules, which with those in them are not imported nor their files opened
    banned : "module:function" of the library, as exercises name them
    """

    def __init__(self, hidden: Iterable[str], banned: Iterable[str]):
        self.hidden = tuple(hidden)
        root = os.path.dirname(os.path.abspath(sys.modules["minicomp"].__file__))
        below = [os.path.join(root, *name.split(".")[1:]) for name in self.hidden]
        self.closed = tuple(b + end for b in below for end in (os.sep, "."))
        own = [fn for name in banned for fn in functions(named(name))]
        self.codes = [fn.__code__ for fn in own]
        self.files = {fn.__globals__.get("__file__") for fn in own}
        self.at_work = False  # this class itself, exchanging code
        sys.addaudithook(self._see)

    @contextlib.contextmanager
    def refusing(self, names: Iterable[str]) -> Iterator[None]:
        """Within it the named functions refuse, as in a check."""
        self.at_work = True
        try:
            with refusing(names):
                self.at_work = False
                try:
                    yield
                finally:
                    self.at_work = True
        finally:
            self.at_work = False

    def _see(self, event: str, args: tuple) -> None:
        # Called for every event of the interpreter: what is not asked about leaves at once.
        if event == "import":
            if _within(args[0], self.hidden):
                raise ModuleNotFoundError(f"No module named {args[0]!r}", name=args[0])
        elif event == "open":
            if isinstance(args[0], str) and args[0].endswith((".py", ".pyc")):
                path = os.path.abspath(args[0])
                if path.replace(f"__pycache__{os.sep}", "").startswith(self.closed):
                    raise PermissionError(13, "closed while a notebook is graded", args[0])
        elif event == "object.__getattr__":
            if args[1] == "__code__" and not self.at_work and self._is_banned(args[0]):
                raise RuntimeError(REFUSAL)
        elif event == "exec":
            if getattr(args[0], "co_name", "") == "<module>" and args[0].co_filename in self.files:
                raise RuntimeError(REFUSAL)

    def _is_banned(self, function) -> bool:
        self.at_work = True
        try:
            return any(function.__code__ is code for code in self.codes)
        finally:
            self.at_work = False


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return name in packages or name.startswith(tuple(p + "." for p in packages))
