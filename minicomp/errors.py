"""The errors a user can meet, each one line: what was wrong, what is allowed, what was given."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class UserError(ValueError):
    """A mistake in what the user asked for; the command line prints it and exits with 2."""


class SettingError(UserError):
    """An environment variable that is set to what is no choice; no file's fault."""


class DataError(UserError):
    """A data file that is missing, truncated, of the wrong format or of the wrong checksum."""


class FormatError(UserError):
    """A model file that breaks the rules of its format; says what and where."""


@contextlib.contextmanager
def format_errors() -> Iterator[None]:
    """Turns whatever a reader of foreign bytes raises into FormatError: its outer door.

    Readers check before they compute, so that what arrives here as something else is a check that
    is missing: it is the FormatError's cause, for whoever looks for it.
    """
    try:
        yield
    except (FormatError, SettingError, OSError):
        raise
    except Exception as e:
        raise FormatError(f"the file is damaged ({type(e).__name__}: {printable(e, 200)})") from e


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: the nearest options, or all of them.

    >>> "unknown knob 'epocs'" + did_you_mean("epocs", ["lr", "epochs"])
    "unknown knob 'epocs'; did you mean epochs?"
    """
    options = list(options)
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(options)}"


def dimensions(shape: Iterable[object]) -> str:
    """Returns a shape as people write it.

    >>> dimensions((300, 784))
    '300 x 784'
    """
    return " x ".join(map(str, shape)) or "a number"


def printable(text: object, limit: int = 400) -> str:
    """Returns foreign text on one line, fit for a terminal, a table or a page.

    Everything that a file, a student or an outside program wrote passes through here before it is
    shown: control and format characters, surrogates and line ends become \\x1b, \\u202e, \\n, so
    that no escape sequence reaches a terminal; what is longer than `limit` letters is cut, and
    says so.

    >>> print(printable("a\\x1b[31mb"), printable("n" * 1000, limit=8))
    a\\x1b[31mb nnnnnnnn... (1,000 letters)
    """
    text = str(text)
    cut = text if len(text) <= limit else text[:limit]
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)
    return shown if cut is text else f"{shown}... ({len(text):,} letters)"


def article(noun: str) -> str:
    """Returns a noun with "a" or "an" before it, by its first letter.

    >>> article("codebook"), article("affine")
    ('a codebook', 'an affine')
    """
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"
