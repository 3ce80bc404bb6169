"""What a lesson asks, and where its files lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import UserError
from .asking.exercise import OPEN, Diagnosis, Exercise, Prediction

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Reflection:
    """A question answered in words; a person marks it by the rubric.

    rubric : (points, what earns them) from the most to the least
    """

    id: str
    question: str
    rubric: tuple[tuple[int, str], ...]

    @property
    def max_points(self) -> int:
        return max(points for points, _ in self.rubric)


@dataclass(frozen=True)
class Number:
    """A measured number of a lesson: key in lessons/expected, what it is, unit, decimals."""

    key: str
    label: str
    unit: str = ""
    digits: int = 2


@dataclass(frozen=True)
class LessonChecks:
    """All that is asked in one lesson.

    number : "04"        name : of its files, "magnitude": lessons/04_magnitude.ipynb
    numbers : what a full run measures and compares with lessons/expected
    """

    number: str
    name: str
    title: str
    exercises: tuple[Exercise, ...]
    diagnosis: Diagnosis | None = None
    predictions: tuple[Prediction, ...] = ()
    reflections: tuple[Reflection, ...] = ()
    numbers: tuple[Number, ...] = ()

    @property
    def stem(self) -> str:
        """Returns the name of its files without suffix: "04_magnitude"."""
        return f"{self.number}_{self.name}"

    def asked(self, student: str = "", course: str = OPEN) -> tuple[Exercise, ...]:
        """Returns the exercises, with the broken variant of this student last."""
        return self.exercises + (
            (self.diagnosis.exercise(student, course),) if self.diagnosis else ()
        )

    def ids(self) -> list[str]:
        """Returns every exercise id."""
        return [e.id for e in self.exercises] + ([self.diagnosis.id] if self.diagnosis else [])

    @property
    def max_points(self) -> int:
        """Returns what a machine can give: exercises and predictions."""
        return sum(e.max_points for e in self.asked()) + sum(p.points for p in self.predictions)


@cache
def lessons() -> dict[str, LessonChecks]:
    """Returns every lesson by number, in order."""
    from .checks import LESSONS

    return {lesson.number: lesson for lesson in LESSONS}


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
