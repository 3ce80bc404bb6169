"""The errors a user can meet, each one line: what was wrong, what is allowed, what was given."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user asked for; the command line prints it and exits with 2."""


class DataError(UserError):
    """A data file that is missing, truncated, of the wrong format or of the wrong checksum."""


class FormatError(UserError):
    """A model file that breaks the rules of its format; says what and where."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: the nearest options, or all of them.

    >>> "unknown knob 'epocs'" + did_you_mean("epocs", ["lr", "epochs"])
    "unknown knob 'epocs'; did you mean epochs?"
    """
    options = list(options)
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(options)}"
