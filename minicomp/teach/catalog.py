"""What a lesson asks, and where its files lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    return one_of("lesson", f"{int(text):02d}" if text.isdigit() else text, lessons())


def exercise(id: str, student: str = "", course: str = OPEN) -> Exercise:
    """Returns an exercise by id; UserError lists those of its lesson, or of all lessons."""
    of = lessons().get(str(id).partition(".")[0])
    among = [of] if of else lessons().values()
    asked = {e.id: e for each in among for e in each.asked(student, course)}
    return one_of("exercise", str(id), asked)


def one_of(kind: str, name: str, known: Mapping):
    """Returns what bears a name; UserError lists the names that there are."""
    if name not in known:
        raise UserError(f"there is no {kind} {str(name)[:60]!r}; there are {', '.join(known)}")
    return known[name]


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
