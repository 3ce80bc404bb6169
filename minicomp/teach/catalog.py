"""What a lesson asks, and where its files lie."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from ..errors import UserError
from .asking.exercise import OPEN, Exercise
from .asking.lesson import LessonChecks

_PACKAGE = Path(__file__).parents[1]


@cache
def lessons() -> dict[str, LessonChecks]:
    """Returns every lesson by number, in order, with its words."""
    # Late: a student's process loads this module, and must not load the answers.
    from .checks import LESSONS
    from .checks.words import worded

    return {of.number: worded(of, folder() / "words" / f"{of.number}.toml") for of in LESSONS}


def lesson(number: str | int) -> LessonChecks:
    """Returns a lesson by number, "4" or "04"; UserError lists those that there are."""
    text = str(number).strip()
    found = lessons().get(f"{int(text):02d}" if text.isdigit() else text)
    if found is None:
        raise UserError(f"there is no lesson {text[:40]!r}; there are {', '.join(lessons())}")
    return found


def exercise(id: str, student: str = "", course: str = OPEN) -> Exercise:
    """Returns an exercise by id; UserError lists those of its lesson, or the lessons."""
    number, _, _ = str(id).partition(".")
    of = lesson(number) if number in lessons() else None
    for found in of.asked(student, course) if of else ():
        if found.id == id:
            return found
    known = of.ids() if of else [i for each in lessons().values() for i in each.ids()]
    raise UserError(f"there is no exercise {str(id)[:60]!r}; there are {', '.join(known)}")


def folder() -> Path:
    """Returns the folder of the notebooks: of the installed package, else of the checkout."""
    installed = _PACKAGE / "lessons"
    return installed if installed.is_dir() else _PACKAGE.parent / "lessons"


def notebook_path(of: LessonChecks) -> Path:
    """Returns the student's notebook of a lesson; UserError where it was not built."""
    path = folder() / f"{of.stem}.ipynb"
    if not path.is_file():
        raise UserError(
            f"lesson {of.number} has no notebook in {folder()}; `minicomp lesson build` makes it"
        )
    return path


def expected(of: LessonChecks) -> dict:
    """Returns the recorded numbers of a lesson, or {"data": {}} where none are recorded."""
    path = folder() / "expected" / f"{of.number}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"data": {}}
