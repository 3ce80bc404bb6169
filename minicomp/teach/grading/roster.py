"""Whose file is it? Names of a class against paths as learning platforms write them.

A student's name may stand in a path in any of these ways (Moodle, Canvas, Blackboard, Google
Classroom, Brightspace, Sakai, a Mac, a zip of Windows):

    Bea Müller_123_assignsubmission_file_/04.ipynb     müllerbea_123_456_04.ipynb
    Lesson 4_bmueller_attempt_2026-11-20_04.ipynb      Bea Müller - 04.ipynb
    123-456 - Bea Müller - Nov 20, 2026/04.ipynb       Müller, Bea(bmueller)/04.ipynb
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...errors import UserError, printable
from .spreadsheet import fold, read_rows

# Columns of a roster by which a platform may call a student, beside the name.
ALSO = (
    "id", "number", "username", "user name", "user", "login", "login id", "email", "e-mail", "mail",
    "email address", "sis id", "sis user id", "canvas id", "matriculation number",
)
_SPELT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "æ": "ae", "ø": "oe"})
_PLAIN = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th",
                        "ı": "i"})


@dataclass(frozen=True)
class Student:
    """One student of a roster: name, file ("" where not given), what else platforms call them."""

    name: str
    file: str = ""
    also: tuple[str, ...] = ()

    @cached_property
    def forms(self) -> tuple[frozenset[str], ...]:
        """The name's ways to stand in a path, at each strictness of `_levels`."""
        return tuple(
            frozenset(form for name in (self.name, *self.also) for form in _forms(of(name), joint))
            for of, joint in _LEVELS
        )


def read_roster(path: Path) -> list[Student]:
    """Returns the students of a CSV with a column "student", and perhaps "file" and those of ALSO.

    Raises UserError where there are none, or one stands twice.
    """
    rows, _ = read_rows(path, ["student"], what="roster")
    students = []
    for row in rows:
        by = {k.casefold(): v for k, v in row.items()}
        also = [by[k] for k in ALSO if by.get(k)]
        also += [mail.partition("@")[0] for mail in also if "@" in mail]
        name = printable(unicodedata.normalize("NFC", by["student"]), 200)
        students.append(Student(name, by.get("file", ""), tuple(a for a in also if len(a) > 2)))
    students = [s for s in students if s.name]
    count = Counter(fold(s.name) or s.name for s in students)
    twice = sorted(s.name for s in students if count[fold(s.name) or s.name] > 1)
    if not students or twice:
        why = f"{', '.join(dict.fromkeys(twice))} stands twice" if twice else "no students"
        raise UserError(f"roster {printable(path)}: {why}")
    return students


def of_path(name: str, students: Iterable[Student]) -> tuple[Student | None, list[Student]]:
    """Returns the student whose file this is, by its path, and those among whom it is open.

    The file's name in the roster decides, then the first folder (or the file) in which somebody's
    name stands: the strictest spelling, the longest name. Two names of one length decide nothing.
    """
    students, name = list(students), unicodedata.normalize("NFC", name)
    last = name.rpartition("/")[2]
    for s in students:
        if s.file and unicodedata.normalize("NFC", s.file) in (name, last):
            return s, []
    for part in name.split("/"):
        found = named(part, students)
        if found:
            return (found[0], []) if len(found) == 1 else (None, found)
    return None, []


def named(text: str, students: Iterable[Student]) -> list[Student]:
    """Returns whose name stands in a text: of several the longest; more than one where it is open.
    """
    for level, (of, _) in enumerate(_LEVELS):
        words = f" {of(text)} "
        hits = [
            (max(len(f) for f in s.forms[level] if f" {f} " in words), s)
            for s in students
            if any(f" {f} " in words for f in s.forms[level])
        ]
        if hits:
            longest = max(length for length, _ in hits)
            return [s for length, s in hits if length == longest]
    return []


def same_person(said: str, name: str) -> bool:
    """Returns whether two names can be one person's: the words of one are among the other's."""
    pairs = [(of(said).split(), of(name).split()) for of in (fold, _plain, _spelt)]
    return any(
        set(a) <= set(b) or set(b) <= set(a) or "".join(a) == "".join(b) for a, b in pairs
    )


def _plain(text: str) -> str:
    # Without accents: Müller as Muller.
    parts = unicodedata.normalize("NFKD", fold(text).translate(_PLAIN))
    return "".join(c for c in parts if not unicodedata.combining(c))


def _spelt(text: str) -> str:
    return _plain(fold(text).translate(_SPELT))


# How a name may be spelt, and whether its words are joined (as Canvas writes them), from the
# strictest to the least strict.
_LEVELS = tuple((of, joint) for of in (fold, _plain, _spelt) for joint in (False, True))


def _forms(folded: str, joint: bool) -> Iterator[str]:
    # A name's words from any of them on: "bea müller", "müller bea"; joint: "müllerbea".
    words = folded.split()[:6]
    for k in range(len(words)):
        yield ("" if joint else " ").join(words[k:] + words[:k])
