"""A section of a file for each form, written and read in the order of their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import numpy as np

from ..errors import FormatError, UserError
from ..nn.forms import Form
from .accounting import Row
from .bits import BitReader, BitWriter, Budget
from .envelope import Opened
from .forms import read_form, write_form
from .mixed import units_of
from .positions import Choice

Array = np.ndarray
Force = Choice | str | Mapping[str, Choice | str] | None


def write_sections(forms: dict[str, Form], force: Force = None) -> list[bytes]:
    """Returns the sections of the named forms; `force` and errors as of `files.save`."""
    sections, choices, units = [], _choices(force, list(forms)), None
    for name, form in forms.items():
        w = BitWriter()
        try:
            write_form(w, form, choices.get(name, Choice()), units)
        except ValueError as e:
            raise UserError(f"{name}: {e}") from None
        sections.append(w.getvalue())
        units = _units(form, units)
    return sections


def read_sections(
    opened: Opened, shapes: dict[str, tuple[int, ...]], budget: Budget
) -> tuple[list[Row], dict[str, Form]]:
    """Returns where the bytes of the named forms went, and the forms.

    shapes : of the forms by name        budget : of the file; 4 bytes a weight are booked already
    Raises FormatError, which names the form, where one is damaged.
    """
    rows, forms, units = [], {}, None
    for name, shape in shapes.items():
        r = BitReader(opened.section(name), budget)
        row, forms[name] = named(name, read_form, r, name, shape, units)
        rows.append(row)
        units = _units(forms[name], units)
    return rows, forms


def _units(form: Form, before: Array | None) -> Array | None:
    # What the next form may know of those before it: see codec/mixed.py.
    return before if len(form.shape) < 2 else units_of(form.mask)


def named(name: str, read: Callable, *args):
    """Returns read(*args); its FormatError then begins with the name."""
    try:
        return read(*args)
    except FormatError as e:
        raise FormatError(f"{name}: {e}") from None


def _choices(force: Force, names: list[str]) -> dict[str, Choice]:
    by_pattern = force if isinstance(force, Mapping) else {} if force is None else {"*": force}
    found = {}
    for pattern, choice in by_pattern.items():
        matched = [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            raise UserError(f"pattern {pattern!r} matches no form; there are {', '.join(names)}")
        try:
            made = Choice(layout=choice) if isinstance(choice, str) else choice
        except ValueError as e:
            raise UserError(str(e)) from None
        found |= dict.fromkeys(matched, made)
    return found
