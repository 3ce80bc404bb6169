"""Standard output and error that bear any text and any end of their readers."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator


class Stream(io.TextIOWrapper):
    """A stream whose reader may go away, such as `head`: the rest is then written to nobody, and
    the command finishes its files. What the encoding lacks becomes \\xe9, \\u4e2d.
    """

    def __init__(self, plain: io.TextIOWrapper, title: str):
        self.title = title  # what an error calls it
        super().__init__(plain.buffer, encoding=plain.encoding, errors="backslashreplace",
                         line_buffering=plain.line_buffering)

    def write(self, text: str) -> int:
        """Writes the text; to nobody where nobody reads."""
        with self._bearing():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Hands on what was written; to nobody where nobody reads."""
        with self._bearing():
            super().flush()

    @contextlib.contextmanager
    def _bearing(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self.drop()
        except OSError as e:
            e.filename = self.title
            raise

    def drop(self) -> None:
        """Leads the stream, and what it still holds, nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Puts such streams in the place of the process's own, and a warning on one line, until the
    block ends."""
    before, form = (sys.stdout, sys.stderr), warnings.formatwarning
    warnings.formatwarning = _one_line
    with contextlib.ExitStack() as stack:
        for name, title in (("stdout", "standard output"), ("stderr", "standard error")):
            plain = getattr(sys, name)
            if plain is None:  # closed by whoever started the command
                setattr(sys, name, stack.enter_context(open(os.devnull, "w", encoding="utf-8")))
            elif plain is getattr(sys, f"__{name}__") and isinstance(plain, io.TextIOWrapper):
                setattr(sys, name, Stream(plain, title))
        try:
            yield
        finally:
            mine = sys.stdout, sys.stderr
            (sys.stdout, sys.stderr), warnings.formatwarning = before, form
            for stream in mine:
                if isinstance(stream, Stream):
                    stream.detach()  # its buffer is the process's own


def _one_line(message, *where) -> str:
    return f"minicomp: {message}\n"
