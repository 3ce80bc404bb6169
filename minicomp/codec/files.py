"""Files of every kind: whoever loads one need not know whether it holds a model or a program."""

from __future__ import annotations

from pathlib import Path

from ..atomic import write_atomically
from ..deploy import Program
from ..errors import FormatError, UserError, format_errors, printable
from ..nn.graph import Model
from . import model, program
from .accounting import Shown
from .envelope import kind_of
from .sections import Force


def save(thing: Model | Program, path: str | Path, *, force: Force = None) -> int:
    """Writes a model or a program to `path`, atomically, and returns the bytes of the file.

    force : None takes the fewest bytes; a Choice, or the name of a layout, holds for every form
        with a mask; a mapping gives them by pattern of form names, of which the last match wins
    Raises UserError for NaN or infinity in the weights, a pattern that matches no form, an
    impossible Choice.
    """
    data = encode(thing, force=force)
    write_atomically(path, data)
    return len(data)


def load(path: str | Path, max_bytes: int = 2**30, *, kind: str | None = None) -> Model | Program:
    """Returns what is in a file: a model, its forms frozen, or a program.

    max_bytes : limit of the file, the weights and the activations that it declares together, and of
        the arrays of one step of decoding; no more than three times as much is ever in use
    kind : "model" or "program", which it must be; None takes both
    Raises FormatError where anything is wrong with the file, OSError where it cannot be read.
    """
    return show(path, max_bytes, kind=kind).model


def show(path: str | Path, max_bytes: int = 2**30, *, kind: str | None = None) -> Shown:
    """Returns where every byte of a file went, and what it holds; raises what `load` raises."""
    path = Path(path)
    if path.stat().st_size > max_bytes:
        raise FormatError(f"{printable(path)}: a file must take at most {max_bytes} bytes, "
                          f"got {path.stat().st_size}")
    try:
        return decode(path.read_bytes(), max_bytes, kind=kind)
    except FormatError as e:
        raise FormatError(f"{printable(path)}: {e}") from e.__cause__


def encode(thing: Model | Program, *, force: Force = None) -> bytes:
    """Returns the bytes of the file of a model or a program; arguments and errors of `save`."""
    if not isinstance(thing, Model | Program):
        raise UserError(f"a file holds a Model or a Program, got {printable(repr(thing), 80)}")
    return (program if isinstance(thing, Program) else model).encode(thing, force=force)


def decode(data: bytes, max_bytes: int = 2**30, *, kind: str | None = None) -> Shown:
    """Returns what the bytes of a file hold, and where they went; raises what `load` does."""
    holds_program = (kind or kind_of(data)) == "program"
    with format_errors():
        return (program if holds_program else model).decode(data, max_bytes)
