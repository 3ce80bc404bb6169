"""What a lesson asks: exercises, a broken variant to expose, guesses, reflections, numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .exercise import OPEN, Diagnosis, Exercise, Prediction


@dataclass(frozen=True)
class Reflection:
    """A question answered in words; a person marks it by the rubric.

    rubric : (points, what earns them) from the most to the least
    """

    id: str
    question: str = ""
    rubric: tuple[tuple[int, str], ...] = ()

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
    exercises: tuple[Exercise, ...]
    diagnosis: Diagnosis | None = None
    predictions: tuple[Prediction, ...] = ()
    reflections: tuple[Reflection, ...] = ()
    numbers: tuple[Number, ...] = ()
    title: str = ""

    @property
    def stem(self) -> str:
        """Returns the name of its files without suffix: "04_magnitude"."""
        return f"{self.number}_{self.name}"

    def asked(self, student: str = "", course: str = OPEN) -> tuple[Exercise, ...]:
        """Returns the exercises, with the broken variant of this student last."""
        last = (self.diagnosis.exercise(student, course),) if self.diagnosis else ()
        return self.exercises + last

    def ids(self) -> list[str]:
        """Returns every exercise id."""
        return [e.id for e in self.asked()]

    @property
    def max_points(self) -> int:
        """Returns what a machine can give: exercises and predictions."""
        return sum(e.max_points for e in self.asked()) + sum(p.points for p in self.predictions)
